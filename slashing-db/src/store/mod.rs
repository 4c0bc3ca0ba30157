//! The seam between the guard and a database, and the two witnesses only a database can give.
//!
//! [`Committed`] and [`Enrolled`] have private fields, so they can be made only by the stores, which are
//! modules below this one. A store that claims a commit it did not make is the one lie the types cannot
//! catch: read each store line by line.

use std::time::Duration;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey, UnixMillis};

use crate::anchor::{DatabaseIdentity, Landmarks, RollbackKind};
use crate::approvals::{ApprovalId, ApprovalPolicy, Pinned, PolicyHash, Spent};
use crate::error::{RegisterError, StoreError};
use crate::guard::{Replaced, Resealed};
use crate::identity::CallerId;
use crate::journal::{BatchHeader, Hash, Head, InstanceId, StoredBatch};
use crate::labels::{Label, LabelChange, Labelled};
use crate::registry::{
    DataKeyId, DataKeyRecord, Entry, HighWatermarks, InstanceInfo, KeyChanges, KeyInfo, KeyState, NewKey, Registered,
    ServerInfo, StoredKey, Switch, Withdraw, Withdrawn,
};
use crate::rules::Watermarks;
use crate::watch::{Judged, NewlyEnabled, Watch};

#[cfg(any(test, feature = "fault-injection"))]
pub(crate) mod faulty;
#[cfg(feature = "sqlite")]
pub(crate) mod filesystem;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

/// Witness that a batch is durable: made after the store's `COMMIT` came back with success.
#[derive(Debug)]
pub(crate) struct Committed {
    seq: u64,
}

impl Committed {
    /// Journal sequence number of the batch.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }
}

/// Witness that a key has a row.
#[derive(Debug)]
pub(crate) struct Enrolled {
    key: PublicKey,
}

impl Enrolled {
    /// The key.
    pub(crate) fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// Number of a key's row; stands for the key inside a journal batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RowId(pub(crate) u64);

/// A key's row as the rules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: RowId,
    pub(crate) state: KeyState,
    pub(crate) marks: Watermarks,
    pub(crate) watch: Watch,
    /// Set by the judge when `marks` must be written back.
    pub(crate) changed: bool,
}

/// A key's row as registration sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) state: KeyState,
    pub(crate) marks: Watermarks,
    pub(crate) has_secret: bool,
    /// Somebody is on record for the row. A row without a secret has a record only if it was switched off on
    /// another signer's word.
    pub(crate) recorded: bool,
}

/// What merging a history makes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Its watermarks from now on. Never lower than they were.
    pub(crate) marks: Watermarks,
    /// Its state from now on.
    pub(crate) state: KeyState,
    /// Whether who and when must be on record even without a secret.
    pub(crate) record: Record,
}

/// Whether a row gets a record by a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// As it is.
    Leave,
    /// It gets one if it has none.
    Ensure,
}

/// What the judge wants written: one journal batch (row changes are marked in the rows).
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) header: BatchHeader,
    pub(crate) entries: Vec<u8>,
}

/// Whether requests are waiting while the store tidies up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Nobody waits.
    Idle,
    /// Somebody does: only what is urgent.
    Busy,
}

/// What became of batches that were to be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pruned {
    /// They are out; the journal begins after them.
    Done,
    /// The journal does not begin, or go on, where it was said to. Nothing was changed.
    Moved,
    /// Not now: what may be needed to notice a lost database cannot be made durable, or one is suspected.
    Unsettled,
}

/// Judges loaded rows in place. They are parallel to the `keys` given to [`Store::commit_batch`]. The moment is that of
/// [`Store::suspected`], read after the rows were locked.
pub(crate) type Judge<'a> = &'a mut dyn FnMut(&Head, Option<UnixMillis>, &mut [Option<Row>]) -> Planned;

/// Decides how the `index`th key enters, given its row.
pub(crate) type DecideEntry<'a> = &'a mut dyn FnMut(usize, Option<&KeyRow>) -> Result<Entry, RegisterError>;

/// Merges history into the `index`th key, given its row: what the row is from now on.
pub(crate) type Merge<'a> = &'a mut dyn FnMut(usize, Option<&KeyRow>) -> Merged;

