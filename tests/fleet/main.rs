//! Two signers on one real PostgreSQL under the same clients and keys, while the server is killed and started
//! again: the auditor sees every released signature of both and accepts no slashable pair.
//!
//! `HOLDFAST_SEED` replays a run, `HOLDFAST_FLEET_REQUESTS` makes a longer one.

#[allow(dead_code, reason = "the end-to-end test uses all of it")]
#[path = "../e2e/balancer.rs"]
mod balancer;
mod keys;
mod labels;
mod status;
mod two_machines;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_tests::auditor::Auditor;
use holdfast_tests::keys::verifies;
use holdfast_tests::postgres::Cluster;
use holdfast_tests::workload::{ClientPlan, Report, run};
use holdfast_tests::world::World;

const REQUESTS: u64 = 12_000;
const CLIENTS: u64 = 8;
const KEYS: u64 = 16;
const KILLS: u64 = 3;
/// How long a signer may take until it signs again after the last kill.
const SERVED_AGAIN: std::time::Duration = std::time::Duration::from_secs(30);

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn two_signers_on_one_database_release_nothing_slashable_while_it_is_killed() {
    let requests = number_from_environment("HOLDFAST_FLEET_REQUESTS", REQUESTS);
    let seed = number_from_environment("HOLDFAST_SEED", 14);
    println!("fleet: seed {seed}, {requests} requests, {CLIENTS} clients, 2 signers, {KILLS} kills of PostgreSQL");
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), KEYS);
    let first = world.server().start();
    first.wait_ready();
    let second = world.server_in(&world.second_data_dir("second")).start();
    second.wait_ready();
    let (tick, stop) = (AtomicU64::new(400), AtomicBool::new(false));
    let mut report = Report::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let address = if client % 2 == 0 { first.http_addr() } else { second.http_addr() };
                let (keys, tick, stop) = (&world.keys, &tick, &stop);
                let seed = seed.wrapping_mul(1_000).wrapping_add(client);
                let requests = requests.div_ceil(CLIENTS);
                scope.spawn(move || run(&ClientPlan { address, keys, seed, requests, tick, pace: 60, stop }))
            })
            .collect();
        for kill in 1..=KILLS {
            // Requests that are refused while the server is away count too, so this always comes.
            while tick.load(Ordering::Relaxed) < 400 + kill * requests / (KILLS + 2) {
                std::thread::yield_now();
            }
            cluster.kill9();
            cluster.start_again();
        }
        for client in clients {
            report.absorb(client.join().expect("a client ends"));
        }
    });
    assert!(!report.broken, "a connection broke:\n{}\n{}", first.log(), second.log());
    let mut auditor = Auditor::default();
    for released in &report.released {
        if let Some(signed) = released.signed {
            auditor
                .release(&released.key, signed, released.root)
                .unwrap_or_else(|pair| panic!("seed {seed}: slashable pair {pair:?}"));
        }
    }
    for released in report.released.iter().step_by(7) {
        assert!(verifies(&released.key, &released.root, &released.signature), "{released:?} does not verify");
    }
    let statuses: Vec<u16> =
        report.statuses.keys().copied().filter(|status| ![200, 412, 503].contains(status)).collect();
    assert!(statuses.is_empty(), "statuses {:?}, reasons {:?}", report.statuses, report.reasons);
    assert!(auditor.released() > 500, "only {} slashable messages were released", auditor.released());
    for server in [&first, &second] {
        server.wait_ready();
        let (body, _) = holdfast_tests::world::CHAIN.randao(7);
        // A connection of before the last kill may still be noticed to be gone.
        let end = std::time::Instant::now() + SERVED_AGAIN;
        while server.sign(&world.keys[0].public, &body).status != 200 {
            assert!(std::time::Instant::now() < end, "not served again within {SERVED_AGAIN:?}:\n{}", server.log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    println!(
        "fleet: {} answers {:?}, {} slashable messages released, refusals {:?}",
        report.answers(),
        report.statuses,
        auditor.released(),
        report.reasons
    );
}
