//! Sets of operations, and the words by which policy files name them.
//!
//! Why it exists: an operator thinks of what a validator client does, not of sixteen kinds of messages. What it
//! guarantees: a word stands for the operations listed in [`OperationSet::GROUPS`] and no others; one that stands for
//! nothing is an error that names the nearest one that does.

use core::fmt;

use holdfast_domain::{MessageKind, SlashableKind, UnslashableKind};

use crate::operation::{AdminArea, Operation};
use crate::pattern::matches;

/// Some operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OperationSet(u64);

/// Why a word names no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown operation `{word}`")]
pub struct UnknownOperation {
    /// The word.
    pub word: String,
}

const fn sign(kind: UnslashableKind) -> Operation {
    Operation::Sign(MessageKind::Unslashable(kind))
}

const BLOCK: Operation = Operation::Sign(MessageKind::Slashable(SlashableKind::Block));
const ATTESTATION: Operation = Operation::Sign(MessageKind::Slashable(SlashableKind::Attestation));
const ATTESTING: [Operation; 4] = [
    ATTESTATION,
    sign(UnslashableKind::AggregationSlot),
    sign(UnslashableKind::AggregateAndProof),
    sign(UnslashableKind::PayloadAttestation),
];
const PROPOSING: [Operation; 5] = [
    BLOCK,
    sign(UnslashableKind::RandaoReveal),
    sign(UnslashableKind::ExecutionPayloadEnvelope),
    sign(UnslashableKind::ProposerPreferences),
    sign(UnslashableKind::BuilderRequestAuth),
];
const SYNC: [Operation; 3] = [
    sign(UnslashableKind::SyncCommitteeMessage),
    sign(UnslashableKind::SyncCommitteeSelectionProof),
    sign(UnslashableKind::SyncCommitteeContributionAndProof),
];
const REGISTRATION: Operation = sign(UnslashableKind::ValidatorRegistration);

impl OperationSet {
    /// No operation.
    pub const NONE: Self = Self(0);

    /// The words for several operations, or shorter words for one, each with what it stands for.
    pub const GROUPS: [(&'static str, &'static str, Self); 8] = [
        ("attesting", "attestations, aggregates, their selection proofs, payload attestations", Self::of(&ATTESTING)),
        (
            "proposing",
            "blocks, RANDAO reveals, payload envelopes, proposer preferences, requests to builders",
            Self::of(&PROPOSING),
        ),
        ("sync", "the messages of sync committees", Self::of(&SYNC)),
        ("registration", "registrations with builders (fee recipient and gas limit)", Self::of(&[REGISTRATION])),
        (
            "duties",
            "all that a validator client signs by itself: attesting, proposing, sync, registration",
            Self::of(&ATTESTING).or(Self::of(&PROPOSING)).or(Self::of(&SYNC)).or(Self::of(&[REGISTRATION])),
        ),
        ("exit", "voluntary exits", Self::of(&[sign(UnslashableKind::VoluntaryExit)])),
        ("reload", "reading the stored keys again", Self::of(&[Operation::AdminWrite(AdminArea::Status)])),
        ("signing", "every kind of message, exits and deposits among them", Self::signing()),
    ];

    const fn of(operations: &[Operation]) -> Self {
        let mut bits = 0;
        let mut rest = operations;
        while let Some((first, others)) = rest.split_first() {
            bits |= 1 << first.index();
            rest = others;
        }
        Self(bits)
    }

    const fn signing() -> Self {
        let mut bits = 0;
        let mut rest: &[MessageKind] = &MessageKind::ALL;
        while let Some((first, others)) = rest.split_first() {
            bits |= 1 << Operation::Sign(*first).index();
            rest = others;
        }
        Self(bits)
    }

    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What a word stands for: an operation, a group, or every operation that a word with `*` fits (`admin.*.read`).
    ///
    /// # Errors
    /// [`UnknownOperation`].
    pub fn named(word: &str) -> Result<Self, UnknownOperation> {
        if let Some((_, _, set)) = Self::GROUPS.iter().find(|(name, _, _)| *name == word) {
            return Ok(*set);
        }
        let set: Self = Operation::all().filter(|operation| matches(word, &operation.as_word())).collect();
        if set == Self::NONE { Err(UnknownOperation { word: word.to_owned() }) } else { Ok(set) }
    }

    /// Every word there is but those with `*`: groups first.
    pub fn words() -> impl Iterator<Item = String> {
        Self::GROUPS.into_iter().map(|(word, _, _)| word.to_owned()).chain(Operation::all().map(Operation::as_word))
    }

    /// Whether an operation is in it.
    pub const fn contains(self, operation: Operation) -> bool {
        self.0 & (1 << operation.index()) != 0
    }

    /// The operations of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        self.or(other)
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The operations in it.
    pub fn iter(self) -> impl Iterator<Item = Operation> {
        Operation::all().filter(move |operation| self.contains(*operation))
    }
}

impl FromIterator<Operation> for OperationSet {
    fn from_iter<I: IntoIterator<Item = Operation>>(operations: I) -> Self {
        operations.into_iter().fold(Self::NONE, |set, operation| set.or(Self::of(&[operation])))
    }
}

impl fmt::Display for OperationSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, operation) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            operation.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Proves: what the words stand for.
    use super::*;

    fn named(word: &str) -> Vec<String> {
        OperationSet::named(word).unwrap().iter().map(Operation::as_word).collect()
    }

    #[test]
    fn words() {
        for operation in Operation::all() {
            assert_eq!(named(&operation.as_word()), [operation.as_word()]);
        }
        assert_eq!(named("exit"), ["voluntary_exit"]);
        assert_eq!(named("sync").len(), 3);
        assert_eq!(named("signing").len(), MessageKind::ALL.len());
        assert_eq!(named("*").len(), Operation::COUNT);
        assert_eq!(named("keymanager.*"), ["keymanager.read", "keymanager.write"]);
        assert_eq!(named("admin.*.read").len(), AdminArea::ALL.len());
        assert_eq!(named("admin.keys.*"), ["admin.keys.read", "admin.keys.write"]);
        for word in ["", "sign", "Block", "admin", "admin.keys", "x*"] {
            assert_eq!(OperationSet::named(word), Err(UnknownOperation { word: word.to_owned() }));
        }
    }

    #[test]
    fn duties_are_all_signing_but_what_a_person_asks_for() {
        let (duties, signing) = (OperationSet::named("duties").unwrap(), OperationSet::named("signing").unwrap());
        let rest: Vec<_> = signing.iter().filter(|operation| !duties.contains(*operation)).collect();
        let rest: Vec<_> = rest.into_iter().map(Operation::as_word).collect();
        assert_eq!(rest, ["voluntary_exit", "deposit", "execution_payload_bid"]);
        assert!(duties.iter().all(|operation| signing.contains(operation)));
    }
}
