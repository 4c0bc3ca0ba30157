//! A client's connection that gives up on a client that does not read.
//!
//! Why it exists: an answer streams from a node; a client that stops reading would hold the node's connection and
//! ours for ever. It costs nothing while the client reads: a timer exists only while a write waits.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::Sleep;

/// A connection whose writes fail with [`io::ErrorKind::TimedOut`] when nothing is taken for a while.
pub(super) struct ClientIo<T> {
    io: T,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<T> ClientIo<T> {
    /// Waits at most `patience` for each write.
    pub(super) const fn new(io: T, patience: Duration) -> Self {
        Self { io, patience, waiting: None }
    }

    fn bound<V>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<V>>) -> Poll<io::Result<V>> {
        match polled {
            Poll::Ready(result) => {
                self.waiting = None;
                Poll::Ready(result)
            }
            Poll::Pending => {
                let patience = self.patience;
                let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                waiting.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<T: Read + Unpin> Read for ClientIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: Write + Unpin> Write for ClientIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, bytes);
        self.bound(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(context);
        self.bound(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(context, buffers);
        self.bound(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn write(io: &mut ClientIo<TokioIo<tokio::io::DuplexStream>>, bytes: &[u8]) -> io::Result<usize> {
        std::future::poll_fn(|context| Pin::new(&mut *io).poll_write(context, bytes)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up_and_one_that_reads_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut io = ClientIo::new(TokioIo::new(ours), Duration::from_secs(30));
        assert_eq!(write(&mut io, b"full").await.unwrap(), 4);
        assert_eq!(write(&mut io, b"more").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut read = [0; 4];
        theirs.read_exact(&mut read).await.unwrap();
        io.waiting = None;
        assert_eq!(write(&mut io, b"more").await.unwrap(), 4);
    }
}
