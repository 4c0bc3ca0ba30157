//! What the services of the admin API work on: a running signer, or a database that a command opened itself.
//!
//! Why it exists: a command asks the same services either way, so that it does and prints the same. What differs is here:
//! in a running signer a key that comes in signs at once, and one that goes takes its secret out of memory.

use std::sync::Arc;

use holdfast_approvals::{Act, MAX_REQUEST_BYTES, Payload};
use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_enclave::DataKey;
use holdfast_enclave::generate::{Generated, Origin};
use holdfast_enclave::import::SealFor;
use holdfast_enclave::kdf::KdfBudget;
use holdfast_slashing_db::journal::InstanceId;
use holdfast_slashing_db::{
    AdminError, CallerId, Guard, KeyState, Label, LabelChange, Labelled, Then, Tombstone, Withdraw, Withdrawn,
};
use holdfast_wire::admin::{Reason, refusal, refusal_about};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};
use tonic::Status;

#[cfg(any(test, feature = "backend-enclave"))]
use super::elsewhere::Elsewhere;
use super::gate::{Gate, admin_reason};
use super::requests::Requests;
use crate::approval::{self, Blocked, Brought, Cleared, Examined};
use crate::config::Config;
use crate::custody::{self, Custody, CustodyError};
use crate::keymanager::{Incoming, Intake, Stored};
use crate::loader::KeyLoader;
use crate::outcome::chain;
use crate::policy::rule_labels::named_labels;
use crate::vault::Backend;

/// The fact beside [`Reason::ApprovalRequired`] that names the request to fetch.
pub(crate) const REQUEST: &str = "request";
/// The fact beside it that has the SHA-256 of the request's text.
pub(crate) const DIGEST: &str = "digest";
/// Approvers that a refusal names at most.
const NAMED: usize = 20;

/// Where services work.
pub(crate) struct Desk {
    /// The door before all of it.
    pub(super) gate: Gate,
    /// The record.
    pub(super) guard: Guard,
    /// The configuration of the process.
    pub(super) config: Config,
    /// Name of the network.
    pub(super) network: String,
    /// Its genesis validators root.
    pub(super) root: GenesisValidatorsRoot,
    /// Whose journal is written.
    pub(super) instance: InstanceId,
    /// Whether acts need people's approval.
    approvals: approval::Gate,
    /// What people were asked here.
    pub(super) requests: Requests,
    house: House,
    /// Who seals the keys that come in, if it is not this process.
    #[cfg(any(test, feature = "backend-enclave"))]
    elsewhere: Option<Arc<Elsewhere>>,
}

/// Who else works with the same keys.
enum House {
    /// A signer, in this process.
    Running(Arc<KeyLoader>, Arc<Intake>),
    /// Nobody: a command has the database.
    Alone(Arc<Mutex<Custody>>, Arc<KdfBudget>),
}

impl Desk {
    /// In a running signer. `custody` is what its loader is made from.
    pub(crate) fn running(
        custody: &Custody,
        config: &Config,
        approvals: approval::Gate,
    ) -> impl FnOnce(Gate, Arc<KeyLoader>, Arc<Intake>) -> Self + use<> {
        let (guard, network) = (custody.guard.clone(), custody.network.name.clone());
        let (root, instance, config) = (custody.genesis_validators_root, custody.instance, config.clone());
        move |gate, loader, intake| Self {
            gate,
            guard,
            config,
            network,
            root,
            instance,
            approvals,
            requests: Requests::default(),
            house: House::Running(loader, intake),
            #[cfg(any(test, feature = "backend-enclave"))]
            elsewhere: None,
        }
    }

    /// On a database that this process opened for it alone.
    pub(crate) fn alone(gate: Gate, custody: Custody, config: &Config) -> Self {
        Self {
            gate,
            guard: custody.guard.clone(),
            config: config.clone(),
            network: custody.network.name.clone(),
            root: custody.genesis_validators_root,
            instance: custody.instance,
            approvals: approval::Gate::of(&custody, config),
            requests: Requests::default(),
            house: House::Alone(Arc::new(Mutex::new(custody)), Arc::new(custody::kdf_budget(config))),
            #[cfg(any(test, feature = "backend-enclave"))]
            elsewhere: None,
        }
    }

