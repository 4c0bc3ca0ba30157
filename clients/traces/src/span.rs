//! Spans: a piece of what is done for a request, with its beginning, its end and what is worth knowing of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use crate::context::{SpanId, TraceId, TraceParent};
use crate::tracer::Recording;

/// On which side of a connection a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Neither: work within the process.
    Internal,
    /// It answers somebody.
    Server,
    /// It asks somebody.
    Client,
}

/// What is known of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Number(u64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(not(any(test, feature = "otlp")), allow(dead_code, reason = "without a collector nobody reads them"))]
pub(crate) struct Finished {
    pub(crate) trace: TraceId,
    pub(crate) id: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Nanoseconds since 1970.
    pub(crate) began: u64,
    /// Nanoseconds since 1970.
    pub(crate) ended: u64,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    /// Why it failed; `None` if it did not.
    pub(crate) failed: Option<Cow<'static, str>>,
}

/// A span in progress. It ends when it is dropped, also by a request that is given up.
#[derive(Debug)]
pub struct Span {
    recording: Arc<Recording>,
    id: SpanId,
    parent: Option<SpanId>,
    name: &'static str,
    kind: Kind,
    began: Instant,
    attributes: Vec<(&'static str, Value)>,
    failed: Option<Cow<'static, str>>,
}

impl Span {
    pub(crate) fn new(
        recording: Arc<Recording>,
        parent: Option<SpanId>,
        name: &'static str,
        kind: Kind,
        began: Instant,
    ) -> Self {
        let id = recording.next_id();
        Self { recording, id, parent, name, kind, began, attributes: Vec::new(), failed: None }
    }

    /// A piece of this one, from now on.
    #[must_use]
    pub fn child(&self, name: &'static str, kind: Kind) -> Self {
        Self::new(Arc::clone(&self.recording), Some(self.id), name, kind, Instant::now())
    }

    /// A piece of this one that is over: from one moment to another.
    pub fn past(&self, name: &'static str, began: Instant, ended: Instant) {
        let child = Self::new(Arc::clone(&self.recording), Some(self.id), name, Kind::Internal, began);
        child.end_at(ended);
    }

    /// Adds something worth knowing. It leaves the process: no secrets.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.push((name, value.into()));
    }

    /// It failed, with this stable word or short text.
    pub fn fail(&mut self, why: impl Into<Cow<'static, str>>) {
        self.failed = Some(why.into());
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The context for whoever is asked in the course of this span.
    pub fn context(&self) -> TraceParent {
        TraceParent { trace: self.recording.trace(), span: self.id, sampled: true }
    }

    /// The trace it belongs to.
    pub fn trace(&self) -> TraceId {
        self.recording.trace()
    }

    /// Ends it at another moment than that of its drop.
    pub fn end_at(mut self, ended: Instant) {
        self.finish(ended);
        // What is left of it is empty, and says so by having no name.
        self.name = "";
    }

    fn finish(&mut self, ended: Instant) {
        if self.name.is_empty() {
            return;
        }
        self.recording.push(Finished {
            trace: self.recording.trace(),
            id: self.id,
            parent: self.parent,
            name: self.name,
            kind: self.kind,
            began: self.recording.nanos(self.began),
            ended: self.recording.nanos(ended),
            attributes: std::mem::take(&mut self.attributes),
            failed: self.failed.take(),
        });
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.finish(Instant::now());
    }
}
