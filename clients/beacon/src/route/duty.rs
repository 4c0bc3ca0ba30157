//! Duties: from one node for a whole epoch, compared with another's in the background.
//!
//! Why it exists: nodes that see different dependent roots hand out different duties; a client that gets them
//! alternately drops and fetches them for ever. What it guarantees: as long as a node serves, an epoch's duties come
//! from it; when another node depends on another root, all are asked, and the majority's duties are
//! given from then on; answers of the first version of proposer duties are never mixed between
//! implementations, which disagree about its dependent root.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use holdfast_domain::{Epoch, Slot};
use serde::Deserialize;

use super::Switcher;
use super::hedge::{HedgeRule, hedged};
use super::judge::{Good, Reading, ask};
use super::request::{ClientAnswer, ClientRequest};
use super::table::{Endpoint, Matched};
use super::vote::majority;
use crate::chain::decimal;
use crate::decision::{Decision, DecisionKind};
use crate::health::Eligibility;
use crate::upstream::UpstreamRequest;
use crate::{BlockRoot, EndpointClass, NodeView, UpstreamId};

/// Duties of a hundred thousand validators.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Epochs whose choices are remembered.
const EPOCHS_KEPT: usize = 16;

/// What was found out about an epoch's duties.
#[derive(Debug, Clone, Default)]
struct Choice {
    /// Dependent roots compared already.
    compared: Vec<BlockRoot>,
    /// Nodes whose duties depend on a root the majority does not have.
    outvoted: Vec<UpstreamId>,
}

/// Findings by endpoint and epoch.
#[derive(Debug, Default)]
pub(super) struct DutyChoices(Mutex<BTreeMap<(Epoch, Endpoint), Choice>>);

impl DutyChoices {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Epoch, Endpoint), Choice>> {
        let mut choices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while choices.len() > EPOCHS_KEPT * 5 {
            choices.pop_first();
        }
        choices
    }

    fn outvoted(&self, key: (Epoch, Endpoint)) -> Vec<UpstreamId> {
        self.lock().get(&key).map(|choice| choice.outvoted.clone()).unwrap_or_default()
    }

    /// Whether this root is new for the epoch, and so to be compared.
    fn is_new(&self, key: (Epoch, Endpoint), root: BlockRoot) -> bool {
        let mut choices = self.lock();
        let choice = choices.entry(key).or_default();
        let new = !choice.compared.contains(&root);
        if new {
            choice.compared.push(root);
        }
        new
    }

    /// All of these roots have been compared now, and these nodes depend on others than most.
    fn outvote(&self, key: (Epoch, Endpoint), roots: Vec<BlockRoot>, nodes: Vec<UpstreamId>) {
        *self.lock().entry(key).or_default() = Choice { compared: roots, outvoted: nodes };
    }
}

#[derive(Deserialize)]
struct DependentRoot {
    dependent_root: Option<BlockRoot>,
}

#[derive(Deserialize)]
struct ProposerDuties {
    data: Vec<ProposerDuty>,
}

#[derive(Deserialize)]
struct ProposerDuty {
    #[serde(deserialize_with = "decimal")]
    validator_index: u64,
    #[serde(deserialize_with = "decimal")]
    slot: u64,
}

fn dependent_root(good: &Good) -> Option<BlockRoot> {
    let Good::Whole(answer) = good else { return None };
    serde_json::from_slice::<DependentRoot>(&answer.body).ok()?.dependent_root
}

impl Switcher {
    pub(super) async fn duty(self: &Arc<Self>, matched: &Matched, request: ClientRequest) -> ClientAnswer {
        let class = EndpointClass::Duty;
        let endpoint = matched.endpoint;
        let epoch = matched.params.epoch.unwrap_or(Epoch(0));
        let nodes = self.duty_nodes(endpoint, epoch);
        let upstream = request.to_upstream(class);
        let rule = HedgeRule::small(self.slot_length());
        let asked = hedged(&nodes, &upstream, Reading::Whole(MAX_BYTES), rule, self.pool.deadline(class)).await;
        let (node, good) = match asked {
            Ok(answered) => answered,
            Err(exhausted) => return exhausted.into_answer(),
        };
        if let Some(root) = dependent_root(&good)
            && self.duties.is_new((epoch, endpoint), root)
        {
            let (this, nodes) = (Arc::clone(self), nodes.clone());
            self.pool.tasks().spawn(async move { this.compare(endpoint, epoch, upstream, nodes, (node, root)).await });
        }
        if matches!(endpoint, Endpoint::ProposerDutiesV1 | Endpoint::ProposerDutiesV2) {
            self.note_proposals(&good);
        }
        good.into_answer()
    }

