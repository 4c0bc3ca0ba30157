//! Which requests are recorded, and what becomes of their spans.
//!
//! Guarantees: a request that is not recorded costs a comparison; one that is gives its spans away when it is over,
//! without waiting for anybody; no more than a fixed number of spans waits for the collector, however far away it is.

use core::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use holdfast_domain::Clock;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use crate::context::{SpanId, TraceId, TraceParent};
use crate::metrics::{Lost, TraceMetrics};
use crate::span::{Finished, Kind, Span};

/// Spans that wait for the collector at most: some megabytes.
pub(crate) const MAX_WAITING: usize = 8_192;
/// Spans of one request in one process at most: a batch for thousands of keys has more, and those are left out.
const MAX_OF_A_REQUEST: usize = 1_024;

/// Decides what is recorded. Cloning gives another handle on the same.
#[derive(Clone)]
pub struct Tracer(Arc<Shared>);

struct Shared {
    outlet: Option<Outlet>,
    metrics: TraceMetrics,
}

/// Where spans go.
#[cfg_attr(not(any(test, feature = "otlp")), allow(dead_code, reason = "without a collector there is none"))]
struct Outlet {
    sender: mpsc::UnboundedSender<Vec<Finished>>,
    waiting: Arc<AtomicUsize>,
    one_in: u32,
    clock: Arc<dyn Clock>,
}

/// The other end: spans of requests that are over.
#[cfg_attr(not(any(test, feature = "otlp")), allow(dead_code, reason = "without a collector nobody takes them"))]
pub(crate) struct Inlet {
    pub(crate) receiver: mpsc::UnboundedReceiver<Vec<Finished>>,
    pub(crate) waiting: Arc<AtomicUsize>,
    pub(crate) metrics: TraceMetrics,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("on", &self.is_on()).finish_non_exhaustive()
    }
}

impl Default for Tracer {
    fn default() -> Self {
        Self::off()
    }
}

impl Tracer {
    /// Records nothing.
    pub fn off() -> Self {
        Self(Arc::new(Shared { outlet: None, metrics: TraceMetrics::default() }))
    }

    /// Records, and gives spans to the inlet. Of the traces that begin here, one in so many; none if 0.
    #[cfg(any(test, feature = "otlp"))]
    pub(crate) fn on(one_in: u32, clock: Arc<dyn Clock>) -> (Self, Inlet) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (waiting, metrics) = (Arc::<AtomicUsize>::default(), TraceMetrics::default());
        let outlet = Outlet { sender, waiting: Arc::clone(&waiting), one_in, clock };
        (
            Self(Arc::new(Shared { outlet: Some(outlet), metrics: metrics.clone() })),
            Inlet { receiver, waiting, metrics },
        )
    }

    /// Whether anything is recorded at all.
    pub fn is_on(&self) -> bool {
        self.0.outlet.is_some()
    }

    /// Registers what is counted, in the area of traces.
    pub fn register(&self, area: &mut Registry) {
        self.0.metrics.register(area);
    }

    /// The first span here of a request, if the request is recorded: one that brings a context if that says so, another
    /// one as chance has it.
    pub fn begin(&self, parent: Option<TraceParent>, name: &'static str, kind: Kind) -> Option<Span> {
        let outlet = self.0.outlet.as_ref()?;
        if parent.is_some_and(|parent| !parent.sampled) || (parent.is_none() && outlet.one_in == 0) {
            return None;
        }
        let (mut trace, mut first) = ([0_u8; 16], [0_u8; 8]);
        // Without chance there are no traces; the request is served all the same.
        getrandom::fill(&mut first).ok()?;
        let trace = if let Some(parent) = parent {
            parent.trace
        } else {
            getrandom::fill(&mut trace).ok()?;
            TraceId::new(trace).filter(|trace| chosen(trace, outlet.one_in))?
        };
        let recording = Arc::new(Recording {
            shared: Arc::clone(&self.0),
            trace,
            next: AtomicU64::new(u64::from_be_bytes(first)),
            origin: (outlet.clock.now().0.saturating_mul(1_000_000), Instant::now()),
            spans: Mutex::default(),
        });
        let began = recording.origin.1;
        Some(Span::new(recording, parent.map(|parent| parent.span), name, kind, began))
    }
}

/// Whether a trace is one in so many. Every process that goes by the same number chooses the same traces.
fn chosen(trace: &TraceId, one_in: u32) -> bool {
    let (_, low) = trace.as_bytes().split_at(8);
    let low = low.iter().fold(0_u64, |low, byte| (low << 8) | u64::from(*byte));
    low.checked_rem(u64::from(one_in)) == Some(0)
}

/// What one request is recorded in, in this process.
pub(crate) struct Recording {
    shared: Arc<Shared>,
    trace: TraceId,
    /// From a random number on, so that two processes do not use the same.
    next: AtomicU64,
    /// The same moment on both clocks: nanoseconds since 1970, and the one that does not jump.
    origin: (u64, Instant),
    spans: Mutex<Vec<Finished>>,
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("trace", &self.trace).finish_non_exhaustive()
    }
}

impl Recording {
    pub(crate) fn trace(&self) -> TraceId {
        self.trace
    }

    pub(crate) fn next_id(&self) -> SpanId {
        loop {
            if let Some(id) = SpanId::new(self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes()) {
                return id;
            }
        }
    }

