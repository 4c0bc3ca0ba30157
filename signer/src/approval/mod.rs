//! The gate before dangerous acts: each asks here first, whatever door it came through.
//!
//! Guarantees: where approvals are configured, a [`Cleared`] for an act that needs them exists only after enough people
//! approved exactly this act, and after the approval was used up, durably, and all of it was in the journal. The approvers in
//! force are those pinned in the database: editing the configuration alone changes nobody, and stops dangerous acts until
//! the people there were approve. What this does not stop is who can run other programs on the machine as this user.

mod brought;
mod ledger;
mod rules;

use std::sync::Arc;

use arc_swap::ArcSwap;
use holdfast_approvals::{
    Act, Demand, Payload, Policy, PolicyDigest, PolicyError, Quorum, Refused, Request, RequestId, Scope, check,
};
use holdfast_domain::{Clock, UnixMillis};
use holdfast_slashing_db::journal::{Event, EventKind};
use holdfast_slashing_db::{
    AdminError, ApprovalId, ApprovalPolicy, CallerId, Guard, GuardHealth, Pinned, PolicyHash, Refusal, Spent,
};
use sha2::{Digest as _, Sha256};

use crate::config::{ApprovalsConfig, Config};
use crate::custody::Custody;
pub(crate) use brought::Brought;
use ledger::Asked;
pub(crate) use ledger::{Known, Ledger};
pub(crate) use rules::{Way, of_rules};

