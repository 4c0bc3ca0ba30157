//! Genesis, specification, fork schedule, deposit contract: one node's answer, kept.
//!
//! Why it exists: validator clients ask for them at start and give up when nobody answers; they are the same on
//! every node of the network. What it guarantees: after the first good answer there is always one, of a
//! node that passed the pool's compatibility gate, byte for byte; it is asked for again each epoch.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use holdfast_domain::Epoch;

use super::Switcher;
use super::hedge::{HedgeRule, hedged};
use super::judge::{Good, Reading};
use super::request::{ClientAnswer, ClientRequest};
use super::table::Endpoint;
use crate::health::{Compatibility, HealthTier};
use crate::upstream::CollectedAnswer;

/// Far above any specification.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Answers kept.
#[derive(Debug, Default)]
pub(super) struct PinnedAnswers(Mutex<HashMap<Endpoint, (Option<Epoch>, CollectedAnswer)>>);

impl PinnedAnswers {
    fn get(&self, endpoint: Endpoint) -> Option<(Option<Epoch>, CollectedAnswer)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&endpoint).cloned()
    }

    fn keep(&self, endpoint: Endpoint, epoch: Option<Epoch>, answer: CollectedAnswer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint, (epoch, answer));
    }
}

impl Switcher {
    pub(super) async fn pinned_answer(&self, endpoint: Endpoint, request: &ClientRequest) -> ClientAnswer {
        let epoch = self.pool.epoch();
        let kept = self.pinned.get(endpoint);
        if let Some((at, answer)) = &kept
            && *at == epoch
        {
            return ClientAnswer::collected(answer.clone());
        }
        let class = endpoint.class();
        let mut nodes = self.pool.view().candidates(class);
        // A node that knows too few forks to come, or too many, only speaks when no better one can.
        nodes.sort_by_key(|node| {
            let is_fit = node.health.tier > HealthTier::LastResort;
            let agrees = node.observation.compatibility == Compatibility::Compatible;
            std::cmp::Reverse((is_fit, agrees))
        });
        let rule = HedgeRule::small(self.slot_length());
        let upstream = request.to_upstream(class);
        let deadline = self.pool.deadline(class);
        match (hedged(&nodes, &upstream, Reading::Whole(MAX_BYTES), rule, deadline).await, kept) {
            (Ok((_, Good::Whole(answer))), _) => {
                self.pinned.keep(endpoint, epoch, answer.clone());
                ClientAnswer::collected(answer)
            }
            (Ok((_, good @ Good::Streaming(..))), _) => good.into_answer(),
            // It has not changed only because nobody can be asked.
            (Err(_), Some((_, answer))) => ClientAnswer::collected(answer),
            (Err(exhausted), None) => exhausted.into_answer(),
        }
    }
}
