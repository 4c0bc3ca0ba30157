//! How a key enters, stays in and leaves the database.
//!
//! A key without a row cannot sign, so [`Registration`], which `ActiveKey` demands, exists only for a
//! key that has one. Entering never lowers a watermark, leaving keeps it: a deleted key's row stays as a
//! tombstone. Nothing here enables or disables a key by itself. A key that was off may have signed elsewhere
//! meanwhile, so enabling it fences it.

use core::fmt;

use holdfast_domain::{Epoch, PublicKey, Slot, UnixMillis};

use crate::error::RegisterError;
use crate::identity::CallerId;
use crate::journal::{Head, InstanceId};
use crate::labels::Labels;
use crate::rules::{AttestationMark, BlockMark, Watermarks};
use crate::store::{Enrolled, KeyRow};

/// A sealed secret key: bytes this crate stores and never looks into.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedKey {
    bytes: Vec<u8>,
    data_key: Option<DataKeyId>,
}

impl SealedKey {
    /// Takes sealed bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, data_key: None }
    }

    /// Notes under which recorded data key it was sealed. It is then stored only while that is the present one: what came
    /// in under a data key that was replaced meanwhile could never be opened again.
    #[must_use]
    pub fn under(self, data_key: Option<DataKeyId>) -> Self {
        Self { data_key, ..self }
    }

    /// The recorded data key it was sealed under, where that was noted.
    pub fn data_key(&self) -> Option<DataKeyId> {
        self.data_key
    }

    /// The sealed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedKey({} bytes)", self.bytes.len())
    }
}

/// Where a key came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyOrigin {
    /// Imported from a keystore.
    Imported,
    /// Made by this program.
    Generated,
}

/// A key to be registered.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The public key.
    pub key: PublicKey,
    /// Its sealed secret.
    pub sealed: SealedKey,
    /// Where it came from.
    pub origin: KeyOrigin,
    /// A name for people, if any.
    pub label: Option<String>,
    /// The labels it enters with, by which rules select it.
    pub labels: Labels,
    /// Who registers it.
    pub registered_by: CallerId,
}

/// Lowest watermarks a key must have. Signing roots are never part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Floor {
    /// Highest block slot that may have been signed.
    pub block: Option<Slot>,
    /// Highest source epoch that may have been signed.
    pub source: Option<Epoch>,
    /// Highest target epoch that may have been signed.
    pub target: Option<Epoch>,
}

impl Floor {
    /// As watermarks without roots. One attestation epoch alone leaves the other at 0.
    pub(crate) fn watermarks(&self) -> Watermarks {
        let attestation = match (self.source, self.target) {
            (None, None) => None,
            (source, target) => Some(AttestationMark {
                source: source.unwrap_or(Epoch(0)),
                target: target.unwrap_or(Epoch(0)),
                root: None,
            }),
        };
        Watermarks { block: self.block.map(|slot| BlockMark { slot, root: None }), attestation }
    }
}

/// What a key is taken to have signed before it enters. Merged upward with what the row already says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryWatermark {
    /// Anything up to now (and the clock tolerance): the safe default. Costs up to one epoch of attestations.
    Now,
    /// Nothing: only for keys just generated. Refused for a key the database has seen.
    NeverSigned,
    /// At most this, which the operator vouches for.
    AtLeast(Floor),
    /// Anything up to now, and at most this: a history that may lack the most recent messages.
    NowAnd(Floor),
}

/// What to do with a key that was deleted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tombstone {
    /// Refuse it.
    Refuse,
    /// Register it again, on the operator's explicit word; its watermarks stay.
    Replace,
}

/// Proof that a key has a row. Not `Clone`; made only from a row that a store read or committed.
#[derive(Debug)]
pub struct Registration(Enrolled);

impl Registration {
    pub(crate) fn new(enrolled: Enrolled) -> Self {
        Self(enrolled)
    }
    /// The registered key.
    pub fn key(&self) -> &PublicKey {
        self.0.key()
    }
}

