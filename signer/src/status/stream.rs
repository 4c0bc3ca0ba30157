//! The page's stream of server-sent events: the newest state whenever there is a newer one.
//!
//! Guarantees: a slow reader skips states and holds up nobody; one that does not read at all is given up, and until then
//! costs no more than the buffers of its connection. A stream ends when its reader goes, and after the last state when the
//! process stops. Whoever has the state before is sent what has changed since, everybody else all of it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::{Board, Published};

/// Proxies close what is silent for longer.
const BEAT: Duration = Duration::from_secs(20);
/// How long a reader may not read before its place goes to another.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long the last state is waited for.
const LAST_STATE: Duration = Duration::from_millis(300);
/// Tells the browser when to come back after the stream has ended.
const RETRY: &[u8] = b"retry: 3000\n\n";

/// The body of an answer that goes on.
pub(crate) struct EventBody(mpsc::Receiver<Bytes>);

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Opens a stream, which holds its place until it ends, at the latest when its reader has not read for `patience`.
pub(super) fn open(board: Arc<Board>, place: OwnedSemaphorePermit, patience: Duration) -> EventBody {
    let (sender, receiver) = mpsc::channel(2);
    let tasks = board.sources.tasks.clone();
    tasks.spawn(async move {
        feed(&board, &sender, patience).await;
        drop(place);
    });
    EventBody(receiver)
}

/// A state, or a part of one, as an event.
pub(super) fn event(state: &serde_json::Value) -> Bytes {
    format!("event: status\ndata: {state}\n\n").into()
}

async fn feed(board: &Board, sender: &mpsc::Sender<Bytes>, patience: Duration) {
    let mut stopping = board.sources.tasks.stopping();
    // From here on the board knows that somebody looks.
    let mut published = board.published.subscribe();
    let first = board.fresh().await;
    published.mark_unchanged();
    let mut sent = Some(first.number);
    if sender.send(Bytes::from_static(RETRY)).await.is_err() || sender.send(first.event.clone()).await.is_err() {
        return;
    }
    loop {
        let event = tokio::select! {
            () = sender.closed() => return,
            () = stopping.begun() => break,
            event = next(&mut published, &mut sent) => event,
        };
        tokio::select! {
            () = stopping.begun() => {
                // That state may not have gone out.
                sent = None;
                break;
            }
            taken = sender.send_timeout(event, patience) => if taken.is_err() { return },
        }
    }
    // The board makes one more state for everybody, which says that the process stops.
    let _ = tokio::time::timeout(LAST_STATE, published.changed()).await;
    let last = published.borrow().event_after(sent);
    // A reader that is gone, or that does not read, misses nothing it could show.
    let _ = sender.try_send(last);
}

/// The next state, or a sign of life. `sent` is the number of the state sent last.
async fn next(published: &mut watch::Receiver<Arc<Published>>, sent: &mut Option<u64>) -> Bytes {
    match tokio::time::timeout(BEAT, published.changed()).await {
        Ok(Ok(())) => {
            let state = published.borrow_and_update();
            let before = sent.replace(state.number);
            state.event_after(before)
        }
        // The board is gone, which the end of the tasks says, too; or nothing is new.
        Ok(Err(_)) => std::future::pending().await,
        Err(_) => Bytes::from_static(b": alive\n\n"),
    }
}

#[cfg(test)]
mod tests {
    //! Proves: who watches is sent everything once and then what has changed, and who does not read loses his place.
    use std::time::Instant;

    use http_body_util::BodyExt as _;
    use serde_json::Value;

    use super::super::{MAX_STREAMS, Sources};
    use super::*;
    use crate::clock::SystemClock;
    use crate::drain::Tasks;

    fn board() -> Arc<Board> {
        Board::start(Sources {
            render: Box::new(|| Ok(String::new())),
            signer: None,
            running: None,
            clock: Arc::new(SystemClock),
            tasks: Tasks::new(),
        })
    }

    /// The next event of a stream, with its state.
    async fn next_state(body: &mut EventBody) -> Value {
        loop {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            let text = String::from_utf8(frame.to_vec()).unwrap();
            if let Some(data) = text.lines().find_map(|line| line.strip_prefix("data: ")) {
                return serde_json::from_str(data).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn what_has_not_changed_is_sent_once() {
        let board = board();
        let mut body = board.stream().unwrap();
        let first = next_state(&mut body).await;
        assert!(first["sections"]["states"].is_string() && first["sections"]["updated"].is_string(), "{first}");
        // The time of the next state is another one.
        tokio::time::sleep(Duration::from_millis(1_001)).await;
        board.refresh().await;
        // The board's own next state may have come before it, at the same second.
        loop {
            let later = next_state(&mut body).await;
            assert_eq!(later["sections"]["states"], Value::Null, "{later}");
            assert_eq!(later["summary"], first["summary"]);
            if later["sections"]["updated"].is_string() {
                break;
            }
        }
        // Whoever comes now is sent all of it.
        let mut other = board.stream().unwrap();
        assert!(next_state(&mut other).await["sections"]["states"].is_string());

        let now = Arc::clone(&board.published.borrow());
        assert_eq!(now.event_after(None), now.event);
        assert_eq!(now.event_after(now.number.checked_sub(1)), now.change);
        for skipped in [now.number - 2, now.number, now.number + 1] {
            assert_eq!(now.event_after(Some(skipped)), now.event, "a state was skipped");
        }
        assert!(now.change.len() < now.event.len());
    }

    #[tokio::test]
    async fn who_does_not_read_loses_his_place() {
        let board = board();
        let place = Arc::clone(&board.streams).try_acquire_owned().unwrap();
        let deaf = open(Arc::clone(&board), place, Duration::from_millis(20));
        let end = Instant::now() + Duration::from_secs(20);
        while board.streams.available_permits() < MAX_STREAMS {
            assert!(Instant::now() < end, "the place was not given back");
            board.refresh().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(deaf.0.len() <= 2, "a reader that does not read was sent {} events", deaf.0.len());
    }
}
