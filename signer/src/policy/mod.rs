//! The policy that is in force: asked by every door, replaced as a whole, and what it refused written down.
//!
//! Why it exists: whoever serves a request asks the same question here, whatever the transport. What it guarantees: it
//! only refuses; what it allows still needs everything else that a request needs. A replacement is in the journal before
//! it takes effect, and does not take effect if it cannot be. Every question is answered by one policy as a whole.

mod change;
mod denials;
pub(crate) mod kept;
mod known;
mod labels;
mod refusal;
pub(crate) mod rule_labels;
mod source;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use holdfast_access::{Caller, Decision, Ground, Operation, Policy, Rates, RuleName};
use holdfast_domain::{Clock, PublicKey};
use holdfast_slashing_db::journal::{Event, EventKind};
use holdfast_slashing_db::{CallerId, Guard};
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use tracing::warn;

pub(crate) use change::Replaced;
pub(crate) use kept::{Given, KeptError};
pub(crate) use known::{builtin_means, known_callers};
pub(crate) use labels::{KeysOfLabels, keys_of_labels};
pub(crate) use refusal::{PolicyRefusal, Why};
pub(crate) use source::{Origin, RuleSources, Rulebook, SourceError};

use crate::callers::Principal;
use crate::drain::{Stopping, Tasks};
use denials::Denials;

/// What is in force.
struct Current {
    book: Rulebook,
    /// A new policy begins with full rates.
    rates: Arc<Rates>,
}

impl Current {
    fn new(book: Rulebook) -> Self {
        Self { book, rates: Arc::default() }
    }

    /// The same rules, and the same rates as far as they are used up, where keys have other labels.
    fn with_labels(&self, labels: &KeysOfLabels) -> Self {
        Self { book: self.book.with_labels(labels), rates: Arc::clone(&self.rates) }
    }

    fn policy(&self) -> &Policy {
        &self.book.written.policy
    }

    fn name(&self, id: holdfast_access::RuleId) -> RuleName {
        self.policy()
            .rule(id)
            .map_or_else(|| RuleName::of_place(id.place().saturating_add(1)), |rule| rule.name.clone())
    }
}

/// What whoever the admin API lets in may do: what no rule denies, until a rule names him; from then on what rules allow.
pub(crate) fn administrator(
    policy: &Policy,
    caller: &Caller,
    key: Option<&PublicKey>,
    operation: Operation,
) -> Decision {
    match policy.decide(caller, key, operation) {
        Decision::Denied(Ground::NothingAllows) if !policy.names_caller(caller) => Decision::Allowed(Ground::NoRules),
        decision => decision,
    }
}

/// Labels of `holdfast_policy_denials_total`: from closed sets, so that they are bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct DenialLabels {
    operation: Operation,
    reason: &'static str,
}

impl EncodeLabelSet for DenialLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("operation", self.operation.as_word().as_str()), ("reason", self.reason)].encode(encoder)
    }
}

/// Asks the policy. One per process.
pub(crate) struct PolicyStore {
    current: ArcSwap<Current>,
    /// The rules of the configuration as they were last read, also while others are in force.
    configured: ArcSwap<Rulebook>,
    /// Where the configuration is, for messages.
    place: PathBuf,
    /// Where rules are kept that are given through the admin API.
    file: PathBuf,
    /// One replacement at a time, so that the journal has them in their order.
    replacing: Arc<Mutex<()>>,
    denials: Arc<Denials>,
    counted: Family<DenialLabels, Counter>,
    rules: Gauge,
    clock: Arc<dyn Clock>,
    started: Instant,
}

impl PolicyStore {
    /// Puts a policy in force.
    pub(crate) fn new(sources: RuleSources, clock: Arc<dyn Clock>) -> Self {
        if let Some(book) = &sources.given {
            let Given { since, by } = &book.given;
            warn!(
                since = since.rfc3339(),
                by,
                "the policy in force was given through the admin API: {}. [[policy]] and [[groups]] of the configuration count \
                 for nothing until `holdfast policy reset`",
                book.said()
            );
        }
        let store = Self {
            current: ArcSwap::from_pointee(Current::new(sources.in_force().clone())),
            configured: ArcSwap::from_pointee(sources.configured),
            place: sources.place,
            file: sources.file,
            replacing: Arc::default(),
            denials: Arc::new(Denials::new(Arc::clone(&clock))),
            counted: Family::default(),
            rules: Gauge::default(),
            clock,
            started: Instant::now(),
        };
        store.show();
        store
    }

