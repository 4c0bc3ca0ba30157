//! Where connections come in: a TCP address or a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::admin::SocketError;

/// An address that is ours: connections queue up from now on.
pub(crate) struct Bound {
    pub(super) socket: Socket,
    /// The address with its real port; of a Unix socket, none that means anything.
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// The socket, for a server of another crate; `None` if it is a Unix socket.
    pub(crate) fn into_listener(self) -> Option<TcpListener> {
        match self.socket {
            Socket::Tcp(listener) => Some(listener),
            Socket::Unix(..) => None,
        }
    }
}

/// A listening socket.
pub(super) enum Socket {
    /// Of an address.
    Tcp(TcpListener),
    /// Of a file, which goes with it.
    Unix(UnixListener, SocketFile),
}

/// A connection that has come in.
pub(super) enum Accepted {
    /// From an address.
    Tcp(TcpStream, SocketAddr),
    /// From this machine.
    Unix(UnixStream),
}

/// Removed when it is dropped.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Left behind it would be replaced at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Socket {
    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| Accepted::Tcp(stream, peer)),
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }

    /// Stops listening; returns the connections that were waiting.
    pub(super) fn into_last(self) -> Vec<Accepted> {
        let mut last = Vec::new();
        // Neither socket blocks, so each of these ends when none is left.
        match self {
            Self::Tcp(listener) => {
                let Ok(listener) = listener.into_std() else { return last };
                while let Ok((stream, peer)) = listener.accept() {
                    match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                        Ok(stream) => last.push(Accepted::Tcp(stream, peer)),
                        Err(error) => tracing::warn!(%peer, %error, "a connection was dropped"),
                    }
                }
            }
            Self::Unix(listener, _file) => {
                let Ok(listener) = listener.into_std() else { return last };
                while let Ok((stream, _)) = listener.accept() {
                    match stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream)) {
                        Ok(stream) => last.push(Accepted::Unix(stream)),
                        Err(error) => tracing::warn!(%error, "a connection was dropped"),
                    }
                }
            }
        }
        last
    }
}

/// Makes a Unix socket that processes of every user may connect to: the kernel says whose each is, and who is no
/// caller is refused. One that a killed process left is replaced. Must be called inside the runtime.
///
/// # Errors
/// [`SocketError`], which says what to do.
pub(crate) fn bind_unix(path: &Path) -> Result<Bound, SocketError> {
    let listener = crate::admin::bind_socket(path)?;
    let failed = |source| SocketError::Bind { path: path.to_owned(), source };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    Ok(Bound { socket: Socket::Unix(listener, SocketFile(path.to_owned())), address })
}
