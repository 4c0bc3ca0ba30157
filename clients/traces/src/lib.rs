//! Traces: what a request went through, told to whoever collects the traces of the validator client, too.
//!
//! Why it exists: one duty passes a validator client, a signer, a switcher and a node. Each of them logs; only a context
//! that travels with the request says which lines belong together.
//!
//! What it guarantees: nothing here is ever waited for by a request. Spans are kept in memory within fixed bounds, given
//! to a queue when their request is over, and dropped and counted where the queue is full or the collector is away.
//! Whoever sets up no collector pays for reading one header. No attribute is made here: whoever adds one decides that it
//! is no secret.
//!
//! It follows the W3C's Trace Context, level 1, and the OpenTelemetry protocol (OTLP) 1.x, protobuf over HTTP. The nine
//! messages of it that are needed are written down in `otlp/messages.rs` (ADR 0045).

mod collector;
mod context;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod span;
mod tracer;

pub use collector::{Collector, CollectorError, Worker};
pub use context::{SpanId, TraceId, TraceParent};
pub use span::{Kind, Span, Value};
pub use tracer::Tracer;

/// The header that carries the context (W3C Trace Context, section 3.2).
pub const TRACEPARENT: &str = "traceparent";
/// The header that carries what each tracing system adds to it, passed on as it is (section 3.3).
pub const TRACESTATE: &str = "tracestate";
/// Whether this build can send spans to a collector: the feature `otlp`.
pub const CAN_SEND: bool = cfg!(feature = "otlp");
