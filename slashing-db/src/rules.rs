//! The slashing rules: stored watermarks and a candidate in, a verdict out.
//!
//! Pure: no clock, no database, no state. This is EIP-3076's *minimal* strategy with one addition, the
//! re-signing of identical data:
//!
//! - a block needs `slot > max_slot`;
//! - an attestation needs `source <= target`, `source >= max_source` and `target > max_target`;
//! - the identical signing root at the current watermark is approved again without a change;
//! - a vote from the horizon's own epoch to itself is refused, except at genesis: no honest validator casts
//!   one, and a [fence](Horizon::fence) taken in that epoch could be voted around it;
//! - nothing beyond the [`Horizon`] is approved, so no client can push a watermark into the far future;
//! - everything else is named as not slashable, kind by kind, so that a new kind fails to compile here.
//!
//! Why it is enough: blocks signed under it have strictly rising slots; attestations have strictly
//! rising targets and never falling sources, so a later one can neither repeat a target (double vote),
//! nor surround an earlier one (its source would have to be lower), nor be surrounded by one (its target
//! would have to be lower). `tests/exhaustive.rs` checks this against a judge that keeps all history.

use holdfast_domain::{
    Epoch, GenesisValidatorsRoot, ObservedRoot, SigningRoot, Slot, SlotClock, Subject, UnixMillis, UnslashableKind,
};

/// The highest block signed with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockMark {
    /// Highest signed slot.
    pub slot: Slot,
    /// Root signed at that slot, if it was signed here. Imports and fences leave none, and none never matches.
    pub root: Option<ObservedRoot>,
}

/// The highest attestation epochs signed with a key; after an import or a fence, not always of one vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttestationMark {
    /// Highest signed source epoch.
    pub source: Epoch,
    /// Highest signed target epoch.
    pub target: Epoch,
    /// Root of the vote with exactly this source and target, if it was signed here.
    pub root: Option<ObservedRoot>,
}

/// Everything the rules need to know about a key's past. `None` means: nothing signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermarks {
    /// Blocks.
    pub block: Option<BlockMark>,
    /// Attestations.
    pub attestation: Option<AttestationMark>,
}

impl Watermarks {
    /// Merges a floor in, upward only. A mark that rises loses its root: nothing known was signed there.
    #[must_use]
    pub fn raised_to(self, floor: &Watermarks) -> Self {
        let block = match (self.block, floor.block) {
            (Some(own), Some(other)) if own.slot < other.slot => Some(BlockMark { slot: other.slot, root: None }),
            (Some(own), Some(_) | None) => Some(own),
            (None, Some(other)) => Some(BlockMark { slot: other.slot, root: None }),
            (None, None) => None,
        };
        let attestation = match (self.attestation, floor.attestation) {
            (Some(own), Some(other)) => {
                let source = own.source.max(other.source);
                let target = own.target.max(other.target);
                let unchanged = source == own.source && target == own.target;
                Some(AttestationMark { source, target, root: if unchanged { own.root } else { None } })
            }
            (Some(own), None) => Some(own),
            (None, Some(other)) => Some(AttestationMark { root: None, ..other }),
            (None, None) => None,
        };
        Self { block, attestation }
    }

    /// Whether everything a fence at `floor` would refuse is refused already.
    pub fn covers(&self, floor: &Watermarks) -> bool {
        let raised = self.raised_to(floor);
        raised == *self
    }
}

/// The last slot that counts as present: `slot(now) + tolerance`.
///
/// Defined as the slot at the moment `now + tolerance * slot duration`, which is the same number after
/// genesis and also says what holds just before it: within the tolerance of genesis the first slots are
/// already signable, earlier nothing slashable is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Horizon {
    /// More than the tolerance before genesis.
    BeforeGenesis,
    /// The last slot and epoch that may be signed.
    At {
        /// Last slot for blocks.
        slot: Slot,
        /// Last target epoch for attestations.
        epoch: Epoch,
    },
}

impl Horizon {
    /// The horizon at `now` with a tolerance in slots.
    pub fn new(clock: &SlotClock, now: UnixMillis, tolerance_slots: u64) -> Self {
        let ahead = clock.slot_millis.get().saturating_mul(tolerance_slots);
        match clock.slot_at(UnixMillis(now.0.saturating_add(ahead))) {
            None => Self::BeforeGenesis,
            Some(slot) => Self::At { slot, epoch: slot.epoch(clock.slots_per_epoch) },
        }
    }

    /// The fence at this moment: everything a bounded signer can have signed until now has `slot <= slot`,
    /// `target <= epoch` and `source <= epoch - 1` (a vote with `source == target == epoch` is refused by
    /// [`judge`]), so with these watermarks nothing signed later can conflict with it. Before genesis
    /// nothing can have been signed and there is no fence.
    pub fn fence(&self) -> Watermarks {
        match *self {
            Self::BeforeGenesis => Watermarks::default(),
            Self::At { slot, epoch } => Watermarks {
                block: Some(BlockMark { slot, root: None }),
                attestation: Some(AttestationMark { source: epoch.saturating_prev(), target: epoch, root: None }),
            },
        }
    }
}

