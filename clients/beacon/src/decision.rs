//! What the switcher decided, and why: logged, counted, kept for status, handed to whoever journals it.
//!
//! Why it exists: "why did duties move at 03:12" must have an answer. The crate knows no database, so the
//! journal is behind [`DecisionSink`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_domain::UnixMillis;

use crate::class::EndpointClass;
use crate::upstream::UpstreamName;

/// Decisions kept for status.
const KEPT: usize = 200;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $level:ident;)*) => {
        /// Kinds of decisions.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DecisionKind {
            $($(#[$doc])* $name,)*
        }

        impl DecisionKind {
            /// Name for labels, logs and the journal.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// How loud it is logged.
            pub const fn urgency(self) -> Urgency {
                match self {
                    $(Self::$name => Urgency::$level,)*
                }
            }
        }
    };
}

/// How loud a decision is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// As it should be.
    Info,
    /// Somebody should look.
    Warn,
}

kinds! {
    /// The network was pinned.
    Pinned = "pinned", Info;
    /// The nodes tell another schedule of future forks, which counts from now on.
    ScheduleChanged = "schedule_changed", Warn;
    /// A node answers for the first time.
    Joined = "joined", Info;
    /// A node answers again.
    Rejoined = "rejoined", Info;
    /// A node seems to have restarted.
    Restarted = "restarted", Info;
    /// A node does not answer any more.
    Left = "left", Warn;
    /// A node is trusted less.
    Demoted = "demoted", Warn;
    /// A node is trusted more.
    Promoted = "promoted", Info;
    /// Another node serves a class from now on.
    Switched = "switched", Warn;
    /// A node is on another network.
    Incompatible = "incompatible", Warn;
    /// A node will be on another network from a later fork on.
    ForkWarning = "fork_warning", Warn;
    /// Nobody can serve a class.
    NobodyLeft = "nobody_left", Warn;
    /// An upstream was added.
    Added = "added", Info;
    /// An upstream was removed.
    Removed = "removed", Info;
    /// An upstream is used with other settings, or another order of all of them counts.
    Reconfigured = "reconfigured", Info;
    /// An upstream is being drained.
    Drained = "drained", Info;
    /// An upstream is used again.
    Undrained = "undrained", Info;
    /// An upstream was preferred by the operator, or no longer is.
    Preferred = "preferred", Info;
    /// A vote on attestation data found no quorum.
    NoQuorum = "no_quorum", Warn;
    /// Nodes disagree on what duties depend on.
    DutiesDiffer = "duties_differ", Warn;
    /// A block was chosen among several.
    BlockChosen = "block_chosen", Info;
    /// A block was not passed on.
    BlockDiscarded = "block_discarded", Warn;
    /// Every node refused the same submission: not the nodes' fault.
    CommonRefusal = "common_refusal", Warn;
    /// A node refuses to tell which validators were seen, and is left out of that.
    LivenessLeftOut = "liveness_left_out", Warn;
    /// Remembered subscriptions were replayed to a node.
    Replayed = "replayed", Info;
    /// An event stream was lost or found stale.
    StreamLost = "stream_lost", Warn;
    /// An event stream is back.
    StreamBack = "stream_back", Info;
    /// Checkpoints were confirmed by the quorum.
    CheckpointsConfirmed = "checkpoints_confirmed", Info;
    /// Checkpoints were contradicted.
    CheckpointsDisagreed = "checkpoints_disagreed", Warn;
    /// Checkpoints could not be confirmed in time.
    CheckpointsUnknown = "checkpoints_unknown", Warn;
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What.
    pub kind: DecisionKind,
    /// About which upstream.
    pub upstream: Option<UpstreamName>,
    /// For which class.
    pub class: Option<EndpointClass>,
    /// Why, for people. Never contains credentials.
    pub reason: String,
}

impl Decision {
    /// A decision about an upstream.
    pub fn about(kind: DecisionKind, upstream: &UpstreamName, reason: impl Into<String>) -> Self {
        Self { kind, upstream: Some(upstream.clone()), class: None, reason: reason.into() }
    }

    /// A decision about no single upstream.
    pub fn general(kind: DecisionKind, reason: impl Into<String>) -> Self {
        Self { kind, upstream: None, class: None, reason: reason.into() }
    }

    /// For one class.
    #[must_use]
    pub fn for_class(mut self, class: EndpointClass) -> Self {
        self.class = Some(class);
        self
    }
}

/// Where decisions are written down. Called from the switcher's tasks: it must not block.
pub trait DecisionSink: Send + Sync + 'static {
    /// A decision was taken at `at`.
    fn decided(&self, at: UnixMillis, decision: &Decision);
}

/// Writes nothing down; decisions are still logged, counted and shown in status.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSink;

impl DecisionSink for NoSink {
    fn decided(&self, _at: UnixMillis, _decision: &Decision) {}
}

/// The last decisions, and where they go.
pub(crate) struct DecisionLog {
    kept: Mutex<VecDeque<(UnixMillis, Decision)>>,
    sink: Arc<dyn DecisionSink>,
}

impl DecisionLog {
    pub(crate) fn new(sink: Arc<dyn DecisionSink>) -> Self {
        Self { kept: Mutex::new(VecDeque::new()), sink }
    }

    pub(crate) fn record(&self, at: UnixMillis, decision: Decision) {
        let (kind, reason) = (decision.kind.as_str(), decision.reason.as_str());
        let upstream = decision.upstream.as_ref().map_or("-", UpstreamName::as_str);
        let class = decision.class.map_or("-", EndpointClass::as_str);
        match decision.kind.urgency() {
            Urgency::Info => tracing::info!(kind, upstream, class, reason, "switcher decision"),
            Urgency::Warn => tracing::warn!(kind, upstream, class, reason, "switcher decision"),
        }
        self.sink.decided(at, &decision);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((at, decision));
    }

    /// The last decisions, oldest first.
    pub(crate) fn last(&self) -> Vec<(UnixMillis, Decision)> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_decisions_are_kept_and_all_are_written_down() {
        #[derive(Default)]
        struct Counting(Mutex<usize>);
        impl DecisionSink for Counting {
            fn decided(&self, _at: UnixMillis, _decision: &Decision) {
                *self.0.lock().unwrap() += 1;
            }
        }
        let sink = Arc::new(Counting::default());
        let log = DecisionLog::new(Arc::clone(&sink) as Arc<dyn DecisionSink>);
        for number in 0..250u64 {
            log.record(UnixMillis(number), Decision::general(DecisionKind::Pinned, "test"));
        }
        let last = log.last();
        assert_eq!((last.len(), last[0].0, *sink.0.lock().unwrap()), (KEPT, UnixMillis(50), 250));
    }
}
