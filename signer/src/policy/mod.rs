//! The policy that is in force: asked by every door, replaced as a whole, and what it refused written down.
//!
//! Why it exists: whoever serves a request asks the same question here, whatever the transport. What it guarantees: it
//! only refuses; what it allows still needs everything else that a request needs. A replacement is in the journal before
//! it takes effect, and does not take effect if it cannot be.

mod denials;
mod labels;
mod refusal;

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use holdfast_access::{Decision, Directory, Ground, Operation, Policy, Rates, RuleName};
use holdfast_domain::{Clock, PublicKey};
use holdfast_slashing_db::journal::{Event, EventKind};
use holdfast_slashing_db::{CallerId, Guard, Refusal};
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use tracing::{info, warn};

pub(crate) use labels::{KeysOfLabels, keys_of_labels};
pub(crate) use refusal::{PolicyRefusal, Why};

use crate::callers::Principal;
use crate::config::WrittenPolicy;
use crate::drain::{Stopping, Tasks};
use denials::Denials;

/// What is in force.
struct Current {
    policy: Policy,
    digest: [u8; 32],
    /// A new policy begins with full rates.
    rates: Arc<Rates>,
}

impl Current {
    fn new(written: WrittenPolicy) -> Self {
        Self { policy: written.policy, digest: written.digest, rates: Arc::default() }
    }

    /// The same rules, and the same rates as far as they are used up, where keys have other labels.
    fn with_labels(&self, labels: KeysOfLabels) -> Self {
        Self { policy: self.policy.with_labels(labels), digest: self.digest, rates: Arc::clone(&self.rates) }
    }

    fn said(&self) -> String {
        format!("{} rules (SHA-256 {})", self.policy.rules().len(), hex::encode(self.digest))
    }

    /// Whether it says the same. Which labels keys have is no matter of the configuration.
    fn is(&self, written: &WrittenPolicy) -> bool {
        self.digest == written.digest && self.policy.directory().groups == written.policy.directory().groups
    }

    fn name(&self, id: holdfast_access::RuleId) -> RuleName {
        self.policy.rule(id).map_or_else(|| RuleName::of_place(id.place().saturating_add(1)), |rule| rule.name.clone())
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
    /// One replacement at a time, so that the journal has them in their order.
    replacing: Mutex<()>,
    denials: Arc<Denials>,
    counted: Family<DenialLabels, Counter>,
    rules: Gauge,
    clock: Arc<dyn Clock>,
    started: Instant,
}

impl PolicyStore {
    /// Puts a policy in force.
    pub(crate) fn new(written: WrittenPolicy, clock: Arc<dyn Clock>) -> Self {
        let store = Self {
            current: ArcSwap::from_pointee(Current::new(written)),
            replacing: Mutex::default(),
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
        self.rules.set(i64::try_from(self.current.load().policy.rules().len()).unwrap_or(i64::MAX));
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
        self.decide(principal, key, operation, |_, decision| decision)
    }

    /// The same for whoever the admin socket lets in: the user of this process and root may administer what no rule denies
    /// them, until a rule names them; from then on they may what rules allow. So nobody locks himself out with rules for
    /// clients.
    ///
    /// # Errors
    /// [`PolicyRefusal`].
    pub(crate) fn judge_administrator(
        &self,
        principal: &Principal,
        key: Option<&PublicKey>,
        operation: Operation,
    ) -> Result<(), PolicyRefusal> {
        self.decide(principal, key, operation, |policy, decision| match decision {
            Decision::Denied(Ground::NothingAllows) if !policy.names_caller(principal.caller()) => {
                Decision::Allowed(Ground::NoRules)
            }
            decision => decision,
        })
    }

    fn decide(
        &self,
        principal: &Principal,
        key: Option<&PublicKey>,
        operation: Operation,
        unless: impl FnOnce(&Policy, Decision) -> Decision,
    ) -> Result<(), PolicyRefusal> {
        let current = self.current.load();
        let ground = match unless(&current.policy, current.policy.decide(principal.caller(), key, operation)) {
            Decision::Denied(ground) => ground,
            Decision::Allowed(Ground::NoRules) => return Ok(()),
            Decision::Allowed(_) => {
                let rates = current.policy.rates(principal.caller(), key, operation);
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

    /// Keeps what `principal` may do `operation` with. Counts against no rate: the request as a whole has been judged.
    pub(crate) fn filter<T>(
        &self,
        principal: &Principal,
        operation: Operation,
        all: Vec<T>,
        key: impl Fn(&T) -> &PublicKey,
    ) -> Vec<T> {
        let current = self.current.load();
        if current.policy.is_empty() {
            return all;
        }
        let may = |one: &T| current.policy.decide(principal.caller(), Some(key(one)), operation).is_allowed();
        all.into_iter().filter(may).collect()
    }

    /// Whether nothing is restricted.
    pub(crate) fn is_open(&self) -> bool {
        self.current.load().policy.is_empty()
    }

    /// The policy in force, in words, and its groups of keys, if `written` says something else.
    pub(crate) fn replaced_by(&self, written: &WrittenPolicy) -> Option<(String, Directory)> {
        let current = self.current.load();
        (!current.is(written)).then(|| (current.said(), current.policy.directory().clone()))
    }

    /// SHA-256 of the policy in force.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.current.load().digest
    }

    /// Puts another policy in force, after the durable record of it. The same policy again changes and records nothing.
    ///
    /// # Errors
    /// [`Refusal`]: it is not in the journal, and the old one stays in force.
    pub(crate) async fn replace(
        &self,
        written: WrittenPolicy,
        guard: &Guard,
        by: &CallerId,
    ) -> Result<Replaced, Refusal> {
        let _turn = self.replacing.lock().await;
        let before = self.current.load_full();
        if before.is(&written) {
            return Ok(Replaced::Same);
        }
        let after = Current::new(written).with_labels(before.policy.directory().labels.clone());
        let detail = format!("from {} to {}", before.said(), after.said());
        guard.record(self.event(by, "policy.replaced", &detail)).await?;
        let rules = after.policy.rules().len();
        self.current.store(Arc::new(after));
        self.show();
        info!(%by, rules, "another policy is in force: {detail}");
        Ok(Replaced::By { rules })
    }

    /// Records which policy is in force, if one is, and from then on what it refuses.
    pub(crate) fn watch(&self, guard: &Guard, tasks: &Tasks) {
        let first = (!self.is_open()).then(|| {
            let by = CallerId::new("policy");
            self.event(&by, "policy.in_force", &self.current.load().said())
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

/// What became of a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// It says the same as the one in force.
    Same,
    /// It is in force.
    By {
        /// How many rules it has.
        rules: usize,
    },
}
