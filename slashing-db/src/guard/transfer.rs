//! Signing histories in and out of the database: what EIP-3076 files are made from and turned into.
//!
//! Guarantees: an import is one transaction and raises watermarks or leaves them; an export that also
//! stops keys does both in one transaction on the thread that gives permits, so the history it returns
//! covers every signature of those keys, earlier and later.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use holdfast_domain::{PublicKey, UnixMillis};

use super::{Guard, GuardHealth};
use crate::error::AdminError;
use crate::identity::CallerId;
use crate::interchange::{History, ImportReport, Interchange, SwitchedOff, ValidatorReport};
use crate::registry::{KeyInfo, KeyState, Withdraw, Withdrawn};
use crate::rules::Watermarks;
use crate::store::{KeyRow, Merged, Record};

/// Whether an import is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    /// It is.
    Commit,
    /// Only what it would do is reported.
    DryRun,
}

/// What becomes of keys whose history is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing: a backup. They go on signing, so the export is out of date with the next signature.
    Keep,
    /// They are stopped, in the transaction that reads their history.
    Stop(Withdraw),
}

impl Interchange {
    /// What an import of all of this into an empty database does.
    pub fn into_nothing(&self) -> ImportReport {
        self.iter().map(|(key, history)| plan(self, key, history, None).0).collect()
    }
}

impl Guard {
    /// Merges histories in, upward only, all of them in one transaction or none. A key without a row gets
    /// one that has no secret and cannot sign; registering the key later starts from it. A key that the source
    /// says must not sign is switched off in the same transaction, or enters switched off if it comes later.
    ///
    /// # Errors
    /// [`AdminError::WrongChain`] if the histories are of another chain, or a failure; nothing is changed then.
    pub async fn import(
        &self,
        histories: Interchange,
        mode: ImportMode,
        by: &CallerId,
    ) -> Result<ImportReport, AdminError> {
        let (shared, by) = (Arc::clone(&self.core.shared), by.clone());
        let (pinned, found) = (shared.settings.genesis_validators_root, histories.genesis_validators_root());
        if found != pinned {
            return Err(AdminError::WrongChain { pinned, found });
        }
        match mode {
            ImportMode::DryRun => {
                let rows: HashMap<PublicKey, KeyRow> =
                    self.list().await?.iter().map(|info| (info.key, as_row(info))).collect();
                Ok(histories.iter().map(|(key, history)| plan(&histories, key, history, rows.get(key)).0).collect())
            }
            ImportMode::Commit => {
                self.write(move |store| {
                    let keys: Vec<PublicKey> = histories.iter().map(|(key, _)| *key).collect();
                    let mut report = ImportReport { validators: Vec::with_capacity(keys.len()) };
                    let mut merge = |index: usize, row: Option<&KeyRow>| {
                        let known = keys.get(index).and_then(|key| Some((key, histories.get(key)?)));
                        let Some((key, history)) = known else {
                            // No such key was asked for; leaving a row as it is protects no less.
                            return unchanged(row);
                        };
                        let (outcome, merged) = plan(&histories, key, history, row);
                        report.validators.push(outcome);
                        merged
                    };
                    store.merge(&keys, &mut merge, &by, shared.settings.clock.now())?;
                    Ok(report)
                })
                .await
            }
        }
    }

    /// What keys (all, if `None`) have signed at most, ascending by key, and stops them if told so. Keys that
    /// were never seen are left out. Keys known only by their history are reported and stay as they are.
    ///
    /// # Errors
    /// [`AdminError::Suspect`] while the database may have lost writes, as the history would then be too
    /// short; or a failure. Nothing is stopped then.
    pub async fn export(
        &self,
        keys: Option<Vec<PublicKey>>,
        then: Then,
        by: &CallerId,
    ) -> Result<Vec<Withdrawn>, AdminError> {
        let (shared, by) = (Arc::clone(&self.core.shared), by.clone());
        let keys = keys.map(|keys| keys.into_iter().collect::<BTreeSet<_>>());
        if let GuardHealth::Suspect(_) = self.health() {
            return Err(AdminError::Suspect);
        }
        let mut found: Vec<Withdrawn> = match then {
            Then::Keep => {
                let wanted = |info: &KeyInfo| keys.as_ref().is_none_or(|keys| keys.contains(&info.key));
                self.list().await?.iter().filter(|info| wanted(info)).map(as_kept).collect()
            }
            Then::Stop(how) => {
                self.write(move |store| {
                    let keys = keys.map(|keys| keys.into_iter().collect::<Vec<_>>());
                    Ok(store.withdraw(keys.as_deref(), how, &by, shared.settings.clock.now())?)
                })
                .await?
            }
        };
        found.sort_unstable_by_key(|withdrawn| withdrawn.key);
        Ok(found)
    }
}

/// What a history makes of a row, and what to say about it.
fn plan(from: &Interchange, key: &PublicKey, history: &History, row: Option<&KeyRow>) -> (ValidatorReport, Merged) {
    let mut report = history.apply(*key, row.map(|row| row.marks));
    let mut merged = Merged { marks: report.after, ..unchanged(row) };
    if from.is_switched_off(key) {
        report.switched_off = match row {
            Some(KeyRow { state: KeyState::Tombstoned, .. }) => SwitchedOff::Already,
            None | Some(KeyRow { has_secret: false, .. }) => SwitchedOff::Noted,
            Some(KeyRow { state: KeyState::Enabled, .. }) => SwitchedOff::Now,
            Some(KeyRow { state: KeyState::Disabled, .. }) => SwitchedOff::Already,
        };
        match report.switched_off {
            SwitchedOff::Now => merged.state = KeyState::Disabled,
            SwitchedOff::Noted => {
                merged.state = KeyState::Disabled;
                merged.record = Record::Ensure;
            }
            SwitchedOff::Already | SwitchedOff::NotAsked => {}
        }
    }
    (report, merged)
}

/// A row as it is; one that is not there yet cannot sign.
fn unchanged(row: Option<&KeyRow>) -> Merged {
    let (marks, state) = row.map_or((Watermarks::default(), KeyState::Disabled), |row| (row.marks, row.state));
    Merged { marks, state, record: Record::Leave }
}

fn as_row(info: &KeyInfo) -> KeyRow {
    KeyRow {
        state: info.state,
        marks: info.watermarks,
        has_secret: holds_secret(info),
        recorded: info.changed != UnixMillis(0),
    }
}

fn holds_secret(info: &KeyInfo) -> bool {
    info.origin.is_some() && info.state != KeyState::Tombstoned
}

fn as_kept(info: &KeyInfo) -> Withdrawn {
    Withdrawn { key: info.key, before: info.state, had_secret: holds_secret(info), watermarks: info.watermarks }
}
