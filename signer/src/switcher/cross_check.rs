//! Asks the consensus clients about a vote before it is signed.
//!
//! Why it exists: slashing protection lets a first vote for a wrong chain pass, and such a vote cannot be taken
//! back. What it guarantees: under `enforce` an attestation goes on to protection only if the quorum of distinct
//! implementations has the same source and target; under `observe` nothing waits and nothing is refused. It can
//! only add refusals: permits still come from slashing protection alone.

use std::sync::{Arc, Mutex, PoisonError};

use holdfast_beacon::{BlockRoot, Checkpoint, Confirmation, Pool};
use holdfast_domain::message::Checkpoint as Signed;
use holdfast_domain::{Message, Slashable};

use crate::config::CrossCheck;

/// Why a vote is not signed although protection might permit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unconfirmed {
    /// The nodes agree on something else.
    #[error(
        "the consensus clients agree on another source or target than this attestation has; `holdfast switcher status` \
         shows which"
    )]
    Disagreed,
    /// Nobody knows.
    #[error("the consensus clients did not confirm this attestation's source and target in time")]
    Unknown,
}

impl Unconfirmed {
    /// Stable word for responses, logs and metrics.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Disagreed => "checkpoints_disagreed",
            Self::Unknown => "checkpoints_unknown",
        }
    }
}

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

    /// Whether protection may be asked to permit `message`. Takes at most the quorum's time, and under `observe` none.
    ///
    /// # Errors
    /// [`Unconfirmed`], under `enforce` only.
    pub(crate) async fn check(&self, message: &Message) -> Result<(), Unconfirmed> {
        let Message::Slashable(Slashable::Attestation(vote)) = message else { return Ok(()) };
        let (source, target) = (named(&vote.source), named(&vote.target));
        match self.policy {
            CrossCheck::Off => Ok(()),
            CrossCheck::Observe => {
                if self.is_news(source, target) {
                    let pool = Arc::clone(&self.pool);
                    self.pool.tasks().spawn(async move {
                        // The pool counts and reports what comes out.
                        pool.confirm_checkpoints(source, target).await;
                    });
                }
                Ok(())
            }
            CrossCheck::Enforce => match self.pool.confirm_checkpoints(source, target).await {
                Confirmation::Confirmed { .. } => Ok(()),
                Confirmation::Disagreed { .. } => Err(Unconfirmed::Disagreed),
                Confirmation::Unknown(_) => Err(Unconfirmed::Unknown),
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
