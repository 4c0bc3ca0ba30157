//! Asks the consensus clients about a vote before it is signed.
//!
//! Why it exists: slashing protection lets a first vote for a wrong chain pass, and such a vote cannot be taken
//! back. What it guarantees: under `enforce` an attestation goes to protection with an objection unless the quorum of
//! distinct implementations has the same source and target, and is then refused and in the journal; under `observe`
//! nothing waits and nothing is refused. It can only add refusals: permits still come from slashing protection alone.

use std::sync::{Arc, Mutex, PoisonError};

use holdfast_beacon::{BlockRoot, Checkpoint, Confirmation, Pool};
use holdfast_domain::message::Checkpoint as Signed;
use holdfast_domain::{Message, Slashable};
use holdfast_slashing_db::Objection;

use crate::config::CrossCheck;

/// Checks votes against a pool.
pub(crate) struct CrossChecker {
    pool: Arc<Pool>,
    policy: CrossCheck,
    /// What was last asked about: a thousand keys that vote for the same need one question.
    last: Mutex<Option<(Checkpoint, Checkpoint)>>,
}

impl CrossChecker {
    /// With the policy of the configuration.
    pub(crate) fn new(pool: Arc<Pool>, policy: CrossCheck) -> Self {
        Self { pool, policy, last: Mutex::default() }
    }

    /// What speaks against `message`, under `enforce` only. Takes at most the quorum's time, and under `observe` none.
    pub(crate) async fn objection(&self, message: &Message) -> Option<Objection> {
        let Message::Slashable(Slashable::Attestation(vote)) = message else { return None };
        let (source, target) = (named(&vote.source), named(&vote.target));
        match self.policy {
            CrossCheck::Off => None,
            CrossCheck::Observe => {
                if self.is_news(source, target) {
                    let pool = Arc::clone(&self.pool);
                    self.pool.tasks().spawn(async move {
                        // The pool counts and reports what comes out.
                        pool.confirm_checkpoints(source, target).await;
                    });
                }
                None
            }
            CrossCheck::Enforce => match self.pool.confirm_checkpoints(source, target).await {
                Confirmation::Confirmed { .. } => None,
                Confirmation::Disagreed { .. } => Some(Objection::CheckpointsDisagreed),
                Confirmation::Unknown(_) => Some(Objection::CheckpointsUnknown),
            },
        }
    }

    fn is_news(&self, source: Checkpoint, target: Checkpoint) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.replace((source, target)) != Some((source, target))
    }
}

fn named(checkpoint: &Signed) -> Checkpoint {
    Checkpoint { epoch: checkpoint.epoch, root: BlockRoot(checkpoint.root) }
}
