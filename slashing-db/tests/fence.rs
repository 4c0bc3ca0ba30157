//! The fence argument, exhaustively for small epochs: whatever was signed under the rules before a fence,
//! whose record is then *lost*, nothing signed behind the fence can be slashable together with it.
#![allow(clippy::expect_used, reason = "a test stops at a broken assumption")]

use core::num::NonZeroU64;

use holdfast_domain::message::{AttestationData, Checkpoint};
use holdfast_domain::{
    Epoch, Fork, ForkInfo, ForkVersion, GenesisValidatorsRoot, Message, Network, PublicKey, SigningIntent, Slashable,
    Slot, SlotClock, UnixMillis,
};
use holdfast_slashing_db::Watermarks;
use holdfast_slashing_db::rules::{Horizon, Verdict, judge};

const SLOTS_PER_EPOCH: u64 = 8;

/// The intent to vote from `source` to `target`; `salt` makes different roots.
fn vote(network: &Network, source: u64, target: u64, salt: u8) -> SigningIntent {
    let version = ForkVersion([0; 4]);
    let info = ForkInfo {
        fork: Fork { previous_version: version, current_version: version, epoch: Epoch(0) },
        genesis_validators_root: GenesisValidatorsRoot([1; 32]),
    };
    let data = AttestationData {
        slot: Slot(target * SLOTS_PER_EPOCH),
        index: 0,
        beacon_block_root: [salt; 32],
        source: Checkpoint { epoch: Epoch(source), root: [2; 32] },
        target: Checkpoint { epoch: Epoch(target), root: [3; 32] },
    };
    let message = Message::Slashable(Slashable::Attestation(data));
    SigningIntent::new(PublicKey::from_bytes([4; 48]), &message, Some(info), None, network).expect("a valid intent")
}

fn horizon(epoch: u64) -> Horizon {
    let clock = SlotClock {
        genesis: UnixMillis(0),
        slot_millis: NonZeroU64::new(1_000).expect("not zero"),
        slots_per_epoch: NonZeroU64::new(SLOTS_PER_EPOCH).expect("not zero"),
    };
    Horizon::new(&clock, UnixMillis(epoch * SLOTS_PER_EPOCH * 1_000), 0)
}

fn approved(marks: &Watermarks, intent: &SigningIntent, at: Horizon) -> bool {
    matches!(judge(marks, intent.subject(), &intent.root(), at), Verdict::Approve { .. })
}

#[test]
fn a_fence_over_a_lost_history_cannot_be_voted_around() {
    const LAST: u64 = 6;
    let network = Network::builtin("mainnet").expect("built in");
    let (mut signed_before, mut signed_behind) = (0, 0);
    for signing_epoch in 0..=LAST {
        for (source, target) in pairs(signing_epoch) {
            if !approved(&Watermarks::default(), &vote(&network, source, target, 1), horizon(signing_epoch)) {
                continue;
            }
            signed_before += 1;
            for fence_epoch in signing_epoch..=LAST {
                let fenced = Watermarks::default().raised_to(&horizon(fence_epoch).fence());
                for later_epoch in fence_epoch..=LAST + 2 {
                    for (later_source, later_target) in pairs(later_epoch) {
                        if !approved(&fenced, &vote(&network, later_source, later_target, 2), horizon(later_epoch)) {
                            continue;
                        }
                        signed_behind += 1;
                        let double = target == later_target;
                        let surrounds = later_source < source && target < later_target;
                        let surrounded = source < later_source && later_target < target;
                        assert!(
                            !double && !surrounds && !surrounded,
                            "{source}->{target} at {signing_epoch}, fence at {fence_epoch}, then {later_source}->{later_target}"
                        );
                    }
                }
            }
        }
    }
    println!("fence: {signed_before} lost votes, {signed_behind} votes behind fences, no slashable pair");
    assert!(signed_before > 20 && signed_behind > 100, "{signed_before} {signed_behind}");
}

fn pairs(last: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..=last).flat_map(move |source| (0..=last).map(move |target| (source, target)))
}
