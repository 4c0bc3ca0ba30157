//! Each rule at its boundary, one line per case. All combinations of small numbers are in
//! `tests/exhaustive.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use core::num::NonZeroU64;

use holdfast_domain::MessageKind;
use holdfast_domain::message::{BeaconBlockHeader, Dating};
use holdfast_domain::{
    Fork, ForkInfo, ForkVersion, Message, Network, PublicKey, SigningIntent, Slashable, ValidatorIndex,
};

use super::*;

/// Two different signing roots; the rules never look at what is behind them.
fn root(content: u8) -> SigningRoot {
    let header = BeaconBlockHeader {
        slot: Slot(1),
        proposer_index: ValidatorIndex(0),
        parent_root: [0; 32],
        state_root: [0; 32],
        body_root: [content; 32],
    };
    let version = ForkVersion([0; 4]);
    let fork = Fork { previous_version: version, current_version: version, epoch: Epoch(0) };
    let info = ForkInfo { fork, genesis_validators_root: GenesisValidatorsRoot([1; 32]) };
    let network = Network::builtin("mainnet").unwrap();
    let message = Message::Slashable(Slashable::Block(header));
    SigningIntent::new(PublicKey::from_bytes([0; 48]), &message, Some(info), None, &network).unwrap().root()
}

const HORIZON: Horizon = Horizon::At { slot: Slot(3_200), epoch: Epoch(100) };

fn marks(block: Option<(u64, Option<u8>)>, vote: Option<(u64, u64, Option<u8>)>) -> Watermarks {
    let observed = |content: Option<u8>| content.map(|content| root(content).into());
    Watermarks {
        block: block.map(|(slot, content)| BlockMark { slot: Slot(slot), root: observed(content) }),
        attestation: vote.map(|(source, target, content)| AttestationMark {
            source: Epoch(source),
            target: Epoch(target),
            root: observed(content),
        }),
    }
}

fn word(before: &Watermarks, subject: Subject, content: u8) -> &'static str {
    match judge(before, &subject, &root(content), HORIZON) {
        Verdict::Approve { approved, after } => match approved.approval() {
            Approval::NewData => "new",
            Approval::SameData => {
                assert_eq!(after, *before);
                "same"
            }
            Approval::NotSlashable => {
                assert_eq!(after, *before);
                "free"
            }
        },
        Verdict::Deny(denial) => denial.as_str(),
    }
}

fn block(before: Option<(u64, Option<u8>)>, slot: u64, content: u8) -> &'static str {
    word(&marks(before, Some((7, 8, None))), Subject::Block { slot: Slot(slot) }, content)
}

fn vote(before: Option<(u64, u64, Option<u8>)>, source: u64, target: u64, content: u8) -> &'static str {
    let subject = Subject::Attestation { slot: Slot(0), source: Epoch(source), target: Epoch(target) };
    word(&marks(Some((3_000, None)), before), subject, content)
}

#[test]
fn blocks() {
    assert_eq!(block(None, 0, 1), "new");
    assert_eq!(block(Some((5, Some(1))), 6, 2), "new");
    assert_eq!(block(Some((5, Some(1))), 5, 1), "same");
    assert_eq!(block(Some((5, Some(1))), 5, 2), "double_block");
    assert_eq!(block(Some((5, Some(1))), 4, 1), "block_slot_below_watermark");
    assert_eq!(block(Some((5, None)), 5, 1), "block_slot_below_watermark");
    assert_eq!(block(Some((5, None)), 6, 1), "new");
    assert_eq!(block(None, 3_200, 1), "new");
    assert_eq!(block(None, 3_201, 1), "slot_in_future");
    assert_eq!(block(Some((u64::MAX, None)), 3_200, 1), "block_slot_below_watermark");
    assert_eq!(block(Some((u64::MAX, Some(1))), u64::MAX, 1), "slot_in_future");
}

#[test]
fn votes() {
    assert_eq!(vote(None, 0, 0, 1), "new");
    assert_eq!(vote(None, 1, 0, 1), "source_after_target");
    assert_eq!(vote(Some((3, 5, Some(1))), 3, 6, 2), "new");
    assert_eq!(vote(Some((3, 5, Some(1))), 6, 6, 2), "new");
    assert_eq!(vote(Some((3, 5, Some(1))), 3, 5, 1), "same");
    assert_eq!(vote(Some((3, 5, Some(1))), 3, 5, 2), "double_vote");
    assert_eq!(vote(Some((3, 5, Some(1))), 4, 5, 1), "double_vote");
    assert_eq!(vote(Some((3, 5, Some(1))), 2, 6, 2), "source_below_watermark");
    assert_eq!(vote(Some((3, 5, Some(1))), 3, 4, 2), "target_below_watermark");
    assert_eq!(vote(Some((3, 5, None)), 3, 5, 1), "target_below_watermark");
    assert_eq!(vote(Some((3, 5, None)), 2, 5, 1), "source_below_watermark");
    assert_eq!(vote(None, 99, 100, 1), "new");
    assert_eq!(vote(None, 99, 101, 1), "target_in_future");
    assert_eq!(vote(Some((u64::MAX, u64::MAX, None)), 99, 100, 1), "source_below_watermark");
}

