//! The socket and its connections.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tonic::body::Body;

use super::routes::Routes;
use crate::callers::{Callers, Principal};
use crate::drain::{Stopping, Tasks};

/// Commands are few; some watch for long.
const CONNECTIONS: usize = 64;
/// Calls at the same time on one connection.
const STREAMS: u32 = 16;
/// Longest head of a call.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Calls that were taken back before they began.
const MAX_RESETS: usize = 32;
/// How long the first bytes may take.
const GREETING: Duration = Duration::from_secs(5);
/// How often a peer is asked whether it is still there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(20);
/// How long the answer to that may take.
const PONG: Duration = Duration::from_secs(10);
/// What every connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Another process answers there.
    #[error("another process serves {}; stop it, or use another data directory", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket is in the way.
    #[error("{} is there and is no socket; move it away", path.display())]
    Obstacle {
        /// What is in the way.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot make the socket {}", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The socket, ours. Its file is removed when this is dropped.
pub(crate) struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Left behind it would be replaced at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl AdminSocket {
    /// Makes the socket, in place of one that a killed process left. Must be called inside the runtime.
    ///
    /// # Errors
    /// [`SocketError`], which says what to do.
    pub(crate) fn bind(path: PathBuf) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Bind { path: path.clone(), source };
        let listener = bind_socket(&path)?;
        // Until here the directory's mode of 0700 keeps others out, and each connection is checked, too.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, file: SocketFile(path) })
    }

    /// The next connection; `None` if somebody else than this process's user and root made it.
    ///
    /// # Errors
    /// [`io::Error`] if none can be accepted now.
    pub(crate) async fn accept(&self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.listener.accept().await?;
        Ok(ours(&stream).is_some().then_some(stream))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.file.0
    }
}

/// Makes a socket, in place of one that a killed process left.
///
/// # Errors
/// [`SocketError`], which says what to do.
pub(crate) fn bind_socket(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Bind { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::Obstacle { path: path.to_owned() }),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(SocketError::InUse { path: path.to_owned() });
        }
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    UnixListener::bind(path).map_err(failed)
}

/// Serves the admin API until the group of tasks is stopped.
pub(crate) fn serve(socket: AdminSocket, routes: Arc<Routes>, callers: Option<Arc<Callers>>, tasks: &Tasks) {
    let accepting = accept(socket, routes, callers, tasks.clone());
    tasks.spawn(accepting);
}

async fn accept(socket: AdminSocket, routes: Arc<Routes>, callers: Option<Arc<Callers>>, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut stopping = tasks.stopping();
    loop {
        let next = async {
            // The semaphore is never closed, so this always gives a place.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, socket.listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = stopping.begun() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let Some(uid) = ours(&stream) else {
                    tracing::warn!("a connection to the admin socket by another user was refused");
                    continue;
                };
                let who = callers.as_ref().map_or_else(|| Principal::user(uid), |callers| callers.of_user(uid));
                let connection =
                    connection(stream, Arc::clone(&routes), move || Ok(Arc::clone(&who)), tasks.stopping());
                tasks.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin socket");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// The peer's user if it is this process's or root, as the kernel says.
fn ours(stream: &UnixStream) -> Option<u32> {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().ok().map(|peer| peer.uid()).filter(|uid| *uid == own || *uid == 0)
}

/// Who makes a call, or why it is refused.
pub(super) type Who = Result<Arc<Principal>, tonic::Status>;

/// Serves one connection. `who` is asked for each call.
pub(super) async fn connection<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    routes: Arc<Routes>,
    who: impl Fn() -> Who + Send + 'static,
    mut stopping: Stopping,
) {
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(GREETING, Greeted::read(stream)) => greeted,
        () = stopping.begun() => return,
    };
    let Ok(Ok(stream)) = greeted else {
        tracing::debug!("a connection to the admin API did not begin as HTTP/2");
        return;
    };
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let answer = match who() {
            Ok(who) => {
                request.extensions_mut().insert(who);
                Ok(routes.call(request.map(Body::new)))
            }
            Err(refused) => Err(refused.into_http::<Body>()),
        };
        async move {
            match answer {
                Ok(answer) => answer.await,
                Err(refused) => Ok(refused),
            }
        }
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(Some(MAX_RESETS))
        .keep_alive_interval(Some(PING))
        .keep_alive_timeout(PONG);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopping.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection to the admin API ended early");
    }
}

/// A connection whose first bytes were read, and are those of HTTP/2. A peer that connects and says nothing, or something
/// else, holds a place for a short time only.
struct Greeted<S> {
    /// How much of the greeting was handed on.
    taken: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> Greeted<S> {
    async fn read(mut stream: S) -> io::Result<Self> {
        let mut greeting = [0; PREFACE.len()];
        stream.read_exact(&mut greeting).await?;
        if greeting == *PREFACE { Ok(Self { taken: 0, stream }) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = PREFACE.get(self.taken..).unwrap_or_default();
        if left.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, out);
        }
        let count = left.len().min(out.remaining());
        out.put_slice(left.get(..count).unwrap_or_default());
        self.taken = self.taken.saturating_add(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    //! Proves: mode and life of the socket's file.
    use super::*;

    #[tokio::test]
    async fn the_socket_is_private_and_replaces_only_what_nobody_serves() {
        let dir = tempfile::tempdir().unwrap();
        let path = super::super::socket_in(dir.path());
        let first = AdminSocket::bind(path.clone()).unwrap();
        assert_eq!(std::fs::metadata(first.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(AdminSocket::bind(path.clone()), Err(SocketError::InUse { .. })));
        drop(first);
        assert!(!path.exists());
        // As a killed process leaves it: the file is there, nobody listens.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        drop(AdminSocket::bind(path.clone()).unwrap());
        std::fs::File::create(&path).unwrap();
        assert!(matches!(AdminSocket::bind(path), Err(SocketError::Obstacle { .. })));
    }
}
