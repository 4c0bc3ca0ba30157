//! The tasks that ask nodes how they are.
//!
//! Why it exists: a node must be judged before a duty depends on it. What it guarantees: one question at a
//! time per node, on a connection of its own that is kept open; a node that is down is asked again after 1,
//! 2, 4 … 12 s; a node's network is asked for before its first answer counts, after every absence, and once
//! an epoch; a sixth of a slot before its end every node is asked about the same slot.

use std::sync::Arc;
use std::time::Duration;

use holdfast_domain::Epoch;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::ask::{self, Checkpoints, Header, PeerCount, Syncing, Version};
use crate::error::BeaconError;
use crate::health::{ExecutionTier, NodeNetwork, PayloadTier, PeerTier, SyncClaim};
use crate::pool::{Pool, SyncReport};
use crate::upstream::{Upstream, UpstreamId, UpstreamName};
use crate::version::NodeVersion;

/// How long the larger answers about the network may take.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(5);
/// Slots between two questions for checkpoints.
const CHECKPOINT_SLOTS: u64 = 4;

/// Starts the pool's tasks.
pub(crate) fn start(pool: &Arc<Pool>) {
    for id in pool.members() {
        start_one(pool, id);
    }
    for name in pool.names() {
        start_name(pool, &name);
    }
    let tasks = pool.tasks();
    tasks.spawn(follow_signal(Arc::clone(pool)));
    tasks.spawn(follow_slots(Arc::clone(pool)));
}

/// Starts the probes of one node.
pub(crate) fn start_one(pool: &Arc<Pool>, id: UpstreamId) {
    if let Some((_, stop)) = pool.member(id) {
        pool.tasks().spawn(watch_node(Arc::clone(pool), id, stop));
    }
}

/// Starts looking up a name whose addresses are nodes of their own.
pub(crate) fn start_name(pool: &Arc<Pool>, name: &UpstreamName) {
    if let Some(stop) = pool.name_stop(name) {
        pool.tasks().spawn(look_up(Arc::clone(pool), name.clone(), stop));
    }
}

async fn look_up(pool: Arc<Pool>, name: UpstreamName, mut stop: watch::Receiver<bool>) {
    let mut stopping = pool.tasks().stopping();
    loop {
        for id in pool.look_up(&name).await {
            start_one(&pool, id);
        }
        tokio::select! {
            () = stopping.begun() => return,
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pool.config().probing.resolve_every) => {}
        }
    }
}

/// Draws conclusions when calls show something.
async fn follow_signal(pool: Arc<Pool>) {
    let mut stopping = pool.tasks().stopping();
    loop {
        tokio::select! {
            () = stopping.begun() => return,
            () = pool.signal().notified() => pool.update(|_| ()),
        }
    }
}

/// Counts slots: windows of late answers move on, good slots add up to promotions.
async fn follow_slots(pool: Arc<Pool>) {
    let mut stopping = pool.tasks().stopping();
    loop {
        let wait = pool.until_next_slot().unwrap_or(pool.config().probing.interval);
        tokio::select! {
            () = stopping.begun() => return,
            () = tokio::time::sleep(wait) => {}
        }
        pool.slot_began();
    }
}

/// What one node's probes remember between two of them.
struct Rhythm {
    identity_epoch: Option<Epoch>,
    peers_at: Option<Instant>,
    deep_slot: Option<u64>,
    connection: Option<std::net::SocketAddr>,
}

async fn watch_node(pool: Arc<Pool>, id: UpstreamId, mut stop: watch::Receiver<bool>) {
    let mut stopping = pool.tasks().stopping();
    let mut rhythm = Rhythm { identity_epoch: None, peers_at: None, deep_slot: None, connection: None };
    loop {
        let began = Instant::now();
        // It may have been configured anew.
        let Some((upstream, _)) = pool.member(id) else { return };
        tokio::select! {
            () = stopping.begun() => return,
            _ = stop.wait_for(|stop| *stop) => return,
            () = probe(&pool, &upstream, &mut rhythm) => {}
        }
        let at = next_probe(&pool, &upstream, began);
        tokio::select! {
            () = stopping.begun() => return,
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep_until(at) => {}
        }
    }
}

