//! What the service manager is told: that requests can be signed, that the process still lives, that it stops
//! (the protocol of sd_notify(3): one datagram each, to the socket named by `NOTIFY_SOCKET`).
//!
//! The sign of life is given only after an outside look: a connection to the metrics listener that got an answer. A
//! process whose threads hang stops giving it and is restarted (`WatchdogSec=`). It never depends on the database or
//! the chain, as no restart mends those. Without a service manager nothing here does anything.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::{debug, warn};

/// How long a start may go on after each sign of life: waiting for keys, or for people who bring shares.
const START_EXTENSION: Duration = Duration::from_mins(1);

/// How often a start that goes on is said to go on.
const START_PULSE: Duration = Duration::from_secs(15);

/// What a stop may take beyond its own limits: closing the database and ending a vault.
const STOP_MARGIN: Duration = Duration::from_secs(30);

/// Why the service manager cannot be told anything.
#[derive(Debug, Error)]
pub(crate) enum NotifyError {
    /// `NOTIFY_SOCKET` is of a kind that is not known here.
    #[error("NOTIFY_SOCKET is neither a path nor an abstract socket (@NAME): {0:?}")]
    Address(OsString),
    /// The name is too long, or contains a zero byte.
    #[error("NOTIFY_SOCKET cannot be used as an address")]
    Name(#[source] io::Error),
    /// No socket could be made.
    #[error("cannot make a socket to talk to the service manager")]
    Socket(#[source] io::Error),
}

/// The service manager, if there is one.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    channel: Option<Channel>,
    /// Within which time a sign of life is expected.
    watchdog: Option<Duration>,
    ready: AtomicBool,
}

#[derive(Debug)]
struct Channel {
    socket: UnixDatagram,
    address: UnixAddr,
}

impl ServiceManager {
    /// The one that started this process, by its environment. One that cannot be reached is warned of: a server
    /// must not fail for it.
    pub(crate) fn of_process() -> Arc<Self> {
        // Not settings of this program, so not read with them.
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let watchdog =
            watchdog(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref(), std::process::id());
        let channel = variable("NOTIFY_SOCKET").and_then(|name| match Channel::open(&name) {
            Ok(channel) => Some(channel),
            Err(error) => {
                warn!("the service manager is told nothing: {}", crate::outcome::chain(&error));
                None
            }
        });
        Arc::new(Self { channel, watchdog, ready: AtomicBool::new(false) })
    }

