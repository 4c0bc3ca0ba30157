//! Signing histories in and out of the database: what EIP-3076 files are made from and turned into.
//!
//! Guarantees: an import is one transaction and raises watermarks or leaves them; an export that also
//! stops keys does both in one transaction on the thread that gives permits, so the history it returns
//! covers every signature of those keys, earlier and later.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use holdfast_domain::PublicKey;

use super::{Guard, GuardHealth};
use crate::error::AdminError;
use crate::identity::CallerId;
use crate::interchange::{History, ImportReport, Interchange};
use crate::registry::{KeyInfo, KeyState, Withdraw, Withdrawn};
use crate::rules::Watermarks;

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

impl Guard {
    /// Merges histories in, upward only, all of them in one transaction or none. A key without a row gets
    /// one that has no secret and cannot sign; registering the key later starts from it.
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
                let rows: HashMap<PublicKey, Watermarks> =
                    self.list().await?.into_iter().map(|info| (info.key, info.watermarks)).collect();
                Ok(histories.iter().map(|(key, history)| history.apply(*key, rows.get(key).copied())).collect())
            }
            ImportMode::Commit => {
                self.write(move |store| {
                    let (keys, histories): (Vec<PublicKey>, Vec<History>) =
                        histories.iter().map(|(key, history)| (*key, *history)).unzip();
                    let mut report = ImportReport { validators: Vec::with_capacity(keys.len()) };
                    let mut merge = |index: usize, before: Option<&Watermarks>| {
                        let (Some(key), Some(history)) = (keys.get(index), histories.get(index)) else {
                            // No such key was asked for; leaving a row as it is protects no less.
                            return before.copied().unwrap_or_default();
                        };
                        let outcome = history.apply(*key, before.copied());
                        report.validators.push(outcome);
                        outcome.after
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

fn as_kept(info: &KeyInfo) -> Withdrawn {
    Withdrawn {
        key: info.key,
        before: info.state,
        had_secret: info.origin.is_some() && info.state != KeyState::Tombstoned,
        watermarks: info.watermarks,
    }
}
