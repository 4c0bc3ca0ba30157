//! The pool's facts, and the conclusions drawn from them. No input, no output, no waiting.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use holdfast_domain::{Epoch, Slot, UnixMillis};
use tokio::sync::watch;
use tokio::time::Instant;

use super::schedule::Voter;
use super::view::{NodeView, PoolView};
use super::{Change, ChangeKind, PoolConfig, ReplayGate, StreamState, conclude};
use crate::chain::{BlockRoot, Checkpoint, HeadRef};
use crate::class::EndpointClass;
use crate::decision::{Decision, DecisionKind};
use crate::health::{
    Admission, Agreement, BlockTree, ChainView, Compatibility, Difference, ExecutionTier, Gate, GroupId, Grouping,
    Health, HealthTier, Hysteresis, HysteresisPolicy, Liveness, Move, NodeNetwork, Observation, PayloadTier, PeerTier,
    PerformanceTier, ProbeHistory, StreamTier, SyncClaim, SyncTier, Verdict,
};
use crate::network::PinnedNetwork;
use crate::upstream::{Upstream, UpstreamConfig, UpstreamId, UpstreamName};
use crate::version::{NodeVersion, Vendor};

/// Slots for which the head of a node that has gone proves that the chain goes on.
const FRONT_SLOTS: u64 = 32;

/// Now, in the words of the network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(super) slot: Slot,
    pub(super) epoch: Epoch,
}

impl Moment {
    pub(super) fn of(network: &PinnedNetwork, now: UnixMillis) -> Self {
        Self { slot: network.slot_at(now), epoch: network.epoch_at(now) }
    }
}

/// Since when a node belongs to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Since the start.
    AtStart,
    /// Added while running.
    Later,
}

/// Whether a node was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Never,
    Here,
    Away,
}

/// What `node/syncing` said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyncReport {
    pub(crate) head_slot: Slot,
    pub(crate) claim: SyncClaim,
    pub(crate) payload: PayloadTier,
    pub(crate) execution: ExecutionTier,
}

/// One node's facts.
pub(crate) struct Member {
    pub(crate) upstream: Arc<Upstream>,
    /// What the operator calls it: its name, or the name whose addresses are nodes.
    pub(super) entry: UpstreamName,
    pub(crate) hysteresis: Hysteresis,
    /// The tier last shown to others.
    shown: HealthTier,
    /// The tier last observed, without history.
    pub(super) raw: HealthTier,
    pub(super) arrival: Arrival,
    pub(crate) presence: Presence,
    pub(crate) admission: Admission,
    pub(crate) probes: ProbeHistory,
    report: Option<SyncReport>,
    pub(super) head: Option<HeadRef>,
    justified: Option<Checkpoint>,
    finalized: Option<Checkpoint>,
    pub(crate) version: Option<NodeVersion>,
    pub(super) told: Option<NodeNetwork>,
    /// How that differs from the network; `None` if it has not been compared.
    pub(super) differences: Option<Vec<Difference>>,
    pub(super) verdict: Option<Verdict>,
    /// Its network has to be asked for (again) before it counts as answering.
    pub(crate) identity_due: bool,
    stream: Option<StreamState>,
    last_head_event: Option<Slot>,
    pub(crate) peers: PeerTier,
    /// Why the last probe failed, if it did.
    pub(crate) last_error: Option<String>,
    pub(super) reconnected_in: Option<Epoch>,
    /// Dropped with the member, which ends its probes.
    pub(super) stop: watch::Sender<bool>,
}

impl Member {
    pub(super) fn new(
        upstream: Arc<Upstream>,
        entry: UpstreamName,
        arrival: Arrival,
        policy: HysteresisPolicy,
    ) -> Self {
        Self {
            upstream,
            entry,
            hysteresis: Hysteresis::new(policy),
            shown: HealthTier::Excluded,
            raw: HealthTier::Excluded,
            arrival,
            presence: Presence::Never,
            admission: Admission::Serving,
            probes: ProbeHistory::default(),
            report: None,
            head: None,
            justified: None,
            finalized: None,
            version: None,
            told: None,
            differences: None,
            verdict: None,
            identity_due: true,
            stream: None,
            last_head_event: None,
            peers: PeerTier::Unknown,
            last_error: None,
            reconnected_in: None,
            stop: watch::Sender::new(false),
        }
    }

    fn set_head(&mut self, head: HeadRef) {
        if self.head.is_some_and(|old| old.slot != head.slot) {
            self.hysteresis.head_moved();
        }
        // `node/syncing` has no root: the one known for the same slot stays.
        let root = head.root.or_else(|| self.head.filter(|old| old.slot == head.slot).and_then(|old| old.root));
        self.head = Some(HeadRef { root, ..head });
    }

