//! Two signers on one PostgreSQL behind an address that can fail over, and what is asked of them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use holdfast_tests::harness::{Builder, Server, holdfast};
use holdfast_tests::postgres::Cluster;
use holdfast_tests::proxy::Proxy;
use holdfast_tests::world::{CHAIN, SLOTS_PER_EPOCH, World};

use crate::stage::{Ended, refuses_as_frozen, tells_why_it_is_frozen};

/// A heartbeat, a reconnect and the starts of everything in between, on a slow machine.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

/// A world with two keys, and the data directories of two signers.
pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) proxy: Proxy,
    dirs: [PathBuf; 2],
}

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    One,
    Two,
}

impl Fleet {
    /// Sets it up on a new database; both signers' first start is yet to come.
    pub(crate) fn on(cluster: &Cluster) -> Self {
        let proxy = Proxy::start(cluster.addr());
        let world = World::with_database(&cluster.url_at(proxy.addr()), 2);
        let dirs = [world.data_dir(), world.second_data_dir("second")];
        Self { world, proxy, dirs }
    }

    fn dir(&self, who: Who) -> &PathBuf {
        let [one, two] = &self.dirs;
        match who {
            Who::One => one,
            Who::Two => two,
        }
    }

    pub(crate) fn builder(&self, who: Who) -> Builder {
        self.world.server_in(self.dir(who))
    }

    /// Starts one and waits until it signs.
    pub(crate) fn start(&self, who: Who) -> Server {
        let server = self.builder(who).start();
        server.wait_ready();
        server
    }

    /// Status of an attestation for `target` by the key with this number.
    pub(crate) fn attest(&self, server: &Server, key: usize, target: u64) -> u16 {
        let (body, _) = CHAIN.attestation(target * SLOTS_PER_EPOCH, target - 1, target, 1);
        server.sign(&self.world.keys[key].public, &body).status
    }

    /// Runs a command on the data directory of one that is stopped.
    pub(crate) fn run(&self, who: Who, rest: &[&str]) -> Ended {
        let mut arguments = self.world.arguments_in(self.dir(who));
        arguments.extend(rest.iter().map(|&argument| argument.to_owned()));
        holdfast(&arguments).into()
    }

    fn anchor(&self, who: Who) -> serde_json::Value {
        let text = std::fs::read_to_string(self.dir(who).join("anchor")).expect("the anchor");
        let records = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        records.max_by_key(|record| record["generation"].as_u64()).expect("a record")
    }

    /// Waits until an idle signer knows of everything that the other one has been answered.
    pub(crate) fn wait_until_knows(&self, idle: Who, busy: Who) {
        let other = self.anchor(busy);
        let wanted = serde_json::json!([other["instance"], other["batch"], other["hash"]]);
        wait_until("the other's batches are known", || {
            self.anchor(idle)["server"]["others"].as_array().expect("others").contains(&wanted)
        });
    }

    /// Sends the signers to another server.
    pub(crate) fn fail_over(&self, to: &Cluster) {
        self.proxy.set_target(to.addr());
        self.proxy.cut_all();
    }

    /// A running signer freezes by itself, owes its clients what a frozen one owes, and says why when stopped.
    #[track_caller]
    pub(crate) fn expect_frozen(&self, who: Who, server: Server, reason: &str) {
        wait_until("the loss is noticed", || frozen(&server));
        for key in &self.world.keys {
            refuses_as_frozen(&server, &key.public, reason);
        }
        self.expect_stopped(who, server, reason);
    }

    /// The same for a world whose keys were fenced before: old messages are refused by the rules, and it is another
    /// block of `slot`, which is not, that must not be signed.
    #[track_caller]
    pub(crate) fn expect_frozen_at(&self, who: Who, server: Server, reason: &str, slot: u64) {
        wait_until("the loss is noticed", || frozen(&server));
        let conflicting = CHAIN.block(slot, 2).0;
        for key in &self.world.keys {
            let response = server.sign(&key.public, &conflicting);
            assert_eq!(
                (response.status, response.reason().as_str()),
                (503, "protection_frozen"),
                "{}",
                response.text()
            );
        }
        self.expect_stopped(who, server, reason);
    }

    #[track_caller]
    fn expect_stopped(&self, who: Who, server: Server, reason: &str) {
        let (status, log) = server.stop();
        assert!(status.success(), "{status}\n{log}");
        self.expect_status(who, reason);
    }

    #[track_caller]
    pub(crate) fn expect_status(&self, who: Who, reason: &str) {
        tells_why_it_is_frozen(&self.world.arguments_in(self.dir(who)), reason);
    }

    /// Fences all keys on behalf of one signer, and starts it.
    #[track_caller]
    pub(crate) fn fence_and_start(&self, who: Who) -> Server {
        let fence = self.run(who, &["slashing", "fence"]);
        assert_eq!(fence.code, 0, "{}", fence.text);
        let server = self.start(who);
        for target in [501, 600, 700] {
            assert_eq!(self.attest(&server, 0, target), 412, "target {target} is below the fence");
        }
        server
    }
}

/// Whether the metrics say so. Nothing has to be asked for it to become true.
pub(crate) fn frozen(server: &Server) -> bool {
    server.get_metrics("/metrics").text().contains("\nholdfast_slashing_frozen 1")
}

/// Whether it has placed this many fences by itself.
pub(crate) fn fences(server: &Server, count: u32) -> bool {
    server.get_metrics("/metrics").text().contains(&format!("\nholdfast_slashing_fences_total {count}"))
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < NOTICED_WITHIN, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