/// Which slashing rule refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlashingReason {
    /// Slot not above the highest signed slot.
    BlockSlotBelowWatermark,
    /// A different block was signed here at this very slot.
    DoubleBlock,
    /// Source epoch after target epoch.
    SourceAfterTarget,
    /// Source and target are both the last epoch that may be signed: a fence could be voted around it.
    SourceNotBeforeTarget,
    /// Source epoch below the highest signed source: could surround an earlier vote.
    SourceBelowWatermark,
    /// Target epoch not above the highest signed target: could be surrounded by, or repeat, an earlier vote.
    TargetBelowWatermark,
    /// A different vote was signed here for this very target.
    DoubleVote,
}

/// Why somebody who knows more than the rules wants a request refused that they allow. It can only refuse: a denial of
/// the rules stands, and nothing is approved because there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Objection {
    /// The consensus clients agree on another source or target.
    CheckpointsDisagreed,
    /// The consensus clients did not confirm source and target in time.
    CheckpointsUnknown,
    /// The key was enabled a short while ago, and it is not known yet that nobody else signs with it.
    DoppelgangerPending,
    /// Somebody else signs with the key.
    DoppelgangerDetected,
    /// The vault has no lease for the epoch, so it would not sign.
    NoLease,
}

impl Objection {
    /// Every objection.
    pub const ALL: [Self; 5] = [
        Self::CheckpointsDisagreed,
        Self::CheckpointsUnknown,
        Self::DoppelgangerPending,
        Self::DoppelgangerDetected,
        Self::NoLease,
    ];

    /// Stable word for responses, metric labels and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CheckpointsDisagreed => "checkpoints_disagreed",
            Self::CheckpointsUnknown => "checkpoints_unknown",
            Self::DoppelgangerPending => "doppelganger_pending",
            Self::DoppelgangerDetected => "doppelganger_detected",
            Self::NoLease => "no_lease",
        }
    }
}

/// Why a request was denied; everything of this type is journaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denial {
    /// A slashing rule.
    Slashable(SlashingReason),
    /// Block slot beyond the horizon.
    SlotInFuture,
    /// Attestation target beyond the horizon.
    TargetInFuture,
    /// Not for the chain this database is pinned to.
    WrongGenesisValidatorsRoot,
    /// The key is disabled or deleted.
    KeyDisabled,
    /// The key has no row.
    KeyNotRegistered,
    /// The database is suspected of having lost writes, and the key has not been fenced since.
    ProtectionFrozen,
    /// The rules allow it, and there is an objection.
    Objected(Objection),
}

impl Denial {
    /// Every denial.
    pub const ALL: [Self; 18] = [
        Self::Slashable(SlashingReason::BlockSlotBelowWatermark),
        Self::Slashable(SlashingReason::DoubleBlock),
        Self::Slashable(SlashingReason::SourceAfterTarget),
        Self::Slashable(SlashingReason::SourceNotBeforeTarget),
        Self::Slashable(SlashingReason::SourceBelowWatermark),
        Self::Slashable(SlashingReason::TargetBelowWatermark),
        Self::Slashable(SlashingReason::DoubleVote),
        Self::SlotInFuture,
        Self::TargetInFuture,
        Self::WrongGenesisValidatorsRoot,
        Self::KeyDisabled,
        Self::KeyNotRegistered,
        Self::ProtectionFrozen,
        Self::Objected(Objection::CheckpointsDisagreed),
        Self::Objected(Objection::CheckpointsUnknown),
        Self::Objected(Objection::DoppelgangerPending),
        Self::Objected(Objection::DoppelgangerDetected),
        Self::Objected(Objection::NoLease),
    ];

    /// Stable word for responses, metric labels and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slashable(reason) => match reason {
                SlashingReason::BlockSlotBelowWatermark => "block_slot_below_watermark",
                SlashingReason::DoubleBlock => "double_block",
                SlashingReason::SourceAfterTarget => "source_after_target",
                SlashingReason::SourceNotBeforeTarget => "source_not_before_target",
                SlashingReason::SourceBelowWatermark => "source_below_watermark",
                SlashingReason::TargetBelowWatermark => "target_below_watermark",
                SlashingReason::DoubleVote => "double_vote",
            },
            Self::SlotInFuture => "slot_in_future",
            Self::TargetInFuture => "target_in_future",
            Self::WrongGenesisValidatorsRoot => "wrong_genesis_validators_root",
            Self::KeyDisabled => "key_disabled",
            Self::KeyNotRegistered => "key_not_registered",
            Self::ProtectionFrozen => "protection_frozen",
            Self::Objected(objection) => objection.as_str(),
        }
    }
}

/// On what ground a request was approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Approval {
    /// New data above the watermarks, which rise with it.
    NewData,
    /// The identical signing root at the watermark; nothing changes.
    SameData,
    /// No slashing rule exists for this kind.
    NotSlashable,
}

