//! When things are due within a slot, from the network's specification.
//!
//! The basis points have two sets: one until Gloas, one from it. A node that does not name a key is on a
//! version of the specification that predates the key, and then the value is the one that version fixed in
//! its text (`INTERVALS_PER_SLOT = 3`); the length of a slot itself is never assumed.

use std::num::NonZeroU64;
use std::time::Duration;

use holdfast_domain::Epoch;

use super::{SpecError, SpecMap};
use crate::class::EndpointClass;

/// A moment in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DutyPoint {
    /// Attestations.
    Attestation,
    /// Aggregates.
    Aggregate,
    /// Sync committee messages.
    SyncMessage,
    /// Sync committee contributions.
    Contribution,
    /// Payload attestations (from Gloas).
    PayloadAttestation,
    /// The end of the slot.
    SlotEnd,
}

/// Basis points of one era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Era {
    attestation: u64,
    aggregate: u64,
    sync_message: u64,
    contribution: u64,
    payload_attestation: u64,
}

/// Timing of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotTiming {
    slot_millis: NonZeroU64,
    before: Era,
    gloas: Era,
    gloas_from: Epoch,
}

const WHOLE_SLOT: u64 = 10_000;

impl SlotTiming {
    /// Reads the keys of the specification.
    ///
    /// # Errors
    /// [`SpecError`] without a slot length.
    pub fn from_spec(spec: &SpecMap) -> Result<Self, SpecError> {
        let slot_millis = slot_millis(spec).ok_or(SpecError::Missing("SLOT_DURATION_MS or SECONDS_PER_SLOT"))?;
        let bps = |key, text| spec.number(key).filter(|value| *value <= WHOLE_SLOT).unwrap_or(text);
        let before = Era {
            attestation: bps("ATTESTATION_DUE_BPS", 3333),
            aggregate: bps("AGGREGATE_DUE_BPS", 6667),
            sync_message: bps("SYNC_MESSAGE_DUE_BPS", 3333),
            contribution: bps("CONTRIBUTION_DUE_BPS", 6667),
            payload_attestation: WHOLE_SLOT,
        };
        let gloas = Era {
            attestation: bps("ATTESTATION_DUE_BPS_GLOAS", 2500),
            aggregate: bps("AGGREGATE_DUE_BPS_GLOAS", 5000),
            sync_message: bps("SYNC_MESSAGE_DUE_BPS_GLOAS", 2500),
            contribution: bps("CONTRIBUTION_DUE_BPS_GLOAS", 5000),
            payload_attestation: bps("PAYLOAD_ATTESTATION_DUE_BPS", 7500),
        };
        let gloas_from = Epoch(spec.number("GLOAS_FORK_EPOCH").unwrap_or(u64::MAX));
        Ok(Self { slot_millis, before, gloas, gloas_from })
    }

    /// Length of a slot in milliseconds.
    pub const fn slot_millis(&self) -> NonZeroU64 {
        self.slot_millis
    }

    /// Length of a slot.
    pub const fn slot(&self) -> Duration {
        Duration::from_millis(self.slot_millis.get())
    }

    /// A share of a slot in basis points.
    fn share(&self, basis_points: u64) -> Duration {
        Duration::from_millis(self.slot_millis.get().saturating_mul(basis_points) / WHOLE_SLOT)
    }

    /// How far into a slot of `epoch` something is due.
    pub fn offset(&self, point: DutyPoint, epoch: Epoch) -> Duration {
        let era = if epoch >= self.gloas_from { &self.gloas } else { &self.before };
        self.share(match point {
            DutyPoint::Attestation => era.attestation,
            DutyPoint::Aggregate => era.aggregate,
            DutyPoint::SyncMessage => era.sync_message,
            DutyPoint::Contribution => era.contribution,
            DutyPoint::PayloadAttestation => era.payload_attestation,
            DutyPoint::SlotEnd => WHOLE_SLOT,
        })
    }

    /// In what time a healthy node answers, `into` a slot of `epoch`: a node that takes longer is late.
    ///
    /// Duties: so that their result still does all it can, with a least time so that a late request still gets an
    /// honest try. Everything else: a share of the slot.
    pub fn due_in(&self, class: EndpointClass, into: Duration, epoch: Epoch) -> Duration {
        let until = |point| self.offset(point, epoch).saturating_sub(into);
        let twelfth = self.slot() / 12;
        let twelfths = |count: u32| twelfth.saturating_mul(count);
        match class {
            // Has to be signed, sent and seen before aggregators close.
            EndpointClass::AttestationData => {
                until(DutyPoint::Aggregate).saturating_sub(twelfth).clamp(twelfth, twelfths(3))
            }
            EndpointClass::Aggregate => until(DutyPoint::SlotEnd).clamp(twelfth, twelfths(3)),
            // A block that comes when attestations are due is voted against.
            EndpointClass::Produce | EndpointClass::Builder => {
                until(DutyPoint::Attestation).clamp(twelfth, twelfths(3))
            }
            EndpointClass::Publish | EndpointClass::Submit => until(DutyPoint::SlotEnd).clamp(twelfths(2), twelfths(6)),
            EndpointClass::HotRead | EndpointClass::NodeInfo => twelfths(2),
            // Of events, only until the stream begins.
            EndpointClass::Duty
            | EndpointClass::Static
            | EndpointClass::Read
            | EndpointClass::Liveness
            | EndpointClass::Prepare
            | EndpointClass::Events => twelfths(6),
            EndpointClass::BigRead => twelfths(24),
            EndpointClass::Bulk => twelfths(120),
        }
    }

    /// How long an answer is waited for when no better one comes, `into` a slot. Giving up earlier than the answer
    /// helps nobody would make a slow node worse than none: a late block is often still taken, a vote counts in any of
    /// the next 32 slots, and what was not submitted is lost.
    pub fn patience(&self, class: EndpointClass, into: Duration) -> Duration {
        let slot = self.slot();
        match class {
            EndpointClass::AttestationData
            | EndpointClass::Aggregate
            | EndpointClass::Produce
            | EndpointClass::Builder => slot.saturating_sub(into).max(slot / 2),
            EndpointClass::HotRead | EndpointClass::NodeInfo => slot / 2,
            EndpointClass::Publish
            | EndpointClass::Submit
            | EndpointClass::Duty
            | EndpointClass::Static
            | EndpointClass::Read
            | EndpointClass::Liveness
            | EndpointClass::Prepare
            | EndpointClass::Events => slot,
            EndpointClass::BigRead => slot.saturating_mul(2),
            EndpointClass::Bulk => slot.saturating_mul(10),
        }
    }
}

fn slot_millis(spec: &SpecMap) -> Option<NonZeroU64> {
    let seconds = || spec.number("SECONDS_PER_SLOT")?.checked_mul(1000);
    spec.number("SLOT_DURATION_MS").or_else(seconds).and_then(NonZeroU64::new)
}
