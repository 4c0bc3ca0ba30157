//! Rollbacks of a PostgreSQL that two signers share: what one of them wrote is gone, and both must notice, the idle
//! one as well.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use holdfast_tests::postgres::{Cluster, Stop};
use holdfast_tests::workload::{ClientPlan, run};
use holdfast_tests::world::CHAIN;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fleet::{Fleet, Who, fences, frozen, wait_until};
use crate::kills::number_from_environment;
use crate::stage::sign_present;

#[test]
fn a_promoted_replica_that_lacks_commits_freezes_who_wrote_them_and_who_did_not() {
    let primary = Cluster::start();
    let replica = primary.replica();
    let fleet = Fleet::on(&primary);
    let (one, two) = (fleet.start(Who::One), fleet.start(Who::Two));
    assert_eq!((fleet.attest(&one, 0, 500), fleet.attest(&two, 1, 500)), (200, 200));
    replica.catch_up_with(&primary);
    replica.pause_replication();
    assert_eq!((fleet.attest(&one, 0, 600), fleet.attest(&two, 1, 600)), (200, 200));
    primary.kill9();
    replica.promote();
    fleet.fail_over(&replica);
    fleet.expect_frozen(Who::One, one, "journal_shorter");
    fleet.expect_frozen(Who::Two, two, "journal_shorter");
    let one = fleet.fence_and_start(Who::One);
    let two = fleet.fence_and_start(Who::Two);

    // Again, and this time one of them has nothing of its own to miss.
    replica.psql("ALTER SYSTEM RESET primary_conninfo");
    let second = replica.replica();
    second.catch_up_with(&replica);
    second.pause_replication();
    let slot = sign_present(&two, &fleet.world.keys[1].public);
    fleet.wait_until_knows(Who::One, Who::Two);
    replica.kill9();
    second.promote();
    fleet.fail_over(&second);
    // Among what it refuses is the very signature that the loss would have made possible.
    fleet.expect_frozen_at(Who::One, one, "peer_journal_lost", slot);
    drop(two);
    drop(fleet.fence_and_start(Who::One));
    assert_eq!(fleet.run(Who::One, &["slashing", "status"]).code, 0);
    fleet.expect_status(Who::Two, "journal_shorter");
}

#[test]
fn an_older_copy_of_the_data_directory_freezes_an_idle_signer_too() {
    let cluster = Cluster::start();
    let fleet = Fleet::on(&cluster);
    let (one, two) = (fleet.start(Who::One), fleet.start(Who::Two));
    assert_eq!((fleet.attest(&one, 0, 500), fleet.attest(&two, 1, 500)), (200, 200));
    // A restart loses nothing, however it comes.
    for stop in [Stop::Fast, Stop::Immediate] {
        cluster.stop(stop);
        cluster.start_again();
        one.wait_ready();
    }
    cluster.stop(Stop::Fast);
    let copy = cluster.snapshot();
    cluster.start_again();
    // The same server on the same timeline, and one signer has been idle since.
    wait_until("the other one signs again", || fleet.attest(&two, 1, 600) == 200);
    fleet.wait_until_knows(Who::One, Who::Two);
    cluster.stop(Stop::Fast);
    cluster.restore(&copy);
    cluster.start_again();
    fleet.expect_frozen(Who::One, one, "peer_journal_lost");
    fleet.expect_frozen(Who::Two, two, "journal_shorter");
    let one = fleet.fence_and_start(Who::One);
    let two = fleet.fence_and_start(Who::Two);

    // A backup of the running server, put back while one signer was stopped.
    let backup = cluster.base_backup();
    let slot = sign_present(&two, &fleet.world.keys[1].public);
    fleet.wait_until_knows(Who::One, Who::Two);
    assert!(one.stop().0.success());
    cluster.stop(Stop::Fast);
    cluster.restore(&backup);
    cluster.start_again();
    // Its own last batch, the checkpoint of its stop, is gone as well.
    fleet.expect_status(Who::One, "journal_shorter");
    fleet.expect_frozen_at(Who::Two, two, "journal_shorter", slot);
    drop(fleet.fence_and_start(Who::One));
    drop(fleet.fence_and_start(Who::Two));

    // The same backup recovered into a new line of history: nothing that is remembered is missing, and yet it may be.
    let backup = cluster.base_backup();
    cluster.stop(Stop::Fast);
    cluster.recover(&backup);
    fleet.expect_status(Who::One, "server_promoted");
    drop(fleet.fence_and_start(Who::One));
}

