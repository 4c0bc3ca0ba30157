//! Subscriptions, preparations and registrations: remembered, and told again to whoever has forgotten them.
//!
//! Why it exists: broadcasting reaches the nodes that are there; the one that comes back an hour later, or
//! restarts between two epochs, must know the same before it is trusted with duties. What it guarantees: a node
//! that joins, returns or restarts is told everything still in effect, fee recipients first, for as long as it takes
//! and it is a member, and only then reported to the pool as ready; what it does not take of one kind holds up no
//! other; fee recipients are told again each epoch and right before an own proposal.

pub mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use holdfast_domain::{Epoch, Slot};
use hyper::HeaderMap;
use hyper::body::Bytes;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, header};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;

use self::memory::{Kind, Memory, Opaque};
use crate::decision::{Decision, DecisionKind};
use crate::health::HealthTier;
use crate::pool::Pool;
use crate::route::attestation::Form;
use crate::route::block::FeeRecipient;
use crate::upstream::{Role, UpstreamRequest};
use crate::{EndpointClass, NodeView, UpstreamId};

/// Pauses between the first attempts to tell a node, where a slot is not shorter; from then on each is a slot.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];
/// A slot's length while no network is known.
const SLOT_IF_UNKNOWN: Duration = Duration::from_secs(12);
/// How long fee recipients may keep what comes after them waiting.
const HEAD_START: Duration = Duration::from_secs(2);
/// What a node is told after the fee recipients, before it is trusted.
const AFTER_PROPOSERS: [Kind; 3] = [Kind::Preferences, Kind::CommitteeSubscriptions, Kind::SyncSubscriptions];
/// Longest answer to a telling that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Proposals remembered at most.
const MAX_PROPOSALS: usize = 4_096;

