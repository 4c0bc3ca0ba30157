//! A store that fails on command, to show what a failed commit of either kind does to everything above.
//!
//! Only for tests: the feature `fault-injection` does not compile without debug assertions.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey, UnixMillis};

use super::{Committed, DecideEntry, Judge, Load, Merge, Pruned, ReadStore, Store, Withdraw, Withdrawn};
use crate::anchor::{DatabaseIdentity, Landmarks, RollbackKind};
use crate::approvals::{ApprovalId, ApprovalPolicy, Pinned, PolicyHash, Spent};
use crate::error::{FreezeReason, RegisterError, StoreError};
use crate::guard::{Replaced, Resealed};
use crate::identity::CallerId;
use crate::journal::{Hash, Head, InstanceId};
use crate::labels::{LabelChange, Labelled};
use crate::registry::{DataKeyId, DataKeyRecord, KeyState, NewKey, Registered, Switch};
use crate::rules::Watermarks;
use crate::watch::Judged;

#[cfg(all(feature = "fault-injection", not(debug_assertions)))]
compile_error!("the feature fault-injection is for tests only: build without it, or with debug assertions");

/// How one transaction fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "fault-injection"), expect(unreachable_pub, reason = "public only with the feature"))]
pub enum Fault {
    /// Nothing was written, and that is certain.
    NotWritten,
    /// Nobody knows; in truth nothing was kept.
    UnknownNotKept,
    /// Nobody knows; in truth everything was kept.
    UnknownButKept,
    /// The thread that owns the database panics.
    Panic,
}

/// Faults to come: one for each writing transaction, until none is left. Cheap to clone; clones share the plan.
#[derive(Debug, Clone, Default)]
#[cfg_attr(not(feature = "fault-injection"), expect(unreachable_pub, reason = "public only with the feature"))]
pub struct FaultPlan(Arc<Mutex<VecDeque<Option<Fault>>>>);

impl FaultPlan {
    /// Adds a fault at the end.
    #[cfg_attr(not(feature = "fault-injection"), expect(unreachable_pub, reason = "public only with the feature"))]
    pub fn push(&self, fault: Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(Some(fault));
    }

    /// Lets one transaction through, at the end.
    #[cfg_attr(not(feature = "fault-injection"), expect(unreachable_pub, reason = "public only with the feature"))]
    pub fn push_none(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(None);
    }

    fn pop(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front().flatten()
    }
}

/// Runs before each commit of a batch.
type Before<S> = Box<dyn FnMut(&mut S) + Send>;

/// A store behind a plan of faults.
pub(crate) struct FaultyStore<S: Store + ?Sized> {
    inner: Box<S>,
    plan: FaultPlan,
    before: Option<Before<S>>,
}

impl<S: Store + ?Sized> FaultyStore<S> {
    pub(crate) fn new(inner: Box<S>, plan: FaultPlan) -> Self {
        Self { inner, plan, before: None }
    }

    #[cfg(test)]
    pub(crate) fn before(mut self, hook: impl FnMut(&mut S) + Send + 'static) -> Self {
        self.before = Some(Box::new(hook));
        self
    }

    fn write<T>(&mut self, work: impl FnOnce(&mut S) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self.plan.pop() {
            None => work(&mut self.inner),
            Some(Fault::NotWritten) => Err(StoreError::retryable("commit", "injected: not written")),
            Some(Fault::UnknownNotKept) => Err(unknown()),
            Some(Fault::UnknownButKept) => work(&mut self.inner).and(Err(unknown())),
            #[expect(clippy::panic, reason = "the fault asked for")]
            Some(Fault::Panic) => panic!("injected: a defect"),
        }
    }
}

fn unknown() -> StoreError {
    StoreError::fatal("commit", FreezeReason::CommitOutcomeUnknown, "injected: outcome unknown")
}

impl<S: Store + ?Sized> Store for FaultyStore<S> {
    fn commit_batch(&mut self, keys: &[PublicKey], judge: Judge<'_>) -> Result<Committed, StoreError> {
        if let Some(before) = &mut self.before {
            before(&mut self.inner);
        }
        self.write(|inner| inner.commit_batch(keys, judge))
    }

    fn register(
        &mut self,
        keys: &[NewKey],
        at: UnixMillis,
        decide: DecideEntry<'_>,
    ) -> Result<Vec<Result<Registered, RegisterError>>, StoreError> {
        self.write(|inner| inner.register(keys, at, decide))
    }