    /// Sticky for the epoch; outvoted nodes last; for the first version of proposer duties the first
    /// node's implementation before all others.
    fn duty_nodes(&self, endpoint: Endpoint, epoch: Epoch) -> Vec<Arc<NodeView>> {
        let mut nodes = self.pool.view().sticky_candidates(EndpointClass::Duty, epoch);
        let outvoted = self.duties.outvoted((epoch, endpoint));
        nodes.sort_by_key(|node| outvoted.contains(&node.id()));
        if endpoint == Endpoint::ProposerDutiesV1
            && let Some(vendor) = nodes.first().map(|node| node.vendor())
        {
            nodes.sort_by_key(|node| {
                (node.eligibility(EndpointClass::Duty) != Eligibility::Yes, node.vendor() != vendor)
            });
        }
        nodes
    }

    /// Asks one more node, and everybody if it depends on another root.
    async fn compare(
        &self,
        endpoint: Endpoint,
        epoch: Epoch,
        request: UpstreamRequest,
        nodes: Vec<Arc<NodeView>>,
        (answered, root): (UpstreamId, BlockRoot),
    ) {
        let vendor = nodes.iter().find(|node| node.id() == answered).map(|node| node.vendor());
        let comparable: Vec<&Arc<NodeView>> = nodes
            .iter()
            .filter(|node| node.id() != answered && node.eligibility(EndpointClass::Duty) == Eligibility::Yes)
            .filter(|node| endpoint != Endpoint::ProposerDutiesV1 || Some(node.vendor()) == vendor)
            .collect();
        let Some((second, others)) = comparable.split_first() else { return };
        let deadline = self.pool.deadline(EndpointClass::Duty);
        let root_of = |node: Arc<NodeView>| {
            let request = request.clone();
            async move {
                let good = ask(&node, request, Reading::Whole(MAX_BYTES), deadline).await.ok()?;
                Some((node.id(), dependent_root(&good)?))
            }
        };
        let Some(other) = root_of(Arc::clone(second)).await else { return };
        if other.1 == root {
            return;
        }
        let rest = join_all(others.iter().map(|node| root_of(Arc::clone(node)))).await;
        let roots: Vec<(UpstreamId, BlockRoot)> =
            std::iter::once((answered, root)).chain(std::iter::once(other)).chain(rest.into_iter().flatten()).collect();
        let values: Vec<BlockRoot> = roots.iter().map(|(_, root)| *root).collect();
        let winner = majority(&values, values.len()).and_then(|position| values.get(position)).copied();
        let outvoted: Vec<UpstreamId> = winner.map_or_else(Vec::new, |winner| {
            roots.iter().filter(|(_, root)| *root != winner).map(|(id, _)| *id).collect()
        });
        let reason = format!(
            "{} for epoch {epoch} depend on different blocks: {}; {}",
            endpoint.as_str(),
            roots.iter().map(|(id, root)| format!("upstream {id} on {root}")).collect::<Vec<_>>().join(", "),
            if winner.is_some() {
                "the majority's are given from now on"
            } else {
                "no majority, the first node's stay"
            }
        );
        // Before it is told, so that whoever is told finds it done.
        self.duties.outvote((epoch, endpoint), values, outvoted);
        self.pool.record_decision(Decision::general(DecisionKind::DutiesDiffer, reason).for_class(EndpointClass::Duty));
    }

    fn note_proposals(&self, good: &Good) {
        let Good::Whole(answer) = good else { return };
        if let Ok(duties) = serde_json::from_slice::<ProposerDuties>(&answer.body) {
            self.preparations.proposer_duties(duties.data.iter().map(|duty| (Slot(duty.slot), duty.validator_index)));
        }
    }
}
