//! Proves: two Holdfast instances on one PostgreSQL behind nginx are restarted in turn, again and again, gracefully
//! and by SIGKILL, and a real validator client misses nothing: every signing request gets a signature, every slot
//! has its block, its votes and its sync committee. A restart of PostgreSQL costs what it takes, and nothing
//! slashable.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::harness::Server;
use holdfast_tests::http::{Client, once};
use holdfast_tests::postgres::{Cluster, Stop};
use holdfast_tests::world::copy_private;
use serde_json::json;

use crate::balancer::{Balancer, LOAD_AGENT, Passed};
use crate::signer::{Answers, Signer, later};
use crate::single::Left;
use crate::{FINALITY_SECONDS, Phases, SLOTS_PER_EPOCH, assert_nothing_slashable};
use holdfast_tests::client_log::{ClientLog, Published};
use holdfast_tests::devnet::Network;

/// Where in a slot each instance is restarted: while a block is proposed, while votes are signed, while they are
/// aggregated, and between.
const RESTARTED_AT: [f64; 5] = [0.02, 0.34, 0.67, 0.2, 0.5];
/// Where in a slot each instance is killed, and PostgreSQL restarted.
const KILLED_AT: f64 = 0.33;
/// The validator client of this act.
const CLIENT: &str = "vc2";
/// Requests on top of the client's, so that something is always in progress: how many ask at a time, and how long each
/// pauses after an answer.
const LOAD_CONNECTIONS: u64 = 2;
const LOAD_PAUSE: Duration = Duration::from_millis(10);

/// One instance and the server on it.
struct Instance {
    signer: Signer,
    /// `None` only while it is being restarted.
    server: Option<Server>,
    port: u16,
}

impl Instance {
    fn start(signer: Signer) -> Self {
        let server = signer.serve(0);
        Self { port: server.http_addr().port(), signer, server: Some(server) }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    fn restart(&mut self, answers: &mut Answers) {
        answers.add(self.server());
        let (ended, log) = self.server.take().expect("the server runs").stop();
        assert!(ended.success() && log.contains("\"cut_off\":0"), "Holdfast ended with {ended}:\n{log}");
        self.server = Some(self.signer.serve(self.port));
    }

    fn kill(&mut self, answers: &mut Answers) {
        answers.add(self.server());
        self.server.take().expect("the server runs").kill9();
        self.server = Some(self.signer.serve(self.port));
    }
}

/// Asks for signatures that no chain uses, one after the other, until told to stop.
fn load(balancer: &Balancer, network: &Network, fork: &serde_json::Value, first: u64, stop: &AtomicBool) {
    let key = &network.pubkeys()[0];
    let path = format!("/api/v1/eth2/sign/{key}");
    let headers = [("Accept", "application/json"), ("Content-Type", "application/json"), ("User-Agent", LOAD_AGENT)];
    let mut client = Client::connect(balancer.address()).expect("nginx accepts connections");
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let request = json!({
            "type": "RANDAO_REVEAL",
            "fork_info": { "fork": fork, "genesis_validators_root": network.genesis_validators_root() },
            "randao_reveal": { "epoch": (first + number).to_string() },
        });
        // What came back is in nginx's log; nginx itself closes connections now and then.
        let answer = client.request("POST", &path, &headers, request.to_string().as_bytes());
        if answer.is_err() || answer.is_ok_and(|answer| answer.header("connection") == Some("close")) {
            client = Client::connect(balancer.address()).expect("nginx accepts connections");
        }
        // Pace, so that the beacon node has a processor too.
        std::thread::sleep(LOAD_PAUSE);
    }
}

/// The keys and their history move from the signer of the first act to two instances on PostgreSQL.
fn move_keys(network: &Network, folder: &Path, left: &Left, cluster: &Cluster) -> [Instance; 2] {
    let history = folder.join("history.json");
    let history = history.to_str().unwrap();
    left.signer.run(&["slashing", "export", "--to", history, "--disable"]);
    let url = cluster.url();
    let first = Signer::new(folder.join("first"), network, &["--database", &url]);
    first.import(network, &["--watermark", "interchange", "--slashing-protection", history]);
    let second = Signer::new(folder.join("second"), network, &["--database", &url]);
    copy_private(&first.folder().join("kek"), &second.folder().join("kek"));
    [first, second].map(Instance::start)
}

/// What the clients were told between two moments.
fn assert_all_signed(passed: &[Passed], slots: u64) {
    let refused: Vec<&Passed> = passed.iter().filter(|passed| passed.status != 200).collect();
    let by_validator = passed.iter().filter(|passed| passed.by_validator).count();
    let mut moved: BTreeMap<&str, u64> = BTreeMap::new();
    for answer in passed.iter().filter_map(|passed| passed.answers.split_last()).flat_map(|(_, before)| before) {
        *moved.entry(answer).or_default() += 1;
    }
    println!(
        "rolling restarts: {} signing requests of the validator client and {} of the load, {} without a signature; sent on \
         to the other instance after: {moved:?}",
        by_validator,
        passed.len() - by_validator,
        refused.len()
    );
    // In each slot each validator votes in the sync committee alone.
    assert!(by_validator as u64 > 16 * slots, "only {by_validator} requests of the validator client were seen");
    assert!(refused.is_empty(), "signing requests failed: {refused:?}");
}

