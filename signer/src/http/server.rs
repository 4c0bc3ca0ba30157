//! Listening and serving connections: bounded in number, in time and in what they may send, and
//! finished in good order at shutdown.
//!
//! Guarantee of a shutdown: a request that was sent before it is answered, whether it was being worked on, lay
//! unread on an open connection, or on one that was not accepted yet. From the beginning of a shutdown every
//! answer closes its connection, and says so.
//!
//! A request whose client closes its connection is dropped at once, with everything it waits for:
//! what was not committed by then is not recorded and not signed.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
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
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::io::{ClientIo, Phase};
use super::peer::Peer;
use super::reply::Reply;
use crate::drain::{Stopping, Tasks};

/// Connections the kernel holds for us until they are accepted.
const BACKLOG: u32 = 4_096;
/// How long an idle connection is kept: clients' pools keep theirs for up to 60 s or so, and the
/// side that closes first should be the client, or it may send into a closing connection.
const IDLE_TIMEOUT: Duration = Duration::from_mins(2);
/// Read and write buffer of one connection at most; larger bodies pass through in pieces.
const MAX_BUFFER: usize = 128 * 1024;
/// Pause after a failed accept, as when file descriptors run out: they come back as connections close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers requests. One value serves all connections of a listener.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request of `peer`.
    fn answer(self: Arc<Self>, peer: Arc<Peer>, request: Request<Incoming>) -> impl Future<Output = Reply> + Send;
}

/// Bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerBounds {
    /// Most connections open at once; further ones wait to be accepted.
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
        "port {} is in use ({address}): another signer may be running; stop it (`ss -ltnp 'sport = :{}'` shows who it is) \
         or choose another port with {flag} {}:PORT", address.port(), address.port(), address.ip()
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

/// An address that is ours: connections queue up from now on.
pub(crate) struct Bound {
    listener: TcpListener,
    /// The address with its real port.
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// The socket, for a server of another crate.
    pub(crate) fn into_listener(self) -> TcpListener {
        self.listener
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
    Ok(Bound { listener, address })
}

/// Accepts and serves connections until the group of tasks is stopped.
pub(crate) fn start<S: Service>(bound: Bound, service: Arc<S>, bounds: ServerBounds, open: Gauge, tasks: &Tasks) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .keep_alive(true)
        .max_buf_size(MAX_BUFFER)
        // Responses are short: one copy into the buffer costs less than gathering pieces.
        .writev(false);
    let server = Arc::new(Server { http, service, bounds, open });
    let accepting = accept(bound.listener, server, tasks.clone());
    tasks.spawn(accepting);
}

struct Server<S> {
    http: http1::Builder,
    service: Arc<S>,
    bounds: ServerBounds,
    open: Gauge,
}

async fn accept<S: Service>(listener: TcpListener, server: Arc<Server<S>>, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(server.bounds.max_connections.min(Semaphore::MAX_PERMITS)));
    let mut stopping = tasks.stopping();
    loop {
        let next = async {
            // The semaphore is never closed, so this always gives a place.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = stopping.begun() => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => serve(&server, stream, peer, place, &tasks),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; raise the limit of open files if this persists");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    accept_last(listener, &server, &places, &tasks);
}

/// Takes what the kernel has accepted for us already, whose clients may have sent something, and stops listening.
/// Who comes later is refused a connection, which clients and load balancers take for what it is.
fn accept_last<S: Service>(listener: TcpListener, server: &Arc<Server<S>>, places: &Arc<Semaphore>, tasks: &Tasks) {
    let Ok(listener) = listener.into_std() else { return };
    // Not blocking, so it ends when none is left.
    while let Ok((stream, peer)) = listener.accept() {
        let Ok(place) = Arc::clone(places).try_acquire_owned() else { return };
        match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            Ok(stream) => serve(server, stream, peer, Some(place), tasks),
            Err(error) => tracing::warn!(%peer, %error, "a connection was dropped"),
        }
    }
}

fn serve<S: Service>(
    server: &Arc<Server<S>>,
    stream: TcpStream,
    peer: SocketAddr,
    place: Option<OwnedSemaphorePermit>,
    tasks: &Tasks,
) {
    let (server, stopping) = (Arc::clone(server), tasks.stopping());
    tasks.spawn(async move {
        server.open.inc();
        server.connection(stream, peer, stopping).await;
        server.open.dec();
        drop(place);
    });
}

impl<S: Service> Server<S> {
    async fn connection(&self, stream: TcpStream, peer: SocketAddr, mut stopping: Stopping) {
        // A signature is one small packet, wanted now.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY not set");
        }
        let phase = Arc::new(Phase::default());
        let io = ClientIo::new(TokioIo::new(stream), Arc::clone(&phase), self.bounds.head_timeout);
        let leaving = stopping.clone();
        let other_end = Arc::new(Peer { address: peer.ip() });
        let service = service_fn(move |request| {
            let busy = phase.busy();
            let other_end = Arc::clone(&other_end);
            let service = Arc::clone(&self.service);
            let leaving = leaving.clone();
            async move {
                let mut reply = service.answer(other_end, request).await;
                drop(busy);
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
        };
        if let Err(error) = result {
            // Clients come and go; what they missed is their business.
            tracing::debug!(%peer, %error, "connection ended early");
        }
    }
}
