//! Whether enough of the right people approved exactly this act.
//!
//! Guarantees: a [`Quorum`] has private fields and is made by [`check`] alone; whatever speaks against it is said exactly,
//! and one approval that does not count is a reason to refuse, not to look away. Whether a request was used before is not
//! known here: whoever acts must mark it as used, durably, before acting.

use std::collections::BTreeSet;

use holdfast_domain::UnixMillis;

use crate::act::Act;
use crate::key::Fingerprint;
use crate::policy::{ApproverName, Count, Policy, Seconds};
use crate::request::{Digest, Payload, Request, RequestId, Scope};
use crate::signature::{Approval, BadSignature};

/// How far the clock of the machine that made the request may be ahead.
pub const CLOCK_TOLERANCE: Seconds = Seconds(120);

/// What is about to be done, and by whose leave.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// Where.
    pub scope: &'a Scope,
    /// What kind of act.
    pub act: Act,
    /// What exactly.
    pub payload: &'a Payload,
    /// The approvers in force.
    pub policy: &'a Policy,
    /// The time of day.
    pub now: UnixMillis,
}

/// Somebody's approval that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Who.
    pub name: ApproverName,
    /// With which key.
    pub fingerprint: Fingerprint,
}

/// Proof that enough people approved one request. It is used up by what it allows.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Quorum {
    id: RequestId,
    act: Act,
    expires: UnixMillis,
    payload: Digest,
    by: Vec<Signed>,
}

impl Quorum {
    /// The request's number.
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// What kind of act.
    pub fn act(&self) -> Act {
        self.act
    }

    /// When the request expires.
    pub fn expires(&self) -> UnixMillis {
        self.expires
    }

    /// What stands for what exactly is allowed.
    pub fn payload(&self) -> Digest {
        self.payload
    }

    /// Who approved.
    pub fn by(&self) -> &[Signed] {
        &self.by
    }
}

/// Why an act may not happen on these approvals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another database, or another chain.
    #[error(
        "the request was made for another place ({}, database {}); approvals are worth something only where the request was made",
        scope.network, hex::encode(scope.instance)
    )]
    Elsewhere {
        /// What the request names.
        scope: Scope,
    },
    /// Another kind of act.
    #[error("the request is for the act {asked}, and this is {act}; make a request of its own for this")]
    OtherAct {
        /// What the request names.
        asked: Act,
        /// What is about to be done.
        act: Act,
    },
    /// Something else than what was approved.
    #[error(
        "what was approved is something else: {difference}; give the command exactly as it was when the request was made"
    )]
    OtherPayload {
        /// The first difference.
        difference: String,
    },
    /// The approvers were changed since.
    #[error("the request was made for other approvers than those in force now; make a new one")]
    OtherPolicy,
    /// Its time has not come: a clock is wrong.
    #[error("the request was made at {made}, which lies in the future here ({now}); check the clocks of both machines")]
    NotYet {
        /// When it was made, RFC 3339.
        made: String,
        /// The time here, RFC 3339.
        now: String,
    },
    /// Its time is over.
    #[error("the request expired at {expired}, and it is {now} now; make a new one")]
    Expired {
        /// When, RFC 3339.
        expired: String,
        /// The time here, RFC 3339.
        now: String,
    },
    /// Its life is longer than allowed.
    #[error("the request lives longer than the {} seconds that are allowed; make a new one", allowed.0)]
    LivesTooLong {
        /// How long it may.
        allowed: Seconds,
    },
    /// Nobody who may approve.
    #[error("the key {0} belongs to nobody who may approve; take that approval away, or ask one of the approvers")]
    Stranger(Fingerprint),
    /// The signature does not hold.
    #[error("the approval of {name} ({fingerprint}) does not count")]
    Bad {
        /// Whose key it names.
        name: ApproverName,
        /// Which key.
        fingerprint: Fingerprint,
        /// Why.
        #[source]
        why: BadSignature,
    },
    /// One person twice.
    #[error("{0} approved twice, which counts once; take one of the two away and ask somebody else")]
    Twice(ApproverName),
    /// Not enough.
    #[error("{} of {} approvals are there; {} could still approve", have.0, need.0, missing.join(", "))]
    TooFew {
        /// How many there are.
        have: Count,
        /// How many it takes.
        need: Count,
        /// Who has not approved.
        missing: Vec<String>,
    },
}