    /// Adds the metrics to a registry with the prefix `holdfast`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "policy_denials",
            "Requests refused by policy, by operation and reason",
            self.counted.clone(),
        );
        registry.register("policy_rules", "Rules of the policy in force; 0: everything is allowed", self.rules.clone());
    }

    fn show(&self) {
        self.rules.set(i64::try_from(self.current.load().policy().rules().len()).unwrap_or(i64::MAX));
    }

    /// Whether `principal` may do `operation` with `key`, or the operation as such
    /// ([what that means](Policy::decide)). Counts against rates, and notes a refusal.
    ///
    /// # Errors
    /// [`PolicyRefusal`].
    pub(crate) fn judge(
        &self,
        principal: &Principal,
        key: Option<&PublicKey>,
        operation: Operation,
    ) -> Result<(), PolicyRefusal> {
        self.decide(&self.current.load(), principal, key, operation, Policy::decide)
    }

    /// The same for whoever the admin API lets in ([`administrator`]). So nobody locks himself out with rules for clients.
    ///
    /// # Errors
    /// [`PolicyRefusal`].
    pub(crate) fn judge_administrator(
        &self,
        principal: &Principal,
        key: Option<&PublicKey>,
        operation: Operation,
    ) -> Result<(), PolicyRefusal> {
        self.decide(&self.current.load(), principal, key, operation, administrator)
    }

    /// The policy of this moment, for a request that asks more than once: it is judged by one policy as a whole, also if
    /// another one takes effect meanwhile.
    pub(crate) fn now(&self) -> Judging<'_> {
        Judging { store: self, current: self.current.load_full() }
    }

    fn decide(
        &self,
        current: &Current,
        principal: &Principal,
        key: Option<&PublicKey>,
        operation: Operation,
        decide: impl FnOnce(&Policy, &Caller, Option<&PublicKey>, Operation) -> Decision,
    ) -> Result<(), PolicyRefusal> {
        let ground = match decide(current.policy(), principal.caller(), key, operation) {
            Decision::Denied(ground) => ground,
            Decision::Allowed(Ground::NoRules) => return Ok(()),
            Decision::Allowed(_) => {
                let rates = current.policy().rates(principal.caller(), key, operation);
                let name = principal.caller().name();
                match current.rates.take(name, &rates, self.started.elapsed()) {
                    Ok(()) => return Ok(()),
                    Err(rule) => Ground::Rate(rule),
                }
            }
        };
        let why = match ground {
            Ground::Rule(id) => Why::Rule(current.name(id)),
            Ground::Rate(id) => Why::Rate(current.name(id)),
            Ground::NothingAllows | Ground::NoRules => Why::Nothing,
        };
        self.denials.note(principal.id(), operation, key, &why, Instant::now());
        let refusal = PolicyRefusal { caller: principal.to_string(), operation, why };
        self.counted.get_or_create(&DenialLabels { operation, reason: refusal.reason() }).inc();
        Err(refusal)
    }

    /// Whether nothing is restricted.
    pub(crate) fn is_open(&self) -> bool {
        self.current.load().policy().is_empty()
    }

    /// Records which policy is in force, if one is or was given, and from then on what it refuses.
    pub(crate) fn watch(&self, guard: &Guard, tasks: &Tasks) {
        let current = self.current.load();
        let first = (!self.is_open() || current.book.origin == Origin::Given).then(|| {
            let by = CallerId::new("policy");
            self.event(&by, "policy.in_force", &current.book.said())
        });
        let (denials, guard, stopping) = (Arc::clone(&self.denials), guard.clone(), tasks.stopping());
        tasks.spawn(write(denials, guard, first, stopping));
    }

    fn event(&self, by: &CallerId, kind: &str, detail: &str) -> Event {
        Event::new(self.clock.now(), by, EventKind::new(kind)).about("policy").detail(detail)
    }
}

async fn write(denials: Arc<Denials>, guard: Guard, first: Option<Event>, stopping: Stopping) {
    if let Some(event) = first
        && let Err(refusal) = guard.record(event).await
    {
        warn!("which policy is in force is not in the journal: {refusal}");
    }
    denials.run(|event| guard.record(event), stopping).await;
}

/// A policy that answers all questions of one request.
pub(crate) struct Judging<'a> {
    store: &'a PolicyStore,
    current: Arc<Current>,
}

impl Judging<'_> {
    /// As [`PolicyStore::judge`].
    ///
    /// # Errors
    /// [`PolicyRefusal`].
    pub(crate) fn judge(
        &self,
        principal: &Principal,
        key: Option<&PublicKey>,
        operation: Operation,
    ) -> Result<(), PolicyRefusal> {
        self.store.decide(&self.current, principal, key, operation, Policy::decide)
    }

    /// Keeps what `principal` may do `operation` with. Counts against no rate: the request as a whole has been judged.
    pub(crate) fn filter<T>(
        &self,
        principal: &Principal,
        operation: Operation,
        all: Vec<T>,
        key: impl Fn(&T) -> &PublicKey,
    ) -> Vec<T> {
        let policy = self.current.policy();
        if policy.is_empty() {
            return all;
        }
        let may = |one: &T| policy.decide(principal.caller(), Some(key(one)), operation).is_allowed();
        all.into_iter().filter(may).collect()
    }
}