/// Result of registering one key.
#[derive(Debug)]
pub enum Registered {
    /// Now registered and enabled.
    New(Registration),
    /// Now registered, and switched off: a history taken in before said that the key must not sign. It signs
    /// after [`Switch::Enable`].
    SwitchedOff(Registration),
    /// Was registered already; its sealed secret and state are unchanged. What it is taken to have signed
    /// elsewhere was merged in.
    Duplicate,
}

/// Whether a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// It may.
    Enabled,
    /// Switched off by an operator, or known only by its history.
    Disabled,
    /// Deleted: the secret is gone, the watermarks stay.
    Tombstoned,
}

impl KeyState {
    /// Lower-case word for listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Tombstoned => "tombstoned",
        }
    }
}

/// An operator's switch of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Let it sign. A key that was off is fenced at the present in the same transaction: nobody here knows what it
    /// signed elsewhere meanwhile.
    Enable,
    /// Let it sign from where its watermarks are. Whoever asks vouches that they cover everything it has signed
    /// anywhere.
    EnableUnfenced,
    /// Stop it.
    Disable,
}

/// What a switch of a key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switched {
    /// The key is as it was to be; its watermarks are what they were.
    Plainly,
    /// It was off and is on, behind a fence: it signs from about the next epoch on.
    Fenced,
}

/// How keys are stopped while their history is read out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdraw {
    /// Switch them off; their secrets stay. Deleted keys stay deleted.
    Disable,
    /// Delete their secrets and leave tombstones.
    Tombstone,
}

impl Withdraw {
    /// The state a row gets; the same one if it is left alone.
    pub(crate) fn state_after(self, row: &KeyRow) -> KeyState {
        match (self, row.state, row.has_secret) {
            (_, state, false) => state,
            (Self::Disable, KeyState::Enabled | KeyState::Disabled, true) => KeyState::Disabled,
            (Self::Disable, KeyState::Tombstoned, true) | (Self::Tombstone, _, true) => KeyState::Tombstoned,
        }
    }
}

/// A key whose history was read out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withdrawn {
    /// The key.
    pub key: PublicKey,
    /// Its state before.
    pub before: KeyState,
    /// Whether it had a secret here before.
    pub had_secret: bool,
    /// What it has signed, at most.
    pub watermarks: Watermarks,
}

/// A key as loaded at start.
#[derive(Debug)]
pub struct StoredKey {
    /// Proof of the row.
    pub registration: Registration,
    /// The sealed secret.
    pub sealed: SealedKey,
    /// `Enabled` or `Disabled`.
    pub state: KeyState,
}

impl StoredKey {
    /// Whether the key may sign.
    pub fn enabled(&self) -> bool {
        match self.state {
            KeyState::Enabled => true,
            KeyState::Disabled | KeyState::Tombstoned => false,
        }
    }
}

/// Everything about a key that is not secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// The key.
    pub key: PublicKey,
    /// Whether it may sign.
    pub state: KeyState,
    /// Its watermarks.
    pub watermarks: Watermarks,
    /// Where it came from; `None` for a key known only by its history.
    pub origin: Option<KeyOrigin>,
    /// A name for people, if any.
    pub label: Option<String>,
    /// Its labels, by which rules select it.
    pub labels: Labels,
    /// When the row was made.
    pub created: UnixMillis,
    /// By whom.
    pub created_by: CallerId,
    /// When its state, secret or floor was last changed by an operator.
    pub changed: UnixMillis,
    /// By whom.
    pub changed_by: CallerId,
}

/// The highest watermarks over all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HighWatermarks {
    /// Highest block slot.
    pub block: Option<Slot>,
    /// Highest source epoch.
    pub source: Option<Epoch>,
    /// Highest target epoch.
    pub target: Option<Epoch>,
}

/// How often the keys of a shared database were changed. Another number means that it is time to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyChanges(pub u64);

/// A signer that uses a shared database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceInfo {
    /// Which one.
    pub id: InstanceId,
    /// The machine it last ran on.
    pub host: String,
    /// Its version.
    pub version: String,
    /// When it last started.
    pub started: UnixMillis,
    /// When it last committed.
    pub last_seen: UnixMillis,
    /// The end of its journal.
    pub head: Head,
    /// Since when it suspects the database of having lost writes, by its clock; `None` if it does not, or if a fence of
    /// every key came after.
    pub suspects: Option<UnixMillis>,
}