    /// The same, but that keys that come in are sealed by another place.
    #[cfg(feature = "backend-enclave")]
    pub(crate) fn sealing_elsewhere(self, elsewhere: Elsewhere) -> Self {
        Self { elsewhere: Some(Arc::new(elsewhere)), ..self }
    }

    /// The gate before dangerous acts.
    pub(super) fn approvals(&self) -> &approval::Gate {
        &self.approvals
    }

    /// Leave for one dangerous act, to be kept until it is done. Where `acts` need people's approval, they must have approved
    /// exactly `payload`, which is made here from what is about to be done, never taken from whoever asks. What was `brought`
    /// is used up, durably, and journaled: the act comes next.
    ///
    /// Whoever asks must have been judged before ([`Gate::may_write`]), and the act is admitted afterwards.
    ///
    /// # Errors
    /// [`Status`]: the act must not happen. With [`Reason::ApprovalRequired`] it names the request that people must sign.
    pub(super) async fn may(
        &self,
        acts: &[Act],
        payload: &Payload,
        brought: Option<&Brought>,
        by: &CallerId,
    ) -> Result<Cleared, Status> {
        let examined = self.examine(acts, payload, brought, by).await?;
        self.spend(examined, by).await
    }

    /// The first of `acts` that needs people's approval.
    ///
    /// # Errors
    /// [`Status`] if that is not known.
    pub(super) async fn needs(&self, acts: &[Act], by: &CallerId) -> Result<Option<Act>, Status> {
        let needs = self.approvals.needs(acts, by).await;
        needs.map(|found| found.map(|(act, _)| act)).map_err(|blocked| self.blocked(&blocked, by))
    }

