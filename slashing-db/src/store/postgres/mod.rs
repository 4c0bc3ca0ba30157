//! PostgreSQL as the store: one writing connection per signer, rows locked in the order of their ids, two round
//! trips per batch.
//!
//! Failure semantics. An error that the server reports means that nothing was written. When the connection
//! breaks or nobody answers while a commit is on its way, the outcome is unknown: no permit is given, the
//! connection is dropped, and the next transaction reads under lock what the server kept, so nothing rests on
//! the answer that never came. The end of this instance's chain is then the old one or that of the batch in
//! doubt; anything else means that the database lost commits, or that somebody else writes this chain, and
//! freezes. A commit in doubt may even arrive late: the journal's primary key lets only one batch have its
//! number.

mod address;
mod approvals;
mod batch;
mod change;
mod engine;
mod instance;
mod journal;
mod link;
mod open;
mod overview;
mod read;
mod reseal;
mod schema;
mod server;
mod session;
mod values;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey, UnixMillis};

use super::{Committed, DecideEntry, Enrolled, Judge, KeyRow, Load, Merge, Pruned, ReadStore, Record, Store};
use crate::anchor::{DatabaseIdentity, Landmarks, RollbackKind};
use crate::approvals::{ApprovalId, ApprovalPolicy, Pinned, PolicyHash, Spent};
use crate::error::{FreezeReason, RegisterError, StoreError};
use crate::guard::{DataKeyReplaced, Replaced, Resealed};
use crate::identity::CallerId;
use crate::journal::{Hash, Head, InstanceId};
use crate::labels::{LabelChange, Labelled};
use crate::registry::{
    DataKeyId, DataKeyRecord, Entry, KeyState, NewKey, Registered, Registration, Switch, Withdraw, Withdrawn,
};
use crate::rules::Watermarks;
use crate::watch::Judged;
use change::{Changes, Rows, Whose};
use engine::{Trouble, classify};
use instance::{sign_in, suspect};
use link::Link;
use server::Known;
use session::Session;

pub(crate) use journal::open_journal;
pub(crate) use overview::{labels, overview};
pub use schema::SchemaVersion;
pub use session::{PasswordSource, PostgresOptions, connect_examined};

/// Time for administrative work on each key, on top of the statement time-out.
const PER_KEY: Duration = Duration::from_millis(1);
/// How often the others' journals are looked at: what they wrote since is what only they would miss.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The writing side of a database.
pub(crate) struct PostgresStore {
    link: Link,
    instance: InstanceId,
    pinned: Option<GenesisValidatorsRoot>,
    /// The end of this instance's chain as this process left it.
    head: Head,
    /// Ends it may have instead, because the outcome of a commit is unknown.
    doubt: Vec<Head>,
    /// The name of this machine.
    host: String,
    /// Set if the anchor that would say which instance this is cannot be read.
    blind: bool,
    /// The server and the other instances, as last seen.
    known: Known,
    /// Why the server is not trusted, if it is not because of the head.
    noticed: Option<RollbackKind>,
    /// Since when an instance suspects the database, as last read.
    suspected: Option<UnixMillis>,
}

impl PostgresStore {
    /// Takes over the end of the chain as the database has it, if it can be right.
    fn reconcile(&mut self, found: Head) -> Result<(), StoreError> {
        if found != self.head && !self.doubt.contains(&found) {
            self.link.abandon();
            let found = format!("journal head is batch {} but {} was written last", found.seq, self.head.seq);
            return Err(StoreError::fatal("find its journal head", FreezeReason::JournalHeadMoved, found));
        }
        if found != self.head {
            tracing::warn!(batch = found.seq, "a batch whose outcome was unknown was kept; its requests were refused");
            self.head = found;
            self.doubt.clear();
        }
        Ok(())
    }

    /// What a failed write of a batch means.
    fn write_failed(&mut self, attempted: Head, trouble: Trouble) -> StoreError {
        if !trouble.is_answer() {
            self.doubt.push(attempted);
            return StoreError::retryable(
                "tell whether a commit was kept; it will be looked up before the next one",
                trouble.into_source(),
            );
        }
        if trouble.constraint() == Some("journal_pkey") {
            let action = "append to the journal";
            return if self.doubt.is_empty() {
                StoreError::fatal(action, FreezeReason::JournalHeadMoved, trouble.into_source())
            } else {
                // A commit in doubt came first; the next transaction sees it.
                StoreError::retryable(action, trouble.into_source())
            };
        }
        classify("commit", trouble)
    }

