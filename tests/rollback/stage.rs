//! A world whose signer is far ahead of a backup of its database, and what is asked of it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_tests::harness::{Builder, Server, holdfast};
use holdfast_tests::http::once;
use holdfast_tests::world::{CHAIN, GENESIS_TIME, SLOTS_PER_EPOCH, World};

/// Seconds of a slot of the test network.
const SLOT_SECONDS: u64 = 6;

/// A world with two keys; key 0 has signed target 500, and later 600.
pub(crate) struct Stage {
    pub(crate) world: World,
}

/// A finished command.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) text: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Self { code: output.status.code().expect("not ended by a signal"), text }
    }
}

impl Stage {
    /// Signs target 500, makes a backup with the server stopped, signs target 600, stops.
    pub(crate) fn new() -> Self {
        let stage = Self { world: World::new(2) };
        let server = stage.start();
        assert_eq!(stage.attest(&server, 0, 500), 200);
        assert!(server.stop().0.success());
        fs::copy(stage.database(), stage.backup()).expect("a backup");
        let server = stage.start();
        assert_eq!(stage.attest(&server, 0, 600), 200);
        assert!(server.stop().0.success());
        stage
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.world.data_dir().join("holdfast.db")
    }

    pub(crate) fn anchor(&self) -> PathBuf {
        self.world.data_dir().join("anchor")
    }

    pub(crate) fn backup(&self) -> PathBuf {
        self.world.path().join("backup.db")
    }

    /// Puts the backup's content into the database file, as `cp` does.
    pub(crate) fn restore(&self) {
        overwrite(&self.database(), &fs::read(self.backup()).expect("the backup"));
    }

    /// Starts and waits until keys are loaded, frozen or not.
    pub(crate) fn start(&self) -> Server {
        self.world.server().start()
    }

    pub(crate) fn builder(&self) -> Builder {
        self.world.server()
    }

    /// Status of an attestation for `target` by the key with this number.
    pub(crate) fn attest(&self, server: &Server, key: usize, target: u64) -> u16 {
        let (body, _) = CHAIN.attestation(target * SLOTS_PER_EPOCH, target - 1, target, 1);
        server.sign(&self.world.keys[key].public, &body).status
    }

    /// Runs a command on the data directory.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        holdfast(&self.world.with(arguments)).into()
    }

    /// Everything a frozen signer owes its operator, for one kind of trouble.
    #[track_caller]
    pub(crate) fn expect_frozen(&self, reason: &str) {
        tells_why_it_is_frozen(&self.world.arguments(), reason);
        let server = self.start();
        refuses_as_frozen(&server, &self.world.keys[0].public, reason);
        let status = self.run(&["slashing", "status"]);
        assert_eq!(status.code, 4, "the server says why it is frozen: {}", status.text);
        assert!(status.text.contains("through the running server"), "{}", status.text);
        let (status, log) = server.stop();
        assert!(status.success(), "{status}\n{log}");
        assert!(log.contains("holdfast slashing fence"), "the log does not say what to do:\n{log}");
    }

    /// Fences all keys and shows that they sign above the present only.
    #[track_caller]
    pub(crate) fn fence_and_recover(&self) {
        let fence = self.run(&["slashing", "fence"]);
        assert_eq!(fence.code, 0, "{}", fence.text);
        assert!(fence.text.contains("fenced 2 keys"), "{}", fence.text);
        self.expect_fenced(&self.start());
        let status = self.run(&["slashing", "status"]);
        assert_eq!(status.code, 0, "{}", status.text);
    }

    /// Nothing below the fence, and the present still to come above it.
    #[track_caller]
    pub(crate) fn expect_fenced(&self, server: &Server) {
        server.wait_ready();
        for target in [501, 600, 700, slot_now() / SLOTS_PER_EPOCH - 1] {
            assert_eq!(self.attest(server, 0, target), 412, "target {target} is below the fence");
        }
        // The fence holds the slots up to the clock and its tolerance; a later one is the future until it comes.
        let block = CHAIN.block(slot_now() - 1, 1).0;
        assert_eq!(server.sign(&self.world.keys[0].public, &block).status, 412, "below the fence");
        sign_present(server, &self.world.keys[0].public);
        let metrics = server.get_metrics("/metrics").text();
        assert!(metrics.contains("\nholdfast_slashing_frozen 0"), "{metrics}");
    }
}