/// When a node is asked next: after the interval, at the common moment of the slot, or when its breaker
/// allows another try.
fn next_probe(pool: &Pool, upstream: &Upstream, began: Instant) -> Instant {
    let now = Instant::now();
    if let Some(half_open) = upstream.half_open_at() {
        return half_open.max(now);
    }
    let usual = (began + pool.config().probing.interval).max(now);
    match pool.until_next_slot().and_then(|left| left.checked_sub(pool.before_slot_end())) {
        // Strictly later, or the probe just done would be done again.
        Some(left) if left > Duration::from_millis(20) && now + left < usual => now + left,
        Some(_) | None => usual,
    }
}

async fn probe(pool: &Arc<Pool>, upstream: &Arc<Upstream>, rhythm: &mut Rhythm) {
    let id = upstream.id();
    let identity_due = pool.identity_due(id);
    if identity_due || (rhythm.identity_epoch != pool.epoch() && pool.may_ask_identity_again(id)) {
        match identity(upstream).await {
            Ok((version, network)) => {
                pool.version(id, version);
                pool.told(id, network);
                rhythm.identity_epoch = pool.epoch();
            }
            Err(error) if identity_due => return pool.probe_failed(id, &error),
            // It was on the network an epoch ago: asked again with the next probe.
            Err(error) => tracing::debug!(upstream = %upstream.name(), %error, "the network was not told again"),
        }
    }
    let probing = pool.config().probing;
    let began = Instant::now();
    match ask::data::<Syncing>(upstream, ask::SYNCING, began + probing.timeout).await {
        Ok(syncing) => pool.probe_answered(id, began.elapsed(), report(&syncing)),
        Err(error) => return pool.probe_failed(id, &error),
    }
    if let (Some(before), Some(now)) = (rhythm.connection, upstream.probe_connection())
        && before != now
    {
        pool.reconnected(id);
    }
    rhythm.connection = upstream.probe_connection();
    deeper(pool, upstream, rhythm).await;
}

fn report(syncing: &Syncing) -> SyncReport {
    SyncReport {
        head_slot: syncing.head_slot,
        claim: if syncing.catching_up { SyncClaim::Syncing } else { SyncClaim::Synced },
        payload: if syncing.optimistic { PayloadTier::Optimistic } else { PayloadTier::Verified },
        execution: if syncing.el_offline { ExecutionTier::Offline } else { ExecutionTier::Online },
    }
}

/// What a node says it is.
async fn identity(upstream: &Arc<Upstream>) -> Result<(NodeVersion, NodeNetwork), BeaconError> {
    let deadline = Instant::now() + IDENTITY_TIMEOUT;
    let genesis = ask::data(upstream, ask::GENESIS, deadline).await?;
    let spec = ask::data(upstream, ask::SPEC, deadline).await?;
    let forks = match ask::data(upstream, ask::FORK_SCHEDULE, deadline).await {
        // Not every node has this route; the specification has the same facts.
        Err(BeaconError::Status { status: 404 | 405 | 501, .. }) => Vec::new(),
        other => other?,
    };
    let version = match ask::data::<Version>(upstream, ask::VERSION, deadline).await {
        Ok(version) => NodeVersion::parse(&version.version),
        Err(BeaconError::Status { .. }) => NodeVersion::parse(""),
        Err(error) => return Err(error),
    };
    Ok((version, NodeNetwork { genesis, spec, forks }))
}

/// Once a slot, near its end: the head block. Now and then: checkpoints and peers. A node that does not
/// answer these is judged by the rest.
async fn deeper(pool: &Arc<Pool>, upstream: &Arc<Upstream>, rhythm: &mut Rhythm) {
    let (Some(slot), Some(left)) = (pool.slot(), pool.until_next_slot()) else { return };
    let deadline = Instant::now() + pool.config().probing.timeout;
    if rhythm.deep_slot != Some(slot.0) && left <= pool.before_slot_end() {
        rhythm.deep_slot = Some(slot.0);
        if let Ok(head) = ask::data::<Header>(upstream, ask::HEAD_HEADER, deadline).await {
            pool.head_block(upstream.id(), &head);
        }
        if slot.0 % CHECKPOINT_SLOTS == 0
            && let Ok(checkpoints) = ask::data::<Checkpoints>(upstream, ask::CHECKPOINTS, deadline).await
        {
            pool.checkpoints(upstream.id(), &checkpoints);
        }
    }
    let every = pool.config().probing.peers_every;
    if rhythm.peers_at.is_none_or(|at| at.elapsed() >= every) {
        rhythm.peers_at = Some(Instant::now());
        if let Ok(peers) = ask::data::<PeerCount>(upstream, ask::PEER_COUNT, deadline).await {
            pool.peers(upstream.id(), PeerTier::from_count(peers.connected));
        }
    }
}
