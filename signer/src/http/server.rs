//! Listening and serving connections: bounded in number, in time and in what they may send, and
//! finished in good order at shutdown.
//!
//! Guarantee of a shutdown: a request that was sent before it is answered, whether it was being worked on, lay
//! unread on an open connection, or on one that was not accepted yet. From the beginning of a shutdown every
//! answer closes its connection, and says so.
//!
//! Connections that have not been of use yet make way for new ones where there are as many as may be: whoever opens
//! thousands and says nothing keeps nobody out.
//!
//! A request whose client closes its connection is dropped at once, with everything it waits for:
//! what was not committed by then is not recorded and not signed.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::io::{ClientIo, Phase};
use super::peer::{Peer, Proof};
use super::reply::Reply;
use super::socket::{Accepted, Bound, Socket};
use crate::admin::SocketError;
use crate::drain::{Stopping, Tasks};
use crate::tls::{Newcomer, Queue, Tls};

/// Connections the kernel holds for us until they are accepted.
const BACKLOG: u32 = 4_096;
/// How long an idle connection is kept: clients' pools keep theirs for up to 60 s or so, and the
/// side that closes first should be the client, or it may send into a closing connection.
const IDLE_TIMEOUT: Duration = Duration::from_mins(2);
/// Read and write buffer of one connection at most; larger bodies pass through in pieces.
const MAX_BUFFER: usize = 128 * 1024;
/// Connections of the metrics listener: viewers of the status page, scrapers and probes.
pub(crate) const METRICS_CONNECTIONS: usize = 256;
/// Pause after a failed accept, as when file descriptors run out: they come back as connections close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A mark on an answer.
#[derive(Clone, Copy)]
struct Wanted;

/// Marks an answer to somebody who is known: its connection stays when others have to make way.
pub(crate) fn wanted(mut reply: Reply) -> Reply {
    reply.extensions_mut().insert(Wanted);
    reply
}

/// Answers requests. One value serves all connections of a listener.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request of `peer`.
    fn answer(self: Arc<Self>, peer: Arc<Peer>, request: Request<Incoming>) -> impl Future<Output = Reply> + Send;
}

/// Bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerBounds {
    /// Most connections open at once; for a further one, the oldest that has not been of use yet makes way.
    pub(crate) max_connections: usize,
    /// Longest time for a request's head, from its first byte.
    pub(crate) head_timeout: Duration,
    /// How long an idle connection is kept at shutdown: what was sent on it before is still read and answered.
    pub(crate) last_word: Duration,
}

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// Somebody else listens there.
    #[error(
        "port {} is in use ({address}): {}; stop it (`ss -ltnp 'sport = :{}'` shows who it is) or choose another port with \
         {flag} {}:PORT", address.port(), likely_holder(address.port()), address.port(), address.ip()
    )]
    InUse {
        /// The address wanted.
        address: SocketAddr,
        /// The option that changes it.
        flag: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// This user may not.
    #[error("not permitted to listen on {address}: choose a port above 1023 with {flag}")]
    Forbidden {
        /// The address wanted.
        address: SocketAddr,
        /// The option that changes it.
        flag: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The Unix socket.
    #[error(transparent)]
    Unix(#[from] SocketError),
    /// Anything else.
    #[error("cannot listen on {address}: choose an address of this machine with {flag}")]
    Other {
        /// The address wanted.
        address: SocketAddr,
        /// The option that changes it.
        flag: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Ports that consensus clients take for their peers unless told otherwise: TCP and UDP 9000, QUIC 9001.
const OF_CONSENSUS_CLIENTS: [u16; 2] = [9000, 9001];

/// Who most probably listens on a port that is in use.
pub(crate) fn likely_holder(port: u16) -> &'static str {
    if OF_CONSENSUS_CLIENTS.contains(&port) {
        "another signer may be running, or a consensus client, which takes 9000 and 9001 for its peers"
    } else {
        "another signer may be running"
    }
}

/// Takes an address. `flag` is the option named in errors. Must be called inside the runtime.
///
/// # Errors
/// [`BindError`], which says what to do.
pub(crate) fn bind(address: SocketAddr, flag: &'static str) -> Result<Bound, BindError> {
    listen(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address, flag, source },
        io::ErrorKind::PermissionDenied => BindError::Forbidden { address, flag, source },
        _ => BindError::Other { address, flag, source },
    })
}

fn listen(address: SocketAddr) -> io::Result<Bound> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a previous run in TIME_WAIT must not keep the port from us.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok(Bound { socket: Socket::Tcp(listener), address })
}

/// What connections come in on, and what is asked of them.
pub(crate) struct Listening {
    /// The socket.
    pub(crate) bound: Bound,
    /// TLS, if it is spoken.
    pub(crate) tls: Option<Arc<Tls>>,
}

impl From<Bound> for Listening {
    fn from(bound: Bound) -> Self {
        Self { bound, tls: None }
    }
}

