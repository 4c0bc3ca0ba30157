//! EIP-3076 interchange, format version 5: signing histories in and out of a file.
//!
//! Why: a key that moves between signers must take along what it has signed, or the receiving signer can
//! contradict it. This module is pure: it turns a file into floors and watermarks into a file, and says
//! what an import would change. Rows and transactions are the business of a store.
//!
//! # What is guaranteed
//!
//! - **Nothing is lost.** [`read`] reduces each validator's rows to independent maxima of slot, source and
//!   target ([`ValidatorFloor`]). Merged upward into [`Watermarks`], they refuse at least everything that
//!   any single row, or all of them together, would refuse under EIP-3076. So rows that conflict, repeat,
//!   or have a source after their target need no sorting out: they only ever add strictness.
//! - **All or nothing.** [`read`] returns the whole file reduced, or an error; a truncated or malformed
//!   file yields nothing. Memory grows with the number of validators, not with the size of the file.
//! - **Right file.** The version must be exactly `"5"`, and the genesis validators root the expected one.
//! - **Never lower.** [`History::apply`] can raise a watermark or leave it, and nothing else.
//! - **Enough to be safe.** [`Writer`] gives, per validator, one block and one attestation at its
//!   watermarks (EIP-3076, minimal strategy): every client that honours conditions 2, 4 and 5 of the EIP
//!   refuses from then on what this signer would have refused.
//!
//! # What is refused on purpose
//!
//! Members that version 5 does not define, and members given twice. Such a file was made by something
//! else than it claims, or says one thing to one reader and another to the next; what an unknown member
//! was meant to protect cannot be guessed. The error names the member, so it can be looked at and removed.

mod error;
mod input;
mod object;
mod path;
mod read;
mod salvage;
mod value;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use holdfast_domain::{Epoch, GenesisValidatorsRoot, PublicKey, Slot};

use crate::registry::Floor;
use crate::rules::{AttestationMark, BlockMark, Horizon, Watermarks};

pub use error::{Place, Problem, ReadError, WriteError};
pub use read::read;
pub use salvage::{Salvaged, salvage};
pub use write::{Writer, write};

/// The only interchange format version read and written.
pub const FORMAT_VERSION: &str = "5";

/// Distinct validators a file may list. Bounds the memory that a file can take (about 200 MB).
pub const MAX_VALIDATORS: usize = 1_000_000;

/// Longest text or number in a file, in bytes as written. The longest legal one, a public key, has 98.
pub const MAX_TOKEN_BYTES: usize = 1_024;

/// Highest source and highest target a validator attested to; not always of one vote, and the source may
/// even be the higher one if the file has such rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttestationFloor {
    /// Highest source epoch.
    pub source: Epoch,
    /// Highest target epoch.
    pub target: Epoch,
}

/// What is left of a validator's rows: everything at or below it counts as signed. Roots are never kept,
/// because a root that was not signed here never allows signing again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ValidatorFloor {
    /// Highest block slot; `None` if the file has no block.
    pub block: Option<Slot>,
    /// Highest attestation epochs; `None` if the file has no attestation.
    pub attestation: Option<AttestationFloor>,
}

impl ValidatorFloor {
    /// Takes in a block.
    pub fn add_block(&mut self, slot: Slot) {
        self.block = self.block.max(Some(slot));
    }

    /// Takes in an attestation: each epoch by itself, so the order of rows carries no meaning.
    pub fn add_attestation(&mut self, source: Epoch, target: Epoch) {
        self.attestation = Some(match self.attestation {
            None => AttestationFloor { source, target },
            Some(own) => AttestationFloor { source: own.source.max(source), target: own.target.max(target) },
        });
    }

    /// Takes in another floor of the same validator.
    pub fn merge(&mut self, other: &Self) {
        if let Some(slot) = other.block {
            self.add_block(slot);
        }
        if let Some(AttestationFloor { source, target }) = other.attestation {
            self.add_attestation(source, target);
        }
    }

    /// Whether the floor lies beyond `horizon`: the key could then sign nothing of that kind until the
    /// chain gets there. Worth a warning, because no honest history does; importing it is safe all the same.
    pub fn is_beyond(&self, horizon: Horizon) -> bool {
        match horizon {
            Horizon::BeforeGenesis => *self != Self::default(),
            Horizon::At { slot, epoch } => {
                self.block.is_some_and(|own| own > slot)
                    || self.attestation.is_some_and(|own| own.source > epoch || own.target > epoch)
            }
        }
    }
}

impl From<ValidatorFloor> for Watermarks {
    fn from(floor: ValidatorFloor) -> Self {
        Self {
            block: floor.block.map(|slot| BlockMark { slot, root: None }),
            attestation: floor.attestation.map(|AttestationFloor { source, target }| AttestationMark {
                source,
                target,
                root: None,
            }),
        }
    }
}

impl From<ValidatorFloor> for Floor {
    fn from(floor: ValidatorFloor) -> Self {
        Self {
            block: floor.block,
            source: floor.attestation.map(|own| own.source),
            target: floor.attestation.map(|own| own.target),
        }
    }
}

/// How many rows were reduced; for reports only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rows {
    /// Signed blocks.
    pub blocks: u64,
    /// Signed attestations.
    pub attestations: u64,
}

