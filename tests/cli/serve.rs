//! Starting and stopping: ports, locks, permissions, graceful ends.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_tests::workload::{ClientPlan, run as run_client};
use holdfast_tests::world::{CHAIN, World};

use holdfast_tests::finished::{SERVE, run};

#[test]
fn a_port_in_use_is_named() {
    let world = World::new(1);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    run(&world.with(&["serve", "--http-listen", &address, "--metrics-listen", "127.0.0.1:0"])).expect(3, &[&address]);
    run(&world.with(&["serve", "--http-listen", "127.0.0.1:0", "--metrics-listen", &address])).expect(3, &[&address]);
}

#[test]
fn an_open_address_without_authentication_is_refused() {
    let world = World::new(1);
    run(&world.with(&["serve", "--http-listen", "0.0.0.0:0", "--metrics-listen", "127.0.0.1:0"]))
        .expect(2, &["0.0.0.0", "127.0.0.1"]);
}

#[test]
fn a_database_in_use_names_its_holder() {
    let world = World::new(1);
    let server = world.server().start();
    server.wait_ready();
    let pid = server.pid().to_string();
    run(&world.with(&SERVE)).expect(3, &["already open", &pid]);
    run(&world.with(&["keys", "generate"])).expect(3, &["already open", &pid]);
    let (body, _) = CHAIN.randao(7);
    assert_eq!(server.sign(&world.keys[0].public, &body).status, 200, "the running server is unharmed");
}

#[test]
fn wide_permissions_are_refused_with_the_command_that_mends_them() {
    let world = World::new(1);
    let data = world.data_dir();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    run(&world.with(&SERVE)).expect(2, &["chmod 700", &data.display().to_string()]);
    run(&world.with(&["keys", "list"])).expect(2, &["chmod 700"]);
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let key_file = data.join("kek/file.key");
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    run(&world.with(&SERVE)).expect(2, &["chmod 600", "file.key"]);
}

#[test]
fn a_stop_finishes_what_is_in_flight_and_says_so() {
    let world = World::new(8);
    let server = world.server().start();
    server.wait_ready();
    let tick = AtomicU64::new(400);
    let stop = AtomicBool::new(false);
    let address = server.http_addr();
    let (status, log, reports) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|seed| {
                let (keys, tick, stop) = (&world.keys, &tick, &stop);
                scope.spawn(move || {
                    run_client(&ClientPlan { address, keys, seed, requests: u64::MAX, tick, pace: 40, stop })
                })
            })
            .collect();
        while tick.load(Ordering::Relaxed) < 900 {
            std::thread::yield_now();
        }
        let (status, log) = server.stop();
        let reports: Vec<_> = clients.into_iter().map(|client| client.join().expect("a client ends")).collect();
        (status, log, reports)
    });
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("finished"), "the log does not say what became of requests in flight:\n{log}");
    let answers: u64 = reports.iter().map(holdfast_tests::workload::Report::answers).sum();
    assert!(answers > 100, "only {answers} answers");
    let journal = holdfast_tests::journal::read(&world.data_dir());
    for released in reports.iter().flat_map(|report| &report.released) {
        assert!(journal.permitted.contains(&(released.key.clone(), released.root)), "not in the journal: {released:?}");
    }
}

#[test]
fn doctor_is_content_with_a_good_setup_and_finds_a_bad_one() {
    let world = World::new(1);
    let finished = run(&world.with(&["doctor"]));
    assert!([0, 1].contains(&finished.code), "{}", finished.text());
    std::fs::set_permissions(world.data_dir(), std::fs::Permissions::from_mode(0o777)).expect("chmod");
    run(&world.with(&["doctor"])).expect(1, &["chmod 700"]);
}
