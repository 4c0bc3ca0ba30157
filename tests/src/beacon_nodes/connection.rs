//! One connection to a node: requests read, answers written in one piece each.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast::Receiver;

use super::{Event, Shared};

/// Longest head of a request.
const MAX_HEAD: usize = 64 * 1024;

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
    Transfer-Encoding: chunked\r\n\r\n";

/// A request without its body, which nobody reads.
struct Request {
    is_get: bool,
    target: String,
}

/// Counts for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn serve(mut stream: TcpStream, shared: &Arc<Shared>, number: usize) {
    let node = &shared.nodes[number];
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut buffer = Vec::with_capacity(16 * 1024);
    while let Some(request) = read(&mut stream, &mut buffer).await {
        node.requests.fetch_add(1, Ordering::Relaxed);
        if request.is_get && request.target.starts_with("/eth/v1/events") {
            let _open = Counted::new(&node.streams);
            return tell(stream, topics(&request.target), node.events.subscribe()).await;
        }
        if request.is_get && request.target.starts_with("/eth/v2/debug/beacon/states/") {
            return send_state(stream, shared.state_bytes);
        }
        let answer = answer(shared, number, &request);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// The next request; `None` when the client has gone or does not speak HTTP as clients here do.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let head = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if buffer.len() > MAX_HEAD || stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let mut words = text.split(' ');
    let (method, target) = (words.next()?, words.next()?.to_owned());
    let is_get = method == "GET";
    let length: usize = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Some(0), |(_, value)| value.trim().parse().ok())?;
    while buffer.len() < head + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    buffer.drain(..head + length);
    Some(Request { is_get, target })
}

fn answer(shared: &Shared, node: usize, request: &Request) -> Vec<u8> {
    if !request.is_get {
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
    }
    let (status, body) = match shared.chain.answer(node, &request.target) {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", r#"{"code":404,"message":"the node does not have this route"}"#.to_owned()),
    };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn topics(target: &str) -> Vec<String> {
    let (_, query) = target.split_once('?').unwrap_or_default();
    let values = query.split('&').filter_map(|pair| pair.strip_prefix("topics="));
    values.flat_map(|value| value.split(',')).map(str::to_owned).collect()
}

async fn tell(mut stream: TcpStream, topics: Vec<String>, mut events: Receiver<Arc<Event>>) {
    if stream.write_all(format!("{STREAM_HEAD}3\r\n:\n\n\r\n").as_bytes()).await.is_err() {
        return;
    }
    let mut ignored = [0; 64];
    loop {
        tokio::select! {
            event = events.recv() => {
                let Ok(event) = event else { return };
                if topics.iter().any(|topic| topic == event.topic) {
                    let chunk = format!("{:x}\r\n{}\r\n", event.record.len(), event.record);
                    if stream.write_all(chunk.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
            read = stream.read(&mut ignored) => {
                if read.map_or(true, |bytes| bytes == 0) {
                    return;
                }
            }
        }
    }
}

/// Writes a state from a thread of its own, and closes.
fn send_state(stream: TcpStream, bytes: u64) {
    let mut stream = stream.into_std().expect("a connection outside the runtime");
    stream.set_nonblocking(false).expect("a connection can block");
    std::thread::spawn(move || {
        let piece: Vec<u8> = (0..64 * 1024_u32).map(|number| number.to_le_bytes()[0] | 1).collect();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nEth-Consensus-Version: fulu\r\n\
             Content-Length: {bytes}\r\nConnection: close\r\n\r\n"
        );
        let mut left = usize::try_from(bytes).expect("a state fits into memory");
        // Whoever asked may have left in the middle.
        let mut sent = stream.write_all(head.as_bytes());
        while left > 0 && sent.is_ok() {
            let next = left.min(piece.len());
            sent = stream.write_all(&piece[..next]);
            left -= next;
        }
    });
}
