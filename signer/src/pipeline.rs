//! The walk of a signing request, one function for every transport: policy, intent, key, permit, signature.
//!
//! A transport reads a request and writes an answer; everything between is here, so that no
//! transport can leave a step out. The types hold the order: a signature needs a permit, a permit
//! needs a durable commit, a commit needs an intent whose root was computed here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use holdfast_access::Operation;
use holdfast_domain::{IntentError, Message, MessageKind, Network, PublicKey, SigningIntent, Slashable, Subject};
use holdfast_domain::{SlashableKind, Unslashable, UnslashableKind, message::Dating};
use holdfast_enclave::{Keyring, SignError, SignErrorClass, Signature};
use holdfast_slashing_db::{Class, Guard, Objection, Refusal};
use holdfast_traces::Tracer;
use holdfast_wire::web3signer::SignRequest;
use tracing::field::Empty;
use tracing::{Instrument, Span, debug_span, info, warn};

use crate::callers::Principal;
use crate::clock::Stopwatch;
use crate::metrics::{Metrics, Outcome};
use crate::outcome::chain;
use crate::policy::{PolicyRefusal, PolicyStore};
use crate::switcher::{CrossChecker, Doppelganger};
use crate::traces::Course;

/// Why a request got no signature.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejection {
    /// The caller may not do this.
    #[error(transparent)]
    Denied(#[from] PolicyRefusal),
    /// The message and what came with it do not fit together.
    #[error("the request cannot be signed as it stands")]
    Intent(#[from] IntentError),
    /// No such key is loaded.
    #[error("no such key: {0} is not loaded here; `holdfast keys list` shows the keys that are")]
    UnknownKey(PublicKey),
    /// No such key is loaded yet.
    #[error("keys are still loading; send the request again in a moment")]
    KeysLoading,
    /// The guard gave no permit.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The key was enabled a short while ago and is held back.
    #[error("{refusal}; it signs from about {until}, if nobody is seen until then")]
    Held {
        /// What protection says.
        refusal: Refusal,
        /// When and in which epoch.
        until: String,
    },
    /// The permit did not become a signature.
    #[error(transparent)]
    Backend(#[from] SignError),
    /// It took too long.
    #[error("no signature within {seconds} s; the signer is overloaded or its disk hangs")]
    TimedOut {
        /// The bound in seconds.
        seconds: u64,
    },
}

impl Rejection {
    /// Stable word for responses, logs and metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Denied(refusal) => refusal.reason(),
            Self::Intent(error) => error.reason(),
            Self::UnknownKey(_) => "unknown_key",
            Self::KeysLoading => "keys_loading",
            Self::Refused(refusal) | Self::Held { refusal, .. } => refusal.reason(),
            Self::Backend(error) => error.reason(),
            Self::TimedOut { .. } => "timed_out",
        }
    }

    /// How it is counted.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Intent(_) | Self::UnknownKey(_) => Outcome::Invalid,
            Self::KeysLoading | Self::TimedOut { .. } => Outcome::Unavailable,
            Self::Denied(_) => Outcome::Refused,
            Self::Refused(refusal) | Self::Held { refusal, .. } => match refusal.class() {
                Class::Refused => Outcome::Refused,
                Class::Overloaded | Class::Unavailable => Outcome::Unavailable,
            },
            Self::Backend(error) => match error.class() {
                SignErrorClass::Refused => Outcome::Refused,
                SignErrorClass::Overloaded | SignErrorClass::Unavailable => Outcome::Unavailable,
                SignErrorClass::Bug => Outcome::Failed,
            },
        }
    }
}

/// Whether the first load of keys is over. Until then an unknown key may only be late.
#[derive(Debug, Default)]
pub(crate) struct KeysReady(AtomicBool);