    pub(super) fn head_event(&mut self, head: HeadRef, slot: Slot) {
        self.last_head_event = Some(slot.max(head.slot.min(Slot(slot.0.saturating_add(1)))));
        if self.report.is_some() {
            self.hysteresis.head_moved();
        }
        self.set_head(head);
    }

    pub(super) fn stream(&mut self, stream: StreamState, slot: Slot) {
        if stream == StreamState::Connected && self.stream != Some(StreamState::Connected) {
            // Two slots to bring the first head.
            self.last_head_event = Some(slot);
        }
        self.stream = Some(stream);
    }

    /// A probe was answered.
    pub(crate) fn synced(&mut self, report: SyncReport) {
        let payload = match report.payload {
            PayloadTier::Optimistic => crate::chain::PayloadStatus::Optimistic,
            PayloadTier::Verified => crate::chain::PayloadStatus::Verified,
        };
        self.set_head(HeadRef { slot: report.head_slot, root: None, payload });
        self.report = Some(report);
    }

    /// The node's head block and the one before it.
    pub(crate) fn head_block(&mut self, slot: Slot, root: BlockRoot) {
        if let Some(head) = &mut self.head
            && head.slot <= slot
        {
            *head = HeadRef { slot, root: Some(root), payload: head.payload };
        }
    }

    pub(crate) fn checkpoints(&mut self, justified: Checkpoint, finalized: Checkpoint) {
        self.justified = Some(justified);
        self.finalized = Some(finalized);
    }

    pub(super) fn vendor(&self) -> Vendor {
        self.version.as_ref().map_or(Vendor::Other, |version| version.vendor)
    }

    fn compatibility(&self) -> Compatibility {
        self.verdict.as_ref().map_or(Compatibility::Unknown, |verdict| verdict.compatibility)
    }

    pub(super) fn liveness(&self) -> Liveness {
        let seen = Liveness::of(self.upstream.breaker(), self.probes);
        // Traffic that gets through does not make up for the missing look at its network.
        if self.identity_due && self.presence != Presence::Here { Liveness::Down } else { seen }
    }

    /// On the right network, and answering.
    fn usable(&self) -> bool {
        self.compatibility() > Compatibility::Unknown && self.liveness() > Liveness::Hung
    }

    fn chain(&self) -> ChainView {
        ChainView {
            upstream: self.upstream.id(),
            vendor: self.vendor(),
            head: self.head.and_then(|head| head.root),
            justified: self.justified,
            finalized: self.finalized,
        }
    }

    fn stream_tier(&self, newest_event: Option<Slot>) -> StreamTier {
        match (self.stream, self.last_head_event, newest_event) {
            (None, ..) => StreamTier::Unwatched,
            (Some(StreamState::Lost), ..) => StreamTier::Stale,
            (Some(StreamState::Connected), Some(mine), Some(newest)) if newest.0.saturating_sub(mine.0) >= 2 => {
                StreamTier::Stale
            }
            (Some(StreamState::Connected), ..) => StreamTier::Flowing,
        }
    }
}

/// A name with an unknown number of nodes behind it.
pub(crate) struct Name {
    pub(super) config: UpstreamConfig,
    /// Nodes by address, and look-ups in a row that no longer found them.
    pub(super) found: BTreeMap<SocketAddr, (UpstreamId, u32)>,
    pub(super) looked_up: bool,
    pub(super) stop: watch::Sender<bool>,
}

/// What another order is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Arranged {
    /// There is none.
    #[default]
    AsBefore,
    /// Nodes that came have their places among the others.
    Newcomers,
    /// Nodes that were there change places: whoever serves has no claim on its own.
    Anew,
}

/// Everything the pool knows.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) members: BTreeMap<UpstreamId, Member>,
    pub(crate) tree: BlockTree,
    pub(super) network: Option<Arc<PinnedNetwork>>,
    /// Nodes that first answer until then were there from the start.
    pub(super) settling_until: Option<Instant>,
    pub(super) preferred: Option<UpstreamId>,
    pub(super) incumbents: BTreeMap<EndpointClass, UpstreamId>,
    pub(super) added: u32,
    /// Names of which every address is a node of its own.
    pub(super) names: BTreeMap<UpstreamName, Name>,
    /// What the operator configured, in the order in which the best is chosen from equals.
    pub(super) order: Vec<UpstreamName>,
    /// Another order has not been taken into account yet.
    pub(super) arranged: Arranged,
    pub(super) last: Arc<PoolView>,
    /// Forks up to this epoch are in force and do not change any more.
    pub(super) settled: Option<Epoch>,
    /// Who voted on the schedule last; `None` if somebody has told something else since.
    pub(super) voters: Option<Vec<Voter>>,
    /// By what all were judged last; `None` if somebody has told something else since.
    pub(super) judged: Option<Gate>,
}

