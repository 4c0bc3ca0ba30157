//! The page's stream of server-sent events: the newest state whenever there is a newer one.
//!
//! Guarantees: a slow reader skips states and holds up nobody; a stream ends when its reader goes, and after the last
//! state when the process stops.

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

/// Opens a stream, which holds its place until it ends.
pub(super) fn open(board: Arc<Board>, place: OwnedSemaphorePermit) -> EventBody {
    let (sender, receiver) = mpsc::channel(2);
    let tasks = board.sources.tasks.clone();
    tasks.spawn(async move {
        feed(&board, &sender).await;
        drop(place);
    });
    EventBody(receiver)
}

async fn feed(board: &Board, sender: &mpsc::Sender<Bytes>) {
    let mut stopping = board.sources.tasks.stopping();
    // From here on the board knows that somebody looks.
    let mut published = board.published.subscribe();
    let first = board.fresh().await;
    published.mark_unchanged();
    if sender.send(Bytes::from_static(RETRY)).await.is_err() || sender.send(first.event.clone()).await.is_err() {
        return;
    }
    loop {
        let event = tokio::select! {
            () = sender.closed() => return,
            () = stopping.begun() => break,
            event = next(&mut published) => event,
        };
        tokio::select! {
            () = stopping.begun() => break,
            sent = sender.send(event) => if sent.is_err() { return },
        }
    }
    // The board makes one more state for everybody, which says that the process stops.
    let _ = tokio::time::timeout(LAST_STATE, published.changed()).await;
    let last = published.borrow().event.clone();
    // A reader that is gone, or that does not read, misses nothing it could show.
    let _ = sender.try_send(last);
}

/// The next state, or a sign of life.
async fn next(published: &mut watch::Receiver<Arc<Published>>) -> Bytes {
    match tokio::time::timeout(BEAT, published.changed()).await {
        Ok(Ok(())) => published.borrow_and_update().event.clone(),
        // The board is gone, which the end of the tasks says, too; or nothing is new.
        Ok(Err(_)) => std::future::pending().await,
        Err(_) => Bytes::from_static(b": alive\n\n"),
    }
}
