//! The pool's conclusions without a network: facts are told directly, the clock stands where a test puts it.
//!
//! Proves: a future fork warns and then gates; stale events, other checkpoints and heads from the future are
//! noticed; addresses behind a name come at once and go slowly; a chain that stands still and a machine that is
//! slow with everybody leave somebody to serve.

mod forks;

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::chain::{BlockRoot, Checkpoint, PayloadStatus};
use crate::decision::DecisionKind;
use crate::health::{ExecutionTier, HealthTier, NodeNetwork, PayloadTier, SyncClaim};
use crate::network::tests::{facts, with};
use crate::upstream::{Resolve, UpstreamConfig, UpstreamName};
use crate::{NoSink, NodeVersion};

const VOTE: EndpointClass = EndpointClass::AttestationData;
const GENESIS: u64 = 1_700_000_000_000;

struct Hands(AtomicU64);

impl Clock for Hands {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

struct Stand {
    pool: Arc<Pool>,
    clock: Arc<Hands>,
}

impl Stand {
    /// Nodes `n0`, `n1`, … in slot 1000; nothing is known of them.
    fn new(nodes: u16) -> Self {
        let clock = Arc::new(Hands(AtomicU64::new(GENESIS + 1_000 * 12_000)));
        let environment = Environment {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            sink: Arc::new(NoSink),
            metrics: Metrics::default(),
            tasks: Tasks::new(),
            tracer: Tracer::off(),
        };
        let upstream = |number| {
            let name = UpstreamName::new(format!("n{number}")).unwrap();
            UpstreamConfig::new(name, format!("http://127.0.0.1:{}", 10_000 + number).parse().unwrap())
        };
        let config = PoolConfig { upstreams: (0..nodes).map(upstream).collect(), ..PoolConfig::default() };
        Self { pool: Pool::new(config, environment).unwrap(), clock }
    }

    /// Each node is of another client and tells the sample network.
    fn told(nodes: u16) -> Self {
        let stand = Self::new(nodes);
        for (id, version) in (0..nodes).zip(["Lighthouse/v8", "teku/v25", "Nimbus/v25", "Prysm/v7"]) {
            stand.pool.version(UpstreamId(id), NodeVersion::parse(version));
            stand.pool.told(UpstreamId(id), facts());
        }
        stand
    }

    fn at(&self, slot: u64) {
        self.clock.0.store(GENESIS + slot * 12_000, Ordering::Relaxed);
        self.pool.slot_began();
    }

    fn probe(&self, id: u16, head: u64) {
        self.claim(id, head, SyncClaim::Synced);
    }

    fn claim(&self, id: u16, head: u64, claim: SyncClaim) {
        let report = SyncReport {
            head_slot: Slot(head),
            claim,
            payload: PayloadTier::Verified,
            execution: ExecutionTier::Online,
        };
        self.pool.probe_answered(UpstreamId(id), Duration::from_millis(1), report);
    }

    /// Who is asked for votes.
    fn voters(&self) -> Vec<u16> {
        self.pool.view().everyone(VOTE).iter().map(|node| node.id().0).collect()
    }

    fn tiers(&self) -> Vec<HealthTier> {
        self.pool.view().nodes().iter().map(|node| node.health.tier).collect()
    }

