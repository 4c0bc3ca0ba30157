//! The proxy between a client and its server.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use holdfast_tests::postgres::{Cluster, Session};
use holdfast_tests::proxy::{Counters, Cut, Flow, Listening, Proxy};

use super::parsed;

/// Long enough for an answer that comes at all.
const SOON: Duration = Duration::from_secs(30);
/// Long enough to show that none comes.
const NEVER: Duration = Duration::from_millis(300);

/// One server for all tests here; each has a database and a proxy of its own.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start)
}

struct Scene {
    proxy: Proxy,
    through: String,
    direct: Session,
}

impl Scene {
    fn new(database: &str) -> Self {
        let cluster = cluster();
        cluster.create_database(database);
        let proxy = Proxy::start(cluster.addr());
        let through = cluster.url_for(proxy.addr(), database);
        let mut direct = cluster.session_on(&cluster.url_for(cluster.addr(), database));
        direct
            .run("CREATE TABLE kept (number int PRIMARY KEY); INSERT INTO kept VALUES (1)")
            .expect("an empty database");
        Self { proxy, through, direct }
    }

    /// A connection through the proxy that works.
    fn connect(&self) -> Session {
        let mut session = cluster().session_on(&self.through);
        session.run("SELECT 1").expect("the proxy forwards");
        session
    }

    fn try_connect(&self) -> Result<(), String> {
        cluster().session_on(&self.through).run("SELECT 1").map(|_| ())
    }

    fn numbers(&mut self) -> Vec<i32> {
        parsed(&self.direct.run("SELECT number FROM kept ORDER BY number").expect("the server answers"))
    }

    /// Waits until no other connection is inside a transaction: the server has noticed a cut.
    fn settle(&mut self) {
        let query =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let deadline = Instant::now() + SOON;
        while self.direct.run(query).expect("the server answers") != [["0"]] {
            assert!(Instant::now() < deadline, "the server still sees the connection");
        }
    }
}

#[test]
fn a_commit_whose_answer_is_cut_is_kept() {
    let mut scene = Scene::new("answer_cut");
    for (number, cut) in
        [(2, Cut::AnswerTo(b"COMMIT".to_vec())), (3, Cut::AfterAnswerBytes(0)), (4, Cut::AfterAnswerBytes(5))]
    {
        let mut client = scene.connect();
        client.run(&format!("BEGIN; INSERT INTO kept VALUES ({number})")).expect("no fault yet");
        scene.proxy.arm(cut);
        assert!(scene.proxy.is_armed());
        let error = client.run("COMMIT").expect_err("the answer was cut");
        assert!(error.starts_with("connection lost"), "{error}");
        assert!(!scene.proxy.is_armed());
    }
    assert_eq!(scene.numbers(), [1, 2, 3, 4]);
    // A cut is counted by the thread that made it, after the client felt it.
    let counted = || {
        let Counters { accepted, cut, tripped, .. } = scene.proxy.counters();
        (accepted, cut, tripped)
    };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while counted() != (3, 3, 3) && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(counted(), (3, 3, 3));
}

#[test]
fn a_commit_cut_before_it_arrives_is_not_kept() {
    let mut scene = Scene::new("request_cut");
    let mut client = scene.connect();
    client.run("BEGIN; INSERT INTO kept VALUES (2)").expect("no fault yet");
    scene.proxy.arm(Cut::Before(b"COMMIT".to_vec()));
    let error = client.run("COMMIT").expect_err("the request was cut");
    assert!(error.starts_with("connection lost"), "{error}");
    scene.settle();
    assert_eq!(scene.numbers(), [1]);
    // The cut happened once.
    scene.connect().run("BEGIN; INSERT INTO kept VALUES (3); COMMIT").expect("no fault any more");
    assert_eq!(scene.numbers(), [1, 3]);
}

#[test]
fn bytes_from_the_server_are_counted_until_the_cut() {
    let scene = Scene::new("counted");
    let mut client = scene.connect();
    let before = scene.proxy.counters();
    scene.proxy.arm(Cut::AfterAnswerBytes(1_000_000));
    client.run("SELECT repeat('x', 3000000)").expect_err("the answer is longer");
    let after = scene.proxy.counters();
    assert_eq!(after.to_client - before.to_client, 1_000_000);
    assert!(after.to_server > before.to_server);
}

#[test]
fn a_held_answer_comes_when_the_flow_opens() {
    let mut scene = Scene::new("held_answer");
    let mut client = scene.connect();
    scene.proxy.set_flow(Flow::HoldAnswers);
    client.send("INSERT INTO kept VALUES (2)");
    assert!(client.wait(NEVER).is_none(), "a held answer arrived");
    assert_eq!(scene.numbers(), [1, 2], "the request arrives");
    scene.proxy.set_flow(Flow::Open);
    client.wait(SOON).expect("the answer comes").expect("it is the answer");
}

