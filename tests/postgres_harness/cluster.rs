//! Life, death and identity of one server.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::postgres::{Access, Builder, Cluster, Disk, Stop, Tls};

use super::{numbers, table};

/// A way to end a server.
type End = fn(&Cluster);

/// Set in the copy of this test program that is to be killed.
const VICTIM: &str = "HOLDFAST_TESTS_VICTIM";

#[test]
fn a_commit_survives_every_way_to_stop_and_an_open_transaction_survives_none() {
    let cluster = Cluster::builder().disk(Disk::Temporary).start();
    assert_eq!(cluster.psql("SHOW fsync; SHOW full_page_writes; SHOW synchronous_commit"), [["on"], ["on"], ["on"]]);
    table(&cluster);
    let ends: [End; 3] = [Cluster::kill9, |cluster| cluster.stop(Stop::Immediate), |cluster| cluster.stop(Stop::Fast)];
    for (end, number) in ends.into_iter().zip(2..) {
        let mut open = cluster.session();
        open.run(&format!("BEGIN; INSERT INTO kept VALUES ({})", number + 100)).expect("the server runs");
        cluster.psql(&format!("INSERT INTO kept VALUES ({number})"));
        end(&cluster);
        assert!(!cluster.is_running());
        assert!(cluster.try_psql("SELECT 1").is_err(), "a stopped server answered");
        let lost = open.run("COMMIT").expect_err(&format!("commit {number} without a server"));
        assert!(lost.starts_with("connection lost"), "{lost}");
        cluster.start_again();
    }
    assert_eq!(numbers(&cluster), [1, 2, 3, 4]);
}

#[test]
fn a_frozen_server_answers_nobody_and_goes_on_where_it_was() {
    let cluster = Cluster::start();
    table(&cluster);
    let mut old = cluster.session();
    old.run("BEGIN; INSERT INTO kept VALUES (2)").expect("the server runs");
    cluster.pause();
    assert!(cluster.is_running());
    let mut new = cluster.session();
    old.send("COMMIT");
    new.send("SELECT count(*) FROM kept");
    assert!(old.wait(Duration::from_millis(300)).is_none(), "a frozen backend answered");
    assert!(new.wait(Duration::from_millis(300)).is_none(), "a frozen server took a connection");
    cluster.resume();
    old.wait(Duration::from_secs(30)).expect("the backend goes on").expect("the commit succeeds");
    new.wait(Duration::from_secs(30)).expect("the server goes on").expect("the connection succeeds");
    assert_eq!(numbers(&cluster), [1, 2]);

    cluster.pause();
    cluster.kill9();
    cluster.start_again();
    cluster.pause();
    cluster.stop(Stop::Fast);
    cluster.start_again();
    assert_eq!(numbers(&cluster), [1, 2]);
}

#[test]
fn roles_need_their_password_and_the_service_is_no_superuser() {
    let cluster = Cluster::start();
    let mut service = cluster.session_on(&cluster.url());
    let rows =
        service.run("SELECT current_user, current_database(), rolsuper FROM pg_roles WHERE rolname = current_user");
    assert_eq!(rows.expect("the service connects"), [["holdfast", "holdfast", "f"]]);
    assert!(cluster.session_on(&cluster.admin_url()).run("SHOW data_directory").is_ok());
    let method = cluster.psql("SELECT DISTINCT auth_method FROM pg_hba_file_rules");
    assert_eq!(method, [["scram-sha-256"]]);
    let wrong = cluster.url().replace(cluster.password(), "wrong");
    let refused = cluster.session_on(&wrong).run("SELECT 1").expect_err("a wrong password");
    assert!(refused.contains("password authentication failed"), "{refused}");

    cluster.create_database("other");
    let mut other = cluster.session_on(&cluster.url_for(cluster.addr(), "other"));
    other.run("CREATE TABLE own (number int)").expect("the service owns the database");
}