impl Refused {
    /// Stable word for the journal and for programs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Elsewhere { .. } => "wrong_instance",
            Self::OtherAct { .. } => "wrong_act",
            Self::OtherPayload { .. } => "changed_payload",
            Self::OtherPolicy => "changed_approvers",
            Self::NotYet { .. } => "not_yet_valid",
            Self::Expired { .. } => "expired",
            Self::LivesTooLong { .. } => "lives_too_long",
            Self::Stranger(_) => "wrong_approver",
            Self::Bad { .. } => "bad_signature",
            Self::Twice(_) => "duplicate_approver",
            Self::TooFew { .. } => "too_few",
        }
    }
}

/// Checks a request and its approvals against what is about to be done.
///
/// # Errors
/// [`Refused`], the first reason against it.
pub fn check(request: &Request, approvals: &[Approval], demand: &Demand<'_>) -> Result<Quorum, Refused> {
    if request.scope != *demand.scope {
        return Err(Refused::Elsewhere { scope: request.scope.clone() });
    }
    if request.act != demand.act {
        return Err(Refused::OtherAct { asked: request.act, act: demand.act });
    }
    in_time(request, demand)?;
    if request.policy != demand.policy.digest() {
        return Err(Refused::OtherPolicy);
    }
    if request.payload != *demand.payload {
        return Err(Refused::OtherPayload { difference: difference(&request.payload, demand.payload) });
    }
    let bytes = request.to_text();
    let mut by: Vec<Signed> = Vec::with_capacity(approvals.len());
    let mut seen = BTreeSet::new();
    for approval in approvals {
        let fingerprint = approval.key().fingerprint();
        let Some(name) = demand.policy.whose(approval.key()) else { return Err(Refused::Stranger(fingerprint)) };
        if let Err(why) = approval.verify(bytes.as_bytes()) {
            return Err(Refused::Bad { name: name.clone(), fingerprint, why });
        }
        if !seen.insert(name.clone()) {
            return Err(Refused::Twice(name.clone()));
        }
        by.push(Signed { name: name.clone(), fingerprint });
    }
    let (have, need) = (Count(u32::try_from(by.len()).unwrap_or(u32::MAX)), demand.policy.threshold());
    if have < need {
        let others = demand.policy.approvers().iter().map(|one| &one.name).filter(|name| !seen.contains(name));
        return Err(Refused::TooFew { have, need, missing: others.map(ToString::to_string).collect() });
    }
    let payload = request.payload.digest();
    Ok(Quorum { id: request.id, act: request.act, expires: request.expires, payload, by })
}

fn in_time(request: &Request, demand: &Demand<'_>) -> Result<(), Refused> {
    let millis = |seconds: Seconds| seconds.0.saturating_mul(1_000);
    let now = demand.now;
    if request.made.0 > now.0.saturating_add(millis(CLOCK_TOLERANCE)) {
        return Err(Refused::NotYet { made: request.made.rfc3339(), now: now.rfc3339() });
    }
    if request.expires <= now {
        return Err(Refused::Expired { expired: request.expires.rfc3339(), now: now.rfc3339() });
    }
    let allowed = demand.policy.lifetime();
    if request.expires.0.saturating_sub(request.made.0) > millis(allowed) {
        return Err(Refused::LivesTooLong { allowed });
    }
    Ok(())
}

/// The first line that differs.
fn difference(approved: &Payload, asked: &Payload) -> String {
    let place = approved.lines().iter().zip(asked.lines()).take_while(|(one, other)| one == other).count();
    match (approved.lines().get(place), asked.lines().get(place)) {
        (Some(one), Some(other)) => format!("approved was {one:?}, asked is {other:?}"),
        (Some(one), None) => format!("approved was {one:?}, which is missing now"),
        (None, Some(other)) => format!("{other:?} was not approved"),
        (None, None) => "it reads the same, but is not".to_owned(),
    }
}