/// Remembers and tells again.
pub struct Preparations {
    pool: Arc<Pool>,
    memory: Mutex<Memory>,
    /// Slots in which a validator of this switcher's clients proposes.
    proposals: Mutex<BTreeSet<Slot>>,
    /// Which node has the registrations.
    registered: Mutex<Option<UpstreamId>>,
    /// The newest replay to each node; an older one ends when its place is taken.
    replays: Mutex<BTreeMap<UpstreamId, oneshot::Sender<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Preparations {
    /// Starts to watch the pool.
    pub fn start(pool: &Arc<Pool>) -> Arc<Self> {
        let this = Arc::new(Self {
            pool: Arc::clone(pool),
            memory: Mutex::new(Memory::default()),
            proposals: Mutex::new(BTreeSet::new()),
            registered: Mutex::new(None),
            replays: Mutex::new(BTreeMap::new()),
        });
        // Subscribed here, not in the task: a change between the two would be lost.
        let changes = pool.changes();
        pool.tasks().spawn(watch_changes(Arc::clone(&this), changes));
        pool.tasks().spawn(watch_slots(Arc::clone(&this)));
        this
    }

    /// Remembers what a client told.
    pub fn remember(&self, kind: Kind, form: Form, headers: &HeaderMap, body: &Bytes) {
        let mut kept = HeaderMap::new();
        for (name, value) in headers {
            if *name == header::CONTENT_TYPE || name.as_str().starts_with("eth-") {
                kept.append(name.clone(), value.clone());
            }
        }
        let epoch = self.pool.epoch().unwrap_or(Epoch(0));
        lock(&self.memory).tell(kind, form, &kept, body, epoch);
    }

    /// Whom a validator wants to be paid.
    pub fn fee_recipient(&self, validator: u64) -> Option<FeeRecipient> {
        lock(&self.memory).fee_recipient(validator)
    }

    /// How much is remembered of a kind.
    pub fn remembered(&self, kind: Kind) -> usize {
        lock(&self.memory).len(kind)
    }

    /// Proposer duties went by: those of validators that prepared here are own proposals.
    pub fn proposer_duties(&self, duties: impl Iterator<Item = (Slot, u64)>) {
        let memory = lock(&self.memory);
        let own: Vec<Slot> =
            duties.filter(|(_, validator)| memory.fee_recipient(*validator).is_some()).map(|(slot, _)| slot).collect();
        drop(memory);
        let mut proposals = lock(&self.proposals);
        proposals.extend(own);
        while proposals.len() > MAX_PROPOSALS {
            proposals.pop_first();
        }
    }

    /// A node took the registrations.
    pub fn registered_at(&self, node: UpstreamId) {
        *lock(&self.registered) = Some(node);
    }

    /// Which node has the registrations.
    pub fn registrar(&self) -> Option<UpstreamId> {
        *lock(&self.registered)
    }

    /// Tells a node everything of these kinds. Whether it took all of it.
    async fn tell(&self, node: &Arc<NodeView>, kinds: &[Kind]) -> Result<usize, String> {
        let mut told = 0usize;
        for kind in kinds {
            let bodies = lock(&self.memory).recall(*kind);
            for body in bodies {
                self.send(node, *kind, body).await?;
                told = told.saturating_add(1);
            }
        }
        Ok(told)
    }

    async fn send(&self, node: &Arc<NodeView>, kind: Kind, body: Opaque) -> Result<(), String> {
        let mut headers = body.headers;
        headers.entry(header::CONTENT_TYPE).or_insert(header::HeaderValue::from_static(Form::Json.media_type()));
        let request = UpstreamRequest {
            method: Method::POST,
            path_and_query: PathAndQuery::from_static(kind.path()),
            headers,
            body: body.body,
            class: EndpointClass::Prepare,
        };
        let deadline = self.pool.deadline(EndpointClass::Prepare);
        let answer = node.upstream.call(request, deadline).await.map_err(|error| error.to_string())?;
        let status = answer.status;
        let _ = answer.collect(MAX_ANSWER_BYTES, deadline).await;
        // What a node refuses now it would refuse again; what it could not do it may do in a moment.
        if status.is_server_error() || status.as_u16() == 429 { Err(status.to_string()) } else { Ok(()) }
    }

    /// Tells a node that has forgotten, until it has taken everything, is removed, or is told anew because it has come
    /// back once more.
    async fn replay(self: Arc<Self>, id: UpstreamId) {
        let Some((_, mut removed)) = self.pool.member(id) else { return };
        let mut stopping = self.pool.tasks().stopping();
        let (newest, mut superseded) = oneshot::channel();
        // Whoever was there before is dropped, which ends it.
        lock(&self.replays).insert(id, newest);
        tokio::select! {
            () = stopping.begun() => {}
            _ = &mut superseded => {}
            // Numbers of nodes are not used again: nothing newer can have taken the place.
            _ = removed.wait_for(|stop| *stop) => drop(lock(&self.replays).remove(&id)),
            () = self.tell_everything(id) => {}
        }
    }

    async fn tell_everything(&self, id: UpstreamId) {
        tokio::join!(self.tell_what_duties_need(id), self.tell_registrations(id));
    }

    /// Without these a node serves no duties while others are there.
    async fn tell_what_duties_need(&self, id: UpstreamId) {
        let warned = AtomicBool::new(false);
        let mut proposers = std::pin::pin!(self.until_taken(id, Kind::Proposers, &warned));
        let early = tokio::time::timeout(HEAD_START, proposers.as_mut()).await.ok();
        let rest = join_all(AFTER_PROPOSERS.map(|kind| self.until_taken(id, kind, &warned)));
        let (first, rest) = if let Some(told) = early { (told, rest.await) } else { tokio::join!(proposers, rest) };
        let told = rest.into_iter().fold(first, usize::saturating_add);
        self.pool.replayed(id);
        let reason = format!("{told} remembered lists of subscriptions and preparations told again");
        self.note_replay(id, told, reason);
    }

    /// A builder that does not answer is no reason to do without the node's other services.
    async fn tell_registrations(&self, id: UpstreamId) {
        let told = self.until_taken(id, Kind::Registrations, &AtomicBool::new(false)).await;
        self.note_replay(id, told, format!("{told} remembered lists of registrations with builders told again"));
    }

    fn note_replay(&self, id: UpstreamId, told: usize, reason: String) {
        let view = self.pool.view();
        if told > 0
            && let Some(node) = view.node(id)
        {
            self.pool.record_decision(Decision::about(DecisionKind::Replayed, node.upstream.name(), reason));
        }
    }

    /// Tells a node everything of one kind; tries until it has taken it, and says so once if that takes long. How many
    /// lists that were.
    ///
    /// A node may refuse for as long as it is not in sync or has no peers, and is in need of these when it is and has.
    async fn until_taken(&self, id: UpstreamId, kind: Kind, warned: &AtomicBool) -> usize {
        let mut pauses = PAUSES.into_iter();
        loop {
            if lock(&self.memory).is_empty(kind) || (kind == Kind::Registrations && self.registrar() != Some(id)) {
                return 0;
            }
            // Who is away is told when it is back, who is drained when it is used again.
            let node = self.pool.view().node(id).filter(|node| node.health.tier > HealthTier::Down).cloned();
            let mut failed = None;
            if let Some(node) = node {
                match self.tell(&node, &[kind]).await {
                    Ok(told) => return told,
                    Err(reason) => {
                        tracing::debug!(upstream = %node.upstream.name(), path = kind.path(), reason, "replay failed");
                        failed = Some((node, reason));
                    }
                }
            }
            let slot = self.pool.network().map_or(SLOT_IF_UNKNOWN, |network| network.timing().slot());
            let pause = pauses.next().map(|pause| pause.min(slot));
            if let (None, Some((node, reason))) = (pause, failed)
                && !warned.swap(true, Ordering::Relaxed)
            {
                tracing::warn!(
                    upstream = %node.upstream.name(), path = kind.path(), reason,
                    "what clients have told before could not be told again; it is tried once a slot from now on"
                );
            }
            tokio::time::sleep(pause.unwrap_or(slot)).await;
        }
    }

    /// Moves the registrations to another node when theirs has gone.
    async fn reregister(self: Arc<Self>) {
        if lock(&self.memory).is_empty(Kind::Registrations) {
            return;
        }
        for node in self.pool.view().candidates(EndpointClass::Builder) {
            if self.tell(&node, &[Kind::Registrations]).await.is_ok() {
                self.registered_at(node.id());
                let reason = "registrations with builders moved here";
                self.pool.record_decision(Decision::about(DecisionKind::Replayed, node.upstream.name(), reason));
                return;
            }
        }
    }

    /// Tells every node the fee recipients again.
    async fn tell_proposers(&self) {
        if lock(&self.memory).is_empty(Kind::Proposers) {
            return;
        }
        let view = self.pool.view();
        let tellings = view.everyone(EndpointClass::Prepare);
        let told = join_all(tellings.iter().map(|node| self.tell(node, &[Kind::Proposers]))).await;
        for (node, result) in tellings.iter().zip(told) {
            if let Err(reason) = result {
                tracing::debug!(upstream = %node.upstream.name(), reason, "fee recipients could not be told again");
            }
        }
    }
}

async fn watch_changes(this: Arc<Preparations>, mut changes: tokio::sync::broadcast::Receiver<crate::pool::Change>) {
    let mut stopping = this.pool.tasks().stopping();
    // Nodes that joined before this began have been told nothing by anybody.
    let nodes: Vec<UpstreamId> = this.pool.view().nodes().iter().map(|node| node.id()).collect();
    for id in nodes {
        this.pool.tasks().spawn(Arc::clone(&this).replay(id));
    }
    loop {
        let change = tokio::select! {
            () = stopping.begun() => return,
            change = changes.recv() => change,
        };
        match change {
            Ok(change) => {
                if change.kind.needs_replay() {
                    this.pool.tasks().spawn(Arc::clone(&this).replay(change.upstream));
                }
                if this.registrar() == Some(change.upstream) && !still_there(&this.pool, change.upstream) {
                    this.pool.tasks().spawn(Arc::clone(&this).reregister());
                }
            }
            Err(RecvError::Lagged(_)) => {
                // What was missed may have been anything: everybody is told.
                for node in this.pool.view().nodes() {
                    this.pool.tasks().spawn(Arc::clone(&this).replay(node.id()));
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn still_there(pool: &Pool, id: UpstreamId) -> bool {
    let view = pool.view();
    view.node(id)
        .is_some_and(|node| node.health.tier > HealthTier::Down && node.upstream.config().roles.contains(Role::Builder))
}

/// Forgets, and tells fee recipients again at the start of each epoch and one slot before an own proposal.
async fn watch_slots(this: Arc<Preparations>) {
    let mut stopping = this.pool.tasks().stopping();
    let mut last: Option<(Slot, Epoch)> = None;
    loop {
        let wait = match this.pool.network() {
            None => Duration::from_secs(1),
            Some(network) => {
                let now = this.pool.now();
                let next = network.start_of(Slot(network.slot_at(now).0.saturating_add(1)));
                Duration::from_millis(next.0.saturating_sub(now.0).max(1))
            }
        };
        tokio::select! {
            () = stopping.begun() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let (Some(slot), Some(epoch)) = (this.pool.slot(), this.pool.epoch()) else { continue };
        lock(&this.memory).forget(slot, epoch);
        let next_is_own = {
            let mut proposals = lock(&this.proposals);
            proposals.retain(|proposal| *proposal > slot);
            proposals.contains(&Slot(slot.0.saturating_add(1)))
        };
        if next_is_own || last.is_some_and(|(_, before)| before != epoch) {
            this.tell_proposers().await;
        }
        last = Some((slot, epoch));
    }
}
