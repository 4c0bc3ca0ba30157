//! A TCP proxy in the test process that delays, holds, cuts and refuses connections on command: the
//! network between a service and its database, with the faults a network has.
//!
//! Guarantees: a control that returned is in force for every byte not yet read from a socket; bytes
//! are never reordered or changed; the listening port stays the same for the life of the proxy.
//! Delay is latency, not less throughput: bytes that follow closely are delayed together.

mod link;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use link::Link;

/// How long the target may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Both directions pass.
    Open,
    /// Requests reach the server, answers are held.
    HoldAnswers,
    /// Everything is held, ends of connections too: the server does not learn that a client left.
    HoldAll,
}

/// What happens to new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// They are accepted.
    Accept,
    /// The port is closed: connection refused. Existing connections go on.
    Refuse,
}

/// A cut that waits for its moment, happens once, and cuts the one connection that met it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// After this many more bytes from the server, counted over all connections, at the next byte.
    AfterAnswerBytes(u64),
    /// When a client sends these bytes: they reach the server, and the connection is cut when the
    /// server begins to answer. With `COMMIT`: kept, but the client never hears.
    AnswerTo(Vec<u8>),
    /// When a client sends these bytes: nothing of that write reaches the server. With `COMMIT`: not kept.
    Before(Vec<u8>),
}

/// What went through so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections cut, by any control.
    pub cut: u64,
    /// [`Cut`]s that happened.
    pub tripped: u64,
    /// Bytes delivered to the server.
    pub to_server: u64,
    /// Bytes delivered to clients.
    pub to_client: u64,
}

/// The proxy. Dropping it cuts everything and closes the port.
pub struct Proxy {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    address: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
    one_way_nanos: AtomicU64,
    accepted: AtomicU64,
    cut: AtomicU64,
    tripped: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
}

struct State {
    target: SocketAddr,
    flow: Flow,
    listening: Listening,
    /// Whether the port is open now; follows `listening`.
    port_open: bool,
    cut: Option<Cut>,
    links: HashMap<u64, Arc<Link>>,
    /// Number of [`Proxy::cut_all`] calls: a connection accepted before one must not start after it.
    cuts: u64,
    ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the acceptor look at the state again.
    fn wake_acceptor(&self) {
        let _ = TcpStream::connect_timeout(&self.address, CONNECT_LIMIT);
    }
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target`, which need not be up yet.
    pub fn start(target: SocketAddr) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, crate::postgres::free_port()));
        let listener = TcpListener::bind(address).expect("the port was free a moment ago");
        let shared = Arc::new(Shared {
            address,
            state: Mutex::new(State {
                target,
                flow: Flow::Open,
                listening: Listening::Accept,
                port_open: true,
                cut: None,
                links: HashMap::new(),
                cuts: 0,
                ended: false,
            }),
            changed: Condvar::new(),
            one_way_nanos: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            tripped: AtomicU64::new(0),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
        });
        let own = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept_all(&own, listener));
        Self { shared, acceptor: Some(acceptor) }
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// Sends new connections elsewhere: a failover.
    pub fn set_target(&self, target: SocketAddr) {
        self.shared.state().target = target;
    }

    /// Delays every byte by this much in each direction: a round trip takes twice as long.
    pub fn set_one_way_delay(&self, delay: Duration) {
        self.shared.one_way_nanos.store(u64::try_from(delay.as_nanos()).expect("a short delay"), Ordering::Relaxed);
    }

    /// Holds bytes or lets them pass; held bytes are delivered when the flow opens again.
    pub fn set_flow(&self, flow: Flow) {
        self.shared.state().flow = flow;
        self.shared.changed.notify_all();
    }

    /// Closes or opens the port; returns when it is.
    pub fn set_listening(&self, listening: Listening) {
        let open = listening == Listening::Accept;
        let mut state = self.shared.state();
        state.listening = listening;
        self.shared.changed.notify_all();
        if !open && state.port_open {
            drop(state);
            self.shared.wake_acceptor();
            state = self.shared.state();
        }
        while state.port_open != open {
            state = self.shared.wait(state);
        }
    }

    /// Cuts all connections now, undelivered bytes included.
    pub fn cut_all(&self) {
        let mut state = self.shared.state();
        state.cuts += 1;
        let links: Vec<Arc<Link>> = state.links.values().cloned().collect();
        drop(state);
        for link in links {
            link.cut(&self.shared);
        }
    }

    /// Arms a cut, in place of one that still waits.
    pub fn arm(&self, cut: Cut) {
        self.shared.state().cut = Some(cut);
    }

    /// Whether an armed cut still waits for its moment.
    pub fn is_armed(&self) -> bool {
        self.shared.state().cut.is_some()
    }

    /// Ends all faults: no delay, nothing held, no cut armed, connections accepted.
    pub fn heal(&self) {
        self.shared.state().cut = None;
        self.set_one_way_delay(Duration::ZERO);
        self.set_flow(Flow::Open);
        self.set_listening(Listening::Accept);
    }

    /// Connections open now.
    pub fn open_connections(&self) -> usize {
        self.shared.state().links.len()
    }

    /// What went through so far.
    pub fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            accepted: read(&self.shared.accepted),
            cut: read(&self.shared.cut),
            tripped: read(&self.shared.tripped),
            to_server: read(&self.shared.to_server),
            to_client: read(&self.shared.to_client),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.shared.changed.notify_all();
        self.cut_all();
        self.shared.wake_acceptor();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Accepts while it should, keeps the port closed while it should not.
fn accept_all(shared: &Arc<Shared>, first: TcpListener) {
    let mut listener = first;
    loop {
        accept_while_open(shared, &listener);
        drop(listener);
        let mut state = shared.state();
        state.port_open = false;
        shared.changed.notify_all();
        while state.listening == Listening::Refuse && !state.ended {
            state = shared.wait(state);
        }
        if state.ended {
            return;
        }
        listener = TcpListener::bind(shared.address).expect("the port lies outside the range the system hands out");
        state.port_open = true;
        shared.changed.notify_all();
    }
}

fn accept_while_open(shared: &Arc<Shared>, listener: &TcpListener) {
    loop {
        let accepted = listener.accept();
        let state = shared.state();
        if state.ended || state.listening == Listening::Refuse {
            return;
        }
        let (target, cuts) = (state.target, state.cuts);
        drop(state);
        let Ok((client, _)) = accepted else { continue };
        let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A target that is down shows to the client as a connection that ends at once.
            if let Ok(server) = TcpStream::connect_timeout(&target, CONNECT_LIMIT) {
                link::run(&shared, number, cuts, client, server);
            }
        });
    }
}