#[test]
fn a_signer_that_remembers_stops_a_new_one_that_cannot() {
    let cluster = Cluster::start();
    let fleet = Fleet::on(&cluster);
    let one = fleet.start(Who::One);
    assert_eq!(fleet.attest(&one, 0, 500), 200);
    cluster.stop(Stop::Fast);
    let copy = cluster.snapshot();
    cluster.start_again();
    wait_until("it signs again", || fleet.attest(&one, 0, 600) == 200);
    cluster.stop(Stop::Fast);
    cluster.restore(&copy);
    cluster.start_again();
    wait_until("the loss is noticed", || frozen(&one));
    // Its first start is on the database as it is now.
    let two = fleet.builder(Who::Two).start();
    fleet.expect_frozen(Who::Two, two, "peer_suspects");
    let status = fleet.run(Who::Two, &["status"]);
    assert_eq!(status.code, 4, "{}", status.text);
    assert!(status.text.contains("suspects the database since 2"), "{}", status.text);
    // One fence is enough for the one that was told, and not for the one that noticed.
    let two = fleet.fence_and_start(Who::Two);
    assert!(frozen(&one), "{}", one.log());
    assert!(one.stop().0.success());
    fleet.expect_status(Who::One, "journal_shorter");
    assert!(!frozen(&two), "{}", two.log());
    drop(fleet.fence_and_start(Who::One));
    assert!(!frozen(&two), "{}", two.log());
}

#[test]
fn a_promoted_synchronous_standby_goes_on_and_an_asynchronous_one_is_fenced() {
    let primary = Cluster::start();
    let standby = primary.replica();
    primary.synchronous_standby(Some(&standby));
    let fleet = Fleet::on(&primary);
    let one = fleet.builder(Who::One).env("HOLDFAST_SLASHING_ON_ROLLBACK", "fence").start();
    one.wait_ready();
    assert_eq!((fleet.attest(&one, 0, 500), fleet.attest(&one, 0, 600)), (200, 200));
    primary.kill9();
    standby.promote();
    fleet.fail_over(&standby);
    wait_until("signing goes on", || fleet.attest(&one, 0, 601) == 200);
    assert!(!frozen(&one) && !fences(&one, 1), "{}", one.log());
    assert_eq!(fleet.attest(&one, 0, 600), 412, "it has what was acknowledged");
    assert!(one.stop().0.success());
    let status = fleet.run(Who::One, &["slashing", "status"]);
    assert_eq!(status.code, 0, "{}", status.text);

    // The promoted server has no standby, so the next fail-over may lose commits, even if this one does not.
    let one = fleet.builder(Who::One).env("HOLDFAST_SLASHING_ON_ROLLBACK", "fence").start();
    one.wait_ready();
    let second = standby.replica();
    second.catch_up_with(&standby);
    standby.kill9();
    second.promote();
    fleet.fail_over(&second);
    wait_until("the keys are fenced", || fences(&one, 1));
    one.wait_ready();
    assert!(one.log().contains("server_promoted"), "{}", one.log());
    assert_eq!(fleet.attest(&one, 0, 700), 412, "below the fence");
    sign_present(&one, &fleet.world.keys[0].public);
    assert!(one.stop().0.success());
    let status = fleet.run(Who::One, &["slashing", "status"]);
    assert_eq!(status.code, 0, "{}", status.text);
}

#[test]
fn kills_of_the_server_in_mid_burst_raise_no_alarm() {
    const KILLS: u32 = 10;
    let seed = number_from_environment("HOLDFAST_SEED", 20_261_121);
    println!("rollback kills of PostgreSQL: seed {seed}, {KILLS} kills");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let cluster = Cluster::start();
    let fleet = Fleet::on(&cluster);
    let servers = [fleet.start(Who::One), fleet.start(Who::Two)];
    let (tick, stop) = (AtomicU64::new(400), AtomicBool::new(false));
    let released: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = servers
            .iter()
            .zip(0..)
            .map(|(server, client)| {
                let (keys, tick, stop) = (&fleet.world.keys, &tick, &stop);
                let (address, seed) = (server.http_addr(), seed.wrapping_add(client));
                let plan = ClientPlan { address, keys, seed, requests: u64::MAX, tick, pace: 40, stop };
                scope.spawn(move || run(&plan))
            })
            .collect();
        for _ in 0..KILLS {
            std::thread::sleep(Duration::from_micros(rng.random_range(500..300_000)));
            cluster.kill9();
            cluster.start_again();
            for server in &servers {
                server.wait_ready();
                wait_until("it signs again", || {
                    server.sign(&fleet.world.keys[0].public, &CHAIN.randao(7).0).status == 200
                });
            }
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("a client ends").released.len()).sum()
    });
    for server in servers {
        assert!(!frozen(&server), "seed {seed}: a false alarm\n{}", server.log());
        assert!(server.stop().0.success());
    }
    for who in [Who::One, Who::Two] {
        let status = fleet.run(who, &["slashing", "status"]);
        assert_eq!(status.code, 0, "seed {seed}: a false alarm\n{}", status.text);
    }
    assert!(released > 100, "only {released} signatures were released: the bursts prove nothing");
    println!("rollback kills of PostgreSQL: {KILLS} kills, {released} signatures released, no alarm");
}