/// Why an act may not happen now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Blocked {
    /// It needs approvals, and none were brought: here is what people must sign.
    #[error("this needs the approval of {threshold} of {}", people.join(", "))]
    Needed {
        /// What they sign.
        request: Box<Request>,
        /// How many.
        threshold: u32,
        /// Of whom.
        people: Vec<String>,
    },
    /// The approvals do not allow it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// They were used before.
    #[error("the approval {0} was used before, and each is good for one time; make a new request")]
    Used(RequestId),
    /// What is configured about approvals cannot be.
    #[error(
        "the section [approvals] of the configuration does not fit together, so nothing that can need approvals is done; \
         `holdfast config validate` says why"
    )]
    Unfit,
    /// The configuration names other approvers than those in force.
    #[error(
        "the section [approvals] of the configuration ({configured}) is not the one in force ({pinned}), so nothing that \
         can need approvals is done; put it back as it was, or run `holdfast approvals adopt`, which needs the approval of \
         the people in force"
    )]
    Changed {
        /// What is configured.
        configured: String,
        /// What is in force.
        pinned: String,
    },
    /// Others changed the approvers at the same moment.
    #[error(
        "the approvers were changed by somebody else at this moment; look at `holdfast approvals status`, and start again"
    )]
    Moved,
    /// The database may be an old one, in which used approvals are unused.
    #[error(
        "the database may have lost writes, so an approval that was used may look unused; first `holdfast slashing fence`"
    )]
    Suspect,
    /// What is pinned cannot be read.
    #[error("the approvers in force cannot be read")]
    Unreadable(#[source] PolicyError),
    /// The text in the database is not the one that was pinned.
    #[error("the approvers in force do not match their digest in the database: somebody changed them by hand")]
    Tampered,
    /// The journal refuses.
    #[error("approvals are journaled before anything is done, and the journal refuses")]
    Journal(#[source] Refusal),
    /// The database refuses.
    #[error("the database refuses")]
    Database(#[source] AdminError),
    /// The system refuses.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
}

/// Leave to do one act. Made here alone, and not to be copied.
#[derive(Debug)]
#[must_use]
pub(crate) struct Cleared(Leave);

#[derive(Debug)]
enum Leave {
    /// The act needs no approvals.
    NotNeeded,
    /// Enough people approved.
    By(Quorum),
}

impl Cleared {
    /// Whether people approved; if not, no approvals are needed.
    pub(crate) fn by_people(&self) -> bool {
        matches!(self.0, Leave::By(_))
    }

    /// Whether what people approved ended meanwhile: for acts that take their time.
    pub(crate) fn expired(&self, now: UnixMillis) -> bool {
        matches!(&self.0, Leave::By(quorum) if quorum.expires() <= now)
    }
}

/// An act that was looked at and may happen; nothing is used up yet.
#[derive(Debug)]
#[must_use]
pub(crate) struct Examined(Leave);

impl Examined {
    /// Whether people approved; if not, no approvals are needed.
    pub(crate) fn by_people(&self) -> bool {
        matches!(self.0, Leave::By(_))
    }
}

/// Other approvers that were looked at and may be in force; nothing is used up yet.
#[derive(Debug)]
#[must_use]
pub(crate) struct Change {
    /// Who is in force until then.
    pinned: Option<Policy>,
    new: Option<Policy>,
    /// What people approved, if anybody is in force and it is somebody else.
    examined: Option<Examined>,
}

/// What became of adopting a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Adopted {
    /// It was in force already.
    Already,
    /// It is in force now.
    Now,
}

/// What the configuration says about approvers.
enum Configured {
    /// These, or nobody.
    As(Option<Policy>),
    /// Something that cannot be.
    Unfit,
}

/// The gate of one database. Clones are the same gate.
#[derive(Clone)]
pub(crate) struct Gate {
    guard: Guard,
    clock: Arc<dyn Clock>,
    scope: Scope,
    configured: Arc<ArcSwap<Configured>>,
}

impl Gate {
    /// The gate of what is in custody. If what is configured does not fit together, it lets nothing dangerous through.
    pub(crate) fn of(custody: &Custody, config: &Config) -> Self {
        let configured = config.approvals.policy().map_or(Configured::Unfit, Configured::As);
        Self {
            guard: custody.guard.clone(),
            clock: Arc::clone(&custody.clock),
            scope: Scope {
                network: custody.network.name.clone(),
                genesis_validators_root: custody.genesis_validators_root,
                instance: custody.instance.0,
            },
            configured: Arc::new(ArcSwap::from_pointee(configured)),
        }
    }

    /// The approvers of the configuration.
    ///
    /// # Errors
    /// [`Blocked::Unfit`].
    pub(crate) fn configured(&self) -> Result<Option<Policy>, Blocked> {
        match &**self.configured.load() {
            Configured::As(policy) => Ok(policy.clone()),
            Configured::Unfit => Err(Blocked::Unfit),
        }
    }

    /// The approvers pinned in the database.
    ///
    /// # Errors
    /// [`Blocked`] if they cannot be read.
    pub(crate) async fn pinned(&self) -> Result<Option<Policy>, Blocked> {
        let Some(stored) = self.guard.approval_policy().await.map_err(Blocked::Database)? else { return Ok(None) };
        let hash: [u8; 32] = Sha256::digest(stored.document.as_bytes()).into();
        if stored.hash != PolicyHash(hash) {
            return Err(Blocked::Tampered);
        }
        Policy::from_text(&stored.document).map(Some).map_err(Blocked::Unreadable)
    }

    /// The approvers in force: those pinned, which must be those configured. The first use pins them.
    ///
    /// # Errors
    /// [`Blocked`].
    pub(crate) async fn in_force(&self, by: &CallerId) -> Result<Option<Policy>, Blocked> {
        match (self.configured()?, self.pinned().await?) {
            (None, None) => Ok(None),
            (Some(configured), None) => {
                self.put(None, Some(&configured), ("approvals.pinned", "first use"), by).await?;
                Ok(Some(configured))
            }
            (Some(configured), Some(pinned)) if configured == pinned => Ok(Some(pinned)),
            (configured, pinned) => {
                Err(Blocked::Changed { configured: short(configured.as_ref()), pinned: short(pinned.as_ref()) })
            }
        }
    }

    /// The first of `acts` that needs approvals, and the approvers in force.
    ///
    /// # Errors
    /// [`Blocked`].
    pub(crate) async fn needs(&self, acts: &[Act], by: &CallerId) -> Result<Option<(Act, Policy)>, Blocked> {
        if acts.is_empty() {
            return Ok(None);
        }
        let Some(policy) = self.in_force(by).await? else { return Ok(None) };
        Ok(acts.iter().copied().find(|act| policy.needs(*act)).map(|act| (act, policy)))
    }

    /// Looks whether what is to be done may be: any of `acts` that needs approvals makes the whole of it need them. Uses
    /// nothing up.
    ///
    /// # Errors
    /// [`Blocked`]; [`Blocked::Needed`] has the request that people must sign, if nothing was brought.
    pub(crate) async fn examine(
        &self,
        acts: &[Act],
        payload: &Payload,
        brought: Option<&Brought>,
        by: &CallerId,
    ) -> Result<Examined, Blocked> {
        let Some((act, policy)) = self.needs(acts, by).await? else { return Ok(Examined(Leave::NotNeeded)) };
        self.approved(act, payload, &policy, brought, by).await
    }

    async fn approved(
        &self,
        act: Act,
        payload: &Payload,
        policy: &Policy,
        brought: Option<&Brought>,
        by: &CallerId,
    ) -> Result<Examined, Blocked> {
        if matches!(self.guard.health(), GuardHealth::Suspect(_)) {
            return Err(Blocked::Suspect);
        }
        let Some(Brought { request, approvals }) = brought else {
            let request = self.request(act, payload, policy, by).await?;
            let people = policy.approvers().iter().map(|approver| approver.name.to_string()).collect();
            return Err(Blocked::Needed { request: Box::new(request), threshold: policy.threshold().0, people });
        };
        let demand = Demand { scope: &self.scope, act, payload, policy, now: self.clock.now() };
        match check(request, approvals, &demand) {
            Ok(quorum) => Ok(Examined(Leave::By(quorum))),
            Err(refused) => {
                let detail = format!("{}: {refused}", refused.reason());
                self.record("approvals.refused", request.id, &detail, by).await?;
                Err(refused.into())
            }
        }
    }

    /// Uses the approval up, if there is one, and journals who gave it. After this comes the act.
    ///
    /// # Errors
    /// [`Blocked`]: the act must not happen.
    pub(crate) async fn spend(&self, examined: Examined, by: &CallerId) -> Result<Cleared, Blocked> {
        let Leave::By(quorum) = &examined.0 else { return Ok(Cleared(examined.0)) };
        let id = quorum.id();
        let spent = self.guard.use_approval(ApprovalId(id.0), quorum.expires()).await.map_err(Blocked::Database)?;
        if spent == Spent::Before {
            self.record("approvals.refused", id, "used: it was used before", by).await?;
            return Err(Blocked::Used(id));
        }
        for signed in quorum.by() {
            self.record("approvals.given", id, &format!("{} {}", signed.name, signed.fingerprint), by).await?;
        }
        let detail = format!("{} by {} people; payload sha256 {}", quorum.act(), quorum.by().len(), quorum.payload());
        self.record("approvals.used", id, &detail, by).await?;
        Ok(Cleared(examined.0))
    }

    /// Puts the configured approvers in force, if those in force approve.
    ///
    /// # Errors
    /// [`Blocked`].
    pub(crate) async fn adopt(&self, brought: Option<&Brought>, by: &CallerId) -> Result<Adopted, Blocked> {
        let change = self.examine_change(self.configured()?, brought, by).await?;
        self.change(change, by).await
    }

    /// Looks whether `new` may be the approvers from now on. Uses nothing up.
    ///
    /// # Errors
    /// [`Blocked`]; [`Blocked::Needed`] has the request that the people in force must sign, if nothing was brought.
    pub(crate) async fn examine_change(
        &self,
        new: Option<Policy>,
        brought: Option<&Brought>,
        by: &CallerId,
    ) -> Result<Change, Blocked> {
        let pinned = self.pinned().await?;
        let examined = match &pinned {
            Some(policy) if pinned != new => {
                let payload = change(policy, new.as_ref());
                Some(self.approved(Act::Approvers, &payload, policy, brought, by).await?)
            }
            Some(_) | None => None,
        };
        Ok(Change { pinned, new, examined })
    }

    /// Puts other approvers in force, here and in the database.
    ///
    /// # Errors
    /// [`Blocked`].
    pub(crate) async fn change(&self, change: Change, by: &CallerId) -> Result<Adopted, Blocked> {
        let Change { pinned, new, examined } = change;
        let adopted = if pinned == new {
            Adopted::Already
        } else {
            let why = match examined {
                Some(examined) => match self.spend(examined, by).await?.0 {
                    Leave::By(quorum) => format!("approval {}", quorum.id()),
                    Leave::NotNeeded => String::new(),
                },
                None => "first use".to_owned(),
            };
            let seen = pinned.as_ref().map(|policy| PolicyHash(policy.digest().0));
            self.put(seen, new.as_ref(), ("approvals.adopted", &why), by).await?;
            Adopted::Now
        };
        self.configured.store(Arc::new(Configured::As(new)));
        Ok(adopted)
    }

    /// Journals and pins approvers.
    async fn put(
        &self,
        seen: Option<PolicyHash>,
        new: Option<&Policy>,
        (kind, why): (&str, &str),
        by: &CallerId,
    ) -> Result<(), Blocked> {
        let detail = format!("{}; {why}", new.map_or_else(|| "nobody".to_owned(), people));
        let about = format!("approvals/{}", digest_of(new));
        let event = Event::new(self.clock.now(), by, EventKind::new(kind)).about(&about).detail(&detail);
        self.guard.record(event).await.map_err(Blocked::Journal)?;
        let stored = new.map(|policy| ApprovalPolicy {
            document: policy.to_text(),
            hash: PolicyHash(policy.digest().0),
            pinned: self.clock.now(),
            pinned_by: by.clone(),
        });
        match self.guard.pin_approval_policy(seen, stored).await.map_err(Blocked::Database)? {
            Pinned::Done => Ok(()),
            Pinned::Moved => Err(Blocked::Moved),
        }
    }

    async fn request(&self, act: Act, payload: &Payload, policy: &Policy, by: &CallerId) -> Result<Request, Blocked> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(Blocked::Random)?;
        let times = (self.clock.now(), policy.lifetime());
        let what = (act, payload.clone());
        let request = Request::new(RequestId(id), what, times, by.as_str(), self.scope.clone(), policy.digest());
        self.record("approvals.requested", request.id, &Asked::of(&request).detail(), by).await?;
        Ok(request)
    }

    async fn record(&self, kind: &str, id: RequestId, detail: &str, by: &CallerId) -> Result<(), Blocked> {
        let event = Event::new(self.clock.now(), by, EventKind::new(kind));
        let event = event.about(&format!("{}{id}", ledger::ABOUT)).detail(detail);
        self.guard.record(event).await.map(|_| ()).map_err(Blocked::Journal)
    }
}

