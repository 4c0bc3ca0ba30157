//! Connections that are open, and the certificates by which they came in.
//!
//! Why it exists: a connection lives for days, and a certificate may be revoked meanwhile. What it guarantees: from the
//! moment a connection is ended here nothing is read from it and nothing written to it, and whoever waits for it hears.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::Voucher;

/// The open connections of a listener whose clients showed a certificate.
#[derive(Default)]
pub(super) struct OpenConnections(Arc<Mutex<Here>>);

#[derive(Default)]
struct Here {
    next: u64,
    all: BTreeMap<u64, Arc<Connection>>,
}

/// One of them.
struct Connection {
    /// The client's own certificate, and those between it and an authority.
    shown: Vec<CertificateDer<'static>>,
    /// Why it was accepted; empty until that is known.
    voucher: OnceLock<Voucher>,
    ended: AtomicBool,
    /// Who waits for it to be read, and who for it to be written.
    waiting: Mutex<[Option<Waker>; 2]>,
}

/// Which of the two waits.
#[derive(Clone, Copy)]
enum Side {
    Reader,
    Writer,
}

/// A connection's place among the open ones; it is left when this is dropped.
pub(super) struct Place {
    here: Arc<Mutex<Here>>,
    number: u64,
    connection: Arc<Connection>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks, so a poisoned one is still consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenConnections {
    /// One more, by the certificates that its client showed.
    pub(super) fn enter(&self, shown: Vec<CertificateDer<'static>>) -> Place {
        let (voucher, ended, waiting) = (OnceLock::new(), AtomicBool::new(false), Mutex::default());
        let connection = Arc::new(Connection { shown, voucher, ended, waiting });
        let mut here = lock(&self.0);
        let number = here.next;
        here.next = here.next.saturating_add(1);
        here.all.insert(number, Arc::clone(&connection));
        drop(here);
        Place { here: Arc::clone(&self.0), number, connection }
    }

    /// Ends those whose certificates are not accepted any more, or for another reason than before. Returns how many.
    /// Blocks: `judge` checks signatures, once for all connections of a client.
    pub(super) fn end_unless(
        &self,
        judge: impl Fn(&CertificateDer<'_>, &[CertificateDer<'_>]) -> Option<Voucher>,
    ) -> usize {
        let all: Vec<Arc<Connection>> = lock(&self.0).all.values().map(Arc::clone).collect();
        let mut judged: HashMap<&[CertificateDer<'_>], Option<Voucher>> = HashMap::new();
        let mut count = 0_usize;
        for connection in &all {
            let Some((own, between)) = connection.shown.split_first() else { continue };
            let now = *judged.entry(&connection.shown).or_insert_with(|| judge(own, between));
            let stays = now.is_some() && connection.voucher.get().is_none_or(|before| now == Some(*before));
            if !stays && connection.end() {
                count = count.saturating_add(1);
            }
        }
        count
    }
}

impl Connection {
    /// False if it had ended before.
    fn end(&self) -> bool {
        let first = !self.ended.swap(true, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.into_iter().flatten().for_each(Waker::wake);
        first
    }

    /// An error once it has ended; until then whoever asks hears when it does.
    fn check(&self, side: Side, context: &Context<'_>) -> io::Result<()> {
        if !self.ended.load(Ordering::SeqCst) {
            let mut waiting = lock(&self.waiting);
            let [reader, writer] = &mut *waiting;
            let waker = match side {
                Side::Reader => reader,
                Side::Writer => writer,
            };
            match waker {
                Some(waker) => waker.clone_from(context.waker()),
                None => *waker = Some(context.waker().clone()),
            }
        }
        // It may have ended before that was noted.
        if self.ended.load(Ordering::SeqCst) { Err(over()) } else { Ok(()) }
    }
}

fn over() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the client's certificate is accepted no more")
}

impl Place {
    /// Notes why it was accepted.
    pub(super) fn accepted(&self, voucher: Voucher) {
        // It is noted once for each connection.
        let _ = self.connection.voucher.set(voucher);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.here).all.remove(&self.number);
    }
}

/// A connection over TLS, which fails from the moment on at which its client's certificate is accepted no more.
pub(crate) struct Guarded<S> {
    stream: TlsStream<S>,
    /// `None` if the client showed no certificate.
    place: Option<Place>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: TlsStream<S>, place: Option<Place>) -> Self {
        Self { stream, place }
    }

    fn check(&self, side: Side, context: &Context<'_>) -> io::Result<()> {
        self.place.as_ref().map_or(Ok(()), |place| place.connection.check(side, context))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(Side::Reader, context)?;
        Pin::new(&mut self.stream).poll_read(context, out)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(Side::Writer, context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(Side::Writer, context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(Side::Writer, context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }
}

#[cfg(test)]
mod tests {
    //! Proves: who waits hears of the end, and only those end whose certificates are accepted no more. On real
    //! connections: `tests/access` and `tests/switcher`.
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn certificate(name: &[u8]) -> Vec<CertificateDer<'static>> {
        vec![name.to_vec().into()]
    }

    #[test]
    fn those_whose_certificates_are_accepted_no_more_end_and_hear_of_it() {
        let open = OpenConnections::default();
        let (good, bad, other, early) = (
            open.enter(certificate(b"good")),
            open.enter(certificate(b"bad")),
            open.enter(certificate(b"other")),
            open.enter(certificate(b"bad")),
        );
        for place in [&good, &bad, &other] {
            place.accepted(Voucher::Authority);
        }
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let context = Context::from_waker(&waker);
        for side in [Side::Reader, Side::Writer] {
            for place in [&good, &bad] {
                place.connection.check(side, &context).unwrap();
            }
        }
        let asked = AtomicUsize::new(0);
        let judge = |own: &CertificateDer<'_>, _: &[CertificateDer<'_>]| {
            asked.fetch_add(1, Ordering::SeqCst);
            match &**own {
                b"good" => Some(Voucher::Authority),
                b"other" => Some(Voucher::Fingerprint),
                _ => None,
            }
        };
        assert_eq!(open.end_unless(judge), 3, "two of the bad one, and one that is accepted for another reason now");
        assert_eq!(asked.load(Ordering::SeqCst), 3, "each certificate is judged once");
        assert_eq!(count.0.load(Ordering::SeqCst), 2, "both sides of the bad one are woken");
        for (place, ended) in [(&good, false), (&bad, true), (&other, true), (&early, true)] {
            assert_eq!(place.connection.check(Side::Reader, &context).is_err(), ended);
        }
        assert_eq!(open.end_unless(judge), 0, "it is told once");
        drop((bad, other, early));
        assert_eq!(lock(&open.0).all.len(), 1);
        drop(good);
        assert!(lock(&open.0).all.is_empty());
    }
}