    fn switch(
        &mut self,
        key: &PublicKey,
        to: Switch,
        floor: &Watermarks,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<Option<KeyState>, StoreError> {
        self.write(|inner| inner.switch(key, to, floor, by, at))
    }

    fn tombstone(&mut self, key: &PublicKey, by: &CallerId, at: UnixMillis) -> Result<Option<KeyState>, StoreError> {
        self.write(|inner| inner.tombstone(key, by, at))
    }

    fn raise(
        &mut self,
        keys: Option<&[PublicKey]>,
        floor: &Watermarks,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<u64, StoreError> {
        self.write(|inner| inner.raise(keys, floor, by, at))
    }

    fn merge(&mut self, keys: &[PublicKey], merge: Merge<'_>, by: &CallerId, at: UnixMillis) -> Result<(), StoreError> {
        self.write(|inner| inner.merge(keys, merge, by, at))
    }

    fn withdraw(
        &mut self,
        keys: Option<&[PublicKey]>,
        how: Withdraw,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<Vec<Withdrawn>, StoreError> {
        self.write(|inner| inner.withdraw(keys, how, by, at))
    }

    fn judge_newly_enabled(&mut self, judged: &[Judged]) -> Result<(), StoreError> {
        self.write(|inner| inner.judge_newly_enabled(judged))
    }

    fn label(
        &mut self,
        keys: &[PublicKey],
        change: &LabelChange,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<Vec<Labelled>, StoreError> {
        self.write(|inner| inner.label(keys, change, by, at))
    }

    fn put_data_key(&mut self, record: &DataKeyRecord) -> Result<(), StoreError> {
        self.write(|inner| inner.put_data_key(record))
    }

    fn replace_data_key(
        &mut self,
        old: DataKeyId,
        new: &DataKeyRecord,
        keys: &[Resealed],
    ) -> Result<Replaced, StoreError> {
        self.write(|inner| inner.replace_data_key(old, new, keys))
    }

    fn use_approval(&mut self, id: ApprovalId, expires: UnixMillis, now: UnixMillis) -> Result<Spent, StoreError> {
        self.write(|inner| inner.use_approval(id, expires, now))
    }

    fn pin_approval_policy(
        &mut self,
        seen: Option<PolicyHash>,
        new: Option<&ApprovalPolicy>,
    ) -> Result<Pinned, StoreError> {
        self.write(|inner| inner.pin_approval_policy(seen, new))
    }

    fn pin(&mut self, root: GenesisValidatorsRoot) -> Result<GenesisValidatorsRoot, StoreError> {
        self.inner.pin(root)
    }

    fn head(&self) -> Head {
        self.inner.head()
    }

    fn accept_head(&mut self) -> Result<Head, StoreError> {
        self.inner.accept_head()
    }

    fn batch_hash(&mut self, seq: u64) -> Result<Option<Hash>, StoreError> {
        self.inner.batch_hash(seq)
    }

    fn is_pristine(&mut self) -> Result<bool, StoreError> {
        self.inner.is_pristine()
    }

    fn identity(&self) -> Result<DatabaseIdentity, StoreError> {
        self.inner.identity()
    }

    fn landmarks(&self) -> Option<&Landmarks> {
        self.inner.landmarks()
    }

    fn lacks(&mut self, remembered: &Landmarks) -> Result<Option<RollbackKind>, StoreError> {
        self.inner.lacks(remembered)
    }

    fn noticed(&self) -> Option<RollbackKind> {
        self.inner.noticed()
    }

    fn share_suspicion(&mut self, since: UnixMillis) -> Result<(), StoreError> {
        self.inner.share_suspicion(since)
    }

    fn suspected(&self) -> Option<UnixMillis> {
        self.inner.suspected()
    }

    fn heartbeat_every(&self) -> Option<Duration> {
        self.inner.heartbeat_every()
    }

    fn heartbeat(&mut self) -> Result<(), StoreError> {
        self.inner.heartbeat()
    }

    fn prune(&mut self, chain: InstanceId, from: Head, upto: Head) -> Result<Pruned, StoreError> {
        self.write(|inner| inner.prune(chain, from, upto))
    }

    fn tidy(&mut self, load: Load) {
        self.inner.tidy(load);
    }

    fn reader(&self) -> Result<Box<dyn ReadStore>, StoreError> {
        self.inner.reader()
    }

    fn close(self: Box<Self>) {
        self.inner.close();
    }
}
