//! A server that hangs: clients get an answer while it is of use to them, and nobody has to restart anything.

use std::time::{Duration, Instant};

use holdfast_tests::postgres::Cluster;
use holdfast_tests::world::{CHAIN, World};

use crate::wait_until;

/// A duty is of use for a few seconds. The time-outs are 2 and 3 seconds; the rest is for a slow machine.
const USEFUL: Duration = Duration::from_secs(8);

#[test]
fn a_hung_server_gives_503_in_time_and_needs_no_restart() {
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), 1);
    let server = world.server().start();
    server.wait_ready();
    let attest = |target: u64| {
        let (body, _) = CHAIN.attestation(target * 8, target - 1, target, 1);
        let asked = Instant::now();
        let response = server.sign(&world.keys[0].public, &body);
        assert!(asked.elapsed() < USEFUL, "an answer after {:?}", asked.elapsed());
        response
    };
    assert_eq!(attest(500).status, 200);
    for round in 0..2 {
        cluster.pause();
        for _ in 0..3 {
            let response = attest(501 + round);
            assert_eq!((response.status, response.reason().as_str()), (503, "database_unavailable"));
            assert!(response.header("retry-after").is_some(), "503 without Retry-After");
        }
        // Many at once do not wait for each other's time-outs.
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| attest(501 + round).status)).collect();
            assert!(asked.into_iter().all(|one| one.join().expect("an answer") == 503));
        });
        cluster.resume();
        wait_until("it signs again", || attest(501 + round).status == 200);
    }
    let (status, log) = server.stop();
    assert!(status.success(), "{log}");
}
