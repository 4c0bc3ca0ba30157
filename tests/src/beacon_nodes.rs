//! Beacon nodes for measurements: any number of them on one thread, answering at once, over HTTP/1.1 with keep-alive.
//!
//! Why it exists: what stands in front of nodes can only be measured when the nodes cost next to nothing. What it
//! guarantees: all nodes follow one chain whose slots follow the clock, and agree about everything; each answer leaves in
//! one write; a state is written by a thread of its own, so that it delays no other answer of its node; requests and
//! open event streams are counted.

mod chain;
mod connection;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{broadcast, oneshot};

use chain::Chain;

/// Events a stream may be behind before its node closes it.
const EVENTS_KEPT: usize = 256;

/// Running nodes; they end when this is dropped.
pub struct Nodes {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What all nodes have in common.
struct Shared {
    chain: Chain,
    nodes: Vec<Node>,
    /// Length of a state.
    state_bytes: u64,
}

/// One node's numbers and event streams.
struct Node {
    requests: AtomicU64,
    streams: AtomicUsize,
    events: broadcast::Sender<Arc<Event>>,
}

/// An event as it is written.
struct Event {
    topic: &'static str,
    record: String,
}

impl Nodes {
    /// Starts `count` nodes whose states have `state_bytes` bytes.
    pub fn start(count: usize, state_bytes: u64) -> Self {
        let node = || Node {
            requests: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            events: broadcast::Sender::new(EVENTS_KEPT),
        };
        let nodes = std::iter::repeat_with(node).take(count).collect();
        let shared = Arc::new(Shared { chain: Chain::start(), nodes, state_bytes });
        let (stop, stopped) = oneshot::channel();
        let (bound, addresses) = std::sync::mpsc::channel();
        let served = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("nodes".to_owned()).spawn(move || serve(count, &served, &bound, stopped));
        let thread = Some(thread.expect("a thread"));
        let addresses = addresses.recv().expect("the nodes listen");
        Self { addresses, shared, stop: Some(stop), thread }
    }

    /// Where they listen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Their URLs.
    pub fn urls(&self) -> Vec<String> {
        self.addresses.iter().map(|address| format!("http://{address}")).collect()
    }

    /// Length of a state.
    pub fn state_bytes(&self) -> u64 {
        self.shared.state_bytes
    }

    /// The slot of the clock.
    pub fn slot(&self) -> u64 {
        self.shared.chain.slot()
    }

    /// Requests answered so far, by node.
    pub fn requests(&self) -> Vec<u64> {
        self.shared.nodes.iter().map(|node| node.requests.load(Ordering::Relaxed)).collect()
    }

    /// Event streams open now, by node.
    pub fn streams(&self) -> Vec<usize> {
        self.shared.nodes.iter().map(|node| node.streams.load(Ordering::Relaxed)).collect()
    }

    /// Lets every node tell of a new head (`block`, then `head`). Gives the moment in nanoseconds since
    /// [`Self::started`], as it stands in the events' `sent_at`.
    pub fn tell_head(&self) -> u64 {
        self.shared.tell_head()
    }

    /// When they started.
    pub fn started(&self) -> Instant {
        self.shared.chain.started()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the nodes has been printed, and what was measured has failed with it.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn tell_head(&self) -> u64 {
        let told = self.chain.new_head();
        for node in &self.nodes {
            for (topic, record) in [("block", &told.block), ("head", &told.head)] {
                // Nobody may be listening.
                let _ = node.events.send(Arc::new(Event { topic, record: record.clone() }));
            }
        }
        told.sent_at
    }
}

fn serve(count: usize, shared: &Arc<Shared>, bound: &Sender<Vec<SocketAddr>>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut addresses = Vec::with_capacity(count);
        for number in 0..count {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
            addresses.push(listener.local_addr().expect("an address"));
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection can be accepted");
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move { connection::serve(stream, &shared, number).await });
                }
            });
        }
        bound.send(addresses).expect("whoever started the nodes waits");
        let ticking = Arc::clone(shared);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep_until((Instant::now() + ticking.chain.until_next_slot()).into()).await;
                ticking.tell_head();
                // Not twice for the same slot, however early a timer fires.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let _ = stopped.await;
    });
}