    /// One administrative transaction.
    fn change<'a, T>(
        &mut self,
        action: &'static str,
        whose: &Whose,
        by: Option<&CallerId>,
        at: UnixMillis,
        decide: impl FnOnce(&mut Rows) -> (Changes<'a>, T),
    ) -> Result<T, StoreError> {
        let keys = match whose {
            Whose::All => 100_000,
            Whose::Of(keys) | Whose::OfOrNew(keys) | Whose::LabelsOf(keys) => {
                u32::try_from(keys.len()).unwrap_or(u32::MAX)
            }
        };
        let dial =
            self.link.dial.patient(self.link.dial.statement_timeout.saturating_add(PER_KEY.saturating_mul(keys)));
        let (deadline, millis) = (dial.deadline(), dial.statement_timeout.as_millis());
        let hold = |mut session: Session| async move {
            let held = change::hold(&mut session.db, whose, millis, at).await;
            (session, held)
        };
        let held = match self.link.run(deadline, hold)? {
            Err(trouble) if !trouble.is_answer() && matches!(trouble, Trouble::Sql(_)) => {
                self.link.run(deadline, hold)?
            }
            held => held,
        };
        let mut rows = held.map_err(|trouble| classify(action, trouble))?;
        self.recognise(rows.mark)?;
        let (changes, value) = decide(&mut rows);
        let written = self.link.run(deadline, |mut session| async move {
            let written = async {
                if !reseal::are_present(&mut session.db, changes.data_keys()).await? {
                    return Ok(false);
                }
                change::write(&mut session.db, changes, by, at).await?;
                sqlx::raw_sql("COMMIT").execute(&mut session.db).await.map(|_| true)
            };
            let written = written.await;
            (session, written)
        });
        if written?.map_err(|trouble| classify(action, trouble))? {
            Ok(value)
        } else {
            self.link.abandon();
            Err(StoreError::retryable(action, DataKeyReplaced))
        }
    }
}

