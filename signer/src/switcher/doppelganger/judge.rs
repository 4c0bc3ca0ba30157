//! What may be concluded from what the nodes saw of a newly enabled key. Pure: no clock, no network, no database.
//!
//! The rules, with the reasons for them:
//! - The first epoch that proves anything is the one after the epoch in which the key was enabled, the clock's tolerance
//!   included: until then nodes may see votes that this database made before the key was disabled and enabled again.
//!   Nodes count a vote in the epoch of its target, however late a block includes it.
//! - Nodes answer for the present epoch and the one before. A vote may be included until the end of the epoch after its
//!   own, so that nobody was seen counts only when it is said in the last quarter of that epoch. That somebody was seen
//!   counts whenever it is said.
//! - That nobody was seen counts only if every healthy node says it: absence of evidence is no evidence.
//! - Where this database itself holds a signature for that epoch or a later one, being seen proves nothing.

use holdfast_domain::{Epoch, SlotClock, UnixMillis};
use holdfast_slashing_db::rules::Horizon;
use holdfast_slashing_db::{Finding, NewlyEnabled};

/// How the check is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// Slots of the chain.
    pub(super) slots: SlotClock,
    /// How far beyond the clock the signer signs, in slots.
    pub(super) tolerance: u64,
    /// Epochs in which nobody must be seen.
    pub(super) epochs: u64,
    /// Whether keys are held back meanwhile.
    pub(super) holds: bool,
}

/// Which epoch may be asked about at a moment, and what an answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// The epoch before the present one.
    pub(super) epoch: Epoch,
    /// Whether it is so late that votes for it are all included.
    pub(super) is_late: bool,
}

/// What the nodes say about one key in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sighting {
    /// Some node saw it.
    Live,
    /// Every healthy node says that it did not see it.
    Quiet,
    /// Nobody saw it, but not everybody answered.
    Unknown,
}

/// How a check ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nobody was seen.
    Passed,
    /// What was seen may have been signatures of this database.
    Inconclusive,
    /// A signer that holds nothing back signs with it already, on the same database: there is nothing to hold back.
    InUse,
}

impl Rules {
    /// The first epoch that proves anything about a key that was enabled then.
    pub(super) fn first_epoch(&self, enabled: UnixMillis) -> Epoch {
        match Horizon::new(&self.slots, enabled, self.tolerance) {
            Horizon::BeforeGenesis => Epoch(0),
            Horizon::At { epoch, .. } => Epoch(epoch.0.saturating_add(1)),
        }
    }

    /// What may be asked at `now`; `None` in the first epoch and before.
    pub(super) fn moment(&self, now: UnixMillis) -> Option<Moment> {
        let slot = self.slots.slot_at(now)?;
        let per_epoch = self.slots.slots_per_epoch;
        let epoch = slot.epoch(per_epoch).0.checked_sub(1)?;
        let into = slot.0.checked_rem(per_epoch.get())?;
        let is_late = into.saturating_mul(4) >= per_epoch.get().saturating_mul(3);
        Some(Moment { epoch: Epoch(epoch), is_late })
    }

    /// Whether an answer about `epoch` would tell something about this key.
    pub(super) fn wants(&self, key: &NewlyEnabled, epoch: Epoch) -> bool {
        key.seen.is_none()
            && epoch >= self.first_epoch(key.enabled)
            && key.judged_through.is_none_or(|judged| judged < epoch)
    }

    /// What follows from a sighting. `key` must have been read after the nodes answered, so that it shows every
    /// signature of this database that they can have seen.
    pub(super) fn judge(&self, key: &NewlyEnabled, moment: Moment, sighting: Sighting) -> Option<Finding> {
        let Moment { epoch, is_late } = moment;
        if !self.wants(key, epoch) {
            return None;
        }
        match sighting {
            Sighting::Live if self.signed_since(key, epoch) => is_late.then_some(Finding::Own(epoch)),
            Sighting::Live => Some(Finding::Seen(epoch)),
            Sighting::Quiet => is_late.then_some(Finding::Quiet(epoch)),
            Sighting::Unknown => None,
        }
    }

    /// Whether the check of this key is over, and how.
    pub(super) fn ending(&self, key: &NewlyEnabled) -> Option<Ending> {
        if key.seen.is_some() {
            return None;
        }
        let judged = key.quiet_epochs.saturating_add(key.own_epochs);
        if key.quiet_epochs >= self.epochs {
            Some(if key.own_epochs == 0 { Ending::Passed } else { Ending::Inconclusive })
        } else if self.holds {
            self.signed_here_since(key, self.first_epoch(key.enabled)).then_some(Ending::InUse)
        } else {
            (judged >= self.epochs).then_some(Ending::Inconclusive)
        }
    }

    /// The last epoch that must be quiet, if all goes well from now on. The key is let go in the one after it.
    pub(super) fn last_epoch(&self, key: &NewlyEnabled, now: UnixMillis) -> Epoch {
        let asked = self.moment(now).map_or(Epoch(0), |moment| moment.epoch);
        let next = key.judged_through.map_or(Epoch(0), |judged| Epoch(judged.0.saturating_add(1)));
        let first = self.first_epoch(key.enabled).max(asked).max(next);
        let left = self.epochs.saturating_sub(key.quiet_epochs).max(1);
        Epoch(first.0.saturating_add(left).saturating_sub(1))
    }

    /// Whether the database holds a signature, or a floor that may stand for one, for this epoch or a later one.
    fn signed_since(&self, key: &NewlyEnabled, epoch: Epoch) -> bool {
        let vote = key.watermarks.attestation.is_some_and(|mark| mark.target >= epoch);
        let block = key.watermarks.block.is_some_and(|mark| mark.slot.epoch(self.slots.slots_per_epoch) >= epoch);
        vote || block
    }

    /// The same for signatures that were certainly made on this database: floors have no root.
    fn signed_here_since(&self, key: &NewlyEnabled, epoch: Epoch) -> bool {
        let mut signed = *key;
        signed.watermarks.attestation = signed.watermarks.attestation.filter(|mark| mark.root.is_some());
        signed.watermarks.block = signed.watermarks.block.filter(|mark| mark.root.is_some());
        self.signed_since(&signed, epoch)
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
