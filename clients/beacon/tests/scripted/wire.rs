//! The client's side: sends exactly the bytes it is given and reads what comes back.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::PATIENCE;
use super::connection::{read_body, read_chunk, read_headers};

/// One answer.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl HttpAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}), status {}: {}", self.status, self.text()))
    }
}

/// GET of `path` with `Accept: application/json`.
pub async fn get(address: SocketAddr, path: &str) -> HttpAnswer {
    request(address, "GET", path, &[("accept", "application/json")], b"").await
}

/// One request on a connection of its own. Panics if no whole answer comes.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> HttpAnswer {
    send(address, method, path, headers, body).await.unwrap_or_else(|| panic!("no whole answer to {method} {path}"))
}

/// As `request`, but nothing when the connection ends before the answer does.
pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<HttpAnswer> {
    let exchange = async {
        let mut stream = open(address, method, path, headers, body).await;
        read_answer(&mut stream).await
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("no answer to {method} {path}"))
}

async fn open(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend(body);
    stream.write_all(&bytes).await.unwrap();
    stream
}

/// Status, headers and body of the next answer.
pub async fn read_answer(stream: &mut BufReader<TcpStream>) -> Option<HttpAnswer> {
    let (status, headers) = read_answer_head(stream).await?;
    let body = if status == 204 { Vec::new() } else { read_body(stream, &headers, false).await? };
    Some(HttpAnswer { status, headers, body })
}

async fn read_answer_head(stream: &mut BufReader<TcpStream>) -> Option<(u16, Vec<(String, String)>)> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let status = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, read_headers(stream).await?))
}

/// An open event stream as a client sees it.
pub struct EventStream {
    stream: BufReader<TcpStream>,
    pending: String,
}

/// Opens an event stream for `topics`; panics if it is refused.
pub async fn event_stream(address: SocketAddr, topics: &str) -> EventStream {
    let path = format!("/eth/v1/events?topics={topics}");
    let mut stream = open(address, "GET", &path, &[("accept", "text/event-stream")], b"").await;
    let (status, headers) = tokio::time::timeout(PATIENCE, read_answer_head(&mut stream))
        .await
        .expect("an answer in time")
        .expect("an answer");
    assert_eq!(status, 200, "{headers:?}");
    EventStream { stream, pending: String::new() }
}

impl EventStream {
    /// The next event as topic and data; comments are skipped. `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<(String, String)> {
        // Heartbeats come for ever: the bound is on the event.
        tokio::time::timeout(PATIENCE, self.next_event()).await.expect("an event in time")
    }

    async fn next_event(&mut self) -> Option<(String, String)> {
        loop {
            let record = self.next_record().await?;
            let field = |name: &str| record.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let Some(topic) = field("event: ") {
                return Some((topic, field("data: ").unwrap_or_default()));
            }
        }
    }

    /// The next record, event or comment, without its empty line.
    pub async fn next_record(&mut self) -> Option<String> {
        loop {
            if let Some((record, rest)) = self.pending.split_once("\n\n") {
                let record = record.to_owned();
                self.pending = rest.to_owned();
                return Some(record);
            }
            let chunk =
                tokio::time::timeout(PATIENCE, read_chunk(&mut self.stream)).await.expect("an event in time")??;
            self.pending.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}
