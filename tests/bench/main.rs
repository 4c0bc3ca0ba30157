//! Open-loop slot bursts against the real binary: what a signature costs, how long a burst takes,
//! what the journal weighs, and how long a start with many sealed keys takes.
//!
//! All requests of a burst are due in one instant, each on a keep-alive connection of its own, and
//! latency counts from that instant, so a slow server cannot slow the load down. The server's CPU time
//! is compared with plain `blst` signatures made in the same run, between the bursts, on as many threads
//! as there are cores; the ratio is what holds across machines.
#![allow(clippy::cast_precision_loss, reason = "counts and nanoseconds far below 2^52")]

mod burst;
mod measure;
mod start;

use std::time::Duration;

use holdfast_tests::journal;
use holdfast_tests::world::World;

use crate::burst::{Load, Roots};
use crate::measure::{Latencies, PlainSign, cpu_of};

struct Options {
    keys: u64,
    bursts: u64,
    start_keys: u64,
}

fn options() -> Options {
    let mut options = Options { keys: 1_000, bursts: 20, start_keys: 10_000 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || {
            let text = arguments.next().unwrap_or_else(|| panic!("{name} needs a number"));
            text.parse().unwrap_or_else(|_| panic!("{name}: {text} is no number"))
        };
        match name.as_str() {
            "--keys" => options.keys = value(),
            "--bursts" => options.bursts = value(),
            "--start-keys" => options.start_keys = value(),
            _ => panic!("unknown option {name}: --keys N, --bursts N, --start-keys N"),
        }
    }
    options
}

fn main() {
    let options = options();
    println!(
        "slot-burst benchmark: {} keys, {} bursts of each kind, {} cores",
        options.keys,
        options.bursts,
        measure::cores()
    );
    bursts(&options);
    start::measure(options.start_keys);
}

fn bursts(options: &Options) {
    let world = World::new(options.keys);
    let server = world.server().start();
    server.wait_ready();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut load = runtime.block_on(Load::connect(server.http_addr(), &world.keys));
    let mut plain = PlainSign::default();
    let mut same = Latencies::default();
    let mut distinct = Latencies::default();
    let mut epoch = 1_000;
    for round in 0..=options.bursts {
        plain.run(200);
        for (roots, latencies) in [(Roots::Same, &mut same), (Roots::Distinct, &mut distinct)] {
            epoch += 1;
            let requests = load.prepare(&world.keys, epoch, roots);
            let before = cpu_of(server.pid());
            let times = runtime.block_on(load.fire(requests));
            // The server writes an answer before it has finished its accounting: let it settle.
            std::thread::sleep(Duration::from_millis(20));
            if round > 0 {
                latencies.add(times, cpu_of(server.pid()).saturating_sub(before));
            }
        }
    }
    let baseline = plain.per_signature();
    println!("plain blst sign            {:>8.1} us CPU per signature ({} signatures)", baseline * 1e6, plain.count());
    same.print("same root", baseline, 0.65);
    distinct.print("distinct roots", baseline, 1.15);
    drop(load);
    let (status, log) = server.stop();
    assert!(status.success(), "the server ended with {status}\n{log}");
    let journal = journal::read(&world.data_dir());
    let per_entry = |part: journal::Part| part.bytes as f64 / part.entries as f64;
    println!(
        "journal                    {:>8.1} bytes per entry with one root, {:.1} with a root each ({} entries in {} commits)",
        per_entry(journal.one_root),
        per_entry(journal.many_roots),
        journal.entries,
        journal.batches
    );
}
