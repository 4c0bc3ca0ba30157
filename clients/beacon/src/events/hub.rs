//! Keeps event streams open at every node and passes on what they say, merged.
//!
//! Why it exists: a validator client has one stream and must never notice that a node's ended. What it
//! guarantees: every node of the pool is listened to, reconnected when its stream ends, falls silent or lags
//! behind the others; what its events say about its head reaches the pool; topics beyond the core are
//! held open only while a client wants them; no node has two listeners for the same.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_domain::Slot;
use hyper::body::Bytes;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::clients::{ClientStream, Clients};
use super::merge::{Merger, Standing, head_of};
use super::sse::SseEvent;
use super::topic::{Topic, TopicSet};
use super::upstream;
use crate::health::HealthTier;
use crate::pool::{Lead, Pool};
use crate::{BlockRoot, UpstreamId};

/// Between two heartbeats.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
/// How long a head waits for its block.
const HEAD_WAITS: Duration = Duration::from_millis(150);
/// Heads whose slots are remembered.
const HEADS_KEPT: usize = 512;
/// While no network is known: as on mainnet.
const SLOT_IF_UNKNOWN: Duration = Duration::from_secs(12);

/// How a node's stream for one topic stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopicState {
    /// Being opened.
    Opening,
    /// Open.
    Open,
    /// The node does not know the topic.
    Refused,
}

/// The events of all nodes.
pub struct EventHub {
    pub(super) pool: Arc<Pool>,
    clients: Arc<Clients>,
    merger: Mutex<Merger>,
    heads: Mutex<Heads>,
    /// Who wants which topic beyond the core.
    wanted: Arc<Wanted>,
    /// What is listened to, for as long as the task runs.
    listening: Mutex<BTreeSet<Ear>>,
    /// Counts listeners that have ended.
    ended: watch::Sender<u64>,
    topics: watch::Sender<BTreeMap<(Topic, UpstreamId), TopicState>>,
    /// Counts heads passed on.
    head_changes: watch::Sender<u64>,
}

/// A node, and one of its topics beyond the core or all of the core.
type Ear = (UpstreamId, Option<Topic>);

/// A listener's right to listen, given up when its task ends, however that ends.
pub(super) struct Listening {
    pub(super) hub: Arc<EventHub>,
    pub(super) node: UpstreamId,
    pub(super) topic: Option<Topic>,
}