impl Rows {
    fn add(&mut self, other: Self) {
        self.blocks = self.blocks.saturating_add(other.blocks);
        self.attestations = self.attestations.saturating_add(other.attestations);
    }
}

/// One validator of a file, over all entries with its public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// The floor to merge in.
    pub floor: ValidatorFloor,
    /// Rows behind it.
    pub rows: Rows,
}

impl History {
    /// What importing this history does to a key, given its stored watermarks (`None`: no row yet).
    pub fn apply(&self, key: PublicKey, before: Option<Watermarks>) -> ValidatorReport {
        let known = before.unwrap_or_default();
        let after = known.raised_to(&self.floor.into());
        let change = match before {
            None => Change::New,
            Some(_) if after == known => Change::Unchanged,
            Some(_) => Change::Raised,
        };
        ValidatorReport { key, change, before, after, rows: self.rows, switched_off: SwitchedOff::NotAsked }
    }

    fn merge(&mut self, other: &Self) {
        self.floor.merge(&other.floor);
        self.rows.add(other.rows);
    }
}

/// The histories of many validators of one chain, reduced to floors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interchange {
    genesis_validators_root: GenesisValidatorsRoot,
    validators: BTreeMap<PublicKey, History>,
    switched_off: BTreeSet<PublicKey>,
}

impl Interchange {
    /// Histories from elsewhere than a file, such as another signer's database. A file goes through [`read`].
    pub fn new(genesis_validators_root: GenesisValidatorsRoot, validators: BTreeMap<PublicKey, History>) -> Self {
        Self { genesis_validators_root, validators, switched_off: BTreeSet::new() }
    }

    /// The same, from a source that also knows which of the keys must not sign. A file cannot say so.
    #[must_use]
    pub fn with_switched_off(self, switched_off: BTreeSet<PublicKey>) -> Self {
        Self { switched_off, ..self }
    }

    /// Whether the source says that this key must not sign.
    pub fn is_switched_off(&self, key: &PublicKey) -> bool {
        self.switched_off.contains(key)
    }

    /// The chain all of this is for.
    pub fn genesis_validators_root(&self) -> GenesisValidatorsRoot {
        self.genesis_validators_root
    }

    /// The history of one validator, if it is listed.
    pub fn get(&self, key: &PublicKey) -> Option<&History> {
        self.validators.get(key)
    }

    /// All validators, ascending by public key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&PublicKey, &History)> {
        self.validators.iter()
    }

    /// Distinct validators.
    pub fn len(&self) -> usize {
        self.validators.len()
    }

    /// Whether no validator is listed.
    pub fn is_empty(&self) -> bool {
        self.validators.is_empty()
    }

    /// Leaves out validators, for instance all but those whose keys are being imported.
    pub fn retain(&mut self, mut keep: impl FnMut(&PublicKey) -> bool) {
        self.validators.retain(|key, _| keep(key));
    }
}

/// What an import does to one validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// No row yet: it gets one with the file's floor.
    New,
    /// At least one watermark rises.
    Raised,
    /// The database is already at or above the file.
    Unchanged,
}

impl Change {
    /// Lower-case word for reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Raised => "raised",
            Self::Unchanged => "unchanged",
        }
    }
}

/// What an import does to one validator, in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidatorReport {
    /// The validator.
    pub key: PublicKey,
    /// The kind of change.
    pub change: Change,
    /// Watermarks before; `None` if there was no row.
    pub before: Option<Watermarks>,
    /// Watermarks after.
    pub after: Watermarks,
    /// Rows in the file.
    pub rows: Rows,
    /// What became of it if the source says that the key must not sign.
    pub switched_off: SwitchedOff,
}

/// What an import does to a key because its source says that it must not sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SwitchedOff {
    /// The source does not say so: its state stays.
    NotAsked,
    /// It could sign here and cannot any more.
    Now,
    /// It could not sign here before: switched off already, or deleted.
    Already,
    /// It is not held here: should it be brought in later, it enters switched off.
    Noted,
}

impl SwitchedOff {
    /// Lower-case word for reports; `None` if there is nothing to report.
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::NotAsked => None,
            Self::Now => Some("switched_off"),
            Self::Already => Some("off_already"),
            Self::Noted => Some("noted"),
        }
    }
}

/// What an import does, validator by validator, in the order of the file's public keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportReport {
    /// One report per distinct validator of the file.
    pub validators: Vec<ValidatorReport>,
}

impl FromIterator<ValidatorReport> for ImportReport {
    fn from_iter<I: IntoIterator<Item = ValidatorReport>>(reports: I) -> Self {
        Self { validators: reports.into_iter().collect() }
    }
}

impl ImportReport {
    /// Sums over all validators.
    pub fn totals(&self) -> Totals {
        self.validators.iter().fold(Totals::default(), |mut totals, report| {
            let counter = match report.change {
                Change::New => &mut totals.new,
                Change::Raised => &mut totals.raised,
                Change::Unchanged => &mut totals.unchanged,
            };
            *counter = counter.saturating_add(1);
            totals.rows.add(report.rows);
            totals
        })
    }
}

/// Sums of an [`ImportReport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Validators without a row before.
    pub new: usize,
    /// Validators with a risen watermark.
    pub raised: usize,
    /// Validators left as they were.
    pub unchanged: usize,
    /// Rows in the file.
    pub rows: Rows,
}