#[test]
fn new_data_moves_its_own_marks_only() {
    let before = marks(Some((5, Some(1))), Some((3, 5, Some(1))));
    let Verdict::Approve { after, .. } = judge(&before, &Subject::Block { slot: Slot(9) }, &root(2), HORIZON) else {
        panic!("above the watermark");
    };
    assert_eq!(after, marks(Some((9, Some(2))), Some((3, 5, Some(1)))));
    let subject = Subject::Attestation { slot: Slot(0), source: Epoch(4), target: Epoch(9) };
    let Verdict::Approve { after, .. } = judge(&before, &subject, &root(2), HORIZON) else {
        panic!("above the watermark");
    };
    assert_eq!(after, marks(Some((5, Some(1))), Some((4, 9, Some(2)))));
}

#[test]
fn every_other_kind_is_named_as_not_slashable() {
    let before = marks(Some((5, None)), Some((3, 5, None)));
    let mut named = 0;
    for kind in MessageKind::ALL {
        if let MessageKind::Unslashable(kind) = kind {
            assert_eq!(word(&before, Subject::Unslashable { kind, dating: Dating::Slot(Slot(1)) }, 1), "free");
            named += 1;
        }
    }
    assert_eq!(named, 14);
}

#[test]
fn floors_only_raise_and_forget_roots_where_they_do() {
    let own = marks(Some((5, Some(1))), Some((3, 5, Some(1))));
    assert_eq!(own.raised_to(&marks(Some((4, None)), Some((2, 4, None)))), own);
    assert_eq!(own.raised_to(&marks(Some((5, Some(2))), Some((3, 5, Some(2))))), own);
    assert_eq!(own.raised_to(&marks(Some((6, Some(2))), None)), marks(Some((6, None)), Some((3, 5, Some(1)))));
    assert_eq!(own.raised_to(&marks(None, Some((4, 5, None)))), marks(Some((5, Some(1))), Some((4, 5, None))));
    assert_eq!(own.raised_to(&marks(None, Some((0, 9, None)))), marks(Some((5, Some(1))), Some((3, 9, None))));
    let floor = marks(Some((6, Some(2))), Some((1, 2, Some(2))));
    assert_eq!(Watermarks::default().raised_to(&floor), marks(Some((6, None)), Some((1, 2, None))));
}

fn clock() -> SlotClock {
    let number = |n| NonZeroU64::new(n).unwrap();
    SlotClock { genesis: UnixMillis(100_000), slot_millis: number(12_000), slots_per_epoch: number(32) }
}

#[test]
fn the_horizon_around_genesis() {
    let at = |slot, epoch| Horizon::At { slot: Slot(slot), epoch: Epoch(epoch) };
    assert_eq!(Horizon::new(&clock(), UnixMillis(0), 1), Horizon::BeforeGenesis);
    assert_eq!(Horizon::new(&clock(), UnixMillis(87_999), 1), Horizon::BeforeGenesis);
    assert_eq!(Horizon::new(&clock(), UnixMillis(88_000), 1), at(0, 0));
    assert_eq!(Horizon::new(&clock(), UnixMillis(99_999), 1), at(0, 0));
    assert_eq!(Horizon::new(&clock(), UnixMillis(100_000), 1), at(1, 0));
    assert_eq!(Horizon::new(&clock(), UnixMillis(100_000), 0), at(0, 0));
    assert_eq!(Horizon::new(&clock(), UnixMillis(100_000 + 31 * 12_000), 1), at(32, 1));
    assert!(matches!(Horizon::new(&clock(), UnixMillis(u64::MAX), u64::MAX), Horizon::At { .. }));
    assert_eq!(word_at(Horizon::BeforeGenesis, Subject::Block { slot: Slot(0) }), "slot_in_future");
    let genesis_vote = Subject::Attestation { slot: Slot(0), source: Epoch(0), target: Epoch(0) };
    assert_eq!(word_at(Horizon::BeforeGenesis, genesis_vote), "target_in_future");
    assert_eq!(word_at(at(0, 0), genesis_vote), "new");
}

fn word_at(horizon: Horizon, subject: Subject) -> &'static str {
    match judge(&Watermarks::default(), &subject, &root(1), horizon) {
        Verdict::Approve { .. } => "new",
        Verdict::Deny(denial) => denial.as_str(),
    }
}

#[test]
fn the_fence_stands_at_the_horizon() {
    assert_eq!(Horizon::BeforeGenesis.fence(), Watermarks::default());
    assert_eq!(HORIZON.fence(), marks(Some((3_200, None)), Some((99, 100, None))));
    let first = Horizon::At { slot: Slot(0), epoch: Epoch(0) };
    assert_eq!(first.fence(), marks(Some((0, None)), Some((0, 0, None))));
}

#[test]
fn the_chain_is_checked_wherever_it_is_named() {
    let (ours, other) = (GenesisValidatorsRoot([1; 32]), GenesisValidatorsRoot([2; 32]));
    let block = Subject::Block { slot: Slot(1) };
    let vote = Subject::Attestation { slot: Slot(0), source: Epoch(0), target: Epoch(1) };
    let free = Subject::Unslashable { kind: UnslashableKind::Deposit, dating: Dating::Undated };
    for subject in [block, vote, free] {
        assert_eq!(judge_chain(&subject, Some(ours), ours), Ok(()));
        assert_eq!(judge_chain(&subject, Some(other), ours), Err(Denial::WrongGenesisValidatorsRoot));
    }
    assert_eq!(judge_chain(&free, None, ours), Ok(()));
    assert!(judge_chain(&block, None, ours).is_err());
    assert!(judge_chain(&vote, None, ours).is_err());
}
