//! Signers are upgraded one by one: a schema of the next version comes in under those that run, and they go on; the
//! next ones find it; one that is too old for it says so.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_tests::finished::run;
use holdfast_tests::harness::Server;
use holdfast_tests::postgres::Cluster;
use holdfast_tests::workload::{ClientPlan, Report, run as ask};
use holdfast_tests::world::{CHAIN, World};

use crate::wait_until;

/// What a next version may do: it adds to every table that signing touches, and changes nothing that is there.
const ADDITIONS: &str = "
    ALTER TABLE holdfast.validators ADD COLUMN later text;
    ALTER TABLE holdfast.journal ADD COLUMN later bigint NOT NULL DEFAULT 7;
    ALTER TABLE holdfast.instances ADD COLUMN later bytea;
    ALTER TABLE holdfast.key_records ADD COLUMN later boolean NOT NULL DEFAULT false;
    CREATE TABLE holdfast.later (id bigint PRIMARY KEY REFERENCES holdfast.validators (id), note text NOT NULL);
    CREATE INDEX journal_by_time ON holdfast.journal (time_ms);";

fn version(cluster: &Cluster) -> u32 {
    cluster.psql("SELECT max(version) FROM holdfast.schema_version")[0][0].parse().expect("a number")
}

#[test]
fn signers_go_on_under_the_next_schema_and_are_replaced_one_by_one() {
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), 4);
    let second = world.second_data_dir("second");
    let servers = [world.server().start(), world.server_in(&second).start()];
    servers.iter().for_each(Server::wait_ready);
    let known = version(&cluster);

    let (tick, stop) = (AtomicU64::new(400), AtomicBool::new(false));
    let mut report = Report::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = servers
            .iter()
            .zip(0..)
            .map(|(server, seed)| {
                let (address, keys, tick, stop) = (server.http_addr(), &world.keys, &tick, &stop);
                let plan = ClientPlan { address, keys, seed, requests: u64::MAX, tick, pace: 40, stop };
                scope.spawn(move || ask(&plan))
            })
            .collect();
        wait_until("the clients are at work", || tick.load(Ordering::Relaxed) > 410);
        let next = known + 1;
        cluster
            .psql(&format!("BEGIN; {ADDITIONS} INSERT INTO holdfast.schema_version VALUES ({next}, {known}); COMMIT"));
        let changed = tick.load(Ordering::Relaxed);
        wait_until("they go on", || tick.load(Ordering::Relaxed) > changed + 10);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            report.absorb(client.join().expect("a client ends"));
        }
    });
    let others: Vec<_> = report.statuses.keys().filter(|status| ![200, 412].contains(*status)).collect();
    assert!(others.is_empty(), "statuses {:?}, reasons {:?}", report.statuses, report.reasons);

    // Replaced one by one, with commands in between.
    let [one, two] = servers;
    assert!(one.stop().0.success());
    run(&world.with(&["slashing", "migrate", "--dry-run"])).expect(0, &["up to date"]);
    run(&world.with(&["slashing", "status", "--verify"])).expect(0, &["verified"]);
    let one = world.server().start();
    one.wait_ready();
    for (server, target) in [(&one, 100_000), (&two, 100_001)] {
        let (body, _) = CHAIN.attestation(target * 8, target - 1, target, 1);
        assert_eq!(server.sign(&world.keys[0].public, &body).status, 200, "{}", server.log());
    }

    // A schema that says it is too new for this program stops the next start, and nothing that runs.
    let (next, later) = (known + 1, known + 2);
    cluster.psql(&format!("INSERT INTO holdfast.schema_version VALUES ({later}, {next})"));
    assert!(one.stop().0.success());
    let refused = world.server().try_start().err().expect("it must not start");
    assert!(refused.contains("exit status: 3") && refused.contains("newer"), "{refused}");
    run(&world.with(&["slashing", "migrate", "--dry-run"])).expect(3, &["newer"]);
    let (body, _) = CHAIN.attestation(100_002 * 8, 100_001, 100_002, 1);
    assert_eq!(two.sign(&world.keys[0].public, &body).status, 200, "{}", two.log());
    assert!(two.stop().0.success());
}

#[test]
fn a_dry_run_changes_nothing_and_signers_started_at_once_migrate_once() {
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), 0);
    let everything = "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1, 2";
    let before = cluster.psql(everything);
    run(&world.with(&["slashing", "migrate", "--dry-run"])).expect(0, &["would apply schema version 1"]);
    assert_eq!(cluster.psql(everything), before);
    let started: Vec<Server> = std::thread::scope(|scope| {
        let dirs = ["a", "b", "c"].map(|name| world.path().join(name));
        let starting: Vec<_> = dirs
            .map(|dir| {
                scope.spawn({
                    let world = &world;
                    move || world.server_in(&dir).start()
                })
            })
            .into();
        starting.into_iter().map(|one| one.join().expect("it starts")).collect()
    });
    started.iter().for_each(Server::wait_ready);
    let known = version(&cluster);
    assert_eq!(cluster.psql("SELECT count(*) FROM holdfast.schema_version"), [[known.to_string()]]);
    assert_eq!(cluster.psql("SELECT count(*) FROM holdfast.instances"), [["3"]]);
    for server in started {
        assert!(server.stop().0.success());
    }
    run(&world.with(&["slashing", "migrate", "--dry-run"])).expect(0, &["up to date"]);
}
