//! The same clients without any fault: every answer is 200 or 412, and the journal has one entry for each request.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use holdfast_tests::auditor::Auditor;
use holdfast_tests::journal;
use holdfast_tests::keys::verifies;
use holdfast_tests::workload::{ClientPlan, Report, run};
use holdfast_tests::world::World;

const REQUESTS: u64 = 20_000;
const CLIENTS: u64 = 32;
const KEYS: u64 = 24;

#[test]
fn no_slashable_pair_is_released_under_concurrency() {
    let requests = REQUESTS;
    let seed = crate::number("HOLDFAST_SEED", crate::SEED);
    println!("calm: seed {seed}, {requests} requests, {CLIENTS} clients, {KEYS} keys");
    let world = World::new(KEYS);
    let server = world.server().start();
    server.wait_ready();
    let tick = AtomicU64::new(400);
    let stop = AtomicBool::new(false);
    let address = server.http_addr();
    let mut report = Report::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (world, tick, stop) = (&world, &tick, &stop);
                scope.spawn(move || {
                    run(&ClientPlan {
                        address,
                        keys: &world.keys,
                        seed: seed.wrapping_mul(1_000).wrapping_add(client),
                        requests: requests.div_ceil(CLIENTS),
                        tick,
                        pace: 60,
                        stop,
                    })
                })
            })
            .collect();
        for client in clients {
            report.absorb(client.join().expect("a client ends"));
        }
    });
    assert!(!report.broken, "a connection broke:\n{}", server.log());
    assert!(report.answers() >= requests, "only {} answers", report.answers());
    let unexpected: Vec<_> = report.statuses.keys().filter(|status| ![200, 412].contains(*status)).collect();
    assert!(unexpected.is_empty(), "statuses {:?}, reasons {:?}", report.statuses, report.reasons);

    let mut auditor = Auditor::default();
    let mut same = HashMap::new();
    for released in &report.released {
        if let Some(signed) = released.signed {
            auditor
                .release(&released.key, signed, released.root)
                .unwrap_or_else(|pair| panic!("seed {seed}: slashable pair {pair:?}"));
        }
        let first = same.entry((released.key.as_str(), released.root)).or_insert(released.signature.as_str());
        assert_eq!(*first, released.signature, "the same request gave two signatures");
    }
    verify_all(&same);
    for reason in ["double_vote", "double_block", "source_below_watermark", "target_below_watermark"] {
        assert!(report.reasons.contains_key(reason), "the run never met {reason}: {:?}", report.reasons);
    }

    let (status, log) = server.stop();
    assert!(status.success(), "{status}\n{log}");
    let journal = journal::read(&world.data_dir());
    let permitted: HashSet<_> = report.released.iter().map(|one| (one.key.clone(), one.root)).collect();
    assert!(permitted.is_subset(&journal.permitted), "a released signature is not in the journal");
    assert_eq!(journal.entries, report.answers(), "one journal entry for every request");
    println!(
        "calm: {} answers, {} released ({} distinct, all verified), refusals {:?}, {} journal batches",
        report.answers(),
        report.released.len(),
        same.len(),
        report.reasons,
        journal.batches
    );
}

/// Verifies every distinct signature with plain `blst`, on all cores.
fn verify_all(signatures: &HashMap<(&str, [u8; 32]), &str>) {
    let list: Vec<_> = signatures.iter().collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(((key, root), signature)) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
                    assert!(verifies(key, root, signature), "a signature of {key} does not verify");
                }
            });
        }
    });
}
