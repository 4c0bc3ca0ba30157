//! The way into a listener: plain, or through something that asks who comes, such as TLS.
//!
//! Why it exists: this crate knows nothing of certificates; whoever puts the listener up hands in what does.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// What a door comes to: the bytes inside, or nothing.
pub type Opening = Pin<Box<dyn Future<Output = Option<Box<dyn ByteStream>>> + Send>>;

/// Lets connections in.
pub trait Door: Send + Sync + 'static {
    /// What is inside of a connection that has just come in, once it has been let in; `None` if it is not. It must end
    /// within bounded time, and counts as an open connection meanwhile.
    fn open(&self, stream: TcpStream, peer: SocketAddr) -> Opening;
}
