//! Plays the service manager: what it is told, that a process which hangs gives no sign of life, and how serious its lines
//! are for the journal.

use std::fs::{File, metadata, read_to_string};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use holdfast_tests::world::World;
use rustix::process::{Pid, Signal, kill_process};

/// For anything that is waited for.
const LIMIT: Duration = Duration::from_secs(30);

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

    /// Takes what has come.
    fn drain(&self) {
        while self.hear(Duration::from_millis(1)).is_some() {}
    }
}

#[test]
fn the_service_manager_hears_of_life_and_stop() {
    let world = World::new(3);
    let path = world.path().join("notify");
    let manager = Manager::at(&path);
    let server = world.server().env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "800000").start();
    let ready = manager.wait_for("READY=1");
    assert!(ready.contains("STATUS=signing for ") && ready.contains("keys: 3"), "{ready}");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }

    // A process that hangs says nothing, however often it is waited for, and speaks again when it goes on.
    let process = Pid::from_raw(i32::try_from(server.pid()).unwrap()).expect("a process");
    kill_process(process, Signal::STOP).expect("stopped");
    manager.drain();
    assert_eq!(manager.hear(Duration::from_millis(1_600)), None, "a sign of life from a process that hangs");
    kill_process(process, Signal::CONT).expect("goes on");
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

/// The lines of a server that has something to warn of, up to that, into a file which may be a stream of the journal.
fn warned(world: &World, journal: bool) -> Vec<String> {
    let path = world.path().join("stderr");
    let file = File::create(&path).expect("a file");
    let mut command = world.server().env("NOTIFY_SOCKET", "vsock:2:9999").command();
    if journal {
        let own = metadata(&path).expect("a file");
        command.env("JOURNAL_STREAM", format!("{}:{}", own.dev(), own.ino()));
    } else {
        // Of the process around this one, and another stream than the file.
        command.env("JOURNAL_STREAM", "1:2");
    }
    let mut server = command.stdout(Stdio::null()).stderr(file).spawn().expect("a server");
    let end = Instant::now() + LIMIT;
    let lines = loop {
        assert!(Instant::now() < end, "never warned");
        let text = read_to_string(&path).expect("text");
        if text.lines().any(|line| line.contains("neither a path")) && text.ends_with('\n') {
            break text.lines().map(str::to_owned).collect();
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    lines
}

#[test]
fn the_journal_is_told_how_serious_a_line_is_and_nobody_else() {
    let world = World::new(1);
    let lines = warned(&world, true);
    for line in &lines {
        let level = ["<3>", "<4>", "<6>", "<7>"].into_iter().find_map(|level| Some((level, line.strip_prefix(level)?)));
        let (level, json) = level.unwrap_or_else(|| panic!("no level in front of {line}"));
        let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let named = match json["level"].as_str() {
            Some("ERROR") => "<3>",
            Some("WARN") => "<4>",
            Some("INFO") => "<6>",
            _ => "<7>",
        };
        assert_eq!(level, named, "{line}");
    }
    assert!(lines.iter().any(|line| line.starts_with("<4>")) && lines.iter().any(|line| line.starts_with("<6>")));
    assert!(warned(&world, false).iter().all(|line| line.starts_with('{')));
}