/// Accepts and serves connections until the group of tasks is stopped.
pub(crate) fn start<S: Service>(
    listening: impl Into<Listening>,
    service: Arc<S>,
    bounds: ServerBounds,
    open: Gauge,
    tasks: &Tasks,
) {
    let Listening { bound, tls } = listening.into();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .keep_alive(true)
        .max_buf_size(MAX_BUFFER)
        // Responses are short: one copy into the buffer costs less than gathering pieces.
        .writev(false);
    let places = Arc::new(Semaphore::new(bounds.max_connections.min(Semaphore::MAX_PERMITS)));
    let newcomers = Queue::new(bounds.max_connections);
    let server = Arc::new(Server { http, service, tls, bounds, open, places, newcomers });
    tasks.spawn(accept(bound.socket, server, tasks.clone()));
}

struct Server<S> {
    http: http1::Builder,
    service: Arc<S>,
    tls: Option<Arc<Tls>>,
    bounds: ServerBounds,
    open: Gauge,
    places: Arc<Semaphore>,
    newcomers: Queue,
}

async fn accept<S: Service>(socket: Socket, server: Arc<Server<S>>, tasks: Tasks) {
    let mut stopping = tasks.stopping();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.begun() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                let place = tokio::select! {
                    place = server.place() => place,
                    () = stopping.begun() => server.place_at_once(),
                };
                if let Some(place) = place {
                    serve(&server, accepted, place, &tasks);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; raise the limit of open files if this persists");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // What the kernel has accepted for us already: its clients may have sent something. Who comes later is refused a
    // connection, which clients and load balancers take for what it is.
    for accepted in socket.into_last() {
        let Some(place) = server.place_at_once() else { return };
        serve(&server, accepted, place, &tasks);
    }
}

fn serve<S: Service>(server: &Arc<Server<S>>, accepted: Accepted, place: OwnedSemaphorePermit, tasks: &Tasks) {
    let (server, stopping) = (Arc::clone(server), tasks.stopping());
    tasks.spawn(async move {
        server.open.inc();
        let newcomer = server.newcomers.enter();
        server.welcome(accepted, newcomer, stopping).await;
        server.open.dec();
        drop(place);
    });
}

impl<S: Service> Server<S> {
    fn place_at_once(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// A place for one more connection, if need be that of one which has not been of use.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Some(place) = self.place_at_once() {
            return Some(place);
        }
        self.newcomers.make_room();
        // The semaphore is never closed, so this always gives a place.
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// From a connection that has come in to one that requests are read from.
    async fn welcome(&self, accepted: Accepted, newcomer: Newcomer, stopping: Stopping) {
        match accepted {
            Accepted::Tcp(stream, peer) => {
                // A signature is one small packet, wanted now.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%peer, %error, "TCP_NODELAY not set");
                }
                let address = peer.ip();
                let Some(tls) = &self.tls else {
                    return self.connection(stream, Peer { address, proof: Proof::None }, newcomer, stopping).await;
                };
                let handshake = tokio::select! {
                    done = tls.accept(stream, address) => done,
                    () = newcomer.told_to_go() => return,
                };
                // It is counted and logged there.
                let Ok((stream, certificate)) = handshake else { return };
                let proof = certificate.map_or(Proof::None, Proof::Certificate);
                self.connection(stream, Peer { address, proof }, newcomer, stopping).await;
            }
            Accepted::Unix(stream) => {
                // Without a name there is nothing to let it in by.
                let Ok(credentials) = stream.peer_cred() else { return };
                let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
                let peer = Peer { address, proof: Proof::User(credentials.uid()) };
                self.connection(stream, peer, newcomer, stopping).await;
            }
        }
    }

    async fn connection<IO>(&self, stream: IO, peer: Peer, newcomer: Newcomer, mut stopping: Stopping)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let phase = Arc::new(Phase::default());
        let io = ClientIo::new(TokioIo::new(stream), Arc::clone(&phase), self.bounds.head_timeout);
        let leaving = stopping.clone();
        let peer = Arc::new(peer);
        let (newcomer, watched) = (&newcomer, Arc::clone(&phase));
        let other_end = Arc::clone(&peer);
        let service = service_fn(move |request| {
            let busy = phase.busy();
            let other_end = Arc::clone(&other_end);
            let service = Arc::clone(&self.service);
            let leaving = leaving.clone();
            async move {
                let mut reply = service.answer(other_end, request).await;
                drop(busy);
                if reply.extensions_mut().remove::<Wanted>().is_some() {
                    newcomer.settle();
                }
                if leaving.is_leaving() {
                    // The connection ends after this answer, and the next request goes elsewhere.
                    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(reply)
            }
        });
        let mut connection = pin!(self.http.serve_connection(io, service));
        let last_word = async {
            stopping.begun().await;
            tokio::time::sleep(self.bounds.last_word).await;
        };
        let result = tokio::select! {
            // Reads what has come before it looks at the time.
            biased;
            result = connection.as_mut() => result,
            () = last_word => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = newcomer.told_to_go() => {
                // Nothing was asked yet, or half of it: whoever is meant to be here asks at once.
                if !watched.is_busy() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            // Clients come and go; what they missed is their business.
            tracing::debug!(peer = %peer.address, %error, "connection ended early");
        }
    }
}
