//! The clients' ends of the event stream.
//!
//! Why it exists: a thousand clients must cost next to nothing: an event is written once and its bytes are
//! shared; heartbeats come from one timer. What it guarantees: a client that does not read is cut off, not
//! waited for and not buffered without bound.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::topic::{Topic, TopicSet};

/// Records a client may be behind: minutes of heads, a burst of attestations.
const QUEUE: usize = 512;

/// The clients connected now.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<Connected>);

#[derive(Debug, Default)]
struct Connected {
    next: u64,
    clients: BTreeMap<u64, Client>,
}

#[derive(Debug)]
struct Client {
    topics: TopicSet,
    queue: mpsc::Sender<Bytes>,
}

/// One client's stream of records.
#[derive(Debug)]
pub struct ClientStream {
    id: u64,
    records: mpsc::Receiver<Bytes>,
    clients: Arc<Clients>,
    /// Topics held open at the nodes for this client.
    _interest: Vec<super::hub::Interest>,
}

impl Clients {
    pub(super) fn connect(self: &Arc<Self>, topics: TopicSet, interest: Vec<super::hub::Interest>) -> ClientStream {
        let (queue, records) = mpsc::channel(QUEUE);
        // A comment at once: the client's library learns that the stream is open.
        let _ = queue.try_send(HEARTBEAT);
        let mut connected = self.lock();
        connected.next = connected.next.wrapping_add(1);
        let id = connected.next;
        connected.clients.insert(id, Client { topics, queue });
        ClientStream { id, records, clients: Arc::clone(self), _interest: interest }
    }

    /// Tells everyone who asked for `topic`. Those who cannot keep up are cut off; returns how many.
    pub(super) fn tell(&self, topic: Topic, record: &Bytes) -> usize {
        self.send(record, |client| client.topics.has(topic))
    }

    /// Tells everyone that the stream is alive.
    pub(super) fn heartbeat(&self) {
        self.send(&HEARTBEAT, |_| true);
    }

    /// Ends every stream.
    pub(super) fn close(&self) {
        self.lock().clients.clear();
    }

    /// How many are connected.
    pub(super) fn count(&self) -> usize {
        self.lock().clients.len()
    }

    fn send(&self, record: &Bytes, to: impl Fn(&Client) -> bool) -> usize {
        let mut connected = self.lock();
        let before = connected.clients.len();
        connected.clients.retain(|_, client| !to(client) || client.queue.try_send(record.clone()).is_ok());
        before.saturating_sub(connected.clients.len())
    }

    fn lock(&self) -> MutexGuard<'_, Connected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A comment, ignored by clients.
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

impl ClientStream {
    /// The next record; `None` when the stream has ended.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.records.poll_recv(context)
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.clients.lock().clients.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn next(stream: &mut ClientStream) -> Option<Bytes> {
        poll_fn(|context| stream.poll_next(context)).await
    }

    #[tokio::test]
    async fn records_reach_those_who_asked_and_a_client_that_does_not_read_is_cut_off() {
        let clients = Arc::new(Clients::default());
        let mut heads = clients.connect(TopicSet::default().with(Topic::Head), Vec::new());
        let mut blocks = clients.connect(TopicSet::default().with(Topic::Block), Vec::new());
        let record = Bytes::from_static(b"event: head\n\n");
        assert_eq!(clients.tell(Topic::Head, &record), 0);
        assert_eq!(next(&mut heads).await, Some(HEARTBEAT));
        assert_eq!(next(&mut heads).await, Some(record.clone()));
        for _ in 0..QUEUE {
            clients.tell(Topic::Block, &record);
        }
        assert_eq!(clients.count(), 1, "the one that did not read is gone");
        let mut read = 0;
        while next(&mut blocks).await.is_some() {
            read += 1;
        }
        assert_eq!(read, QUEUE);
        drop(heads);
        assert_eq!(clients.count(), 0);
    }
}