    /// A moment as nanoseconds since 1970.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        let (nanos, origin) = self.origin;
        let length = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match at.checked_duration_since(origin) {
            Some(after) => nanos.saturating_add(length(after)),
            None => nanos.saturating_sub(length(origin.saturating_duration_since(at))),
        }
    }

    pub(crate) fn push(&self, span: Finished) {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        // What the pieces are pieces of is never left out.
        if spans.len() < MAX_OF_A_REQUEST || span.kind == Kind::Server {
            spans.push(span);
        } else {
            self.shared.metrics.lost(Lost::Limit, 1);
        }
    }
}

impl Drop for Recording {
    /// The last span has ended.
    fn drop(&mut self) {
        let spans = std::mem::take(self.spans.get_mut().unwrap_or_else(PoisonError::into_inner));
        let (Some(outlet), count) = (&self.shared.outlet, spans.len()) else { return };
        let before = outlet.waiting.fetch_add(count, Ordering::Relaxed);
        let room = before.saturating_add(count) <= MAX_WAITING;
        if !room || outlet.sender.send(spans).is_err() {
            outlet.waiting.fetch_sub(count, Ordering::Relaxed);
            self.shared.metrics.lost(Lost::Queue, count);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves: what is recorded and what is not, how spans hang together, and that neither a queue nor a request grows.
    use std::time::Duration;

    use holdfast_domain::UnixMillis;

    use super::*;
    use crate::span::Value;

    struct At(u64);

    impl Clock for At {
        fn now(&self) -> UnixMillis {
            UnixMillis(self.0)
        }
    }

    fn tracer(one_in: u32) -> (Tracer, Inlet) {
        Tracer::on(one_in, Arc::new(At(1_700_000_000_000)))
    }

    fn parent(sampled: bool) -> TraceParent {
        let flag = u8::from(sampled);
        TraceParent::parse(&format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0{flag}")).unwrap()
    }

    #[test]
    fn who_asks_decides_and_else_chance() {
        assert!(Tracer::off().begin(Some(parent(true)), "request", Kind::Server).is_none());
        assert!(tracer(1).0.begin(Some(parent(false)), "request", Kind::Server).is_none());
        assert!(tracer(0).0.begin(None, "request", Kind::Server).is_none());
        assert!(tracer(0).0.begin(Some(parent(true)), "request", Kind::Server).is_some());
        assert!(tracer(1).0.begin(None, "request", Kind::Server).is_some());
        let (tracer, _inlet) = tracer(10);
        let begun = (0..10_000).filter(|_| tracer.begin(None, "request", Kind::Server).is_some()).count();
        assert!((700..1_300).contains(&begun), "{begun} of 10,000 are one in ten");
    }

    #[test]
    fn spans_hang_together_and_go_out_when_the_last_one_ends() {
        let (tracer, mut inlet) = tracer(1);
        let mut request = tracer.begin(Some(parent(true)), "request", Kind::Server).unwrap();
        let context = request.context();
        assert_eq!((context.trace, context.sampled), (parent(true).trace, true));
        let mut child = request.child("step", Kind::Internal);
        child.set("slot", 7_u64);
        child.fail("refused");
        let began = request.began();
        child.past("half", began, began + Duration::from_millis(3));
        request.set("http.response.status_code", 200_u64);
        drop(request);
        assert!(inlet.receiver.try_recv().is_err(), "a piece of it goes on");
        drop(child);
        let spans = inlet.receiver.try_recv().unwrap();
        assert_eq!(spans.iter().map(|span| span.name).collect::<Vec<_>>(), ["half", "request", "step"]);
        let [half, request, step] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!(request.parent, Some(parent(true).span));
        assert_eq!((step.parent, half.parent), (Some(request.id), Some(step.id)));
        assert_eq!(context.span, request.id);
        assert!(spans.iter().all(|span| span.trace == parent(true).trace && span.ended >= span.began));
        assert_eq!(half.ended - half.began, 3_000_000);
        assert_eq!(request.began, 1_700_000_000_000_000_000);
        assert_eq!(step.failed.as_deref(), Some("refused"));
        assert_eq!(step.attributes, [("slot", Value::Number(7))]);
        assert_eq!(inlet.waiting.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn nothing_grows_while_nobody_takes_spans() {
        let (tracer, mut inlet) = tracer(1);
        for _ in 0..MAX_WAITING + 100 {
            drop(tracer.begin(None, "request", Kind::Server).unwrap());
        }
        assert_eq!(inlet.waiting.load(Ordering::Relaxed), MAX_WAITING);
        assert_eq!(inlet.metrics.lost_by(Lost::Queue), 100);
        let mut waiting = 0;
        while let Ok(spans) = inlet.receiver.try_recv() {
            waiting += spans.len();
        }
        assert_eq!(waiting, MAX_WAITING);
        inlet.waiting.store(0, Ordering::Relaxed);

        let request = tracer.begin(None, "batch", Kind::Server).unwrap();
        for _ in 0..MAX_OF_A_REQUEST + 5 {
            drop(request.child("sign", Kind::Internal));
        }
        drop(request);
        let spans = inlet.receiver.try_recv().unwrap();
        assert_eq!(spans.len(), MAX_OF_A_REQUEST + 1);
        assert_eq!(spans.last().unwrap().name, "batch");
        assert_eq!(inlet.metrics.lost_by(Lost::Limit), 5);
    }
}
