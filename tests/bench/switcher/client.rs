//! A validator client's connections: kept alive, one thread each, requests at fixed times.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Connections of a client; one request at a time on each.
const CONNECTIONS: usize = 8;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One keep-alive connection.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        Self { stream, buffer: vec![0; 64 * 1024] }
    }

    /// Sends a request and reads the whole answer, which must be 200. Gives the length of its body.
    pub(super) fn ask(&mut self, request: &[u8]) -> u64 {
        self.ask_at(request, None)
    }

    /// As [`Self::ask`], but reads the body at no more than so many bytes per second, as over a slower network.
    pub(super) fn ask_at(&mut self, request: &[u8], per_second: Option<u64>) -> u64 {
        self.stream.write_all(request).expect("a request is sent");
        let mut length = 0;
        let (head, body) = loop {
            let read = self.stream.read(&mut self.buffer[length..]).expect("an answer in time");
            assert!(read > 0, "the connection was closed instead of an answer to {}", String::from_utf8_lossy(request));
            length += read;
            let seen = &self.buffer[..length];
            if let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = std::str::from_utf8(&seen[..end]).expect("a head is text");
                assert!(head.starts_with("HTTP/1.1 200"), "{}", String::from_utf8_lossy(seen));
                break (end + 4, content_length(head));
            }
        };
        let mut left = body - (length - head) as u64;
        let began = Instant::now();
        while left > 0 {
            if let Some(per_second) = per_second {
                let due = Duration::from_secs_f64((body - left) as f64 / per_second as f64);
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
            let read = self.stream.read(&mut self.buffer).expect("a body in time") as u64;
            assert!(read > 0 && read <= left, "a body of {body} bytes was cut short by {left} bytes");
            left -= read;
        }
        body
    }
}

fn content_length(head: &str) -> u64 {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().expect("a length"))
}

/// A GET as validator clients send it.
pub(super) fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: beacon\r\nAccept: application/json\r\nUser-Agent: bench\r\n\r\n")
        .into_bytes()
}

/// A POST of JSON.
pub(super) fn post(target: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nHost: beacon\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
         Eth-Consensus-Version: electra\r\nUser-Agent: bench\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A validator client at work.
pub(super) struct Client {
    connections: Vec<Connection>,
}

impl Client {
    /// Opens its connections.
    pub(super) fn connect(address: SocketAddr) -> Self {
        Self { connections: (0..CONNECTIONS).map(|_| Connection::open(address)).collect() }
    }

    /// Sends `requests` at `rate` per second, whatever the answers do: each is due at a fixed time on a fixed
    /// connection. Gives the time of each from when it was sent, or from when it was due if the answer before it on its
    /// connection came after that.
    pub(super) fn run(&mut self, requests: &[Vec<u8>], rate: u64) -> Vec<Duration> {
        let start = Instant::now() + Duration::from_millis(5);
        let every = Duration::from_secs(1) / u32::try_from(rate).expect("a small rate");
        let lanes = self.connections.len();
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .connections
                .iter_mut()
                .enumerate()
                .map(|(lane, connection)| {
                    scope.spawn(move || {
                        let mine = (lane..requests.len()).step_by(lanes);
                        mine.map(|number| {
                            let due = start + every * u32::try_from(number).expect("a small number");
                            let early = due.saturating_duration_since(Instant::now());
                            std::thread::sleep(early);
                            // A timer that fires late is not the server's fault.
                            let from = if early.is_zero() { due } else { Instant::now() };
                            connection.ask(&requests[number]);
                            from.elapsed()
                        })
                        .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("a client ends")).collect()
        })
    }
}
