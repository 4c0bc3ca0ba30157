//! `ScriptedNode`: a consensus client whose every answer the test decides.
//!
//! Why it exists: the switcher's promises are about what real HTTP peers do wrong, so the peer is a
//! real TCP server that speaks HTTP/1.1 byte by byte: it can delay, hang, cut a body short, close
//! without a word, answer in HTTP/1.0, stream for ever. It records every request with the time it
//! was seen, and tells by notification, so a test never sleeps to wait for it.
//!
//! Out of the box it is a healthy node of [`Chain`]: genesis, spec, forks, version, syncing and head
//! follow the wall clock. `answer` replaces what one route says; [`Gate`] holds an answer back until
//! the test opens it.
#![allow(dead_code, reason = "each test program uses the part it needs")]
#![allow(clippy::disallowed_methods, reason = "the server's tasks and clock belong to the test")]
#![allow(clippy::pedantic, unreachable_pub, unused_imports, reason = "test support, included by several programs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's server fails the test"
)]

mod answer;
mod chain;
mod connection;
mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

pub use answer::{Answer, Body, Gate};
pub use chain::{Chain, Sync};
pub use wire::{HttpAnswer, event_stream, get, request, send};

/// How long a test waits for something that must happen before it fails with what it saw.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One request as the node saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query without the question mark.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// When the request was complete.
    pub at: Instant,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

/// Marks bytes that go to every stream as they are.
pub(crate) const RAW: char = '\0';

type Script = Arc<dyn Fn(&Seen) -> Answer + Send + std::marker::Sync>;

/// What the node is and knows; shared with its connections.
pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) chain: Chain,
    pub(crate) behaviour: Mutex<Behaviour>,
    seen: Mutex<Vec<Seen>>,
    abandoned: Mutex<Vec<Seen>>,
    changed: watch::Sender<u64>,
    events: broadcast::Sender<String>,
    streams: watch::Sender<usize>,
    stop: watch::Sender<u64>,
}

pub(crate) struct Behaviour {
    scripts: HashMap<String, Script>,
    pub(crate) sync: Sync,
    pub(crate) version: String,
    pub(crate) peers: u64,
    hung: bool,
}