impl Listening {
    /// `None` while another listener runs.
    fn begin(hub: &Arc<EventHub>, node: UpstreamId, topic: Option<Topic>) -> Option<Self> {
        let is_first = lock(&hub.listening).insert((node, topic));
        is_first.then(|| Self { hub: Arc::clone(hub), node, topic })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        lock(&self.hub.listening).remove(&(self.node, self.topic));
        self.hub.ended.send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[derive(Debug, Default)]
struct Heads {
    slots: HashMap<BlockRoot, Slot>,
    order: VecDeque<BlockRoot>,
}

/// How many clients want each topic.
#[derive(Debug)]
pub(super) struct Wanted(watch::Sender<BTreeMap<Topic, usize>>);

/// Holds a topic open at the nodes.
#[derive(Debug)]
pub(super) struct Interest {
    topic: Topic,
    wanted: Arc<Wanted>,
}

impl Interest {
    fn new(topic: Topic, wanted: &Arc<Wanted>) -> Self {
        wanted.0.send_modify(|topics| *topics.entry(topic).or_default() += 1);
        Self { topic, wanted: Arc::clone(wanted) }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.wanted.0.send_modify(|topics| {
            if let Some(count) = topics.get_mut(&self.topic) {
                *count = count.saturating_sub(1);
            }
            topics.retain(|_, count| *count > 0);
        });
    }
}

/// Why a client cannot have a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// Not a topic.
    #[error("{0:?} is not a topic of the event stream; the Beacon API lists them")]
    Unknown(String),
    /// No node of the pool knows it.
    #[error("no consensus client of the pool knows the topic {0}")]
    Refused(&'static str),
}

impl EventHub {
    /// Starts listening to every node of the pool.
    pub fn start(pool: &Arc<Pool>) -> Arc<Self> {
        let hub = Arc::new(Self {
            pool: Arc::clone(pool),
            clients: Arc::new(Clients::default()),
            merger: Mutex::new(Merger::default()),
            heads: Mutex::new(Heads::default()),
            wanted: Arc::new(Wanted(watch::Sender::new(BTreeMap::new()))),
            listening: Mutex::new(BTreeSet::new()),
            ended: watch::Sender::new(0),
            topics: watch::Sender::new(BTreeMap::new()),
            head_changes: watch::Sender::new(0),
        });
        pool.tasks().spawn(supervise(Arc::clone(&hub)));
        pool.tasks().spawn(beat(Arc::clone(&hub)));
        hub
    }

    /// A stream for a client.
    ///
    /// # Errors
    /// [`SubscribeError`] if a topic does not exist or no node offers it.
    pub async fn subscribe(&self, query: &str) -> Result<ClientStream, SubscribeError> {
        let topics = TopicSet::from_query(query).map_err(SubscribeError::Unknown)?;
        let interest: Vec<Interest> =
            topics.iter().filter(|topic| !topic.is_core()).map(|topic| Interest::new(topic, &self.wanted)).collect();
        for topic in topics.iter().filter(|topic| !topic.is_core()) {
            self.available(topic).await?;
        }
        Ok(self.clients.connect(topics, interest))
    }

    /// Waits until a node has opened `topic`, briefly: a pool without any node still gives a stream, which
    /// begins to flow when a node comes.
    async fn available(&self, topic: Topic) -> Result<(), SubscribeError> {
        let mut topics = self.topics.subscribe();
        let settled = topics.wait_for(|topics| {
            let nodes = self.listened();
            let states: Vec<TopicState> = nodes.iter().filter_map(|id| topics.get(&(topic, *id)).copied()).collect();
            states.contains(&TopicState::Open)
                || (states.len() >= nodes.len() && states.iter().all(|state| *state == TopicState::Refused))
        });
        let Ok(Ok(topics)) = tokio::time::timeout(self.slot_length() / 12, settled).await else { return Ok(()) };
        let open = topics.iter().any(|((of, _), state)| *of == topic && *state == TopicState::Open);
        let asked = topics.keys().any(|(of, _)| *of == topic);
        if open || !asked { Ok(()) } else { Err(SubscribeError::Refused(topic.as_str())) }
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.clients.count()
    }

    /// The slot of a block some node has told of.
    pub fn slot_of(&self, root: &BlockRoot) -> Option<Slot> {
        let told = lock(&self.heads).slots.get(root).copied();
        told.or_else(|| {
            let view = self.pool.view();
            view.nodes().iter().filter_map(|node| node.head).find(|head| head.root == Some(*root)).map(|head| head.slot)
        })
    }

    /// Counts the heads that were passed on: two equal numbers mean that nothing has changed between.
    pub fn head_changes(&self) -> u64 {
        *self.head_changes.borrow()
    }

    /// Nodes whose events are listened to.
    fn listened(&self) -> Vec<UpstreamId> {
        let view = self.pool.view();
        view.nodes().iter().filter(|node| node.health.tier > HealthTier::Drained).map(|node| node.id()).collect()
    }

    pub(super) fn slot_length(&self) -> Duration {
        self.pool.network().map_or(SLOT_IF_UNKNOWN, |network| network.timing().slot())
    }

    pub(super) fn set_topic(&self, topic: Topic, node: UpstreamId, state: Option<TopicState>) {
        self.topics.send_if_modified(|topics| match state {
            Some(state) => topics.insert((topic, node), state) != Some(state),
            None => topics.remove(&(topic, node)).is_some(),
        });
    }

    pub(super) fn is_wanted(&self, topic: Topic) -> bool {
        topic.is_core() || self.wanted.0.borrow().contains_key(&topic)
    }

    pub(super) fn wanted(&self) -> watch::Receiver<BTreeMap<Topic, usize>> {
        self.wanted.0.subscribe()
    }

    /// Whether a node's view of the head may be passed on; `None`: nothing of it may.
    fn standing(&self, node: UpstreamId) -> Option<Standing> {
        let view = self.pool.view();
        let this = view.node(node)?;
        if this.health.tier <= HealthTier::Drained {
            return None;
        }
        let lead = this.lead();
        Some(if lead > Lead::No && lead == view.foremost() { Standing::MayLead } else { Standing::MayNotLead })
    }

    /// An event of a node.
    pub(super) fn told(self: &Arc<Self>, node: UpstreamId, event: SseEvent) {
        if let Some(head) = head_of(&event) {
            if let Some(root) = head.root {
                lock(&self.heads).remember(root, head.slot);
            }
            self.pool.observe_head(node, head);
        }
        let Some(standing) = self.standing(node) else { return };
        let (events, waiting) = {
            let mut merger = lock(&self.merger);
            let waited = merger.has_waiting();
            let events = merger.take(event, standing);
            (events, merger.has_waiting() && !waited)
        };
        self.pass(events);
        if waiting {
            let hub = Arc::clone(self);
            self.pool.tasks().spawn(async move {
                tokio::time::sleep(HEAD_WAITS).await;
                let events = lock(&hub.merger).release();
                hub.pass(events);
            });
        }
    }

    fn pass(&self, events: Vec<SseEvent>) {
        for event in events {
            let Some(topic) = Topic::parse(&event.topic) else { continue };
            if matches!(topic, Topic::Head | Topic::HeadV2) {
                self.head_changes.send_modify(|count| *count = count.wrapping_add(1));
            }
            let cut = self.clients.tell(topic, &Bytes::from(event.to_record()));
            if cut > 0 {
                tracing::warn!(cut, "event stream clients cut off: they did not read; they reconnect by themselves");
            }
        }
    }
}

impl Heads {
    fn remember(&mut self, root: BlockRoot, slot: Slot) {
        if self.slots.insert(root, slot).is_none() {
            self.order.push_back(root);
            if self.order.len() > HEADS_KEPT
                && let Some(oldest) = self.order.pop_front()
            {
                self.slots.remove(&oldest);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a listener for each node and each wanted topic; listeners end by themselves.
async fn supervise(hub: Arc<EventHub>) {
    let mut stopping = hub.pool.tasks().stopping();
    let mut changes = hub.pool.changes();
    let mut wanted = hub.wanted();
    let mut ended = hub.ended.subscribe();
    loop {
        let ids: BTreeSet<UpstreamId> = hub.pool.view().nodes().iter().map(|node| node.id()).collect();
        let extra: Vec<Topic> = wanted.borrow_and_update().keys().copied().collect();
        for id in ids {
            for topic in std::iter::once(None).chain(extra.iter().copied().map(Some)) {
                if let Some(listening) = Listening::begin(&hub, id, topic) {
                    hub.pool.tasks().spawn(upstream::listen(listening));
                }
            }
        }
        tokio::select! {
            () = stopping.begun() => {
                hub.clients.close();
                return;
            }
            change = changes.recv() => {
                if matches!(change, Err(broadcast::error::RecvError::Closed)) {
                    return;
                }
            }
            _ = wanted.changed() => {}
            // One that was ending while its topic was wanted anew is followed by another.
            _ = ended.changed() => {}
            // Nodes added by the operator are there before they have changed in any way.
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Heartbeats, from one timer for everybody.
async fn beat(hub: Arc<EventHub>) {
    let mut stopping = hub.pool.tasks().stopping();
    let mut next = Instant::now() + HEARTBEAT_EVERY;
    loop {
        tokio::select! {
            () = stopping.begun() => return,
            () = tokio::time::sleep_until(next) => {
                hub.clients.heartbeat();
                next += HEARTBEAT_EVERY;
            }
        }
    }
}