/// Whether an act needs people's approval, for doors through which nobody can bring one. If the approvers in force cannot
/// be read, it does.
pub(crate) async fn needs_people(guard: &Guard, configured: &ApprovalsConfig, act: Act) -> bool {
    let configured = configured.policy().map_or(true, |policy| policy.is_some_and(|policy| policy.needs(act)));
    let pinned = match guard.approval_policy().await {
        Ok(None) => false,
        Ok(Some(stored)) => Policy::from_text(&stored.document).map_or(true, |policy| policy.needs(act)),
        Err(_) => true,
    };
    configured || pinned
}

/// What the file of a request is called, unless somebody says otherwise.
pub(crate) fn file_name(request: &Request) -> String {
    let number: String = request.id.to_string().chars().take(8).collect();
    format!("{}{number}.txt", requests_of(request.act))
}

/// What the names of files with requests for an act begin with.
pub(crate) fn requests_of(act: Act) -> String {
    format!("approval-{act}-")
}

/// What adopting changes, in lines for people.
fn change(from: &Policy, to: Option<&Policy>) -> Payload {
    let mut lines = vec!["Change who approves dangerous acts, how many, or what needs it.".to_owned()];
    match to {
        None => lines.push("From then on NOTHING needs approvals.".to_owned()),
        Some(to) => {
            lines.push("In force from then on:".to_owned());
            lines.extend(to.to_text().lines().skip(1).map(str::to_owned));
        }
    }
    lines.push("In force until then:".to_owned());
    lines.extend(from.to_text().lines().skip(1).map(str::to_owned));
    Payload::new(lines)
}

fn people(policy: &Policy) -> String {
    let names: Vec<String> =
        policy.approvers().iter().map(|one| format!("{} {}", one.name, one.key.fingerprint())).collect();
    format!("{} of {}", policy.threshold().0, names.join(", "))
}

fn digest_of(policy: Option<&Policy>) -> String {
    policy.map_or_else(|| "none".to_owned(), |policy| policy.digest().to_string())
}

/// A few characters of a digest, to tell two apart.
fn short(policy: Option<&Policy>) -> String {
    let digest = policy.map(Policy::digest).as_ref().map(PolicyDigest::to_string);
    digest.map_or_else(|| "nobody approves anything".to_owned(), |digest| digest.chars().take(12).collect())
}
