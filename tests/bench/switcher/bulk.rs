//! A whole state passing through while duties are asked for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::beacon_nodes::Nodes;

use super::Plan;
use super::client::{Client, Connection, get};
use super::front::Front;
use super::latency::{Times, attestation_data};

const STATE: &str = "/eth/v2/debug/beacon/states/head";

/// Between two looks at a process's memory.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// 1 Gbit/s: what most nodes are connected with. Without a limit two programs and a proxy copy as fast as two cores can, and
/// the duties wait for a core, whatever stands in front of the nodes.
const NETWORK: u64 = 125_000_000;

/// What the downloads beside the duties showed.
#[derive(Default)]
struct Downloads {
    stop: AtomicBool,
    states: AtomicU64,
    /// Time the downloads took, in nanoseconds.
    nanos: AtomicU64,
    /// Most memory seen, in KiB.
    most: AtomicU64,
}

impl Downloads {
    fn forever(&self, front: &Front, nodes: &Nodes, per_second: Option<u64>) {
        while !self.stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let length = Connection::open(front.address).ask_at(&get(STATE), per_second);
            assert_eq!(length, nodes.state_bytes(), "{}: a state came short", front.name);
            self.states.fetch_add(1, Ordering::Relaxed);
            self.nanos.fetch_add(u64::try_from(began.elapsed().as_nanos()).expect("no centuries"), Ordering::Relaxed);
        }
    }

    fn watch(&self, front: &Front) {
        while !self.stop.load(Ordering::Relaxed) {
            self.most.fetch_max(front.memory(), Ordering::Relaxed);
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Prints latency of attestation data without and with downloads, and what memory the downloads took.
pub(super) fn measure(plan: &Plan, nodes: &Nodes, fronts: &[Front]) {
    for front in fronts {
        let mut client = Client::connect(front.address);
        let mut number = 1_000_000;
        let mut run = || {
            number += plan.requests;
            let requests: Vec<_> =
                (number..number + plan.requests).map(|number| get(&attestation_data(nodes, number))).collect();
            client.run(&requests, plan.rate)
        };
        let before = front.memory();
        let mut quiet = Times::default();
        let mut loaded = [
            ("1 Gbit/s", Some(NETWORK), Downloads::default(), Times::default()),
            ("no limit", None, Downloads::default(), Times::default()),
        ];
        for _ in 0..plan.rounds.div_ceil(2) {
            quiet.add(&run(), Duration::ZERO);
            for (_, per_second, downloads, times) in &mut loaded {
                downloads.stop.store(false, Ordering::Relaxed);
                std::thread::scope(|scope| {
                    let downloads = &*downloads;
                    scope.spawn(move || downloads.forever(front, nodes, *per_second));
                    if front.is_process() {
                        scope.spawn(move || downloads.watch(front));
                    }
                    times.add(&run(), Duration::ZERO);
                    downloads.stop.store(true, Ordering::Relaxed);
                });
            }
        }
        for (name, _, downloads, mut times) in loaded {
            print(nodes, front, name, &downloads, (&mut quiet, &mut times), before);
        }
    }
}

fn print(
    nodes: &Nodes,
    front: &Front,
    name: &str,
    downloads: &Downloads,
    (quiet, loaded): (&mut Times, &mut Times),
    memory_before: u64,
) {
    let states = downloads.states.load(Ordering::Relaxed);
    let seconds = Duration::from_nanos(downloads.nanos.load(Ordering::Relaxed)).as_secs_f64();
    let megabytes = nodes.state_bytes() / 1_000_000;
    print!(
        "{:<28} {:<9} {states} states of {megabytes} MB, {name}: {:.0} MB/s; attestation data p50 {:.3} ms, p99 {:.3} ms without, \
         p50 {:.3} ms, p99 {:.3} ms with; p99 ratio {:.2}",
        "duties beside states",
        front.name,
        (states * megabytes) as f64 / seconds,
        quiet.at(0.5),
        quiet.at(0.99),
        loaded.at(0.5),
        loaded.at(0.99),
        loaded.at(0.99) / quiet.at(0.99)
    );
    if front.is_process() {
        let most = downloads.most.load(Ordering::Relaxed);
        let more = most.saturating_sub(memory_before) as f64 / 1024.0;
        print!("; memory {:.1} MiB, {more:.1} MiB more than before", most as f64 / 1024.0);
        // A state that is kept whole would show.
        assert!(
            !front.is_switcher() || megabytes < 50 || more < megabytes as f64 / 2.0,
            "the switcher keeps states in memory: {more:.1} MiB more"
        );
    }
    println!();
}
