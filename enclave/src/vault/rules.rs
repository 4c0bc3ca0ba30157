//! The vault's own slashing rules: a second opinion that shares no code with the first.
//!
//! Guarantees: of the messages approved for one key, no two are slashable together, and none lies beyond the
//! [`Edge`]; a key that comes in gets a [fence](Marks::fence) there, so nothing that any vault signed with it before
//! can conflict with what this one signs. The rules are those of `holdfast_slashing_db::rules` (EIP-3076's minimal
//! strategy, re-signing of identical data, no vote from the last epoch to itself), written again; the tests compare
//! the two over all combinations of small numbers.

use core::cmp::Ordering;

use holdfast_domain::{Epoch, ObservedRoot, SigningRoot, Slot, SlotClock, Subject, UnixMillis};
use holdfast_vault_proto::{Reason, Watermarks};

/// The last slot and epoch that may be signed: those of one slot from now. `None` before the slot before genesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edge(Option<(Slot, Epoch)>);

impl Edge {
    /// The edge at `now`.
    pub(crate) fn at(clock: &SlotClock, now: UnixMillis) -> Self {
        let one_slot_on = UnixMillis(now.0.saturating_add(clock.slot_millis.get()));
        Self(clock.slot_at(one_slot_on).map(|slot| (slot, slot.epoch(clock.slots_per_epoch))))
    }
}

/// The highest block: its slot, and its root if it was signed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    slot: Slot,
    root: Option<ObservedRoot>,
}

/// The highest vote: its epochs, and its root if it was signed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Vote {
    source: Epoch,
    target: Epoch,
    root: Option<ObservedRoot>,
}

/// Bytes of saved marks.
pub(crate) const SAVED_LEN: usize = 1 + 8 + 32 + 8 + 8 + 32;

/// What one key signed, as far as the rules need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Marks {
    block: Option<Block>,
    vote: Option<Vote>,
}

impl Marks {
    /// The marks above which nothing conflicts with what could be signed up to `edge`. A vote that could be signed
    /// has its source before the edge's epoch, as one from that epoch to itself is refused.
    pub(crate) fn fence(edge: Edge) -> Self {
        let Some((slot, target)) = edge.0 else { return Self::default() };
        let source = target.saturating_prev();
        Self { block: Some(Block { slot, root: None }), vote: Some(Vote { source, target, root: None }) }
    }

    /// The marks above which nothing conflicts with what others may have signed up to this epoch, who signed no vote
    /// from an epoch to itself.
    pub(crate) fn behind(epoch: Epoch, clock: &SlotClock) -> Self {
        let next = epoch.0.saturating_add(1).saturating_mul(clock.slots_per_epoch.get());
        let block = Block { slot: Slot(next.saturating_sub(1)), root: None };
        let vote = Vote { source: epoch.saturating_prev(), target: epoch, root: None };
        Self { block: Some(block), vote: Some(vote) }
    }