/// A durable home of watermarks, keys and the journal.
///
/// Contract: each method is one transaction. `Ok` means durable. `Err` that does not
/// [freeze](StoreError::freezes) means that nothing was written, or that the store reads again under lock, in
/// every transaction, whatever it was that was written; any other `Err` means that nobody knows, and the caller
/// must never use the store again.
pub(crate) trait Store: Send {
    /// Loads the rows of `keys` (distinct) under lock, lets `judge` change them, writes the changed
    /// ones and the batch, commits.
    fn commit_batch(&mut self, keys: &[PublicKey], judge: Judge<'_>) -> Result<Committed, StoreError>;

    /// Registers keys; results are parallel to `keys`.
    fn register(
        &mut self,
        keys: &[NewKey],
        at: UnixMillis,
        decide: DecideEntry<'_>,
    ) -> Result<Vec<Result<Registered, RegisterError>>, StoreError>;

    /// Enables or disables a key. Returns its state before, or `None` without a row. Tombstones stay. The watermarks of
    /// a key that was off and is on now rise to `floor`.
    fn switch(
        &mut self,
        key: &PublicKey,
        to: Switch,
        floor: &Watermarks,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<Option<KeyState>, StoreError>;

    /// Changes the labels of `keys` (distinct); the answer is in their order. Deleted keys stay without.
    fn label(
        &mut self,
        keys: &[PublicKey],
        change: &LabelChange,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<Vec<Labelled>, StoreError>;

    /// Deletes a key's secret and marks the row. Returns its state before, or `None` without a row.
    fn tombstone(&mut self, key: &PublicKey, by: &CallerId, at: UnixMillis) -> Result<Option<KeyState>, StoreError>;

    /// Raises the watermarks of `keys`, or of every row, to `floor`, the fence at `at`. Returns the number of rows found.
    /// If it is every row, that also ends, in the same transaction, what [`share_suspicion`](Self::share_suspicion)
    /// wrote: this instance's, and that of others of a moment not after `at`.
    fn raise(
        &mut self,
        keys: Option<&[PublicKey]>,
        floor: &Watermarks,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<u64, StoreError>;

    /// Merges histories into the rows of `keys` (distinct): calls `merge` once for each key, in order, with its
    /// row read under lock, and writes what comes back. A key without a row gets one that is disabled and has
    /// no secret. Secrets are left alone; who and when are noted on rows that change and have a record.
    fn merge(&mut self, keys: &[PublicKey], merge: Merge<'_>, by: &CallerId, at: UnixMillis) -> Result<(), StoreError>;

    /// Stops keys (`None`: every key) and reads out what they have signed, in one transaction, so that the
    /// answer covers every signature there is or will be. Keys without a row are left out of the answer,
    /// the order of which is free. A row without a secret is reported and not changed; so is one that is
    /// already what `how` makes it.
    fn withdraw(
        &mut self,
        keys: Option<&[PublicKey]>,
        how: Withdraw,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<Vec<Withdrawn>, StoreError>;

    /// Notes what was found out about watched keys: counts an epoch that comes after the last one counted, marks keys
    /// that were seen elsewhere, forgets those with which it is over. What is about another time of a key is left out.
    fn judge_newly_enabled(&mut self, judged: &[Judged]) -> Result<(), StoreError>;

    /// Stores or replaces a wrapped data key.
    fn put_data_key(&mut self, record: &DataKeyRecord) -> Result<(), StoreError>;

    /// Replaces the data key `old` by `new`, and each of these sealed keys, if `old` is the present data key and the
    /// keys are exactly those that are stored.
    fn replace_data_key(
        &mut self,
        old: DataKeyId,
        new: &DataKeyRecord,
        keys: &[Resealed],
    ) -> Result<Replaced, StoreError>;

    /// Notes that an approval was used, unless it was before; forgets those that expired long ago.
    fn use_approval(&mut self, id: ApprovalId, expires: UnixMillis, now: UnixMillis) -> Result<Spent, StoreError>;

    /// Puts these approvers in force, or none, if those in force are the ones `seen`.
    fn pin_approval_policy(
        &mut self,
        seen: Option<PolicyHash>,
        new: Option<&ApprovalPolicy>,
    ) -> Result<Pinned, StoreError>;

    /// Pins the chain if it is not pinned yet; returns the root that is pinned now.
    fn pin(&mut self, root: GenesisValidatorsRoot) -> Result<GenesisValidatorsRoot, StoreError>;

    /// The end of this instance's chain as this process left it, or found it when it opened the database.
    fn head(&self) -> Head;

    /// Takes the database as it is now, and the end of the chain in it, for what this process left, after
    /// [`FreezeReason::JournalHeadMoved`](crate::FreezeReason::JournalHeadMoved). Only for a database that is
    /// being put under suspicion.
    fn accept_head(&mut self) -> Result<Head, StoreError>;

    /// The hash of batch `seq` of this instance's chain; `None` if there is no such batch. Asked outside any
    /// transaction, from what is durable.
    fn batch_hash(&mut self, seq: u64) -> Result<Option<Hash>, StoreError>;

    /// Whether nothing was ever recorded here for this instance: it has no batch, and no key that this
    /// instance could have signed with before. Only then may an anchor be missing without suspicion.
    fn is_pristine(&mut self) -> Result<bool, StoreError>;

    /// What tells this database from a copy of it. The same after a restart, a remount or a reboot.
    fn identity(&self) -> Result<DatabaseIdentity, StoreError>;

    /// What this instance remembers of a database that it shares; `None` where nobody else writes.
    fn landmarks(&self) -> Option<&Landmarks> {
        None
    }

    /// What shows that this database lacks commits of any instance that one with these landmarks had.
    fn lacks(&mut self, _remembered: &Landmarks) -> Result<Option<RollbackKind>, StoreError> {
        Ok(None)
    }

    /// What was noticed when a transaction failed with
    /// [`FreezeReason::JournalHeadMoved`](crate::FreezeReason::JournalHeadMoved), if it is not this instance's journal.
    fn noticed(&self) -> Option<RollbackKind> {
        None
    }

    /// Writes into a shared database since when this instance suspects it of having lost writes, for the others to heed.
    /// Changes nothing if a fence of every key has ended this very suspicion.
    fn share_suspicion(&mut self, _since: UnixMillis) -> Result<(), StoreError> {
        Ok(())
    }

    /// Since when an instance suspects a shared database, as last read; of several the newest moment.
    fn suspected(&self) -> Option<UnixMillis> {
        None
    }

    /// How often [`heartbeat`](Self::heartbeat) wants to be called; `None` for never.
    fn heartbeat_every(&self) -> Option<Duration> {
        None
    }

    /// Looks at the shared database although nobody asks for anything: learns what other instances wrote, and
    /// notices if it is gone. Changes nothing.
    fn heartbeat(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Takes the archived batches after `from`, up to and with `upto`, out of a chain, and leaves `upto` as its base.
    /// Changes nothing unless `from` is the base and `upto` is in the chain.
    fn prune(&mut self, chain: InstanceId, from: Head, upto: Head) -> Result<Pruned, StoreError>;

    /// Housekeeping between batches, after every reply has been delivered. Failure is harmless.
    fn tidy(&mut self, load: Load);

    /// A second, read-only way in, so that long listings never delay signing.
    fn reader(&self) -> Result<Box<dyn ReadStore>, StoreError>;

    /// Closes cleanly. Failure leaves nothing lost: every commit was durable before.
    fn close(self: Box<Self>);
}

/// Read-only questions.
pub(crate) trait ReadStore: Send {
    /// Every key with a secret.
    fn stored_keys(&mut self) -> Result<Vec<StoredKey>, StoreError>;
    /// One key, or all in order of entry.
    fn key_infos(&mut self, only: Option<&PublicKey>) -> Result<Vec<KeyInfo>, StoreError>;
    /// Every label of every key.
    fn labels(&mut self) -> Result<Vec<(PublicKey, Label)>, StoreError>;
    /// The keys that are watched, in order of entry.
    fn newly_enabled(&mut self) -> Result<Vec<NewlyEnabled>, StoreError>;
    /// Maxima over all rows.
    fn high_watermarks(&mut self) -> Result<HighWatermarks, StoreError>;
    /// Wrapped data keys, by id.
    fn data_keys(&mut self) -> Result<Vec<DataKeyRecord>, StoreError>;
    /// The approvers in force.
    fn approval_policy(&mut self) -> Result<Option<ApprovalPolicy>, StoreError>;
    /// How often keys were changed so far, by anybody; `None` where nobody else can change them.
    fn key_changes(&mut self) -> Result<Option<KeyChanges>, StoreError> {
        Ok(None)
    }
    /// The batch after which the rows of a chain begin; [`Head::EMPTY`] if none was ever taken out.
    fn journal_base(&mut self, chain: InstanceId) -> Result<Head, StoreError>;
    /// The end of a chain's rows; [`Head::EMPTY`] if there are none.
    fn journal_head(&mut self, chain: InstanceId) -> Result<Head, StoreError>;
    /// Up to `limit` batches of a chain after number `seq`, in order, as stored.
    fn batches_after(&mut self, chain: InstanceId, seq: u64, limit: usize) -> Result<Vec<StoredBatch>, StoreError>;
    /// Of the batches after number `seq`, up to number `limit`, the last one made before `cutoff`. The order of the
    /// chain is the order of time: whatever comes before an old batch is older, even if a clock said otherwise.
    fn last_before(
        &mut self,
        chain: InstanceId,
        seq: u64,
        limit: u64,
        cutoff: UnixMillis,
    ) -> Result<Option<u64>, StoreError>;
    /// The keys of up to `limit` rows from number `id` on, in order.
    fn keys_from(&mut self, id: RowId, limit: usize) -> Result<Vec<(RowId, PublicKey)>, StoreError>;
    /// The signers that use a shared database, last seen first; none where there is only this one.
    fn instances(&mut self) -> Result<Vec<InstanceInfo>, StoreError> {
        Ok(Vec::new())
    }
    /// The server; `None` where there is none.
    fn server(&mut self) -> Result<Option<ServerInfo>, StoreError> {
        Ok(None)
    }
}