    /// Requests can be signed. `status` is shown by `systemctl status`.
    pub(crate) fn ready(&self, status: &str) {
        self.ready.store(true, Ordering::Relaxed);
        self.say(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// The configuration is read again, until this ends.
    pub(crate) async fn reloading_while(&self, reload: impl Future<Output = ()>) {
        self.say("RELOADING=1");
        reload.await;
        self.say("READY=1");
    }

    /// The process stops, which may take as long as its configuration allows.
    pub(crate) fn stopping(&self, within: Duration) {
        self.say(&format!(
            "STOPPING=1\nSTATUS=finishing requests in progress\n{}",
            extension(within.saturating_add(STOP_MARGIN))
        ));
    }

    /// Gives signs of life for as long as the runtime lives. `probe` is the metrics listener's address.
    pub(crate) async fn pulse(self: Arc<Self>, probe: SocketAddr) {
        if self.channel.is_none() {
            return;
        }
        // Several tries within the time that is allowed, each with all of its part.
        let every = self.watchdog.map_or(START_PULSE, |watchdog| (watchdog / 4).min(START_PULSE));
        loop {
            let answered = tokio::time::timeout(every, answers(reachable(probe))).await;
            match answered {
                Ok(Ok(())) => self.alive(),
                Ok(Err(error)) => warn!(%probe, %error, "this process does not answer itself: no sign of life"),
                Err(_elapsed) => warn!(%probe, "this process does not answer itself in time: no sign of life"),
            }
            if self.watchdog.is_none() && self.ready.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(every).await;
        }
    }

    fn alive(&self) {
        let mut said = Vec::with_capacity(2);
        if self.watchdog.is_some() {
            said.push("WATCHDOG=1".to_owned());
        }
        if !self.ready.load(Ordering::Relaxed) {
            said.push(extension(START_EXTENSION));
        }
        if !said.is_empty() {
            self.say(&said.join("\n"));
        }
    }

    fn say(&self, text: &str) {
        if let Some(Channel { socket, address }) = &self.channel
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            debug!(%error, "the service manager did not take a message");
        }
    }
}

impl Channel {
    fn open(name: &OsStr) -> Result<Self, NotifyError> {
        let address = match name.as_bytes() {
            [b'/', ..] => UnixAddr::from_pathname(name),
            [b'@', name @ ..] if !name.is_empty() => UnixAddr::from_abstract_name(name),
            _ => return Err(NotifyError::Address(name.to_owned())),
        };
        let socket = UnixDatagram::unbound().map_err(NotifyError::Socket)?;
        // A manager that does not listen must not hold this process up.
        socket.set_nonblocking(true).map_err(NotifyError::Socket)?;
        Ok(Self { socket, address: address.map_err(NotifyError::Name)? })
    }
}

/// Within which time a sign of life is expected, if it is expected of this process.
fn watchdog(microseconds: Option<&OsStr>, of: Option<&OsStr>, own: u32) -> Option<Duration> {
    let microseconds: u64 = microseconds?.to_str()?.parse().ok().filter(|value| *value > 0)?;
    let ours = of.is_none_or(|of| of.to_str().and_then(|of| of.parse::<u32>().ok()) == Some(own));
    ours.then_some(Duration::from_micros(microseconds))
}

/// A status is one line.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn extension(by: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", by.as_micros())
}

/// The address under which this machine reaches a listener of its own.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

/// Whether the listener takes a connection, reads a request and answers. What it answers does not matter.
async fn answers(listener: SocketAddr) -> io::Result<()> {
    let mut connection = TcpStream::connect(listener).await?;
    connection.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    // Closing is an answer, too: a listener that speaks TLS only does not take this request.
    match connection.read(&mut [0_u8; 1]).await {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    //! Proves: both kinds of addresses, whose watchdog it is, what is said. `tests/cli/notify.rs` shows when.
    use super::*;

    fn manager(channel: Option<Channel>, watchdog: Option<Duration>) -> ServiceManager {
        ServiceManager { channel, watchdog, ready: AtomicBool::new(false) }
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0_u8; 512];
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    #[test]
    fn a_path_and_an_abstract_name_are_addresses() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("a socket");
        let name = format!("holdfast-test-{}", std::process::id());
        let abstract_address = UnixAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&abstract_address).expect("a socket");
        for (address, socket) in [(path.into_os_string(), by_path), (format!("@{name}").into(), by_name)] {
            let manager = manager(Some(Channel::open(&address).expect("an address")), Some(Duration::from_secs(1)));
            manager.alive();
            assert_eq!(heard(&socket), "WATCHDOG=1\nEXTEND_TIMEOUT_USEC=60000000");
            manager.ready("two\nlines");
            assert_eq!(heard(&socket), "READY=1\nSTATUS=two lines");
            manager.alive();
            assert_eq!(heard(&socket), "WATCHDOG=1");
            manager.stopping(Duration::from_secs(20));
            assert_eq!(heard(&socket).lines().last(), Some("EXTEND_TIMEOUT_USEC=50000000"));
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for name in ["vsock:2:1234", "@", "relative", ""] {
            assert!(matches!(Channel::open(OsStr::new(name)), Err(NotifyError::Address(_))), "{name}");
        }
        assert!(matches!(Channel::open(OsStr::new(&format!("/{}", "x".repeat(200)))), Err(NotifyError::Name(_))));
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let time = OsStr::new("30000000");
        assert_eq!(watchdog(Some(time), None, 7), Some(Duration::from_secs(30)));
        assert_eq!(watchdog(Some(time), Some(OsStr::new("7")), 7), Some(Duration::from_secs(30)));
        assert_eq!(watchdog(Some(time), Some(OsStr::new("8")), 7), None);
        assert_eq!(watchdog(Some(OsStr::new("0")), None, 7), None);
        assert_eq!(watchdog(Some(OsStr::new("soon")), None, 7), None);
        assert_eq!(watchdog(None, None, 7), None);
    }

    #[tokio::test]
    async fn a_sign_of_life_needs_an_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_nonblocking(true).unwrap();
        // It takes connections, as the kernel does for a process that hangs, and answers none.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let manager = Arc::new(ServiceManager {
            channel: Some(Channel::open(path.as_os_str()).unwrap()),
            watchdog: Some(Duration::from_millis(200)),
            ready: AtomicBool::new(true),
        });
        let pulse = Arc::clone(&manager).pulse(silent.local_addr().unwrap());
        assert!(tokio::time::timeout(Duration::from_millis(600), pulse).await.is_err(), "it goes on");
        assert!(heard.recv(&mut [0; 64]).is_err(), "a sign of life without an answer");
        manager.alive();
        assert!(heard.recv(&mut [0; 64]).is_ok(), "the socket works");
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        let asked = |address: &str| reachable(address.parse().expect("an address")).to_string();
        assert_eq!(asked("0.0.0.0:9001"), "127.0.0.1:9001");
        assert_eq!(asked("[::]:9001"), "[::1]:9001");
        assert_eq!(asked("192.0.2.7:9001"), "192.0.2.7:9001");
    }
}