impl KeysReady {
    /// The first load is over.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the first load is over.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the walk needs. One per process, shared by all transports.
pub(crate) struct Signer {
    /// The chain: block limits, fork versions of exits and registrations.
    pub(crate) network: Network,
    /// Who may do what.
    pub(crate) policy: Arc<PolicyStore>,
    /// Slashing protection.
    pub(crate) guard: Guard,
    /// The keys that sign; replaced as a whole when keys are loaded.
    pub(crate) keyring: ArcSwap<Keyring>,
    /// Whether they have been loaded.
    pub(crate) keys_ready: KeysReady,
    /// Where everything is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Asks the consensus clients about votes, where the switcher runs in this process.
    pub(crate) cross_check: Option<CrossChecker>,
    /// Watches newly enabled keys, where the switcher runs in this process.
    pub(crate) doppelganger: Option<Arc<Doppelganger>>,
    /// Keeps the vault's lease, where it signs by leases.
    #[cfg(feature = "backend-process")]
    pub(crate) lease: Option<Arc<crate::lease::Lease>>,
    /// Longest time for one signature.
    pub(crate) timeout: Duration,
    /// Says which requests are recorded.
    pub(crate) tracer: Tracer,
    /// Numbers requests in logs.
    pub(crate) next_request: AtomicU64,
}

impl Signer {
    /// Signs what `request` asks for with `key`, or says why not; `course` is this step of whatever asked.
    ///
    /// Dropping the future withdraws the request: it is not recorded if its commit has not begun,
    /// and not signed in any case. What was recorded can be signed by sending the same request again.
    ///
    /// # Errors
    /// [`Rejection`]; it is counted and logged here, once.
    pub(crate) async fn sign(
        &self,
        principal: &Arc<Principal>,
        key: PublicKey,
        request: &SignRequest,
        mut course: Course,
    ) -> Result<Signature, Rejection> {
        let kind = kind_of(&request.message);
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let span = debug_span!(
            "sign", request_id = id, trace_id = course.trace(), caller = %principal, pubkey = %key.short(), kind = kind.as_str(),
            slot = Empty, target_epoch = Empty, verdict = Empty, commit_seq = Empty, backend = Empty
        );
        course.set("holdfast.request_id", || id);
        course.set("holdfast.caller", || principal.to_string());
        course.set("holdfast.pubkey", || key.short().to_string());
        course.set("holdfast.kind", || kind.as_str());
        let walk = self.walk(principal, key, request, &mut course).instrument(span);
        let result = match tokio::time::timeout(self.timeout, walk).await {
            Ok(result) => result,
            Err(_elapsed) => Err(Rejection::TimedOut { seconds: self.timeout.as_secs() }),
        };
        if let Err(rejection) = &result {
            course.fail(rejection.reason());
            self.account((id, &course), principal, &key, kind, rejection);
        }
        result
    }

    async fn walk(
        &self,
        principal: &Principal,
        key: PublicKey,
        request: &SignRequest,
        course: &mut Course,
    ) -> Result<Signature, Rejection> {
        let total = Stopwatch::start();
        // Before anything else: who is refused here costs no hashing and no place in any queue.
        let step = course.step("policy");
        self.policy.judge(principal, Some(&key), Operation::Sign(kind_of(&request.message)))?;
        drop(step);
        let SignRequest { message, fork_info, claimed } = request;
        let intent = SigningIntent::new(key, message, *fork_info, *claimed, &self.network)?;
        let kind = intent.subject().kind();
        record_date(intent.subject(), course);
        let active = self.keyring.load().get(&key).ok_or_else(|| self.absent(key))?;
        let objection = match &self.cross_check {
            Some(cross_check) => {
                let _step = course.step("cross-check");
                cross_check.objection(message).await
            }
            None => None,
        };
        #[cfg(feature = "backend-process")]
        let objection = self.lease.as_ref().and_then(|lease| lease.objection(intent.subject())).or(objection);

        let protection = Stopwatch::start();
        let mut step = course.step("permit");
        let permit = match self.guard.authorize_unless(objection, intent, principal.id().clone()).await {
            Ok(permit) => permit,
            Err(refusal) => {
                step.fail(refusal.reason());
                Span::current().record("verdict", refusal.reason());
                // What somebody else objects to is no slashing that protection prevented.
                if refusal.class() == Class::Refused && !matches!(refusal, Refusal::Objected(_)) {
                    self.metrics.prevented(kind, protection.seconds());
                }
                return Err(self.refused(&key, refusal));
            }
        };
        self.metrics.authorized(kind, protection.seconds());
        let span = Span::current();
        if !span.is_disabled() {
            span.record("verdict", "permitted");
            span.record("commit_seq", permit.commit_seq());
            span.record("backend", active.backend_name());
        }

        let times = permit.times();
        step.parts(&[("queue", times.queue), ("commit", times.commit)]);
        drop(step);
        course.set("holdfast.commit_seq", || permit.commit_seq());
        course.set("holdfast.backend", || active.backend_name());
        let step = course.step("signature");
        let signed = active.sign(permit).await?;
        drop(step);
        self.metrics.signed(kind, times, signed.times, total.seconds());
        tracing::debug!("signed");
        Ok(signed.signature)
    }

