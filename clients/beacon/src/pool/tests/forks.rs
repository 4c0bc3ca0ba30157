//! Proves: nodes that are updated for a fork while the pool runs take its schedule along, a restart behind an outdated
//! node does not bring the old one back, what is in force stays, and nobody is put out who alone could serve.

use super::*;
use crate::network::DutyPoint;

const FORK: u64 = 500;
const NEVER: &str = "18446744073709551615";

/// The sample network before its fork at 500 was known.
fn outdated() -> NodeNetwork {
    let mut network = facts();
    with(&mut network, "GLOAS_FORK_EPOCH", NEVER);
    network.forks.pop();
    network
}

/// Nodes of different clients that tell these networks ten epochs before the fork.
fn stand(told: &[NodeNetwork]) -> Stand {
    let nodes = u16::try_from(told.len()).unwrap();
    let stand = Stand::new(nodes);
    stand.at((FORK - 10) * 32);
    let versions = ["Lighthouse/v8", "teku/v25", "Nimbus/v25", "Prysm/v7"];
    for ((id, network), version) in (0..nodes).zip(told).zip(versions) {
        stand.pool.version(UpstreamId(id), NodeVersion::parse(version));
        stand.pool.told(UpstreamId(id), network.clone());
    }
    run(&stand, (FORK - 10) * 32, &(0..nodes).collect::<Vec<_>>());
    stand
}

fn tell(stand: &Stand, id: u16, network: NodeNetwork) {
    stand.pool.told(UpstreamId(id), network);
}

/// Goes on until a slot; these nodes follow the chain.
fn run(stand: &Stand, until: u64, following: &[u16]) {
    let from = stand.pool.slot().unwrap().0;
    for slot in from..=until {
        stand.at(slot);
        for id in following {
            stand.probe(*id, slot);
        }
    }
}

fn die(stand: &Stand, id: u16) {
    for _ in 0..2 {
        stand.pool.update(|state| {
            if let Some(member) = state.members.get_mut(&UpstreamId(id)) {
                member.probes.unanswered();
            }
        });
    }
}

/// When the fork begins, as far as the pool knows.
fn fork(stand: &Stand) -> Option<u64> {
    stand.pool.network().unwrap().spec().number("GLOAS_FORK_EPOCH").filter(|epoch| *epoch != u64::MAX)
}

fn due(stand: &Stand, epoch: u64) -> u128 {
    stand.pool.network().unwrap().timing().offset(DutyPoint::Attestation, Epoch(epoch)).as_millis()
}

#[tokio::test]
async fn nodes_that_are_updated_after_the_start_take_the_schedule_along() {
    let stand = stand(&[outdated(), outdated()]);
    assert_eq!((fork(&stand), due(&stand, FORK)), (None, 3_999));
    tell(&stand, 1, facts());
    assert_eq!((fork(&stand), due(&stand, FORK)), (Some(FORK), 3_000), "of two that tell one each the longer one");
    assert_eq!((stand.decided(DecisionKind::ScheduleChanged), stand.decided(DecisionKind::ForkWarning)), (1, 1));
    assert_eq!(due(&stand, FORK - 1), 3_999);
    tell(&stand, 0, facts());
    run(&stand, (FORK + 2) * 32, &[0, 1]);
    assert_eq!((stand.tiers(), stand.voters()), (vec![HealthTier::Good; 2], vec![0, 1]));
    assert_eq!((stand.decided(DecisionKind::ScheduleChanged), stand.decided(DecisionKind::Incompatible)), (1, 0));
}

