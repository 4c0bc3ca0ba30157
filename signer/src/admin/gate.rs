//! The one door every verb of the admin API goes through: who asks, may they, is it in the journal. What may need approvals
//! asks [`Desk::may`](super::desk::Desk::may) as well.
//!
//! Guarantees: an act that changes something is journaled, durably, before it begins, and does not begin if that fails;
//! once begun it goes on to its end, also when whoever asked has gone; if it then fails, the journal says that, too.

use std::sync::Arc;

use holdfast_access::{AdminArea, Means, Operation};
use holdfast_domain::{Clock, PublicKey};
use holdfast_slashing_db::Guard;
use holdfast_slashing_db::journal::{Event, EventKind};
use holdfast_wire::admin::{Reason, refusal};
use tokio::sync::oneshot;
use tonic::{Request, Status};

use crate::callers::Principal;
use crate::drain::Tasks;
use crate::outcome::chain;
use crate::policy::PolicyStore;

/// Keys whose events wait for one commit together.
const TOGETHER: usize = 1_000;

/// What is about to be done.
pub(crate) struct Act {
    area: AdminArea,
    also: Option<AdminArea>,
    kind: &'static str,
    keys: Vec<PublicKey>,
    about: String,
    detail: String,
}

impl Act {
    /// An act in an area; `kind` is its event in the journal, which docs/admin.md lists.
    pub(crate) fn new(area: AdminArea, kind: &'static str) -> Self {
        Self { area, also: None, kind, keys: Vec::new(), about: String::new(), detail: String::new() }
    }

    /// Another area that it reaches into as a whole, whatever its keys; the caller must be allowed that as well.
    pub(crate) fn also(self, area: AdminArea) -> Self {
        Self { also: Some(area), ..self }
    }

    /// The keys it is about: an event each, and each judged by itself.
    pub(crate) fn of_keys(self, keys: &[PublicKey]) -> Self {
        Self { keys: keys.to_vec(), ..self }
    }

    /// What it is about, if not keys.
    pub(crate) fn about(self, about: impl Into<String>) -> Self {
        Self { about: about.into(), ..self }
    }

    /// With what.
    pub(crate) fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }
}

/// The door. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate {
    inner: Arc<Inner>,
    /// What is asked of a running server; who has the database itself needs no leave.
    policy: Option<Arc<PolicyStore>>,
}

struct Inner {
    /// Writes the journal; `None` for a switcher without a database.
    guard: Option<Guard>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
}

impl Gate {
    /// A door before `guard`.
    pub(crate) fn new(guard: Option<Guard>, clock: Arc<dyn Clock>, tasks: Tasks) -> Self {
        Self { inner: Arc::new(Inner { guard, clock, tasks }), policy: None }
    }

    /// The same under a policy.
    pub(crate) fn under(self, policy: Arc<PolicyStore>) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// What writes the journal.
    pub(super) fn guard(&self) -> Option<&Guard> {
        self.inner.guard.as_ref()
    }

    /// What is asked of a running server.
    pub(super) fn policy(&self) -> Option<&Arc<PolicyStore>> {
        self.policy.as_ref()
    }