#[test]
fn a_held_connection_passes_nothing_and_hides_that_the_client_left() {
    let mut scene = Scene::new("held_all");
    let mut client = scene.connect();
    let mut leaving = scene.connect();
    leaving.run("BEGIN; LOCK TABLE kept IN SHARE ROW EXCLUSIVE MODE").expect("no fault yet");
    scene.proxy.set_flow(Flow::HoldAll);
    client.send("INSERT INTO kept VALUES (2)");
    let mut new = cluster().session_on(&scene.through);
    new.send("SELECT 1");
    assert!(client.wait(NEVER).is_none(), "a held connection answered");
    assert!(new.wait(NEVER).is_none(), "a new connection got through");
    drop(leaving);
    let lock = "SET lock_timeout = '300ms'; LOCK TABLE kept IN SHARE ROW EXCLUSIVE MODE";
    let error = scene.direct.run(&format!("BEGIN; {lock}; ROLLBACK")).expect_err("the lock of the client that left");
    assert!(error.contains("55P03"), "{error}");
    assert_eq!(scene.numbers(), [1]);
    scene.proxy.set_flow(Flow::Open);
    client.wait(SOON).expect("the answer comes").expect("it is the answer");
    new.wait(SOON).expect("the answer comes").expect("it is the answer");
    assert_eq!(scene.numbers(), [1, 2]);
}

#[test]
fn connections_are_cut_and_refused_on_command() {
    let mut scene = Scene::new("refused");
    let mut clients = [scene.connect(), scene.connect(), scene.connect()];
    clients[0].run("BEGIN; INSERT INTO kept VALUES (2)").expect("no fault yet");
    assert_eq!(scene.proxy.open_connections(), 3);
    scene.proxy.set_listening(Listening::Refuse);
    clients[1].run("SELECT 1").expect("open connections go on");
    let error = scene.try_connect().expect_err("the port is closed");
    assert!(error.contains("Connection refused"), "{error}");
    scene.proxy.cut_all();
    for client in &mut clients {
        assert!(client.run("COMMIT").expect_err("all are cut").starts_with("connection lost"));
    }
    scene.settle();
    assert_eq!(scene.numbers(), [1]);
    assert_eq!(scene.proxy.counters().cut, 3);
    scene.proxy.set_listening(Listening::Accept);
    scene.try_connect().expect("the same port again");

    scene.proxy.arm(Cut::AfterAnswerBytes(0));
    scene.proxy.set_flow(Flow::HoldAll);
    scene.proxy.set_listening(Listening::Refuse);
    scene.proxy.heal();
    scene.try_connect().expect("all is well after healing");
}

#[test]
fn a_delay_adds_to_every_round_trip_and_not_to_every_byte() {
    let scene = Scene::new("delayed");
    let mut client = scene.connect();
    // Round trips of simple statements, as a driver without pipelining makes them.
    let mut round_trips = |count: u32| -> Duration {
        let started = Instant::now();
        for _ in 0..count {
            client.run("SELECT 1").expect("the proxy forwards");
        }
        started.elapsed() / count
    };
    for micros in [500, 2_500] {
        let one_way = Duration::from_micros(micros);
        let without = round_trips(50);
        scene.proxy.set_one_way_delay(one_way);
        let with = round_trips(50);
        scene.proxy.heal();
        println!("one way {one_way:?}: round trip {without:?} without, {with:?} with");
        assert!(with >= 2 * one_way, "{with:?} for a delay of {one_way:?} each way");
    }

    scene.proxy.set_one_way_delay(Duration::from_millis(100));
    let started = Instant::now();
    client.run("SELECT repeat('x', 1000) FROM generate_series(1, 20000)").expect("a long answer");
    let elapsed = started.elapsed();
    // At 64 KiB a chunk, 20 MB would take more than 30 s if each chunk waited for the one before.
    assert!(elapsed >= Duration::from_millis(200), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(15), "{elapsed:?}");
}

#[test]
fn a_target_can_be_missing_and_change() {
    let scene = Scene::new("moved");
    let dead = Proxy::start(scene.proxy.addr());
    let dead_address = dead.addr();
    drop(dead);
    scene.proxy.set_target(dead_address);
    scene.try_connect().expect_err("nobody listens there");
    scene.proxy.set_target(cluster().addr());
    scene.try_connect().expect("the server is back");
}
