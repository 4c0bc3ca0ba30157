//! A changed configuration, taken over while all is served: by SIGHUP and by `holdfast reload` in one way (ADR 0036).
//!
//! What it guarantees: everything is read and checked before anything changes, so a mistake changes nothing; a reload is in
//! the journal before it takes effect, and does not if it cannot be; what needs a restart is said with both values, and
//! stays as it was; one reload at a time.

mod approved;
mod metrics;
mod plan;

use std::sync::Arc;

use holdfast_access::AdminArea;
use holdfast_domain::Clock;
use holdfast_slashing_db::{Guard, Refusal};
use holdfast_wire::admin::{Reason, refusal};
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use tonic::Status;
use tracing::{error, info, warn};

use crate::admin::{Act, Gate};
use crate::approval;
use crate::callers::{FileError, Principal};
use crate::config::{Change, Config, ConfigError, Layers};
use crate::doors::{DoorError, DoorFiles};
use crate::drain::Tasks;
use crate::outcome::chain;
use crate::policy::{Origin, PolicyStore, Replaced};
use crate::switcher::{Running, SwitcherError};
use crate::telemetry::TelemetryError;
use approved::Leave;
pub(crate) use approved::{ACTS, bring};
use metrics::ReloadMetrics;
use plan::{Plan, Rules};

/// Settings named in the journal; the log and the answer name all.
const NAMED: usize = 12;

/// Who wants a reload.
#[derive(Clone)]
pub(crate) enum Asker {
    /// Somebody who may send this process a signal.
    Signal,
    /// An administrator, by the admin API.
    Administrator(Arc<Principal>),
}