#[tokio::test]
async fn an_outdated_node_does_not_lead_for_being_the_first() {
    let stand = stand(&[outdated(), facts()]);
    assert_eq!((fork(&stand), stand.decided(DecisionKind::ForkWarning)), (Some(FORK), 1));
    run(&stand, (FORK - 1) * 32 - 1, &[0, 1]);
    assert_eq!(stand.tiers(), [HealthTier::Good; 2]);
    run(&stand, (FORK + 1) * 32, &[0, 1]);
    assert_eq!((stand.tiers(), stand.voters()), (vec![HealthTier::Excluded, HealthTier::Good], vec![1]));
    tell(&stand, 0, facts());
    run(&stand, (FORK + 1) * 32 + 1, &[0, 1]);
    assert!(stand.voters().contains(&0), "it was updated late");
}

#[tokio::test]
async fn most_implementations_say_what_comes() {
    let stand = stand(&[facts(), outdated(), outdated(), outdated()]);
    assert_eq!((fork(&stand), stand.decided(DecisionKind::ForkWarning)), (None, 1));
    tell(&stand, 1, facts());
    assert_eq!(fork(&stand), Some(FORK), "two and two");
    tell(&stand, 2, facts());
    run(&stand, (FORK - 1) * 32, &[0, 1, 2, 3]);
    assert_eq!((fork(&stand), stand.voters()), (Some(FORK), vec![0, 1, 2]));
}

#[tokio::test]
async fn a_fork_in_force_stays_until_nobody_says_it_is() {
    let stand = stand(&[facts(), facts()]);
    run(&stand, (FORK + 1) * 32, &[0, 1]);
    tell(&stand, 1, outdated());
    assert_eq!((fork(&stand), stand.voters()), (Some(FORK), vec![0]));
    die(&stand, 0);
    run(&stand, (FORK + 1) * 32 + 4, &[1]);
    assert!(!stand.voters().contains(&1), "it is on another chain");
    tell(&stand, 0, outdated());
    run(&stand, (FORK + 1) * 32 + 5, &[1]);
    assert_eq!((fork(&stand), stand.voters()), (None, vec![1]));
}

#[tokio::test]
async fn nobody_is_put_out_who_alone_can_serve() {
    let stand = stand(&[facts(), outdated()]);
    run(&stand, (FORK - 2) * 32, &[0, 1]);
    die(&stand, 0);
    run(&stand, (FORK + 1) * 32, &[1]);
    assert_eq!((stand.voters(), stand.tiers()[1]), (vec![1], HealthTier::Good));
    assert_eq!((fork(&stand), stand.decided(DecisionKind::Incompatible)), (Some(FORK), 0), "what it said is kept");
    tell(&stand, 0, facts());
    run(&stand, (FORK + 1) * 32 + 2, &[0, 1]);
    assert_eq!((stand.voters(), stand.tiers()[1]), (vec![0], HealthTier::Excluded));
}

#[tokio::test]
async fn limits_of_blobs_are_learnt_like_forks() {
    let limited = |more: &str| {
        let mut network = facts();
        let first = r#"{"EPOCH":"5","MAX_BLOBS_PER_BLOCK":"9"}"#;
        with(&mut network, "BLOB_SCHEDULE", &format!("[{first}{more}]"));
        network
    };
    let next = format!(r#",{{"EPOCH":"{}","MAX_BLOBS_PER_BLOCK":"15"}}"#, FORK - 5);
    let stand = stand(&[limited(""), limited(""), limited("")]);
    for id in 0..3 {
        tell(&stand, id, limited(&next));
    }
    run(&stand, (FORK - 4) * 32, &[0, 1, 2]);
    assert_eq!((stand.voters(), stand.decided(DecisionKind::ScheduleChanged)), (vec![0, 1, 2], 1));
    assert_eq!(stand.decided(DecisionKind::Incompatible), 0);
}

#[tokio::test]
async fn a_schedule_goes_when_nobody_tells_it_any_more() {
    let stand = stand(&[facts(), facts()]);
    tell(&stand, 0, outdated());
    assert_eq!(fork(&stand), Some(FORK), "the longer one");
    tell(&stand, 1, outdated());
    assert_eq!((fork(&stand), stand.tiers()), (None, vec![HealthTier::Good; 2]));
}