impl Store for PostgresStore {
    fn commit_batch(&mut self, keys: &[PublicKey], judge: Judge<'_>) -> Result<Committed, StoreError> {
        let sql = batch::load_sql(keys, self.instance);
        let sql = sql.as_str();
        let mut loaded = self.link.ask("read the validators' rows", |mut session| async move {
            let loaded = batch::load(&mut session.db, sql).await;
            (session, loaded)
        })?;
        self.recognise(loaded.mark)?;
        self.reconcile(loaded.head)?;
        self.suspected = loaded.suspected;
        let mut rows: Vec<_> = keys.iter().map(|key| loaded.rows.remove(key)).collect();
        let planned = judge(&loaded.head, loaded.suspected, &mut rows);
        let head = planned.header.as_head();
        let sql = batch::write_sql(&loaded.transaction, &rows, &planned);
        let deadline = self.link.dial.deadline();
        let written = self.link.run(deadline, |mut session| async move {
            let written = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut session.db).await;
            (session, written)
        });
        match written? {
            Ok(_) => {
                // Reached only when the server answered COMMIT, the last statement, with success.
                self.head = head;
                self.doubt.clear();
                Ok(Committed { seq: head.seq })
            }
            Err(trouble) => Err(self.write_failed(head, trouble)),
        }
    }

    fn register(
        &mut self,
        keys: &[NewKey],
        at: UnixMillis,
        decide: DecideEntry<'_>,
    ) -> Result<Vec<Result<Registered, RegisterError>>, StoreError> {
        let whose = Whose::OfOrNew(keys.iter().map(|key| key.key).collect());
        self.change("register keys", &whose, None, at, |rows| {
            let mut changes = Changes::default();
            let mut changed = std::collections::BTreeSet::new();
            let mut results = Vec::with_capacity(keys.len());
            for (index, key) in keys.iter().enumerate() {
                let Some(held) = rows.by_key.get_mut(&key.key) else {
                    results.push(Err(RegisterError::Admin(crate::error::AdminError::UnknownKey)));
                    continue;
                };
                let before = (!held.new).then_some(&held.row);
                results.push(decide(index, before).map(|entry| match entry {
                    Entry::Duplicate(marks) => {
                        held.row.marks = marks;
                        changed.insert(key.key);
                        Registered::Duplicate
                    }
                    Entry::Enroll(marks, standing) => {
                        held.row = KeyRow { state: standing.state(), marks, has_secret: true, recorded: true };
                        held.new = false;
                        changed.insert(key.key);
                        changes.enroll(held.id, key);
                        standing.registered(Registration::new(Enrolled { key: key.key }))
                    }
                }));
            }
            for held in changed.iter().filter_map(|key| rows.by_key.get(key)) {
                changes.set(held);
            }
            (changes, results)
        })
    }

    fn switch(
        &mut self,
        key: &PublicKey,
        to: Switch,
        floor: &Watermarks,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<Option<KeyState>, StoreError> {
        self.change("change a key's state", &Whose::Of(vec![*key]), Some(by), at, |rows| {
            let mut changes = Changes::default();
            let Some(held) = rows.by_key.get_mut(key) else { return (changes, None) };
            let before = held.row.state;
            held.row.state = match (before, to) {
                (KeyState::Tombstoned, _) => return (changes, Some(before)),
                (KeyState::Enabled | KeyState::Disabled, Switch::Enable | Switch::EnableUnfenced) => KeyState::Enabled,
                (KeyState::Enabled | KeyState::Disabled, Switch::Disable) => KeyState::Disabled,
            };
            if before == KeyState::Disabled && held.row.state == KeyState::Enabled {
                held.row.marks = held.row.marks.raised_to(floor);
            }
            changes.set(held);
            changes.touch(held.id);
            (changes, Some(before))
        })
    }

    fn label(
        &mut self,
        keys: &[PublicKey],
        change: &LabelChange,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<Vec<Labelled>, StoreError> {
        self.change("label keys", &Whose::LabelsOf(keys.to_vec()), Some(by), at, |rows| {
            let mut changes = Changes::default();
            let mut one = |key: &PublicKey| {
                let Some(held) = rows.by_key.get(key) else { return Labelled::Unknown };
                if held.row.state == KeyState::Tombstoned {
                    return Labelled::Deleted;
                }
                let before = rows.labels.get(key).cloned().unwrap_or_default();
                let Some(after) = change.of(&before) else { return Labelled::TooMany };
                changes.label(held.id, after.difference(&before), before.difference(&after));
                if before != after {
                    changes.touch(held.id);
                }
                Labelled::Done { before, after }
            };
            let done = keys.iter().map(&mut one).collect();
            (changes, done)
        })
    }

    fn tombstone(&mut self, key: &PublicKey, by: &CallerId, at: UnixMillis) -> Result<Option<KeyState>, StoreError> {
        self.change("delete a key", &Whose::Of(vec![*key]), Some(by), at, |rows| {
            let mut changes = Changes::default();
            let Some(held) = rows.by_key.get_mut(key) else { return (changes, None) };
            let before = core::mem::replace(&mut held.row.state, KeyState::Tombstoned);
            changes.set(held);
            changes.delete_secret(held.id);
            changes.touch(held.id);
            (changes, Some(before))
        })
    }

    fn raise(
        &mut self,
        keys: Option<&[PublicKey]>,
        floor: &Watermarks,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<u64, StoreError> {
        let whose = keys.map_or(Whose::All, |keys| Whose::Of(keys.to_vec()));
        let fencing = keys.is_none().then_some(self.instance);
        let found = self.change("raise watermarks", &whose, Some(by), at, |rows| {
            let mut changes = Changes::default();
            if let Some(fencing) = fencing {
                changes.end_suspicion(fencing);
            }
            for held in rows.order.iter().filter_map(|key| rows.by_key.get(key)) {
                let mut held = *held;
                held.row.marks = held.row.marks.raised_to(floor);
                changes.set(&held);
                changes.touch(held.id);
            }
            (changes, rows.order.len() as u64)
        })?;
        if fencing.is_some() {
            self.suspected = self.suspected.filter(|since| *since > at);
        }
        Ok(found)
    }

    fn merge(&mut self, keys: &[PublicKey], merge: Merge<'_>, by: &CallerId, at: UnixMillis) -> Result<(), StoreError> {
        self.change("merge histories", &Whose::OfOrNew(keys.to_vec()), Some(by), at, |rows| {
            let mut changes = Changes::default();
            for (index, key) in keys.iter().enumerate() {
                let held = rows.by_key.get_mut(key);
                let merged = merge(index, held.as_ref().filter(|held| !held.new).map(|held| &held.row));
                let Some(held) = held else { continue };
                let after = KeyRow { marks: merged.marks, state: merged.state, ..held.row };
                if after != held.row || merged.record == Record::Ensure {
                    held.row = after;
                    changes.set(held);
                    changes.touch(held.id);
                }
                if merged.record == Record::Ensure {
                    changes.ensure_record(held.id);
                }
            }
            (changes, ())
        })
    }

    fn withdraw(
        &mut self,
        keys: Option<&[PublicKey]>,
        how: Withdraw,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<Vec<Withdrawn>, StoreError> {
        let whose = keys.map_or(Whose::All, |keys| Whose::Of(keys.to_vec()));
        self.change("stop keys", &whose, Some(by), at, |rows| {
            let mut changes = Changes::default();
            let mut withdrawn = Vec::with_capacity(rows.order.len());
            for key in &rows.order {
                let Some(held) = rows.by_key.get(key) else { continue };
                let to = how.state_after(&held.row);
                if to != held.row.state {
                    changes.set(&change::Held { row: KeyRow { state: to, ..held.row }, ..*held });
                    changes.touch(held.id);
                }
                if to == KeyState::Tombstoned && held.row.has_secret {
                    changes.delete_secret(held.id);
                }
                withdrawn.push(Withdrawn {
                    key: *key,
                    before: held.row.state,
                    had_secret: held.row.has_secret,
                    watermarks: held.row.marks,
                });
            }
            (changes, withdrawn)
        })
    }

    fn judge_newly_enabled(&mut self, judged: &[Judged]) -> Result<(), StoreError> {
        let whose = Whose::Of(judged.iter().map(|judged| judged.key).collect());
        self.change("note what was found out about newly enabled keys", &whose, None, UnixMillis(0), |rows| {
            let mut changes = Changes::default();
            changes.note(watch::Findings::of(judged, rows));
            (changes, ())
        })
    }

    fn put_data_key(&mut self, record: &DataKeyRecord) -> Result<(), StoreError> {
        self.link.ask("store a data key", |mut session| async move {
            let sql = "INSERT INTO holdfast.data_keys (id, provider, wrapped, stored_ms) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (id) DO UPDATE SET provider = $2, wrapped = $3, stored_ms = $4";
            let query = sqlx::query(sql).bind(record.id.0.cast_signed()).bind(&record.provider);
            let query = query.bind(&record.wrapped).bind(record.stored.0.cast_signed());
            let done = query.execute(&mut session.db).await.map(drop);
            (session, done)
        })
    }

    fn replace_data_key(
        &mut self,
        old: DataKeyId,
        new: &DataKeyRecord,
        keys: &[Resealed],
    ) -> Result<Replaced, StoreError> {
        let action = "replace the data key";
        let per_key = PER_KEY.saturating_mul(u32::try_from(keys.len()).unwrap_or(u32::MAX));
        let dial = self.link.dial.patient(self.link.dial.statement_timeout.saturating_add(per_key));
        let (deadline, millis) = (dial.deadline(), dial.statement_timeout.as_millis());
        let replaced = self.link.run(deadline, |mut session: Session| async move {
            let replaced = reseal::replace(&mut session.db, old, new, keys, millis).await;
            (session, replaced)
        })?;
        replaced.map_err(|trouble| classify(action, trouble))
    }

    fn use_approval(&mut self, id: ApprovalId, expires: UnixMillis, now: UnixMillis) -> Result<Spent, StoreError> {
        self.link.ask("use an approval", |mut session| async move {
            let spent = approvals::spend(&mut session.db, id, expires, now).await;
            (session, spent)
        })
    }

    fn pin_approval_policy(
        &mut self,
        seen: Option<PolicyHash>,
        new: Option<&ApprovalPolicy>,
    ) -> Result<Pinned, StoreError> {
        self.link.ask("change the approvers", |mut session| async move {
            let pinned = approvals::pin(&mut session.db, seen, new).await;
            (session, pinned)
        })
    }

    fn pin(&mut self, root: GenesisValidatorsRoot) -> Result<GenesisValidatorsRoot, StoreError> {
        let pinned = self.link.ask("pin the chain", |mut session| async move {
            // Of two signers that pin at once, the second finds the first one's root.
            let sql = "UPDATE holdfast.meta SET genesis_validators_root = coalesce(genesis_validators_root, $1) \
                 WHERE id = 1 RETURNING genesis_validators_root";
            let row = sqlx::query(sql).bind(root.0.to_vec()).fetch_one(&mut session.db).await;
            let root = row.and_then(|row| values::bytes(&row, 0));
            (session, root)
        })?;
        let pinned = GenesisValidatorsRoot(pinned);
        self.pinned = Some(pinned);
        Ok(pinned)
    }

    fn head(&self) -> Head {
        self.head
    }

    fn accept_head(&mut self) -> Result<Head, StoreError> {
        let (instance, host) = (self.instance, self.host.as_str());
        let (_, head) = self.link.ask("read its journal head", |mut session| async move {
            // The row of this instance may be among what was lost.
            let found = sign_in(&mut session, instance, host).await;
            (session, found)
        })?;
        self.known = Known::accept(self.observe("look at its server", &Landmarks::default())?);
        self.head = head;
        self.doubt.clear();
        self.noticed = None;
        Ok(head)
    }

    fn landmarks(&self) -> Option<&Landmarks> {
        Some(&self.known.landmarks)
    }

    fn lacks(&mut self, remembered: &Landmarks) -> Result<Option<RollbackKind>, StoreError> {
        let observed = self.observe("compare its server with the one before", remembered)?;
        Ok(observed.lacks(remembered, self.link.facts().mark))
    }

    fn noticed(&self) -> Option<RollbackKind> {
        self.noticed
    }

    fn share_suspicion(&mut self, since: UnixMillis) -> Result<(), StoreError> {
        let (instance, action) = (self.instance, "tell the other instances of the suspicion");
        let noted = self.link.ask(action, |mut session| async move {
            let noted = suspect(&mut session.db, instance, since).await;
            (session, noted)
        })?;
        if noted { Ok(()) } else { Err(StoreError::retryable(action, "this instance has no row in it")) }
    }

    fn suspected(&self) -> Option<UnixMillis> {
        self.suspected
    }

    fn heartbeat_every(&self) -> Option<Duration> {
        Some(HEARTBEAT)
    }

    fn heartbeat(&mut self) -> Result<(), StoreError> {
        let remembered = self.known.landmarks.clone();
        let observed = self.observe("look at its server", &remembered)?;
        let own = observed.own;
        self.judge_server(observed)?;
        self.reconcile(own)
    }

    fn batch_hash(&mut self, seq: u64) -> Result<Option<Hash>, StoreError> {
        let instance = self.instance;
        self.link.ask("look up a journal batch", |mut session| async move {
            let sql = "SELECT hash FROM holdfast.journal WHERE instance = $1 AND seq = $2";
            let query = sqlx::query(sql).bind(instance.0.to_vec()).bind(seq.cast_signed());
            let found = query.fetch_optional(&mut session.db).await;
            let hash = found.and_then(|row| row.map(|row| values::bytes(&row, 0).map(Hash)).transpose());
            (session, hash)
        })
    }

    fn is_pristine(&mut self) -> Result<bool, StoreError> {
        Ok(!self.blind && self.head == Head::EMPTY)
    }

    fn identity(&self) -> Result<DatabaseIdentity, StoreError> {
        Ok(self.known.identity.clone())
    }

    fn prune(&mut self, chain: InstanceId, from: Head, upto: Head) -> Result<Pruned, StoreError> {
        self.link.ask("delete archived batches", |mut session| async move {
            let pruned = journal::prune(&mut session.db, chain, from, upto).await;
            (session, pruned)
        })
    }

    fn tidy(&mut self, _load: Load) {
        // The server looks after its own files.
    }

    fn reader(&self) -> Result<Box<dyn ReadStore>, StoreError> {
        Ok(Box::new(read::PostgresReader::new(Arc::clone(&self.link.engine), &self.link.dial)))
    }

    fn close(self: Box<Self>) {
        self.link.close();
    }
}