/// Whether to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Only say what would happen.
    DryRun,
    /// Do it.
    TakeOver,
}

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// The levels of logging are none.
    #[error(transparent)]
    Levels(#[from] TelemetryError),
    /// The callers do not go together.
    #[error(transparent)]
    Callers(#[from] FileError),
    /// Files of TLS cannot be used.
    #[error(transparent)]
    Doors(#[from] DoorError),
    /// A node of the switcher cannot be used.
    #[error(transparent)]
    Nodes(#[from] SwitcherError),
    /// Two configurations cannot be compared; not reached.
    #[error("what changes cannot be told")]
    Unprintable(#[from] toml::ser::Error),
    /// Whoever asks may not, or it cannot be journaled.
    #[error("{}", .0.message())]
    Refused(Status),
    /// People must approve it, and did not.
    #[error("{0}")]
    Unapproved(String),
    /// The change of the policy cannot be journaled.
    #[error("the change cannot be journaled")]
    Policy(#[source] Refusal),
    /// A thread ended early.
    #[error("this is a bug, please report it")]
    Bug,
}

impl ReloadError {
    /// As an answer of the admin API.
    pub(crate) fn status(&self) -> Status {
        let reason = match self {
            Self::Refused(status) => return status.clone(),
            Self::Configuration(_) | Self::Levels(_) | Self::Callers(_) | Self::Doors(_) | Self::Nodes(_) => {
                Reason::Configuration
            }
            Self::Unapproved(_) => Reason::ApprovalRequired,
            Self::Policy(_) => Reason::NotJournaled,
            Self::Unprintable(_) | Self::Bug => Reason::Internal,
        };
        refusal(reason, format!("nothing changes: {}", chain(self)))
    }
}

/// What a reload did, or would do.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What is in force now, or would be.
    pub(crate) changed: Vec<Change>,
    /// What the configuration says and this process does not do until it is started again.
    pub(crate) waiting: Vec<Change>,
    /// What was found good and could not be taken over a moment later; it stays as it was.
    pub(crate) problems: Vec<String>,
    /// SHA-256 of the configuration in force, as it prints.
    pub(crate) digest: String,
}

/// What of a process a reload reaches.
pub(crate) struct Reach {
    /// Policy, journal and the gate before dangerous acts, where there is a signer.
    pub(crate) signer: Option<(Arc<PolicyStore>, Guard, approval::Gate)>,
    /// Callers and certificates.
    pub(crate) files: DoorFiles,
    /// The switcher, where there is one.
    pub(crate) running: Option<Arc<Running>>,
}

/// Takes changed configurations over. One per process.
pub(crate) struct Reloads {
    layers: Layers,
    /// What this process does, as a configuration. Held by a reload from the first look to the end.
    in_force: Mutex<Config>,
    reach: Reach,
    gate: Gate,
    clock: Arc<dyn Clock>,
    numbers: ReloadMetrics,
}

impl Reloads {
    /// For a process that was started with `config`, made from `layers`.
    pub(crate) fn new(layers: Layers, config: &Config, reach: Reach, clock: Arc<dyn Clock>, tasks: Tasks) -> Arc<Self> {
        let guard = reach.signer.as_ref().map(|(_, guard, _)| guard.clone());
        let gate = Gate::new(guard, Arc::clone(&clock), tasks);
        let gate = match &reach.signer {
            Some((policy, ..)) => gate.under(Arc::clone(policy)),
            None => gate,
        };
        let numbers = ReloadMetrics::default();
        numbers.in_force(&plan::digest(config), 0);
        Arc::new(Self { layers, in_force: Mutex::new(config.clone()), reach, gate, clock, numbers })
    }

    /// Adds the numbers to a registry with the prefix `holdfast`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.numbers.register(registry);
    }

    /// The door that administrators come through.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// SIGHUP: takes over what can be. The log has what `holdfast reload` would print.
    pub(crate) async fn hang_up(&self) {
        // The log has it.
        drop(Box::pin(self.reload(Asker::Signal, Intent::TakeOver)).await);
    }

    /// Reads all layers again and takes over what can be, or says what that would be. It must be waited for: give it to a
    /// task where whoever asked may go.
    ///
    /// # Errors
    /// [`ReloadError`]: nothing changed.
    pub(crate) async fn reload(&self, asker: Asker, intent: Intent) -> Result<Outcome, ReloadError> {
        let mut in_force = self.in_force.lock().await;
        let done = Box::pin(self.attempt(&mut in_force, &asker, intent)).await;
        drop(in_force);
        if intent == Intent::TakeOver {
            let good = done.as_ref().is_ok_and(|outcome| outcome.problems.is_empty());
            self.numbers.reloaded(good, self.clock.now());
            tell(&asker, &done);
        }
        done
    }

    async fn attempt(&self, in_force: &mut Config, asker: &Asker, intent: Intent) -> Result<Outcome, ReloadError> {
        let mut plan = self.plan(in_force).await?;
        if intent == Intent::DryRun {
            return Ok(plan.take_outcome());
        }
        let who = match asker {
            Asker::Signal => Principal::hang_up(),
            Asker::Administrator(who) => Arc::clone(who),
        };
        let leave = self.check((asker, &who), &plan, in_force).await?;
        let act = Act::new(AdminArea::Status, "admin.configuration.reloaded").about("configuration");
        let act = act.detail(plan.said(in_force));
        self.gate.record(&who, &act).await.map_err(ReloadError::Refused)?;
        let done = self.take_over(plan, in_force, &who).await;
        drop(leave);
        if let Err(error) = &done {
            self.gate.failed(&who, &act, &error.status()).await;
        }
        done
    }

    /// Everything that may forbid a reload, asked when all has been read and found good, and before anything changes: whether
    /// whoever asks may change what it changes, and whether people approved what needs that.
    async fn check(
        &self,
        (asker, who): (&Asker, &Principal),
        plan: &Plan,
        in_force: &Config,
    ) -> Result<Option<Leave>, ReloadError> {
        if let Asker::Administrator(who) = asker {
            for area in plan.areas() {
                self.gate.may_write(who, area, &[]).map_err(ReloadError::Refused)?;
            }
        }
        let Some((policy, _, approvals)) = &self.reach.signer else { return Ok(None) };
        let files = (&plan.config, in_force.data_dir());
        let leave = approved::leave((approvals, policy), files, &plan.written, who.id()).await;
        leave.map(Some).map_err(ReloadError::Unapproved)
    }

    async fn plan(&self, in_force: &Config) -> Result<Plan, ReloadError> {
        let (layers, in_force, files) = (self.layers.clone(), in_force.clone(), self.reach.files.clone());
        let signer = self.reach.signer.as_ref().map(|(policy, ..)| {
            let in_force = policy.in_force();
            let given_by = (in_force.origin == Origin::Given).then_some(in_force.given.by);
            Rules { configured: policy.configured().written.digest, given_by }
        });
        let running = self.reach.running.clone();
        let read =
            tokio::task::spawn_blocking(move || Plan::read(&layers, &in_force, &files, (signer, running.as_deref())));
        read.await.map_err(|_| ReloadError::Bug)?
    }

    /// Makes it so. Only the first step can fail; what fails later had been found good, and is told as a problem.
    async fn take_over(&self, plan: Plan, in_force: &mut Config, who: &Principal) -> Result<Outcome, ReloadError> {
        let Plan { config, written, levels, nodes, mut outcome } = plan;
        if let Some((policy, guard, _)) = &self.reach.signer {
            match policy.replace(written, guard, who.id()).await.map_err(ReloadError::Policy)? {
                Replaced::By { rules } => info!(rules, "{}: the policy of the configuration is in force", who.id()),
                Replaced::Same => {}
                Replaced::Kept { given } => {
                    // They were given since the plan was made.
                    outcome.set_rules_aside(&given.by);
                }
            }
            in_force.policy.clone_from(&config.policy);
            in_force.groups.clone_from(&config.groups);
            in_force.approvals.clone_from(&config.approvals);
        }
        if let (Some(running), Some(nodes)) = (&self.reach.running, nodes) {
            outcome.problems.extend(running.reconfigure(nodes));
            in_force.switcher.upstream.clone_from(&config.switcher.upstream);
            in_force.network.beacon.clone_from(&config.network.beacon);
            if running.execution().is_some() {
                in_force.execution.upstream.clone_from(&config.execution.upstream);
            }
        }
        if in_force.telemetry.log != config.telemetry.log {
            match levels.apply() {
                Ok(()) => in_force.telemetry.log.clone_from(&config.telemetry.log),
                Err(error) => {
                    outcome.changed.retain(|change| !change.is_within("telemetry.log"));
                    outcome.problems.push(chain(&error));
                }
            }
        }
        let (files, entries) = (self.reach.files.clone(), config.callers.clone());
        let read = tokio::task::spawn_blocking(move || (files.callers.replace(entries), files.reload()));
        match read.await {
            Ok((callers, doors)) => {
                match callers {
                    Ok(_) => in_force.callers.clone_from(&config.callers),
                    Err(error) => {
                        outcome.changed.retain(|change| !change.is_within("callers"));
                        outcome.problems.push(chain(&error));
                    }
                }
                outcome.problems.extend(doors.err().into_iter().flatten().map(|error| chain(&error)));
            }
            Err(_) => outcome.problems.push(chain(&ReloadError::Bug)),
        }
        outcome.digest = plan::digest(in_force);
        self.numbers.in_force(&outcome.digest, outcome.waiting.len());
        Ok(outcome)
    }
}

/// Into the log, in the words of `holdfast reload`.
fn tell(asker: &Asker, done: &Result<Outcome, ReloadError>) {
    let by = match asker {
        Asker::Signal => "SIGHUP".to_owned(),
        Asker::Administrator(who) => format!("reload by {who}"),
    };
    let outcome = match done {
        Ok(outcome) => outcome,
        Err(error) => return error!("{by}: nothing changes: {}", chain(error)),
    };
    for Change { setting, old, new } in &outcome.changed {
        info!(setting, old, new, "{by}: {setting} is in force");
    }
    for Change { setting, old, new } in &outcome.waiting {
        warn!(setting, old, new, "{by}: this setting needs a restart; until then the old value stays");
    }
    for problem in &outcome.problems {
        error!("{by}: what it is about stays as it is: {problem}");
    }
    let (changed, waiting) = (outcome.changed.len(), outcome.waiting.len());
    info!(changed, waiting, sha256 = outcome.digest, "{by}: the configuration was read again");
}