/// Every slot has all it should have, by the client's own account.
fn assert_nothing_missed(log: &ClientLog, slots: std::ops::RangeInclusive<u64>, validators: u64) {
    let complete =
        Published { blocks: 1, attestations: validators / SLOTS_PER_EPOCH, sync_votes: validators, block_at: None };
    let published = log.published(slots.clone());
    // When a block was does not matter here.
    let is_complete = |published: &Published| Published { block_at: None, ..*published } == complete;
    let missed: Vec<_> = published.iter().filter(|(_, published)| !is_complete(published)).collect();
    println!("rolling restarts: slots {slots:?}, failed duties: {missed:?}, errors: {:?}", log.errors());
    assert!(
        missed.is_empty(),
        "duties are missing in {missed:?}; each slot should have {complete:?}: {:?}",
        log.errors()
    );
    assert!(log.errors().is_empty(), "the client reports errors: {:?}", log.errors());
}

/// Restarts PostgreSQL and prints what that cost. Ends when both instances serve again.
fn restart_database(cluster: &Cluster, balancer: &Balancer, instances: &[Instance; 2], network: &Network, log: &Path) {
    let (before, log) = (balancer.passed().len(), ClientLog::from_now(log));
    let begin = Instant::now();
    cluster.stop(Stop::Fast);
    cluster.start_again();
    let down = begin.elapsed();
    for instance in instances {
        instance.server().wait_ready();
        let ready = once(instance.server().http_addr(), "GET", "/healthcheck", &[], b"").expect("an answer");
        assert_eq!(ready.status, 200, "{}", ready.text());
    }
    // To the end of the slot's duties.
    network.wait_head(0, 0.95);
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    for passed in &balancer.passed()[before..] {
        *statuses.entry(passed.status).or_default() += 1;
    }
    println!(
        "PostgreSQL restarted in {:.2} s: answers in that slot {statuses:?}, errors of the client: {:?}",
        down.as_secs_f64(),
        log.errors()
    );
    assert!(statuses.keys().all(|status| [200, 502, 503, 504].contains(status)), "{statuses:?}");
}

/// Plays the act.
pub(crate) fn run(network: &Network, folder: &Path, left: &Left, phases: &Phases) {
    let cluster = Cluster::start();
    let mut instances = move_keys(network, folder, left, &cluster);
    let balancer = Balancer::start(folder, [instances[0].server().http_addr(), instances[1].server().http_addr()]);
    let client_log = network.start_validators(CLIENT, balancer.address());
    phases.say("keys moved to two instances, client runs on nginx");
    let fork = once(network.beacon(), "GET", "/eth/v1/beacon/states/head/fork", &[], b"").expect("the node answers");
    let fork = fork.json()["data"].clone();
    let mut answers = Answers::default();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when an assertion fails.
        let _stops = Stops(&stop);
        for connection in 0..LOAD_CONNECTIONS {
            let (balancer, fork, stop) = (&balancer, &fork, &stop);
            scope.spawn(move || load(balancer, network, fork, (1 + connection) * 1_000_000, stop));
        }
        let settled = network.wait_head(network.wait_head(0, 0.9).clock_slot + 2, 0.9).clock_slot;
        let log = ClientLog::from_now(&client_log);
        let before = balancer.passed().len();
        for part in RESTARTED_AT {
            for instance in &mut instances {
                network.wait_head(0, part);
                instance.restart(&mut answers);
            }
        }
        phases.say("each instance restarted five times");
        for instance in &mut instances {
            network.wait_head(0, KILLED_AT);
            instance.kill(&mut answers);
        }
        phases.say("each instance killed once");
        let end = network.wait_head(settled + 1, 0.95).clock_slot;
        assert_all_signed(&balancer.passed()[before..], end - settled);
        assert_nothing_missed(&log, settled + 1..=end - 1, network.pubkeys().len() as u64);
        let status = network.status();
        let missed: Vec<&u64> = status.missed_slots.iter().filter(|slot| (settled + 1..end).contains(slot)).collect();
        assert!(missed.is_empty(), "slots without a block: {missed:?}");

        network.wait_head(0, KILLED_AT);
        restart_database(&cluster, &balancer, &instances, network, &client_log);
        phases.say("PostgreSQL restarted");
        network.wait_finalized(status.finalized_epoch + 2, FINALITY_SECONDS);
        phases.say("finalized again");
    });
    assert_nothing_slashable(&network.status());
    network.end_validators(CLIENT);
    for instance in &mut instances {
        answers.add(instance.server());
        let (ended, log) = instance.server.take().expect("the server runs").stop();
        assert!(ended.success(), "Holdfast ended with {ended}:\n{log}");
    }
    answers.assert_soon();
    let expected = ["keys_loading", "database_unavailable"];
    assert!(answers.unsigned.keys().all(|reason| expected.contains(&reason.as_str())), "{answers:?}");
    let last = later(&left.recorded, instances[0].signer.watermarks());
    for key in network.pubkeys() {
        assert!(last[key].target > left.recorded[key].target, "{key} did not attest on PostgreSQL: {:?}", last[key]);
    }
}

/// Ends the load when the scope is left in any way.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
