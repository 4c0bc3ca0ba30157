//! A client's connection, with a bound on how long a request's head may take.
//!
//! The HTTP library has one time-out for both an idle connection and a slow head. Clients keep
//! connections idle for minutes and must not be raced; a head that trickles in byte by byte
//! holds a connection and deserves seconds. So the short bound is kept here. It costs nothing
//! where a head arrives in one piece: a timer exists only while part of one is missing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::Sleep;

/// Where a connection is between requests. Shared by its reader and its requests, which run in
/// one task; the atomic only satisfies the compiler.
#[derive(Debug, Default)]
pub(super) struct Phase(AtomicU8);

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

/// A request in progress; when it ends, the connection is idle again.
pub(super) struct Busy(Arc<Phase>);

impl Phase {
    /// The head is complete.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.0.store(BUSY, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    fn read(&self) {
        // Bytes on an idle connection are the start of a head; a failure means it was not idle.
        let _ = self.0.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether a request is in progress.
    pub(super) fn is_busy(&self) -> bool {
        self.0.load(Ordering::Relaxed) == BUSY
    }

    fn awaits_head(&self) -> bool {
        self.0.load(Ordering::Relaxed) == HEAD
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.store(IDLE, Ordering::Relaxed);
    }
}

/// A connection that fails with [`io::ErrorKind::TimedOut`] if a head takes too long.
pub(super) struct ClientIo<T> {
    io: T,
    phase: Arc<Phase>,
    head_timeout: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<T> ClientIo<T> {
    /// Bounds the heads read from `io`.
    pub(super) fn new(io: T, phase: Arc<Phase>, head_timeout: Duration) -> Self {
        Self { io, phase, head_timeout, deadline: None }
    }
}

impl<T: Read + Unpin> Read for ClientIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(result) => {
                this.phase.read();
                Poll::Ready(result)
            }
            Poll::Pending if this.phase.awaits_head() => {
                let head_timeout = this.head_timeout;
                let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(head_timeout)));
                deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => {
                this.deadline = None;
                Poll::Pending
            }
        }
    }
}

impl<T: Write + Unpin> Write for ClientIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    //! Proves: idle connections have no short bound, started heads do, and requests in progress do not.
    use std::future::poll_fn;

    use hyper::rt::ReadBuf;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    async fn read(io: &mut ClientIo<TokioIo<DuplexStream>>) -> io::Result<usize> {
        let mut bytes = [0; 64];
        let mut buf = ReadBuf::new(&mut bytes);
        poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, buf.unfilled())).await?;
        Ok(buf.filled().len())
    }

    /// Polls once: `None` if there is nothing to read yet.
    async fn try_read(io: &mut ClientIo<TokioIo<DuplexStream>>) -> Option<io::Result<usize>> {
        tokio::select! {
            biased;
            result = read(io) => Some(result),
            () = std::future::ready(()) => None,
        }
    }

    fn client(timeout: Duration) -> (DuplexStream, Arc<Phase>, ClientIo<TokioIo<DuplexStream>>) {
        let (near, far) = duplex(64);
        let phase = Arc::new(Phase::default());
        let io = ClientIo::new(TokioIo::new(far), Arc::clone(&phase), timeout);
        (near, phase, io)
    }

    #[tokio::test]
    async fn an_idle_connection_waits() {
        let (_near, _phase, mut io) = client(Duration::ZERO);
        assert!(try_read(&mut io).await.is_none());
        assert!(io.deadline.is_none());
    }

    #[tokio::test]
    async fn half_a_head_times_out() {
        let (mut near, _phase, mut io) = client(Duration::ZERO);
        near.write_all(b"POST /api").await.expect("a duplex stream");
        assert_eq!(read(&mut io).await.expect("data"), 9);
        assert_eq!(read(&mut io).await.expect_err("too slow").kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_request_in_progress_does_not() {
        let (mut near, phase, mut io) = client(Duration::ZERO);
        near.write_all(b"POST /api").await.expect("a duplex stream");
        assert_eq!(read(&mut io).await.expect("data"), 9);
        let busy = phase.busy();
        assert!(try_read(&mut io).await.is_none());
        drop(busy);
        assert!(try_read(&mut io).await.is_none(), "idle again");
        near.write_all(b"POST").await.expect("a duplex stream");
        assert_eq!(read(&mut io).await.expect("data"), 4);
        assert!(read(&mut io).await.is_err(), "the next head is bounded too");
    }
}