    fn decided(&self, kind: DecisionKind) -> usize {
        self.pool.last_decisions().iter().filter(|(_, decision)| decision.kind == kind).count()
    }
}

#[tokio::test]
async fn a_node_without_a_future_fork_is_warned_of_and_put_out_one_epoch_before() {
    let stand = Stand::new(2);
    let outdated = {
        let mut outdated: NodeNetwork = facts();
        with(&mut outdated, "GLOAS_FORK_EPOCH", "18446744073709551615");
        outdated
    };
    stand.pool.told(UpstreamId(0), facts());
    stand.pool.told(UpstreamId(1), outdated);
    stand.at(498 * 32);
    stand.probe(0, 498 * 32);
    stand.probe(1, 498 * 32);
    assert_eq!(stand.tiers(), [HealthTier::Good, HealthTier::Good]);
    assert_eq!((stand.decided(DecisionKind::ForkWarning), stand.decided(DecisionKind::Incompatible)), (1, 0));
    for slot in 498 * 32 + 1..=499 * 32 {
        stand.at(slot);
        stand.probe(0, slot);
        stand.probe(1, slot);
    }
    assert_eq!(stand.tiers(), [HealthTier::Good, HealthTier::Excluded]);
    assert_eq!((stand.decided(DecisionKind::ForkWarning), stand.decided(DecisionKind::Incompatible)), (1, 1));
}

#[tokio::test]
async fn silent_event_streams_are_noticed_when_others_speak() {
    let stand = Stand::told(3);
    let head = |slot| HeadRef { slot: Slot(slot), root: None, payload: PayloadStatus::Verified };
    for id in 0..3 {
        stand.probe(id, 1_000);
        stand.pool.observe_stream(UpstreamId(id), StreamState::Connected);
    }
    assert_eq!(stand.tiers(), [HealthTier::Good; 3]);
    for slot in 1_001..1_003 {
        stand.at(slot);
        for id in 0..2 {
            stand.pool.observe_head(UpstreamId(id), head(slot));
        }
        for id in 0..3 {
            stand.probe(id, slot);
        }
    }
    assert_eq!(stand.tiers(), [HealthTier::Good, HealthTier::Good, HealthTier::Impaired]);
    assert_eq!(stand.pool.status().upstreams[2].because, "stale events");
    // No events at all: nobody is stale.
    let quiet = Stand::told(2);
    for id in 0..2 {
        quiet.pool.observe_stream(UpstreamId(id), StreamState::Connected);
    }
    for slot in 1_001..1_010 {
        quiet.at(slot);
        (0..2).for_each(|id| quiet.probe(id, slot));
    }
    assert_eq!(quiet.tiers(), [HealthTier::Good; 2]);
}

#[tokio::test]
async fn other_checkpoints_are_quarantined_and_a_head_from_the_future_misleads_nobody() {
    let stand = Stand::told(3);
    for id in 0..3u16 {
        stand.probe(id, 1_000);
        let justified = Checkpoint { epoch: Epoch(30), root: BlockRoot([u8::from(id == 2); 32]) };
        let finalized = Checkpoint { epoch: Epoch(29), root: BlockRoot([7; 32]) };
        stand.pool.update(|state| {
            if let Some(member) = state.members.get_mut(&UpstreamId(id)) {
                member.checkpoints(justified, finalized);
            }
        });
    }
    let view = stand.pool.view();
    let names: Vec<u16> = view.candidates(VOTE).iter().map(|node| node.id().0).collect();
    assert_eq!(names, [0, 1]);
    assert_ne!(view.nodes()[0].finality_group, view.nodes()[2].finality_group);
    assert_eq!(view.everyone(EndpointClass::Submit).len(), 3, "it still gets what is sent out");
    stand.probe(1, 5_000);
    assert_eq!(stand.pool.view().best_head().map(|head| head.slot), Some(Slot(1_000)));
    assert_eq!(stand.tiers()[0], HealthTier::Good, "not behind a head that cannot be");
}

#[tokio::test]
async fn a_node_that_joins_late_waits_for_an_epoch_and_one_that_was_there_does_not() {
    let stand = Stand::told(2);
    stand.probe(0, 1_000);
    assert_eq!(stand.tiers()[0], HealthTier::Good);
    stand.pool.update(|state| state.settling_until = Some(Instant::now()));
    stand.probe(1, 1_000);
    assert_eq!(stand.tiers()[1], HealthTier::LastResort);
    let mut good_at = None;
    for slot in 1_001..1_200 {
        stand.at(slot);
        (0..2).for_each(|id| stand.probe(id, slot));
        if stand.tiers()[1] == HealthTier::Good {
            good_at = Some(slot);
            break;
        }
    }
    // Joined in epoch 31 (slot 1000), trusted from the beginning of epoch 33.
    assert_eq!(good_at, Some(33 * 32));
}

#[tokio::test]
async fn addresses_come_at_once_and_go_after_three_look_ups_without_them() {
    let stand = Stand::told(1);
    let mut upstream = stand.pool.config().upstreams[0].clone();
    upstream.name = UpstreamName::new("service").unwrap();
    upstream.resolve = Resolve::EachAddress;
    let name = upstream.name.clone();
    stand.pool.take_in(upstream, state::Arrival::Later).unwrap();
    let addresses = |last: &[u8]| last.iter().map(|last| ([10, 0, 0, *last], 5052).into()).collect();
    let count = || stand.pool.view().nodes().len() - 1;
    assert_eq!(stand.pool.reconcile(&name, &addresses(&[1, 2])).len(), 2);
    assert_eq!(count(), 2);
    for expected in [2, 2, 1] {
        assert!(stand.pool.reconcile(&name, &addresses(&[1])).is_empty());
        assert_eq!(count(), expected);
    }
    assert_eq!(stand.pool.reconcile(&name, &addresses(&[1, 2])), [UpstreamId(3)], "numbers are not used again");
    assert_eq!(stand.pool.view().nodes()[1].upstream.name().as_str(), "service/10.0.0.1:5052");
}

#[tokio::test]
async fn when_the_chain_stands_still_the_foremost_nodes_serve_whatever_they_call_it() {
    for (claim, tier) in [(SyncClaim::Syncing, HealthTier::LastResort), (SyncClaim::Synced, HealthTier::FarBehind)] {
        let stand = Stand::told(3);
        for (id, head) in [(0, 900), (1, 900), (2, 870)] {
            stand.claim(id, head, claim);
        }
        assert_eq!(stand.voters(), [0, 1], "the third is behind the others");
        assert_eq!(stand.tiers(), [tier, tier, HealthTier::LastResort]);
    }
}

#[tokio::test]
async fn a_syncing_node_serves_no_duty_while_somebody_is_or_just_was_ahead() {
    let stand = Stand::told(2);
    stand.claim(0, 900, SyncClaim::Syncing);
    stand.probe(1, 1_000);
    assert_eq!(stand.voters(), [1]);
    for _ in 0..2 {
        stand.pool.update(|state| {
            if let Some(member) = state.members.get_mut(&UpstreamId(1)) {
                member.probes.unanswered();
            }
        });
    }
    stand.claim(0, 901, SyncClaim::Syncing);
    assert_eq!(stand.voters(), [1], "the chain is known to go on");
    stand.at(1_033);
    stand.claim(0, 901, SyncClaim::Syncing);
    assert_eq!(stand.voters(), [0], "an epoch later nobody knows");
}

#[tokio::test]
async fn late_is_who_is_later_than_others() {
    let stand = Stand::told(2);
    (0..2).for_each(|id| stand.probe(id, 1_000));
    let late = |id: usize| {
        stand.pool.view().nodes()[id].upstream.be_late();
        (0..2).for_each(|id| stand.probe(id, 1_000));
    };
    late(0);
    assert_eq!(stand.tiers(), [HealthTier::Impaired, HealthTier::Good]);
    late(1);
    assert_eq!(stand.tiers()[1], HealthTier::Good, "all are late: the machine is slow");
}

fn config(name: &str, port: u16) -> UpstreamConfig {
    UpstreamConfig::new(UpstreamName::new(name).unwrap(), format!("http://127.0.0.1:{port}").parse().unwrap())
}

fn lineup(set: Vec<UpstreamConfig>, removed: &[&str], order: &[&str]) -> Lineup {
    let names = |names: &[&str]| names.iter().map(|name| UpstreamName::new(*name).unwrap()).collect();
    Lineup { set, removed: names(removed), order: names(order) }
}

#[tokio::test]
async fn another_list_leaves_those_that_stay_as_they_were() {
    let stand = Stand::told(2);
    stand.probe(0, 1_000);
    stand.probe(1, 1_000);
    let first = || stand.pool.view().candidates(VOTE).first().map(|node| node.id().0);
    assert_eq!((first(), stand.tiers()), (Some(0), vec![HealthTier::Good; 2]));
    let failures = stand.pool.reconfigure(lineup(Vec::new(), &[], &["n1", "n0"]));
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!((first(), stand.tiers()), (Some(1), vec![HealthTier::Good; 2]), "another order counts at once");
    assert_eq!((stand.decided(DecisionKind::Reconfigured), stand.decided(DecisionKind::Switched)), (1, 1));

    // A new one before the others takes no place until it has proved itself, and moves nobody.
    let third = lineup(vec![config("n2", 10_002)], &[], &["n2", "n1", "n0"]);
    assert!(stand.pool.reconfigure(third).is_empty());
    assert_eq!((first(), stand.decided(DecisionKind::Reconfigured)), (Some(1), 1));

    // Other settings of a node are no other node; another address is.
    let mut heavier = config("n0", 10_000);
    heavier.weight = crate::Weight(std::num::NonZeroU16::new(9).unwrap());
    heavier.headers.insert("x-key".to_owned(), holdfast_secret::SecretText::new("hunter2"));
    assert!(stand.pool.reconfigure(lineup(vec![heavier], &[], &["n2", "n1", "n0"])).is_empty());
    let node = stand.pool.view().node(UpstreamId(0)).cloned().expect("it stays");
    assert_eq!((node.health.tier, node.upstream.config().weight.0.get()), (HealthTier::Good, 9));
    let elsewhere = lineup(vec![config("n0", 10_009)], &[], &["n2", "n1", "n0"]);
    assert!(stand.pool.reconfigure(elsewhere).is_empty());
    let names = || -> Vec<(u16, String)> {
        let view = stand.pool.view();
        view.nodes().iter().map(|node| (node.id().0, node.upstream.name().to_string())).collect()
    };
    assert_eq!(names(), [(1, "n1".to_owned()), (2, "n2".to_owned()), (3, "n0".to_owned())]);

    // What cannot be used is left out, the last one stays.
    let mut broken = config("n4", 10_004);
    broken.headers.insert("no header".to_owned(), holdfast_secret::SecretText::new("hunter2"));
    let failures = stand.pool.reconfigure(lineup(vec![broken], &["n2", "n0", "n1"], &[]));
    let failures = failures.iter().map(|error| crate::error::chain(error)).collect::<Vec<_>>().join("\n");
    assert!(
        failures.contains("n4") && failures.contains("n1 is the last") && !failures.contains("hunter2"),
        "{failures}"
    );
    assert_eq!((names(), first()), (vec![(1, "n1".to_owned())], Some(1)));
}

#[tokio::test]
async fn addresses_behind_a_name_are_configured_with_it() {
    let stand = Stand::told(1);
    let mut name = config("pods", 5_052);
    name.resolve = Resolve::EachAddress;
    assert!(stand.pool.reconfigure(lineup(vec![name.clone()], &[], &["pods", "n0"])).is_empty());
    let addresses = ["10.0.0.1:5052", "10.0.0.2:5052"].map(|address| address.parse().unwrap());
    stand.pool.reconcile(&name.name, &addresses.into());
    name.tier = crate::PriorityTier(3);
    assert!(stand.pool.reconfigure(lineup(vec![name], &[], &["pods", "n0"])).is_empty());
    let tiers: Vec<u8> = stand.pool.view().nodes().iter().map(|node| node.upstream.config().tier.0).collect();
    assert_eq!(tiers, [0, 3, 3]);
    assert!(stand.pool.reconfigure(lineup(Vec::new(), &["pods"], &["n0"])).is_empty());
    assert_eq!(stand.pool.view().nodes().len(), 1);
}