/// What follows from the facts.
#[derive(Default)]
pub(super) struct Conclusions {
    pub(super) view: Arc<PoolView>,
    pub(super) decisions: Vec<Decision>,
    pub(super) changes: Vec<Change>,
    pub(super) switched: Vec<EndpointClass>,
    /// The network, if its schedule has changed.
    pub(super) network: Option<Arc<PinnedNetwork>>,
}

impl State {
    pub(super) fn conclude(&mut self, config: &PoolConfig, now: Option<Moment>) -> Conclusions {
        let mut out = Conclusions::default();
        if let Some(now) = now {
            self.follow_schedule(now.epoch, &mut out);
        }
        let groups = self.groups();
        let best = self.best_head(&groups, now);
        let front = self.front(best, now);
        let newest_event = self.members.values().filter(|m| m.stream.is_some()).filter_map(|m| m.last_head_event).max();
        let settling = self.is_settling();
        // Late is meant in comparison: with all of them late it is the machine or the network in between.
        let mut usable = self.members.values().filter(|member| member.usable()).peekable();
        let all_late = usable.peek().is_some() && usable.all(|m| m.upstream.performance() == PerformanceTier::Late);
        let mut nodes = Vec::with_capacity(self.members.len());
        for member in self.members.values_mut() {
            let grouping = groups.get(&member.upstream.id()).copied();
            let seen = observe(member, grouping, front, newest_event, now);
            let performance = if all_late { PerformanceTier::OnTime } else { seen.performance };
            let seen = Observation { performance, ..seen };
            let raw = Health::of(&seen);
            member.raw = raw.tier;
            presence(member, raw, settling, config.replay, now, &mut out);
            let slot = now.map_or(Slot(0), |now| now.slot);
            member.hysteresis.observe(raw.tier, slot);
            let tier = member.hysteresis.tier();
            let moved = Move::between(std::mem::replace(&mut member.shown, tier), tier);
            report(member, moved, &seen, &mut out);
            let health = Health { tier, ..raw };
            nodes.push(node_view(member, health, seen, grouping));
        }
        out.view = conclude::view(self, config, nodes, best, &mut out.decisions, &mut out.switched);
        self.last = Arc::clone(&out.view);
        out
    }

    /// A slot has ended: promotions.
    pub(crate) fn slot_ended(&mut self, epoch: Epoch) {
        self.members.values_mut().for_each(|member| member.hysteresis.slot_ended(epoch));
    }

    /// Nodes that come now were there from the start.
    fn is_settling(&self) -> bool {
        self.settling_until.is_none_or(|until| Instant::now() < until)
    }

    /// Some nodes of the start are still awaited.
    pub(super) fn is_starting(&self) -> bool {
        let awaited = |member: &Member| member.arrival == Arrival::AtStart && member.presence == Presence::Never;
        self.is_settling() && self.members.values().any(awaited)
    }

    /// Where the operator put a node.
    pub(super) fn place(&self, id: UpstreamId) -> usize {
        let entry = self.members.get(&id).map(|member| &member.entry);
        self.order.iter().position(|name| Some(name) == entry).unwrap_or(usize::MAX)
    }

    /// What the operator configured: nodes, and names that stand for several.
    pub(super) fn entries(&self) -> usize {
        let behind_names: usize = self.names.values().map(|name| name.found.len()).sum();
        self.members.len().saturating_sub(behind_names).saturating_add(self.names.len())
    }

    fn groups(&self) -> BTreeMap<UpstreamId, Grouping> {
        let chains: Vec<ChainView> =
            self.members.values().filter(|member| member.usable()).map(Member::chain).collect();
        crate::health::group(&chains, &self.tree)
    }

    /// The highest head among nodes that are not in the minority. A head ahead of the clock is a clock
    /// that is wrong, here or there, and counts for nobody.
    fn best_head(&self, groups: &BTreeMap<UpstreamId, Grouping>, now: Option<Moment>) -> Option<HeadRef> {
        let newest = now.map_or(u64::MAX, |now| now.slot.0.saturating_add(1));
        let trusted = self.members.iter().filter(|(id, member)| {
            member.usable() && groups.get(id).is_none_or(|grouping| grouping.agreement > Agreement::HeadFork)
        });
        let heads = trusted.filter_map(|(_, member)| member.head);
        let verified =
            heads.filter(|head| head.payload == crate::chain::PayloadStatus::Verified && head.slot.0 <= newest);
        verified.max_by_key(|head| (head.slot, head.root))
    }

