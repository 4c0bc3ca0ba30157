//! What became of spans.

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Why a span never arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The queue was full: the collector is slow or away.
    Queue,
    /// Its request had more spans than are kept of one.
    Limit,
    /// The collector was away or answered with an error.
    #[cfg(feature = "otlp")]
    Unsent,
    /// The collector took the others, and not this one.
    #[cfg(feature = "otlp")]
    Rejected,
}

impl Lost {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Limit => "limit",
            #[cfg(feature = "otlp")]
            Self::Unsent => "unsent",
            #[cfg(feature = "otlp")]
            Self::Rejected => "rejected",
        }
    }
}

/// Label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Reason(&'static str);

impl EncodeLabelSet for Reason {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("reason", self.0)].encode(encoder)
    }
}

/// What is counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct TraceMetrics {
    sent: Counter,
    lost: Family<Reason, Counter>,
}

impl TraceMetrics {
    /// Registers everything, in the area of traces.
    pub(crate) fn register(&self, area: &mut Registry) {
        area.register("spans_sent", "Spans that the collector of traces has taken", self.sent.clone());
        area.register("spans_dropped", "Spans that never arrived at the collector of traces", self.lost.clone());
        // Shows zero before the first one, so that a rule can see the first.
        let _ = self.lost.get_or_create(&Reason(Lost::Queue.as_str()));
    }

    #[cfg(feature = "otlp")]
    pub(crate) fn sent(&self, spans: usize) {
        self.sent.inc_by(count(spans));
    }

    pub(crate) fn lost(&self, why: Lost, spans: usize) {
        if spans > 0 {
            self.lost.get_or_create(&Reason(why.as_str())).inc_by(count(spans));
        }
    }
}

fn count(spans: usize) -> u64 {
    u64::try_from(spans).unwrap_or(u64::MAX)
}

#[cfg(test)]
impl TraceMetrics {
    /// How many were lost in this way.
    pub(crate) fn lost_by(&self, why: Lost) -> u64 {
        self.lost.get_or_create(&Reason(why.as_str())).get()
    }
}
