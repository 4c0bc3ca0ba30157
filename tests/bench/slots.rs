//! Slot bursts on SQLite: what a signature costs, how long a burst takes, and what the journal weighs.

use std::time::Duration;

use holdfast_tests::journal;
use holdfast_tests::world::World;

use crate::burst::{Load, Roots, publics, runtime};
use crate::measure::{Latencies, PlainSign, cpu_of};

/// Bursts of both kinds in turn, with plain signatures between them.
pub(crate) fn measure(keys: u64, bursts: u64) {
    let world = World::new(keys);
    let server = world.server().start();
    server.wait_ready();
    let runtime = runtime();
    let keys = publics(&world.keys);
    let mut load = runtime.block_on(Load::connect(&[server.http_addr()], &keys));
    let mut plain = PlainSign::default();
    let mut same = Latencies::default();
    let mut distinct = Latencies::default();
    let mut epoch = 1_000;
    for round in 0..=bursts {
        plain.run(200);
        for (roots, latencies) in [(Roots::Same, &mut same), (Roots::Distinct, &mut distinct)] {
            epoch += 1;
            let requests = load.prepare(epoch, roots);
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
    same.print("same root", &plain, 0.65);
    distinct.print("distinct roots", &plain, 1.15);
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