    /// How far the chain is known to be. A node that has gone counts for an epoch of slots after its head:
    /// the chain that it was on goes on without it, and is not taken for one that stands still.
    fn front(&self, best: Option<HeadRef>, now: Option<Moment>) -> Option<Slot> {
        let Some(Moment { slot: now, .. }) = now else { return best.map(|best| best.slot) };
        let recent = |slot: &Slot| *slot <= now && now.0.saturating_sub(slot.0) <= FRONT_SLOTS;
        let gone = self.members.values().filter(|m| !m.usable() && m.compatibility() > Compatibility::Unknown);
        let known = gone.filter_map(|member| Some(member.head?.slot)).filter(recent).max();
        best.map(|best| best.slot).max(known)
    }
}

fn observe(
    member: &Member,
    grouping: Option<Grouping>,
    front: Option<Slot>,
    newest_event: Option<Slot>,
    now: Option<Moment>,
) -> Observation {
    let (sync, payload, execution) =
        member.report.map_or((SyncTier::Unknown, PayloadTier::Verified, ExecutionTier::Online), |report| {
            // An event may be ahead of the last probe.
            let head = member.head.map_or(report.head_slot, |head| head.slot.max(report.head_slot));
            let clock = now.map(|now| now.slot);
            let sync = SyncTier::of(head, front, clock, report.claim);
            (sync, report.payload, report.execution)
        });
    let optimistic_head = member.head.is_some_and(|head| head.payload == crate::chain::PayloadStatus::Optimistic);
    Observation {
        admission: member.admission,
        compatibility: member.compatibility(),
        liveness: member.liveness(),
        sync,
        payload: if optimistic_head { PayloadTier::Optimistic } else { payload },
        execution,
        agreement: grouping.map_or(Agreement::Undecided, |grouping| grouping.agreement),
        stream: member.stream_tier(newest_event),
        performance: member.upstream.performance(),
        peers: member.peers,
    }
}

/// Notices comings and goings.
fn presence(
    member: &mut Member,
    raw: Health,
    settling: bool,
    replay: ReplayGate,
    now: Option<Moment>,
    out: &mut Conclusions,
) {
    let (id, name) = (member.upstream.id(), member.upstream.name().clone());
    // Until it has told its head there is nothing to judge it by.
    let here = member.usable() && member.report.is_some();
    let mut say = |kind, decision, reason: &str| {
        out.changes.push(Change { upstream: id, kind });
        out.decisions.push(Decision::about(decision, &name, reason));
    };
    let was = member.presence;
    match (was, here) {
        (Presence::Here, false) if member.liveness() <= Liveness::Hung => {
            member.presence = Presence::Away;
            member.identity_due = true;
            say(ChangeKind::Left, DecisionKind::Left, "it does not answer");
        }
        (Presence::Never, true) => {
            member.presence = Presence::Here;
            say(ChangeKind::Joined, DecisionKind::Joined, "it answers and is on the network");
        }
        (Presence::Away, true) => {
            member.presence = Presence::Here;
            say(ChangeKind::Rejoined, DecisionKind::Rejoined, "it answers again and is on the network");
        }
        (Presence::Here, _) | (Presence::Never | Presence::Away, false) => return,
    }
    if member.presence != Presence::Here {
        return;
    }
    if was == Presence::Never && settling && member.arrival == Arrival::AtStart {
        member.hysteresis.settle(raw.tier);
        // Having been there is no promotion.
        member.shown = member.hysteresis.tier();
    } else {
        member.hysteresis.joined(now.map_or(Epoch(0), |now| now.epoch));
        if replay == ReplayGate::Open {
            member.hysteresis.replayed();
        }
    }
}

fn report(member: &Member, moved: Move, seen: &Observation, out: &mut Conclusions) {
    let id = member.upstream.id();
    let (kind, decision, from, to) = match moved {
        Move::Stays => return,
        Move::Demoted { from, to } => (ChangeKind::Demoted, DecisionKind::Demoted, from, to),
        Move::Promoted { from, to } => (ChangeKind::Promoted, DecisionKind::Promoted, from, to),
    };
    out.changes.push(Change { upstream: id, kind });
    let reason = format!("{} to {}: {}", from.as_str(), to.as_str(), seen.describe());
    out.decisions.push(Decision::about(decision, member.upstream.name(), reason));
}

fn node_view(member: &Member, health: Health, seen: Observation, grouping: Option<Grouping>) -> NodeView {
    NodeView {
        upstream: Arc::clone(&member.upstream),
        health,
        observation: seen,
        head: member.head,
        drained: member.admission == Admission::Drained,
        version: member.version.clone(),
        finality_group: grouping.map_or(GroupId(0), |grouping| grouping.group),
    }
}
