//! What a scripted node says: status, headers, body, and what goes wrong on the way.

use std::time::Duration;

use tokio::sync::watch;

/// Holds answers back until the test opens it.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    pub fn closed() -> Self {
        Self(watch::channel(false).0)
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn passed(&self) {
        let mut opened = self.0.subscribe();
        let _ = opened.wait_for(|open| *open).await;
    }
}

/// The bytes after the head.
#[derive(Debug, Clone)]
pub enum Body {
    /// With a right `Content-Length`.
    Bytes(Vec<u8>),
    /// `Content-Length` claims more than is sent; then the connection closes.
    Truncated { claimed: usize, sent: Vec<u8> },
    /// Chunked, cut without the last chunk.
    TruncatedChunks(Vec<u8>),
    /// `count` chunks of `size` bytes each; before each but the first the gate, if any, must be open.
    Chunks { count: usize, size: usize, gate: Option<Gate> },
    /// An event stream, fed by `ScriptedNode::event`.
    Events,
    /// Status line and all: sent as it is, then the connection closes.
    Raw(Vec<u8>),
    /// The connection closes without an answer.
    Nothing,
    /// The connection stays open without an answer.
    Never,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
    pub delay: Option<Duration>,
    pub gate: Option<Gate>,
}

impl Answer {
    fn new(status: u16, body: Body) -> Self {
        Self { status, headers: Vec::new(), body, delay: None, gate: None }
    }

    /// 200 with a JSON body.
    pub fn json(body: impl Into<String>) -> Self {
        Self::new(200, Body::Bytes(body.into().into_bytes())).header("content-type", "application/json")
    }

    /// 200 with an SSZ body.
    pub fn ssz(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, Body::Bytes(body.into())).header("content-type", "application/octet-stream")
    }

    /// 200 with nothing in it.
    pub fn ok() -> Self {
        Self::new(200, Body::Bytes(Vec::new()))
    }

    /// A status with nothing in it.
    pub fn status(status: u16) -> Self {
        Self::new(status, Body::Bytes(Vec::new()))
    }

    /// A Beacon API error.
    pub fn error(status: u16, message: &str) -> Self {
        let body = serde_json::json!({ "code": status, "message": message }).to_string();
        Self { status, ..Self::json(body) }
    }

    /// A Beacon API error of a list submission: index and message of each item refused.
    pub fn failures(failures: &[(usize, &str)]) -> Self {
        let failures: Vec<_> =
            failures.iter().map(|(index, message)| serde_json::json!({ "index": index, "message": message })).collect();
        let body = serde_json::json!({ "code": 400, "message": "some failures", "failures": failures }).to_string();
        Self { status: 400, ..Self::json(body) }
    }

    /// `count` chunks of `size` bytes.
    pub fn chunks(count: usize, size: usize, gate: Option<Gate>) -> Self {
        Self::new(200, Body::Chunks { count, size, gate }).header("content-type", "application/octet-stream")
    }

    /// An event stream.
    pub fn events() -> Self {
        Self::new(200, Body::Events).header("content-type", "text/event-stream")
    }

    /// Closes at once.
    pub fn hang_up() -> Self {
        Self::new(200, Body::Nothing)
    }

    /// Says nothing, ever.
    pub fn never() -> Self {
        Self::new(200, Body::Never)
    }

    /// These bytes instead of an HTTP answer.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(200, Body::Raw(bytes.into()))
    }

    /// The same with another body.
    pub fn body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(key, _)| key != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with another status.
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Not before `gate` is open.
    pub fn held_by(self, gate: &Gate) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }

    /// Not before `delay` has passed.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay: Some(delay), ..self }
    }
}