/// The server of a shared database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its version, as it says it.
    pub version: String,
    /// The standbys that commits wait for, as configured; `None` if for nobody, so that a fail-over may lose commits.
    pub synchronous_standbys: Option<String>,
}

/// Number of a data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataKeyId(pub u32);

/// A data key as wrapped by a key-encryption provider: bytes this crate stores and never looks into.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKeyRecord {
    /// Which data key.
    pub id: DataKeyId,
    /// Which provider wrapped it.
    pub provider: String,
    /// The wrapped bytes.
    pub wrapped: Vec<u8>,
    /// When this wrapping was stored.
    pub stored: UnixMillis,
}

impl fmt::Debug for DataKeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKeyRecord")
            .field("id", &self.id)
            .field("provider", &self.provider)
            .field("wrapped_bytes", &self.wrapped.len())
            .field("stored", &self.stored)
            .finish()
    }
}

/// Whether a key may sign when it has entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may.
    On,
    /// Another signer's word, taken before the key came here, says that it may not.
    Off,
}

impl Standing {
    /// The state of the row.
    pub(crate) fn state(self) -> KeyState {
        match self {
            Self::On => KeyState::Enabled,
            Self::Off => KeyState::Disabled,
        }
    }

    /// What to tell whoever brought the key in.
    pub(crate) fn registered(self, registration: Registration) -> Registered {
        match self {
            Self::On => Registered::New(registration),
            Self::Off => Registered::SwitchedOff(registration),
        }
    }
}

/// What registering does to one row; decided here, carried out by the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Make or take over the row, store the secret; it may sign or not from then on.
    Enroll(Watermarks, Standing),
    /// Its secret is here already: raise its watermarks (possibly to what they are), touch nothing else.
    Duplicate(Watermarks),
}

/// Decides how a key enters, given its row if it has one. `now` is the fence at this moment.
pub(crate) fn decide_entry(
    row: Option<&KeyRow>,
    entry: EntryWatermark,
    tombstone: Tombstone,
    now: &Watermarks,
) -> Result<Entry, RegisterError> {
    let floor = match entry {
        EntryWatermark::Now => *now,
        EntryWatermark::NeverSigned => Watermarks::default(),
        EntryWatermark::AtLeast(floor) => floor.watermarks(),
        EntryWatermark::NowAnd(floor) => now.raised_to(&floor.watermarks()),
    };
    let Some(row) = row else { return Ok(Entry::Enroll(floor, Standing::On)) };
    match (row.state, tombstone) {
        (KeyState::Tombstoned, Tombstone::Refuse) => return Err(RegisterError::Tombstoned),
        (KeyState::Tombstoned, Tombstone::Replace) | (KeyState::Enabled | KeyState::Disabled, _) => {}
    }
    if row.has_secret {
        let known = match (entry, row.state) {
            // Fencing a key that is at work here would cost it an epoch and protect nothing.
            (EntryWatermark::NeverSigned, _) | (EntryWatermark::Now, KeyState::Enabled) => Watermarks::default(),
            (EntryWatermark::NowAnd(history), KeyState::Enabled) => history.watermarks(),
            // One that is switched off may have been at work elsewhere.
            (EntryWatermark::Now | EntryWatermark::NowAnd(_), KeyState::Disabled | KeyState::Tombstoned)
            | (EntryWatermark::AtLeast(_), _) => floor,
        };
        return Ok(Entry::Duplicate(row.marks.raised_to(&known)));
    }
    match entry {
        EntryWatermark::NeverSigned => Err(RegisterError::AlreadySeen),
        EntryWatermark::Now | EntryWatermark::AtLeast(_) | EntryWatermark::NowAnd(_) => {
            let noted_off = row.recorded && row.state == KeyState::Disabled;
            let standing = if noted_off { Standing::Off } else { Standing::On };
            Ok(Entry::Enroll(row.marks.raised_to(&floor), standing))
        }
    }
}