/// What a frozen signer owes its clients and its operator, for one kind of trouble.
#[track_caller]
pub(crate) fn refuses_as_frozen(server: &Server, key: &str, reason: &str) {
    let (body, _) = CHAIN.attestation(700 * SLOTS_PER_EPOCH, 699, 700, 1);
    let response = server.sign(key, &body);
    assert_eq!((response.status, response.reason().as_str()), (503, "protection_frozen"), "{}", response.text());
    assert!(response.text().contains("holdfast slashing fence"), "{}", response.text());
    assert!(response.header("retry-after").is_some(), "503 without Retry-After");
    let response = server.sign(key, &CHAIN.block(9_000, 1).0);
    assert_eq!((response.status, response.reason().as_str()), (503, "protection_frozen"), "{}", response.text());
    let response = server.sign(key, &CHAIN.randao(700).0);
    assert_eq!(response.status, 200, "not slashable, and yet: {}", response.text());
    let ready = once(server.metrics_addr(), "GET", "/readyz", &[], b"").expect("an answer");
    assert_eq!(ready.status, 503, "{}", ready.text());
    let metrics = server.get_metrics("/metrics").text();
    assert!(metrics.contains("\nholdfast_slashing_frozen 1"), "{metrics}");
    assert!(metrics.contains(&format!("holdfast_slashing_frozen_reason{{reason=\"{reason}\"}} 1")), "{metrics}");
}

/// `slashing status` of a stopped signer with these global arguments says what is wrong, and ends with 4.
#[track_caller]
pub(crate) fn tells_why_it_is_frozen(arguments: &[String], reason: &str) {
    let run = |rest: &[&str]| -> Ended {
        let rest = rest.iter().map(|&argument| argument.to_owned());
        holdfast(&arguments.iter().cloned().chain(rest).collect::<Vec<_>>()).into()
    };
    let status = run(&["--json", "slashing", "status"]);
    assert_eq!(status.code, 4, "{}", status.text);
    let told: serde_json::Value = serde_json::from_str(status.text.lines().next().unwrap_or_default()).expect("JSON");
    assert_eq!(told["frozen"]["reason"], reason, "{told}");
    let status = run(&["slashing", "status"]);
    assert_eq!(status.code, 4, "{}", status.text);
    for phrase in ["FROZEN since 2", "journal end found", "holdfast slashing fence"] {
        assert!(status.text.contains(phrase), "no {phrase:?} in {}", status.text);
    }
}

/// Signs a block of the present; returns its slot. The fence holds the slots up to the clock and its tolerance;
/// a later one is the future until it comes.
#[track_caller]
pub(crate) fn sign_present(server: &Server, key: &str) -> u64 {
    let begun = Instant::now();
    loop {
        let slot = slot_now() + 1;
        let response = server.sign(key, &CHAIN.block(slot, 1).0);
        if response.status == 200 {
            return slot;
        }
        assert_eq!(response.status, 412, "{}\n{}", response.text(), server.log());
        assert!(begun.elapsed() < Duration::from_secs(SLOT_SECONDS * 5), "nothing is signed above the fence");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Replaces the content of a file, not the file.
pub(crate) fn overwrite(path: &Path, content: &[u8]) {
    let file = OpenOptions::new().write(true).truncate(true).open(path).expect("the file opens");
    file.write_all_at(content, 0).expect("the file is written");
}

fn slot_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    (now - GENESIS_TIME) / SLOT_SECONDS
}