    /// As a checkpoint keeps them: a fixed number of bytes.
    pub(crate) fn save(self, out: &mut Vec<u8>) {
        let root = |root: Option<ObservedRoot>| root.map_or([0; 32], |root| *root.as_bytes());
        let block = self.block.unwrap_or(Block { slot: Slot(0), root: None });
        let vote = self.vote.unwrap_or(Vote { source: Epoch(0), target: Epoch(0), root: None });
        let flags = [self.block.is_some(), block.root.is_some(), self.vote.is_some(), vote.root.is_some()];
        out.push(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag)));
        out.extend_from_slice(&block.slot.0.to_be_bytes());
        out.extend_from_slice(&root(block.root));
        out.extend_from_slice(&vote.source.0.to_be_bytes());
        out.extend_from_slice(&vote.target.0.to_be_bytes());
        out.extend_from_slice(&root(vote.root));
    }

    /// Back from [`Self::save`]. `None` if the bytes are no marks.
    pub(crate) fn restore(bytes: &[u8; SAVED_LEN]) -> Option<Self> {
        let (flags, rest) = bytes.split_first()?;
        let (slot, rest) = rest.split_first_chunk::<8>()?;
        let (block_root, rest) = rest.split_first_chunk::<32>()?;
        let (source, rest) = rest.split_first_chunk::<8>()?;
        let (target, rest) = rest.split_first_chunk::<8>()?;
        let vote_root = rest.first_chunk::<32>()?;
        let is = |bit: u8| flags >> bit & 1 == 1;
        let root = |known: bool, bytes: &[u8; 32]| known.then(|| ObservedRoot::new(*bytes));
        let block = Block { slot: Slot(u64::from_be_bytes(*slot)), root: root(is(1), block_root) };
        let (source, target) = (Epoch(u64::from_be_bytes(*source)), Epoch(u64::from_be_bytes(*target)));
        let vote = Vote { source, target, root: root(is(3), vote_root) };
        (*flags < 16).then_some(Self { block: is(0).then_some(block), vote: is(2).then_some(vote) })
    }

    /// The higher of each. Where a mark rises, nothing is known to be signed at it.
    pub(crate) fn raised_to(self, floor: Self) -> Self {
        let block = match (self.block, floor.block) {
            (Some(own), Some(other)) if other.slot > own.slot => Some(Block { root: None, ..other }),
            (Some(own), _) => Some(own),
            (None, other) => other.map(|other| Block { root: None, ..other }),
        };
        let vote = match (self.vote, floor.vote) {
            (Some(own), Some(other)) if other.source > own.source || other.target > own.target => {
                Some(Vote { source: own.source.max(other.source), target: own.target.max(other.target), root: None })
            }
            (Some(own), _) => Some(own),
            (None, other) => other.map(|other| Vote { root: None, ..other }),
        };
        Self { block, vote }
    }

    /// The marks once this is signed, or why it must not be.
    pub(crate) fn judge(self, subject: &Subject, root: SigningRoot, edge: Edge) -> Result<Self, Reason> {
        match *subject {
            Subject::Block { slot } => {
                let block = self.judge_block(slot, root, edge)?;
                Ok(Self { block: Some(block), ..self })
            }
            Subject::Attestation { slot: _, source, target } => {
                let vote = self.judge_vote(Vote { source, target, root: Some(root.into()) }, edge)?;
                Ok(Self { vote: Some(vote), ..self })
            }
            // By construction of its domain nothing of this can be a block or an attestation.
            Subject::Unslashable { .. } => Ok(self),
        }
    }

    fn judge_block(self, slot: Slot, root: SigningRoot, edge: Edge) -> Result<Block, Reason> {
        if edge.0.is_none_or(|(last, _)| slot > last) {
            return Err(Reason::SlotInFuture);
        }
        let new = Block { slot, root: Some(root.into()) };
        let Some(mark) = self.block else { return Ok(new) };
        match (slot.cmp(&mark.slot), mark.root) {
            (Ordering::Greater, _) => Ok(new),
            (Ordering::Equal, Some(known)) if known == root.into() => Ok(mark),
            (Ordering::Equal, Some(_)) => Err(Reason::DoubleBlock),
            (Ordering::Equal, None) | (Ordering::Less, _) => Err(Reason::BlockSlotBelowWatermark),
        }
    }

    fn judge_vote(self, new: Vote, edge: Edge) -> Result<Vote, Reason> {
        let Some((_, last)) = edge.0.filter(|(_, last)| new.target <= *last) else {
            return Err(Reason::TargetInFuture);
        };
        if new.source > new.target {
            return Err(Reason::SourceAfterTarget);
        }
        if new.source == last && last > Epoch(0) {
            return Err(Reason::SourceNotBeforeTarget);
        }
        let Some(mark) = self.vote else { return Ok(new) };
        if new == mark {
            return Ok(mark);
        }
        if new.target == mark.target && mark.root.is_some() {
            return Err(Reason::DoubleVote);
        }
        if new.source < mark.source {
            return Err(Reason::SourceBelowWatermark);
        }
        if new.target <= mark.target {
            return Err(Reason::TargetBelowWatermark);
        }
        Ok(new)
    }

    /// As shown to operators.
    pub(crate) fn shown(self) -> Watermarks {
        Watermarks {
            block: self.block.map(|block| block.slot),
            source: self.vote.map(|vote| vote.source),
            target: self.vote.map(|vote| vote.target),
        }
    }
}

#[cfg(test)]
mod tests;