    /// What protection said, with the time at which a key that is held back signs.
    fn refused(&self, key: &PublicKey, refusal: Refusal) -> Rejection {
        let is_held = matches!(refusal, Refusal::Objected(Objection::DoppelgangerPending));
        match &self.doppelganger {
            Some(doppelganger) if is_held => Rejection::Held { until: doppelganger.until(key), refusal },
            Some(_) | None => refusal.into(),
        }
    }

    fn absent(&self, key: PublicKey) -> Rejection {
        if self.keys_ready.is_set() { Rejection::UnknownKey(key) } else { Rejection::KeysLoading }
    }

    /// Counts and logs a rejection: the one place where that happens.
    fn account(
        &self,
        (id, course): (u64, &Course),
        caller: &Principal,
        key: &PublicKey,
        kind: MessageKind,
        rejection: &Rejection,
    ) {
        let trace_id = course.trace();
        let outcome = rejection.outcome();
        let reason = rejection.reason();
        self.metrics.unsigned(Some(kind), outcome, reason);
        if matches!(rejection, Rejection::UnknownKey(_)) {
            self.metrics.missing_identifier();
        }
        // What policy refuses is logged with its number, not one by one: a flood must not fill the disk.
        if matches!(rejection, Rejection::Denied(_)) {
            return;
        }
        let (pubkey, kind, text) = (key.short(), kind.as_str(), chain(rejection));
        match outcome {
            Outcome::Signed | Outcome::Invalid => {
                info!(request_id = id, trace_id, %caller, %pubkey, kind, reason, "not signed: {text}");
            }
            Outcome::Refused | Outcome::Unavailable => {
                warn!(request_id = id, trace_id, %caller, %pubkey, kind, reason, "not signed: {text}");
            }
            Outcome::Failed => {
                tracing::error!(request_id = id, trace_id, %caller, %pubkey, kind, reason, "not signed: {text}");
            }
        }
    }
}

/// Writes the message's date into the request's spans, if anybody listens.
fn record_date(subject: &Subject, course: &mut Course) {
    let (slot, epoch) = match subject {
        Subject::Block { slot } | Subject::Unslashable { dating: Dating::Slot(slot), .. } => (Some(slot.0), None),
        Subject::Attestation { slot, source: _, target } => (Some(slot.0), Some(target.0)),
        Subject::Unslashable { dating: Dating::Epoch(epoch), .. } => (None, Some(epoch.0)),
        Subject::Unslashable { dating: Dating::Undated, .. } => (None, None),
    };
    let span = Span::current();
    for (name, traced, number) in [("slot", "holdfast.slot", slot), ("target_epoch", "holdfast.target_epoch", epoch)] {
        if let Some(number) = number {
            span.record(name, number);
            course.set(traced, || number);
        }
    }
}

/// The kind of a message, for requests that do not become an intent.
pub(crate) fn kind_of(message: &Message) -> MessageKind {
    let message = match message {
        Message::Slashable(Slashable::Block(_)) => return MessageKind::Slashable(SlashableKind::Block),
        Message::Slashable(Slashable::Attestation(_)) => return MessageKind::Slashable(SlashableKind::Attestation),
        Message::Unslashable(message) => message,
    };
    MessageKind::Unslashable(match message {
        Unslashable::AggregationSlot(_) => UnslashableKind::AggregationSlot,
        Unslashable::AggregateAndProof(_) => UnslashableKind::AggregateAndProof,
        Unslashable::RandaoReveal(_) => UnslashableKind::RandaoReveal,
        Unslashable::VoluntaryExit(_) => UnslashableKind::VoluntaryExit,
        Unslashable::Deposit(_) => UnslashableKind::Deposit,
        Unslashable::SyncCommitteeMessage(_) => UnslashableKind::SyncCommitteeMessage,
        Unslashable::SyncCommitteeSelectionProof(_) => UnslashableKind::SyncCommitteeSelectionProof,
        Unslashable::SyncCommitteeContributionAndProof(_) => UnslashableKind::SyncCommitteeContributionAndProof,
        Unslashable::ValidatorRegistration(_) => UnslashableKind::ValidatorRegistration,
        Unslashable::ExecutionPayloadBid(_) => UnslashableKind::ExecutionPayloadBid,
        Unslashable::ExecutionPayloadEnvelope(_) => UnslashableKind::ExecutionPayloadEnvelope,
        Unslashable::PayloadAttestation(_) => UnslashableKind::PayloadAttestation,
        Unslashable::ProposerPreferences(_) => UnslashableKind::ProposerPreferences,
        Unslashable::BuilderRequestAuth(_) => UnslashableKind::BuilderRequestAuth,
    })
}