/// A consensus client under the test's control.
pub struct ScriptedNode {
    inner: Arc<Inner>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl ScriptedNode {
    /// Starts a healthy node of `chain` that calls itself `version`, such as `Lighthouse/v8.0.0`.
    pub async fn start(name: &str, version: &str, chain: &Chain) -> Self {
        let behaviour = Behaviour {
            scripts: HashMap::new(),
            sync: Sync::default(),
            version: version.to_owned(),
            peers: 80,
            hung: false,
        };
        let inner = Arc::new(Inner {
            name: name.to_owned(),
            chain: chain.clone(),
            behaviour: Mutex::new(behaviour),
            seen: Mutex::new(Vec::new()),
            abandoned: Mutex::new(Vec::new()),
            changed: watch::channel(0).0,
            events: broadcast::channel(4096).0,
            streams: watch::channel(0).0,
            stop: watch::channel(0).0,
        });
        let mut node = Self { inner, address: "127.0.0.1:0".parse().unwrap(), accepting: None };
        node.listen().await;
        node
    }

    async fn listen(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(1024).unwrap();
        self.address = listener.local_addr().unwrap();
        self.accepting = Some(tokio::spawn(accept(listener, Arc::clone(&self.inner))));
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub fn chain(&self) -> &Chain {
        &self.inner.chain
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Dies: nobody listens any more and every open connection is cut.
    pub async fn kill(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
        }
        self.inner.stop.send_modify(|generation| *generation += 1);
    }

    /// Comes back on the same address, with what it was taught.
    pub async fn revive(&mut self) {
        assert!(self.accepting.is_none(), "still alive");
        self.listen().await;
    }

    /// Hangs like a stopped process: accepts connections and requests and answers nothing.
    pub fn hang(&self) {
        lock(&self.inner.behaviour).hung = true;
    }

    /// Answers new requests again.
    pub fn unhang(&self) {
        lock(&self.inner.behaviour).hung = false;
    }

    /// Head and sync state as told by syncing, headers and health.
    pub fn set_sync(&self, sync: Sync) {
        lock(&self.inner.behaviour).sync = sync;
    }

    pub fn set_version(&self, version: &str) {
        version.clone_into(&mut lock(&self.inner.behaviour).version);
    }

    pub fn set_peers(&self, peers: u64) {
        lock(&self.inner.behaviour).peers = peers;
    }

    /// From now on `route` (`GET /eth/v1/…`, without query; a `*` at the end matches any rest) is answered so.
    pub fn answer(&self, route: &str, answer: Answer) {
        self.script(route, move |_| answer.clone());
    }

    /// From now on `route` is answered by `script`.
    pub fn script(&self, route: &str, script: impl Fn(&Seen) -> Answer + Send + std::marker::Sync + 'static) {
        assert!(route.contains(" /"), "write a route like `GET /eth/v1/node/version`");
        lock(&self.inner.behaviour).scripts.insert(route.to_owned(), Arc::new(script));
    }

    /// `route` is answered as by a healthy node again.
    pub fn forget(&self, route: &str) {
        lock(&self.inner.behaviour).scripts.remove(route);
    }

    /// What this node saw on `route`, oldest first.
    pub fn seen(&self, route: &str) -> Vec<Seen> {
        lock(&self.inner.seen).iter().filter(|seen| matches(route, seen)).cloned().collect()
    }

    /// Forgets what it saw.
    pub fn clear_seen(&self) {
        lock(&self.inner.seen).clear();
        lock(&self.inner.abandoned).clear();
    }

    /// Requests on `route` whose sender left before it was answered.
    pub fn abandoned(&self, route: &str) -> usize {
        lock(&self.inner.abandoned).iter().filter(|seen| matches(route, seen)).count()
    }

    /// Waits until `route` was seen `count` times, and returns them all.
    pub async fn wait_seen(&self, route: &str, count: usize) -> Vec<Seen> {
        let mut changed = self.inner.changed.subscribe();
        let enough = async {
            loop {
                let seen = self.seen(route);
                if seen.len() >= count {
                    return seen;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, enough).await {
            Ok(seen) => seen,
            Err(_) => {
                let all: Vec<String> =
                    lock(&self.inner.seen).iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
                panic!("{} did not see {count} of {route}; it saw {all:?}", self.inner.name)
            }
        }
    }

    /// Sends one event to every open event stream that asked for `topic`.
    pub fn event(&self, topic: &str, data: &str) {
        let _ = self.inner.events.send(format!("event: {topic}\ndata: {data}\n\n"));
    }

    /// Sends these bytes to every open event stream.
    pub fn raw_event(&self, bytes: &str) {
        let _ = self.inner.events.send(format!("{RAW}{bytes}"));
    }

    /// How many event streams are open here.
    pub fn open_streams(&self) -> usize {
        *self.inner.streams.borrow()
    }

    /// Waits until exactly `count` event streams are open here.
    pub async fn wait_streams(&self, count: usize) {
        let mut streams = self.inner.streams.subscribe();
        let reached = streams.wait_for(|open| *open == count);
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("{}: {} event streams open, expected {count}", self.inner.name, self.open_streams());
        }
    }

    /// Cuts every open connection, but goes on listening.
    pub fn cut_connections(&self) {
        self.inner.stop.send_modify(|generation| *generation += 1);
    }
}

impl Drop for ScriptedNode {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
        self.inner.stop.send_modify(|generation| *generation += 1);
    }
}

impl Inner {
    pub(crate) fn record(&self, seen: Seen) {
        lock(&self.seen).push(seen);
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn abandon(&self, seen: Seen) {
        lock(&self.abandoned).push(seen);
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn decide(&self, seen: &Seen) -> Answer {
        let script = {
            let behaviour = lock(&self.behaviour);
            if behaviour.hung {
                return Answer::never();
            }
            // The longest matching route wins, so that an exact one beats a pattern.
            behaviour
                .scripts
                .iter()
                .filter(|(route, _)| matches(route, seen))
                .max_by_key(|(route, _)| route.len())
                .map(|(_, script)| Arc::clone(script))
        };
        script.map_or_else(|| chain::healthy(self, seen), |script| script(seen))
    }
}

fn matches(route: &str, seen: &Seen) -> bool {
    let Some((method, path)) = route.split_once(' ') else { return false };
    method == seen.method && path.strip_suffix('*').map_or(path == seen.path, |prefix| seen.path.starts_with(prefix))
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let inner = Arc::clone(&inner);
        let mut stop = inner.stop.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                () = connection::serve(stream, &inner) => {}
                _ = stop.changed() => {}
            }
        });
    }
}