/// Witness that [`judge`] approved. Only this module makes one.
#[derive(Debug)]
pub struct Approved {
    approval: Approval,
}

impl Approved {
    /// On what ground.
    pub fn approval(&self) -> Approval {
        self.approval
    }
}

/// What the rules say about one candidate.
#[derive(Debug)]
pub enum Verdict {
    /// May be signed once `after` is durable.
    Approve {
        /// The witness a permit needs.
        approved: Approved,
        /// The key's watermarks from now on.
        after: Watermarks,
    },
    /// May not be signed; nothing changes.
    Deny(Denial),
}

/// Judges one candidate against a key's watermarks.
///
/// `root` is the computed signing root of the message that `subject` describes.
pub fn judge(before: &Watermarks, subject: &Subject, root: &SigningRoot, horizon: Horizon) -> Verdict {
    match *subject {
        Subject::Block { slot } => judge_block(before, slot, root, horizon),
        Subject::Attestation { slot: _, source, target } => judge_attestation(before, source, target, root, horizon),
        Subject::Unslashable { kind, dating: _ } => match kind {
            // Each kind by name: a new one must be placed here by a person.
            UnslashableKind::AggregationSlot
            | UnslashableKind::AggregateAndProof
            | UnslashableKind::RandaoReveal
            | UnslashableKind::VoluntaryExit
            | UnslashableKind::Deposit
            | UnslashableKind::SyncCommitteeMessage
            | UnslashableKind::SyncCommitteeSelectionProof
            | UnslashableKind::SyncCommitteeContributionAndProof
            | UnslashableKind::ValidatorRegistration
            | UnslashableKind::ExecutionPayloadBid
            | UnslashableKind::ExecutionPayloadEnvelope
            | UnslashableKind::PayloadAttestation
            | UnslashableKind::ProposerPreferences
            | UnslashableKind::BuilderRequestAuth => approve(Approval::NotSlashable, *before),
        },
    }
}

/// Checks the chain a request names. Slashable messages must name it; others are checked when they do.
///
/// # Errors
/// [`Denial::WrongGenesisValidatorsRoot`].
pub fn judge_chain(
    subject: &Subject,
    named: Option<GenesisValidatorsRoot>,
    pinned: GenesisValidatorsRoot,
) -> Result<(), Denial> {
    match (named, subject) {
        (Some(root), _) if root == pinned => Ok(()),
        (None, Subject::Unslashable { .. }) => Ok(()),
        (Some(_), _) | (None, Subject::Block { .. } | Subject::Attestation { .. }) => {
            Err(Denial::WrongGenesisValidatorsRoot)
        }
    }
}

fn judge_block(before: &Watermarks, slot: Slot, root: &SigningRoot, horizon: Horizon) -> Verdict {
    match horizon {
        Horizon::At { slot: last, epoch: _ } if slot <= last => {}
        Horizon::At { .. } | Horizon::BeforeGenesis => return Verdict::Deny(Denial::SlotInFuture),
    }
    if let Some(mark) = before.block
        && slot <= mark.slot
    {
        return match mark.root {
            Some(known) if slot == mark.slot && known.matches(root) => approve(Approval::SameData, *before),
            Some(_) if slot == mark.slot => deny(SlashingReason::DoubleBlock),
            Some(_) | None => deny(SlashingReason::BlockSlotBelowWatermark),
        };
    }
    let block = Some(BlockMark { slot, root: Some((*root).into()) });
    approve(Approval::NewData, Watermarks { block, attestation: before.attestation })
}

fn judge_attestation(
    before: &Watermarks,
    source: Epoch,
    target: Epoch,
    root: &SigningRoot,
    horizon: Horizon,
) -> Verdict {
    let last = match horizon {
        Horizon::At { slot: _, epoch } if target <= epoch => epoch,
        Horizon::At { .. } | Horizon::BeforeGenesis => return Verdict::Deny(Denial::TargetInFuture),
    };
    if source > target {
        return deny(SlashingReason::SourceAfterTarget);
    }
    if source == target && target == last && target > Epoch(0) {
        return deny(SlashingReason::SourceNotBeforeTarget);
    }
    if let Some(mark) = before.attestation {
        if let Some(known) = mark.root
            && target == mark.target
        {
            if source == mark.source && known.matches(root) {
                return approve(Approval::SameData, *before);
            }
            return deny(SlashingReason::DoubleVote);
        }
        if source < mark.source {
            return deny(SlashingReason::SourceBelowWatermark);
        }
        if target <= mark.target {
            return deny(SlashingReason::TargetBelowWatermark);
        }
    }
    let attestation = Some(AttestationMark { source, target, root: Some((*root).into()) });
    approve(Approval::NewData, Watermarks { block: before.block, attestation })
}

fn approve(approval: Approval, after: Watermarks) -> Verdict {
    Verdict::Approve { approved: Approved { approval }, after }
}

fn deny(reason: SlashingReason) -> Verdict {
    Verdict::Deny(Denial::Slashable(reason))
}

#[cfg(test)]
mod tests;
