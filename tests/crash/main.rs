//! SIGKILL at random moments of a burst, over and over, on one database.
//!
//! Shown: after every restart nothing signed before can be contradicted; over the whole run no two
//! released signatures are slashable; every released signature is in the journal; the journal's
//! chain is unbroken. `HOLDFAST_CRASH_ROUNDS` makes a longer run, `HOLDFAST_SEED` replays one.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use holdfast_tests::auditor::{Auditor, Signed};
use holdfast_tests::harness::Server;
use holdfast_tests::journal;
use holdfast_tests::workload::{ClientPlan, Report, run};
use holdfast_tests::world::{CHAIN, SLOTS_PER_EPOCH, World};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROUNDS: u64 = 200;
const CLIENTS: u64 = 4;
const KEYS: u64 = 16;

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs clients against the server until it is killed after `delay`.
fn burst_and_kill(world: &World, server: Server, seed: u64, tick: &AtomicU64, delay: Duration) -> Report {
    let stop = AtomicBool::new(false);
    let address = server.http_addr();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let stop = &stop;
                scope.spawn(move || {
                    run(&ClientPlan {
                        address,
                        keys: &world.keys,
                        seed: seed.wrapping_mul(CLIENTS).wrapping_add(client),
                        requests: u64::MAX,
                        tick,
                        pace: 40,
                        stop,
                    })
                })
            })
            .collect();
        std::thread::sleep(delay);
        server.kill9();
        let mut report = Report::default();
        for client in clients {
            report.absorb(client.join().expect("a client ends"));
        }
        report
    })
}

/// Asks for conflicts with everything released in the last round; none may be signed.
fn contradict(server: &Server, report: &Report) -> u64 {
    let mut client = server.client();
    let mut attempts = 0;
    let mut seen = HashSet::new();
    for released in &report.released {
        let Some(signed) = released.signed else { continue };
        if !seen.insert((released.key.clone(), signed)) {
            continue;
        }
        let conflicts = match signed {
            Signed::Block { slot } => vec![CHAIN.block(slot, 99).0],
            Signed::Attestation { source, target } => vec![
                CHAIN.attestation(target * SLOTS_PER_EPOCH, source, target, 99).0,
                CHAIN.attestation((target + 1) * SLOTS_PER_EPOCH, source.wrapping_sub(1), target + 1, 99).0,
            ],
        };
        for body in conflicts {
            let response = client
                .request(
                    "POST",
                    &format!("/api/v1/eth2/sign/{}", released.key),
                    &[("Accept", "application/json")],
                    body.to_string().as_bytes(),
                )
                .expect("an answer");
            assert_eq!(response.status, 412, "{signed:?} of {} was contradicted: {}", released.key, response.text());
            attempts += 1;
        }
    }
    attempts
}

#[test]
fn nothing_signed_before_a_kill_can_be_contradicted_after_it() {
    let rounds = number_from_environment("HOLDFAST_CRASH_ROUNDS", ROUNDS);
    let seed = number_from_environment("HOLDFAST_SEED", 20_261_121);
    println!("crash test: seed {seed}, {rounds} rounds");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let world = World::new(KEYS);
    let tick = AtomicU64::new(400);
    let mut auditor = Auditor::default();
    let mut journaled = HashSet::new();
    let (mut answers, mut attempts, mut mid_burst) = (0, 0, 0_u64);
    let mut last = Report::default();
    for round in 0..rounds {
        let server = world.server().start();
        server.wait_ready();
        attempts += contradict(&server, &last);
        let delay = Duration::from_micros(rng.random_range(500..150_000));
        last = burst_and_kill(&world, server, seed.wrapping_add(round), &tick, delay);
        answers += last.answers();
        mid_burst += u64::from(last.broken);
        for released in &last.released {
            if let Some(signed) = released.signed {
                auditor
                    .release(&released.key, signed, released.root)
                    .unwrap_or_else(|pair| panic!("seed {seed} round {round}: slashable pair {pair:?}"));
            }
            journaled.insert((released.key.clone(), released.root));
        }
    }
    let server = world.server().start();
    server.wait_ready();
    attempts += contradict(&server, &last);
    let (status, log) = server.stop();
    assert!(status.success(), "the last server did not end well: {status}\n{log}");

    let journal = journal::read(&world.data_dir());
    let missing: Vec<_> = journaled.iter().filter(|entry| !journal.permitted.contains(*entry)).collect();
    assert!(missing.is_empty(), "{} released signatures are not in the journal, first {:?}", missing.len(), missing[0]);
    assert!(mid_burst >= rounds * 9 / 10, "only {mid_burst} of {rounds} kills hit clients in flight");
    assert!(auditor.released() > 1_000, "only {} slashable messages were released", auditor.released());
    println!(
        "crash test: {rounds} kills, {answers} answers, {} slashable signatures released, {attempts} contradictions refused, \
         {} journal entries in {} batches verified",
        auditor.released(),
        journal.entries,
        journal.batches
    );
}