    /// The time.
    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Tasks that acts and streams run in.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.inner.tasks
    }

    /// Who asks. A connection puts that into each of its requests.
    ///
    /// # Errors
    /// [`Status`] if it did not.
    pub(crate) fn caller<T>(request: &Request<T>) -> Result<Arc<Principal>, Status> {
        let nobody = || refusal(Reason::Internal, "nobody is known to ask; report this as a bug");
        request.extensions().get::<Arc<Principal>>().cloned().ok_or_else(nobody)
    }

    /// Refuses unless the caller may read in an area.
    ///
    /// # Errors
    /// [`Status`] with [`Reason::Denied`].
    pub(crate) fn may_read(&self, who: &Principal, area: AdminArea) -> Result<(), Status> {
        self.judge(who, Operation::AdminRead(area), None)
    }

    /// Refuses unless the caller may change what is said in an area: these keys, or at all. For what is asked of people before
    /// it is admitted.
    ///
    /// # Errors
    /// [`Status`] with [`Reason::Denied`].
    pub(crate) fn may_write(&self, who: &Principal, area: AdminArea, keys: &[PublicKey]) -> Result<(), Status> {
        let operation = Operation::AdminWrite(area);
        if keys.is_empty() {
            self.judge(who, operation, None)?;
        }
        keys.iter().try_for_each(|key| self.judge(who, operation, Some(key)))
    }

    /// Whether a caller may do something with a key, or at all.
    fn judge(&self, who: &Principal, operation: Operation, key: Option<&PublicKey>) -> Result<(), Status> {
        if who.caller().means() == Means::Listener {
            return Err(refusal(Reason::Denied, format!("{who} proved no name, so it may not do {operation}")));
        }
        let Some(policy) = &self.policy else { return Ok(()) };
        policy.judge_administrator(who, key, operation).map_err(|denied| refusal(Reason::Denied, denied.to_string()))
    }

    /// Judges an act and journals it. Without an error it may begin.
    ///
    /// # Errors
    /// [`Status`] with [`Reason::Denied`] or [`Reason::NotJournaled`].
    pub(crate) async fn admit(&self, who: &Principal, act: &Act) -> Result<(), Status> {
        self.may_write(who, act.area, &act.keys)?;
        if let Some(area) = act.also {
            self.may_write(who, area, &[])?;
        }
        self.record(who, act).await
    }

    /// Journals an act that something else has judged already, as the Keymanager API does. Without an error it may begin.
    ///
    /// # Errors
    /// [`Status`] with [`Reason::NotJournaled`].
    pub(crate) async fn record(&self, who: &Principal, act: &Act) -> Result<(), Status> {
        self.journal(who, act.kind, act, &act.detail).await
    }

    /// Admits an act and does it. It is done to its end, also if nobody waits for it any more.
    ///
    /// # Errors
    /// As [`Self::admit`], or what the work failed with, which is journaled.
    pub(crate) async fn act<T: Send + 'static>(
        &self,
        who: &Arc<Principal>,
        act: Act,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        self.admit(who, &act).await?;
        let (reply, answer) = oneshot::channel();
        let (gate, who) = (self.clone(), Arc::clone(who));
        self.inner.tasks.spawn(async move {
            let done = work.await;
            if let Err(status) = &done {
                gate.failed(&who, &act, status).await;
            }
            // Whoever asked may have gone; it is done all the same.
            drop(reply.send(done));
        });
        let cut_off = || refusal(Reason::Unavailable, "the process is stopping; ask again what was done");
        answer.await.unwrap_or_else(|_| Err(cut_off()))
    }

    /// Notes that an admitted act was not done. If even that cannot be written, the log has it.
    pub(crate) async fn failed(&self, who: &Principal, act: &Act, status: &Status) {
        let detail = format!("{} was not done: {}", act.kind, status.message());
        if let Err(problem) = self.journal(who, "admin.failed", act, &detail).await {
            tracing::warn!(by = %who, "{detail}; {}", problem.message());
        }
    }

    async fn journal(&self, who: &Principal, kind: &'static str, act: &Act, detail: &str) -> Result<(), Status> {
        tracing::info!(by = %who, act = kind, keys = act.keys.len(), about = act.about, "admin act");
        let Some(guard) = &self.inner.guard else { return Ok(()) };
        let event =
            || Event::new(self.inner.clock.now(), who.id(), EventKind::new(kind)).about(&act.about).detail(detail);
        let not_journaled = |error: &dyn std::error::Error| {
            let text = "every act is journaled before it is done, and the journal refuses, so nothing was done";
            refusal(Reason::NotJournaled, format!("{text}: {}", error_text(error)))
        };
        if act.keys.is_empty() {
            guard.record(event()).await.map_err(|error| not_journaled(&error))?;
        }
        for keys in act.keys.chunks(TOGETHER) {
            // All are queued before the first is waited for, so that they share a commit.
            let asked: Vec<_> = keys.iter().map(|key| guard.record(event().of_key(*key))).collect();
            for recorded in asked {
                recorded.await.map_err(|error| not_journaled(&error))?;
            }
        }
        Ok(())
    }
}

fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The status of a failure of custody.
pub(super) fn custody_status(error: &crate::custody::CustodyError) -> Status {
    use crate::custody::CustodyError;
    use crate::outcome::Exit;
    let reason = match error {
        CustodyError::Database(error) => admin_reason(error),
        error => match error.exit() {
            Exit::Usage => Reason::Configuration,
            Exit::Frozen => Reason::Frozen,
            Exit::Bug => Reason::Internal,
            Exit::Refused => Reason::Refused,
            Exit::Unreachable | Exit::Done => Reason::Unavailable,
        },
    };
    refusal(reason, chain(error))
}

/// The status of a failure of the record.
pub(super) fn record_status(error: holdfast_slashing_db::AdminError) -> Status {
    custody_status(&error.into())
}

/// The word for a failure of the record.
pub(super) fn admin_reason(error: &holdfast_slashing_db::AdminError) -> Reason {
    use holdfast_slashing_db::AdminError;
    match error {
        AdminError::Frozen(_) => Reason::Frozen,
        AdminError::Suspect => Reason::Suspect,
        AdminError::WrongChain { .. } => Reason::WrongChain,
        AdminError::UnknownKey => Reason::UnknownKey,
        AdminError::Tombstoned => Reason::KeyDeleted,
        AdminError::ClockBeforeGenesis { .. } | AdminError::ClockBehind { .. } => Reason::Refused,
        _ => Reason::Unavailable,
    }
}
