//! What must not freeze: a process killed in the middle of a burst, over and over.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use holdfast_tests::workload::{ClientPlan, run};
use holdfast_tests::world::World;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROUNDS: u64 = 50;

pub(crate) fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn kills_in_mid_burst_raise_no_alarm() {
    let rounds = number_from_environment("HOLDFAST_KILL_ROUNDS", ROUNDS);
    let seed = number_from_environment("HOLDFAST_SEED", 20_261_121);
    println!("rollback kills: seed {seed}, {rounds} rounds");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let world = World::new(8);
    let tick = AtomicU64::new(400);
    let mut released = 0;
    for round in 0..rounds {
        let server = world.server().start();
        let metrics = server.get_metrics("/metrics").text();
        assert!(
            metrics.contains("\nholdfast_slashing_frozen 0"),
            "seed {seed} round {round}: a false alarm\n{metrics}"
        );
        server.wait_ready();
        let stop = AtomicBool::new(false);
        let address = server.http_addr();
        let delay = Duration::from_micros(rng.random_range(500..100_000));
        released += std::thread::scope(|scope| {
            let clients: Vec<_> = (0..3)
                .map(|client| {
                    let (keys, tick, stop) = (&world.keys, &tick, &stop);
                    let seed = seed.wrapping_add(round * 3 + client);
                    let requests = u64::MAX;
                    scope.spawn(move || run(&ClientPlan { address, keys, seed, requests, tick, pace: 40, stop }))
                })
                .collect();
            std::thread::sleep(delay);
            server.kill9();
            clients.into_iter().map(|client| client.join().expect("a client ends").released.len()).sum::<usize>()
        });
    }
    let server = world.server().start();
    server.wait_ready();
    let (status, log) = server.stop();
    assert!(status.success() && !log.contains("FROZEN"), "{status}\n{log}");
    assert!(released > 500, "only {released} signatures were released: the bursts prove nothing");
    println!("rollback kills: {rounds} kills, {released} signatures released, no alarm");
}
