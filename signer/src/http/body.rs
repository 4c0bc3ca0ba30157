//! Reading a request's body, with a bound on its size and on the time it may take.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use hyper::body::{Body, Bytes};
use hyper::header::{EXPECT, HeaderMap};

use super::error::ApiError;

/// How much of a body that is too large is read and thrown away before answering 413: a client
/// that is still writing would otherwise see its connection reset instead of the answer.
const DISCARD_FACTOR: usize = 4;
/// A client that sends nothing for this long is waiting for the answer.
const DISCARD_PAUSE: Duration = Duration::from_millis(200);

/// Bounds of a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyBounds {
    /// Largest accepted body in bytes.
    pub(crate) bytes: usize,
    /// Longest time from the request's head to the end of its body.
    pub(crate) time: Duration,
}

/// Reads the whole body. A body that arrived in one piece is not copied.
///
/// # Errors
/// [`ApiError::BodyTooLarge`], [`ApiError::BodyTimeout`], or [`ApiError::BodyUnreadable`] if the connection broke.
pub(crate) async fn read<B>(headers: &HeaderMap, body: B, bounds: BodyBounds) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    match tokio::time::timeout(bounds.time, collect(headers, body, bounds.bytes)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(ApiError::BodyTimeout { seconds: bounds.time.as_secs() }),
    }
}

async fn collect<B>(headers: &HeaderMap, mut body: B, limit: usize) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let too_large = ApiError::BodyTooLarge { limit };
    // Content-Length, where there is one, is known before anything is read.
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        if !headers.contains_key(EXPECT) {
            discard(&mut body, limit.saturating_mul(DISCARD_FACTOR)).await;
        }
        return Err(too_large);
    }
    let Some(first) = data(&mut body).await? else { return Ok(Bytes::new()) };
    if body.is_end_stream() && first.len() <= limit {
        return Ok(first);
    }
    let mut whole = Vec::with_capacity(capacity(&body, first.len(), limit));
    let mut next = Some(first);
    while let Some(piece) = next {
        if whole.len().saturating_add(piece.len()) > limit {
            discard(&mut body, limit.saturating_mul(DISCARD_FACTOR)).await;
            return Err(too_large);
        }
        whole.extend_from_slice(&piece);
        next = data(&mut body).await?;
    }
    Ok(Bytes::from(whole))
}

/// Room for what is announced, but never more than the limit.
fn capacity<B: Body>(body: &B, have: usize, limit: usize) -> usize {
    let more = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
    have.saturating_add(more).min(limit)
}

/// The next piece of data; `None` at the end. Trailers are skipped.
async fn data<B>(body: &mut B) -> Result<Option<Bytes>, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
            None => return Ok(None),
            Some(Err(_broken)) => return Err(ApiError::BodyUnreadable),
            Some(Ok(frame)) => {
                if let Ok(piece) = frame.into_data() {
                    return Ok(Some(piece));
                }
            }
        }
    }
}

async fn discard<B>(body: &mut B, limit: usize)
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut thrown_away = 0usize;
    while let Ok(Ok(Some(piece))) = tokio::time::timeout(DISCARD_PAUSE, data(body)).await {
        thrown_away = thrown_away.saturating_add(piece.len());
        if thrown_away > limit {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves: the size bound is exact, with and without announced length, and time is bounded.
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    use http_body_util::Full;
    use hyper::body::Frame;

    use super::*;

    /// A body in pieces of unknown total length, like chunked encoding; `stuck` never ends.
    struct Pieces {
        pieces: VecDeque<&'static [u8]>,
        stuck: bool,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.pieces.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece))))),
                None if self.stuck => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    fn bounds(bytes: usize) -> BodyBounds {
        BodyBounds { bytes, time: Duration::from_mins(1) }
    }

    #[tokio::test]
    async fn the_limit_is_the_last_size_accepted() {
        let headers = HeaderMap::new();
        let whole = read(&headers, Full::new(Bytes::from_static(b"12345678")), bounds(8)).await;
        assert_eq!(whole.expect("fits"), Bytes::from_static(b"12345678"));
        let whole = read(&headers, Full::new(Bytes::from_static(b"123456789")), bounds(8)).await;
        assert!(matches!(whole, Err(ApiError::BodyTooLarge { limit: 8 })));
    }

    #[tokio::test]
    async fn pieces_are_joined_and_bounded() {
        let headers = HeaderMap::new();
        let body = |stuck| Pieces { pieces: [&b"1234"[..], b"", b"5678"].into(), stuck };
        assert_eq!(read(&headers, body(false), bounds(8)).await.expect("fits"), Bytes::from_static(b"12345678"));
        assert!(matches!(read(&headers, body(false), bounds(7)).await, Err(ApiError::BodyTooLarge { limit: 7 })));
    }

    #[tokio::test]
    async fn an_empty_body_is_empty() {
        assert!(read(&HeaderMap::new(), Full::new(Bytes::new()), bounds(8)).await.expect("fits").is_empty());
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let body = Pieces { pieces: [&b"1234"[..]].into(), stuck: true };
        let given_up = read(&HeaderMap::new(), body, BodyBounds { bytes: 8, time: Duration::ZERO }).await;
        assert!(matches!(given_up, Err(ApiError::BodyTimeout { seconds: 0 })));
    }
}
