//! The socket and its connections.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_wire::admin::v1::switcher_server::SwitcherServer;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tower_service::Service as _;

use super::SwitcherService;
use crate::drain::{Stopping, Tasks};

/// Commands are few and short.
const CONNECTIONS: usize = 16;

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
        Ok(is_ours(&stream).then_some(stream))
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
pub(crate) fn serve(socket: AdminSocket, service: SwitcherService, tasks: &Tasks) {
    let accepting = accept(socket, SwitcherServer::new(service), tasks.clone());
    tasks.spawn(accepting);
}

async fn accept(socket: AdminSocket, service: SwitcherServer<SwitcherService>, tasks: Tasks) {
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
            Ok((stream, _)) if is_ours(&stream) => {
                let connection = connection(stream, service.clone(), tasks.stopping());
                tasks.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Ok(_) => tracing::warn!("a connection to the admin socket by another user was refused"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin socket");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

/// Whether the peer is this process's user or root, as the kernel says.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn connection(stream: UnixStream, service: SwitcherServer<SwitcherService>, mut stopping: Stopping) {
    let service = service_fn(move |request| {
        let mut service = service.clone();
        async move { service.call(request).await }
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new()).max_concurrent_streams(16);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopping.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection to the admin socket ended early");
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