#[test]
fn errors_carry_their_state_and_leave_the_connection_usable() {
    let cluster = Cluster::builder().setting("fsync", "off").start();
    assert_eq!(cluster.psql("SHOW fsync"), [["off"]]);
    let mut session = cluster.session();
    let error = session.run("SELECT 1; SELECT * FROM missing; SELECT 2").expect_err("no such table");
    assert!(error.contains("42P01"), "{error}");
    assert_eq!(
        session.run("SELECT 1, 'two'; SELECT NULL").expect("the connection lives"),
        [vec!["1", "two"], vec![""]]
    );

    table(&cluster);
    let mut old = cluster.session();
    old.run("SELECT 1").expect("the server runs");
    cluster.read_only(Access::ReadOnly);
    for session in [&mut old, &mut cluster.session()] {
        let error = session.run("INSERT INTO kept VALUES (2)").expect_err("a read-only server");
        assert!(error.contains("25006"), "{error}");
    }
    cluster.read_only(Access::ReadWrite);
    old.run("INSERT INTO kept VALUES (2)").expect("writes are back");
    assert_eq!(numbers(&cluster), [1, 2]);
}

#[test]
fn a_restored_copy_has_lost_later_rows_and_a_second_server_can_run_on_it() {
    let cluster = Cluster::start();
    table(&cluster);
    let online = cluster.base_backup();
    cluster.psql("INSERT INTO kept VALUES (2)");
    cluster.kill9();
    let crashed = cluster.snapshot();
    cluster.start_again();
    cluster.psql("INSERT INTO kept VALUES (3)");
    assert_eq!(numbers(&cluster), [1, 2, 3]);

    let twin = Cluster::start_from(&crashed, &Builder::default());
    assert_eq!(numbers(&twin), [1, 2]);
    twin.psql("INSERT INTO kept VALUES (4)");
    let identity = "SELECT system_identifier FROM pg_control_system()";
    assert_eq!(twin.psql(identity), cluster.psql(identity));

    for (snapshot, rows) in [(&crashed, vec![1, 2]), (&online, vec![1])] {
        cluster.stop(Stop::Fast);
        cluster.restore(snapshot);
        cluster.start_again();
        assert_eq!(numbers(&cluster), rows);
    }
}

#[test]
fn tls_is_verified_in_full() {
    let cluster = Cluster::builder().tls(Tls::Required).start();
    let url = cluster.url();
    assert!(url.contains("sslmode=verify-full"), "{url}");
    let query = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for address in [url.clone(), url.replace("127.0.0.1", "localhost")] {
        assert_eq!(cluster.session_on(&address).run(query).expect("TLS works"), [["t", "TLSv1.3"]]);
    }

    let stranger = Cluster::builder().tls(Tls::Offered).start();
    let ca = |cluster: &Cluster| cluster.ca_file().expect("TLS is on").display().to_string();
    let refusals = [
        (url.replace(&ca(&cluster), &ca(&stranger)), "certificate verify failed"),
        (url.replace("127.0.0.1:", "127.0.0.2:").replace('?', "?hostaddr=127.0.0.1&"), "does not match host name"),
        (url.replace("sslmode=verify-full", "sslmode=disable"), "no encryption"),
    ];
    for (address, reason) in refusals {
        let error = cluster.session_on(&address).run("SELECT 1").expect_err(reason);
        assert!(error.contains(reason), "{error}");
    }
    let plain = stranger.url().replace("sslmode=verify-full", "sslmode=disable");
    assert_eq!(stranger.session_on(&plain).run(query).expect("plain is offered too"), [["f", ""]]);
}

/// The test program starts itself again, lets the copy freeze a server of its own, and kills the copy.
#[test]
fn a_killed_test_process_leaves_nothing_behind() {
    if std::env::var_os(VICTIM).is_some() {
        let cluster = Cluster::start();
        cluster.pause();
        println!("\nsocket={}", cluster.socket_folder().display());
        // Ends when the parent does.
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let mut victim = Command::new(std::env::current_exe().expect("this test program"))
        .args(["--exact", "cluster::a_killed_test_process_leaves_nothing_behind", "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test program starts");
    let lines = BufReader::new(victim.stdout.take().expect("stdout is piped")).lines();
    let socket = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("socket=").map(PathBuf::from));
    let root = socket.expect("the victim starts a server").parent().expect("a folder").to_path_buf();
    assert!(processes_in(&root) > 3, "the victim runs no server");
    victim.kill().expect("the victim runs");
    victim.wait().expect("the victim is our child");
    let deadline = Instant::now() + Duration::from_secs(30);
    while root.exists() || processes_in(&root) > 0 {
        assert!(Instant::now() < deadline, "{} and its processes outlived the test process", root.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn processes_in(root: &std::path::Path) -> usize {
    let folders = std::fs::read_dir("/proc").expect("/proc is mounted");
    folders
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path().join("cwd")).ok())
        .filter(|folder| folder.starts_with(root))
        .count()
}
