//! Two exports of different journals: whether the one went on above where the other ended.
//!
//! Why it exists: keys that move to another signer have two journals, each in order by itself, and whoever audits them wants to
//! know that nothing was signed twice in between. What it guarantees: [`HandedOver`] means that both verify, and that every block
//! and vote of the newer one lies above all that the older one signed with that key (EIP-3076's minimal form), or is the very
//! message that it signed last; otherwise the first one that is not is named. Memory is bounded by the number of keys.

use std::collections::BTreeMap;
use std::io::BufRead;

use holdfast_domain::{ObservedRoot, PublicKey, Subject};
use holdfast_slashing_db::journal::{Entry, InstanceId, Outcome, Record};

use super::export::verify_seen;
use super::{Broken, Trust, Verified};

/// What was found of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOver {
    /// Of the older journal.
    pub old: Verified,
    /// Of the newer one.
    pub new: Verified,
    /// Keys with which the older one signed blocks or votes.
    pub keys: usize,
    /// Keys of these with which the newer one went on.
    pub taken: usize,
}

/// Why the newer journal does not go on above the older one.
#[derive(Debug, thiserror::Error)]
pub enum NotHandedOver {
    /// The older one is not in order by itself.
    #[error("the older export is not in order")]
    Old(#[source] Broken),
    /// The newer one is not in order by itself.
    #[error("the newer export is not in order")]
    New(#[source] Broken),
    /// They are of one journal, which nobody hands over.
    #[error("both are of instance {0}: there was no hand-over")]
    SameJournal(InstanceId),
    /// What is not shown may have been signed.
    #[error("an export that selects records does not show all that was signed; export everything of both")]
    Selection,
    /// Signed by the newer one at or below what the older one signed.
    #[error(transparent)]
    Below(Box<Below>),
}

/// What the newer journal signed at or below what the older one had signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "instance {new} signed {what} with {key} in its batch {batch}, where instance {old} had signed {before}: they signed for \
     this key at the same time, or the two exports were swapped"
)]
pub struct Below {
    /// Whose the older one is.
    pub old: InstanceId,
    /// Whose the newer one is.
    pub new: InstanceId,
    /// The key.
    pub key: PublicKey,
    /// The batch of the newer one.
    pub batch: u64,
    /// What was signed, in words.
    pub what: String,
    /// What was signed before, in words.
    pub before: String,
}

/// The last of what was signed with a key. A journal signs upwards only, so the highest is the last.
#[derive(Debug, Clone, Default)]
struct Marks {
    block: Option<(Subject, ObservedRoot)>,
    vote: Option<(Subject, ObservedRoot)>,
}

impl Marks {
    fn take(&mut self, entry: &Entry) {
        let place = match entry.subject {
            Subject::Block { .. } => &mut self.block,
            Subject::Attestation { .. } => &mut self.vote,
            Subject::Unslashable { .. } => return,
        };
        *place = Some((entry.subject, entry.root));
    }

    /// What was signed before that this does not lie above.
    fn in_the_way(&self, entry: &Entry) -> Option<Subject> {
        let (before, root) = match entry.subject {
            Subject::Block { .. } => self.block?,
            Subject::Attestation { .. } => self.vote?,
            Subject::Unslashable { .. } => return None,
        };
        let above = match (entry.subject, before) {
            (Subject::Block { slot }, Subject::Block { slot: last }) => slot > last,
            (
                Subject::Attestation { source, target, .. },
                Subject::Attestation { source: last_source, target: last_target, .. },
            ) => target > last_target && source >= last_source,
            _ => false,
        };
        (!above && root != entry.root).then_some(before)
    }
}

fn signed(record: &Record) -> Option<&Entry> {
    match record {
        Record::Request(entry) if matches!(entry.outcome, Outcome::Approved(_)) => Some(entry),
        Record::Request(_) | Record::Event(_) => None,
    }
}

fn words(subject: Subject) -> String {
    match subject {
        Subject::Block { slot } => format!("a block of slot {}", slot.0),
        Subject::Attestation { source, target, .. } => format!("a vote from epoch {} to {}", source.0, target.0),
        Subject::Unslashable { .. } => subject.kind().as_str().to_owned(),
    }
}

/// Verifies both, and that whatever `new` signed lies above what `old` signed.
///
/// # Errors
/// [`NotHandedOver`].
pub fn handed_over(old: impl BufRead, new: impl BufRead, trust: &Trust) -> Result<HandedOver, NotHandedOver> {
    let mut marks: BTreeMap<PublicKey, (Marks, bool)> = BTreeMap::new();
    let mut remember = |record: &Record| {
        let Some(entry) = signed(record) else { return };
        if !matches!(entry.subject, Subject::Unslashable { .. }) {
            marks.entry(entry.key).or_default().0.take(entry);
        }
    };
    let old = verify_seen(old, trust, |_| {}, |_, record| remember(record)).map_err(NotHandedOver::Old)?;
    let mut below = None;
    let mut compare = |batch: u64, record: &Record| {
        let Some(entry) = signed(record) else { return };
        let Some((marks, taken)) = marks.get_mut(&entry.key) else { return };
        *taken |= !matches!(entry.subject, Subject::Unslashable { .. });
        if let Some(before) = marks.in_the_way(entry) {
            below.get_or_insert((entry.key, batch, words(entry.subject), words(before)));
        }
    };
    let new =
        verify_seen(new, trust, |_| {}, |header, record| compare(header.seq, record)).map_err(NotHandedOver::New)?;
    if new.instance == old.instance {
        return Err(NotHandedOver::SameJournal(new.instance));
    }
    if !old.filter.is_empty() || !new.filter.is_empty() {
        return Err(NotHandedOver::Selection);
    }
    if let Some((key, batch, what, before)) = below {
        let (old, new) = (old.instance, new.instance);
        return Err(NotHandedOver::Below(Box::new(Below { old, new, key, batch, what, before })));
    }
    let taken = marks.values().filter(|(_, taken)| *taken).count();
    Ok(HandedOver { old, new, keys: marks.len(), taken })
}