    /// The first half of [`Self::may`]: uses nothing up.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn examine(
        &self,
        acts: &[Act],
        payload: &Payload,
        brought: Option<&Brought>,
        by: &CallerId,
    ) -> Result<Examined, Status> {
        let examined = self.approvals.examine(acts, payload, brought, by).await;
        examined.map_err(|blocked| self.blocked(&blocked, by))
    }

    /// The second half of [`Self::may`]. It goes on to its end, also if nobody waits for it any more, so that the journal has
    /// every approval that is used up.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn spend(&self, examined: Examined, by: &CallerId) -> Result<Cleared, Status> {
        let (reply, answer) = oneshot::channel();
        let (gate, caller) = (self.approvals.clone(), by.clone());
        self.gate.tasks().spawn(async move {
            // Whoever asked may have gone.
            drop(reply.send(gate.spend(examined, &caller).await));
        });
        let cut_off = |_| refusal(Reason::Unavailable, "the process is stopping; nothing was done");
        answer.await.map_err(cut_off)?.map_err(|blocked| self.blocked(&blocked, by))
    }

    /// The status of what keeps an act from happening. A request that people must sign is kept to be fetched.
    fn blocked(&self, blocked: &Blocked, by: &CallerId) -> Status {
        let Blocked::Needed { request, threshold, people } = blocked else { return blocked_status(blocked) };
        if request.to_text().len() > MAX_REQUEST_BYTES {
            let text = "this needs approvals, and the request would be longer than one may be; do it in several parts";
            return refusal(Reason::InvalidArgument, text);
        }
        self.requests.keep(request, by);
        // The names of all travel in the request; here they must fit into the head of an answer.
        let text = if people.len() > NAMED {
            format!("this needs the approval of {threshold} of {} people", people.len())
        } else {
            blocked.to_string()
        };
        let facts = [
            (REQUEST, request.id.to_string()),
            ("act", request.act.to_string()),
            ("expires", request.expires.rfc3339()),
            (DIGEST, request.digest().to_string()),
        ];
        refusal_about(Reason::ApprovalRequired, text, facts)
    }

    /// Memory for key derivation.
    pub(super) fn budget(&self) -> Arc<KdfBudget> {
        match &self.house {
            House::Running(_, intake) => Arc::clone(&intake.budget),
            House::Alone(_, budget) => Arc::clone(budget),
        }
    }

    /// The loader of a running signer.
    pub(super) fn loader(&self) -> Option<&Arc<KeyLoader>> {
        match &self.house {
            House::Running(loader, _) => Some(loader),
            House::Alone(..) => None,
        }
    }

    /// Does something with what is in custody on a thread that may wait.
    pub(super) async fn with_custody<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Custody) -> R + Send + 'static,
    ) -> R {
        match &self.house {
            House::Running(loader, _) => loader.with_custody(move |_, custody| work(custody)).await,
            House::Alone(custody, _) => {
                let custody = Arc::clone(custody);
                let done = tokio::task::spawn_blocking(move || {
                    let done = work(&mut custody.blocking_lock());
                    holdfast_enclave::stack::scrub();
                    done
                });
                // A panic there is one here.
                done.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))
            }
        }
    }

    /// The data key, made if there is none yet.
    pub(crate) async fn data_key(&self) -> Result<Arc<DataKey>, CustodyError> {
        #[cfg(any(test, feature = "backend-enclave"))]
        if let Some(elsewhere) = &self.elsewhere {
            return Ok(elsewhere.meanwhile());
        }
        match &self.house {
            House::Running(loader, _) => loader.data_key().await,
            House::Alone(..) => {
                let config = self.config.clone();
                self.with_custody(move |custody| Handle::current().block_on(custody.ensure_data_key(&config))).await
            }
        }
    }

    /// Has random keys made where signatures are computed, sealed under the data key, which is returned too: by the vault, if
    /// there is one. A command that has the database itself starts one for it.
    pub(super) async fn generate(&self, count: u32) -> Result<(Arc<DataKey>, Vec<Generated>), CustodyError> {
        let place = if let Some(loader) = self.loader() {
            loader.backend()
        } else {
            let config = self.config.clone();
            let started = self.with_custody(move |custody| Backend::for_a_command(&config, &custody.network)).await;
            started.map_err(CustodyError::Generate)?.place()
        };
        #[cfg(feature = "backend-process")]
        if place.attested().is_some() {
            return Err(CustodyError::MadeInEnclave);
        }
        let (data_key, network) = (self.data_key().await?, self.root);
        let under = Arc::clone(&data_key);
        let made = tokio::task::spawn_blocking(move || {
            place.generate(Origin::Random, count, SealFor { data_key: &under, network })
        });
        // A panic there is one here.
        let made = made.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()));
        Ok((data_key, made.map_err(CustodyError::Generate)?))
    }

    /// Brings keys in; the answer is in their order. Each key comes once.
    pub(super) async fn store(
        &self,
        data_key: Arc<DataKey>,
        keys: Vec<Incoming>,
        tombstone: Tombstone,
        by: &CallerId,
    ) -> Vec<Stored> {
        match &self.house {
            House::Running(_, intake) => intake.store(data_key, keys, tombstone, by).await,
            House::Alone(..) => {
                let keys = self.sealed(keys).await;
                let news: Vec<_> = keys.iter().flatten().map(|key| key.as_new(by)).collect();
                let of = news.len();
                let mut stored = match self.guard.register_many(news, tombstone).await {
                    Ok(results) => results.into_iter().map(as_stored).collect(),
                    Err(error) => std::iter::repeat_with(|| Stored::Failed(chain(&error))).take(of).collect::<Vec<_>>(),
                }
                .into_iter();
                let lost = || Stored::Failed("not registered; import it again".to_owned());
                let answer = |key: Result<Incoming, String>| match key {
                    Ok(_) => stored.next().unwrap_or_else(lost),
                    Err(reason) => Stored::Failed(reason),
                };
                keys.into_iter().map(answer).collect()
            }
        }
    }

    /// Keys as they are stored, in their order; or why one cannot be.
    #[cfg_attr(
        not(any(test, feature = "backend-enclave")),
        expect(clippy::unused_async, reason = "only an enclave is waited for")
    )]
    async fn sealed(&self, keys: Vec<Incoming>) -> Vec<Result<Incoming, String>> {
        #[cfg(any(test, feature = "backend-enclave"))]
        if let Some(elsewhere) = self.elsewhere.clone() {
            let root = self.root;
            let done = tokio::task::spawn_blocking(move || {
                let done = elsewhere.seal_all(keys, root);
                holdfast_enclave::stack::scrub();
                done
            });
            // A panic there is one here.
            return done.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()));
        }
        keys.into_iter().map(Ok).collect()
    }

    /// Whether a change of labels changes what rules say: one of them names such a label.
    pub(crate) fn changes_policy(&self, change: &LabelChange) -> bool {
        let configured = |label: &Label| named_labels(&self.config).contains(label.as_str());
        let named = |label: &Label| match self.gate.policy() {
            Some(policy) => policy.names_label(label),
            None => configured(label),
        };
        change.add.union(&change.remove).any(named)
    }

    /// Changes the labels of keys; the rules of a running signer see that before this returns. The answer is in their order.
    pub(super) async fn label(
        &self,
        keys: Vec<PublicKey>,
        change: LabelChange,
        by: &CallerId,
    ) -> Result<Vec<Labelled>, AdminError> {
        match self.gate.policy() {
            Some(policy) => policy.label(&self.guard, keys, change, by).await,
            None => self.guard.label(keys, change, by).await,
        }
    }

    /// Deletes keys and reads out what they have signed, in one transaction.
    pub(super) async fn delete(&self, keys: Vec<PublicKey>, by: &CallerId) -> Result<Vec<Withdrawn>, AdminError> {
        match &self.house {
            House::Running(_, intake) => intake.delete(keys, by).await,
            House::Alone(..) => self.guard.export(Some(keys), Then::Stop(Withdraw::Tombstone), by).await,
        }
    }

    /// Deletes a key, also while the database is under suspicion. Returns its state before.
    pub(super) async fn erase(&self, key: &PublicKey, by: &CallerId) -> Result<KeyState, AdminError> {
        match &self.house {
            House::Running(_, intake) => intake.erase(key, by).await,
            House::Alone(..) => self.guard.tombstone(key, by).await,
        }
    }

    /// Who wraps the data key, as recorded.
    pub(super) async fn provider(&self) -> Result<Option<String>, AdminError> {
        let records = self.guard.data_keys().await?;
        Ok(records.into_iter().max_by_key(|record| record.id).map(|record| record.provider))
    }
}

fn as_stored(result: Result<holdfast_slashing_db::Registered, holdfast_slashing_db::RegisterError>) -> Stored {
    use holdfast_slashing_db::Registered;
    match result {
        Ok(Registered::New(_)) => Stored::Imported,
        Ok(Registered::SwitchedOff(_)) => Stored::SwitchedOff,
        Ok(Registered::Duplicate) => Stored::Duplicate,
        Err(error) => Stored::Refused(error),
    }
}

/// The status of what keeps an act from happening.
pub(super) fn blocked_status(blocked: &Blocked) -> Status {
    let reason = match blocked {
        Blocked::Needed { .. } => Reason::ApprovalRequired,
        Blocked::Database(error) => admin_reason(error),
        Blocked::Journal(_) => Reason::NotJournaled,
        Blocked::Suspect => Reason::Suspect,
        Blocked::Random(_) => Reason::Internal,
        Blocked::Unfit => Reason::Configuration,
        Blocked::Refused(_)
        | Blocked::Used(_)
        | Blocked::Changed { .. }
        | Blocked::Moved
        | Blocked::Unreadable(_)
        | Blocked::Tampered => Reason::Refused,
    };
    refusal(reason, chain(blocked))
}
