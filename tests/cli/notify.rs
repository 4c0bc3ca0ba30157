//! Plays the service manager: what it is told, and that a process which does not answer itself gives no sign of life.

use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use holdfast_tests::harness::Server;
use holdfast_tests::world::World;

/// For anything that is waited for.
const LIMIT: Duration = Duration::from_secs(30);
/// More connections than the metrics listener serves at once.
const TOO_MANY: usize = 80;

struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn at(path: &Path) -> Self {
        Self { socket: UnixDatagram::bind(path).expect("a socket") }
    }

    /// The next message, or nothing within the time.
    fn hear(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).expect("a time limit");
        let mut buffer = [0_u8; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).expect("messages are text"))
    }

    fn wait_for(&self, line: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < end, "never said {line}");
            if let Some(message) = self.hear(LIMIT)
                && message.lines().any(|said| said == line)
            {
                return message;
            }
        }
    }

    /// Takes what has come, and says whether a sign of life was among it.
    fn drain(&self) -> bool {
        std::iter::from_fn(|| self.hear(Duration::from_millis(1))).filter(|said| said.contains("WATCHDOG=1")).count()
            > 0
    }
}

fn complaints(server: &Server) -> usize {
    server.log().matches("does not answer itself in time").count()
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !reached() {
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_service_manager_hears_of_life_and_stop() {
    let world = World::new(3);
    let path = world.path().join("notify");
    let manager = Manager::at(&path);
    let server = world
        .server()
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "800000")
        .env("HOLDFAST_HTTP_HEADER_TIMEOUT_SECONDS", "600")
        .start();
    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("STATUS=signing for ") && ready.contains("keys: 3"), "{ready}");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }

    // As a process with hanging threads would be: it takes connections and answers none.
    let mut held: Vec<TcpStream> = Vec::new();
    for _ in 0..TOO_MANY {
        held.push(TcpStream::connect(server.metrics_addr()).expect("the kernel accepts"));
    }
    wait_until("the process notices", || complaints(&server) > 0);
    manager.drain();
    let noticed = complaints(&server);
    wait_until("it goes on noticing", || complaints(&server) >= noticed + 2);
    assert!(!manager.drain(), "a sign of life from a process that does not answer");
    drop(held);
    manager.wait_for("WATCHDOG=1");

    server.terminate();
    let stopping = manager.wait_for("STOPPING=1");
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC="), "{stopping}");
    let (status, log) = server.wait();
    assert!(status.success(), "{status}\n{log}");
}

#[test]
fn a_service_manager_that_cannot_be_reached_stops_nobody() {
    let world = World::new(1);
    let server = world.server().env("NOTIFY_SOCKET", "vsock:2:9999").start();
    assert!(server.log().contains("NOTIFY_SOCKET is neither a path"), "{}", server.log());
    let (status, log) = server.stop();
    assert!(status.success(), "{status}\n{log}");
    let server = world.server().env("NOTIFY_SOCKET", world.path().join("nobody")).start();
    let (status, log) = server.stop();
    assert!(status.success(), "{status}\n{log}");
}
