//! How requests are followed: the trace they belong to, and the steps of it that are taken here.
//!
//! Why it exists: the walk of a request should read the same whether anybody records it or not. A [`Course`] of a
//! request that is not recorded does nothing; one that brings a context keeps its number for the log all the same.
//!
//! Guarantees: nothing here is waited for by a request. What leaves the process in spans is what logs have: the public
//! key shortened, no signing root, no address of a client.

use std::sync::Arc;

use holdfast_domain::Clock;
use holdfast_enclave::durable::check_private_permissions;
use holdfast_traces::{Collector, CollectorError, Kind, Span, TRACEPARENT, TraceId, TraceParent, Tracer, Value};
use hyper::header::HeaderMap;
use tracing::field::{DisplayValue, display};

use crate::config::Config;
use crate::drain::Tasks;

/// How long the last spans have at the end of the process.
const FAREWELL: std::time::Duration = std::time::Duration::from_millis(1_500);

/// A request, or a step of it, as it is followed.
#[derive(Debug, Default)]
pub(crate) struct Course {
    trace: Option<TraceId>,
    span: Option<Span>,
}

impl Course {
    /// A request that has come in.
    pub(crate) fn begin(tracer: &Tracer, headers: &HeaderMap, name: &'static str) -> Self {
        let parent = headers.get(TRACEPARENT).and_then(|value| TraceParent::parse(value.to_str().ok()?));
        let span = tracer.begin(parent, name, Kind::Server);
        let trace = parent.map(|parent| parent.trace).or_else(|| span.as_ref().map(Span::trace));
        Self { trace, span }
    }

    /// A step of it, from now until it is dropped.
    pub(crate) fn step(&self, name: &'static str) -> Self {
        Self { trace: self.trace, span: self.span.as_ref().map(|span| span.child(name, Kind::Internal)) }
    }

    /// The trace it belongs to, for the log.
    pub(crate) fn trace(&self) -> Option<DisplayValue<TraceId>> {
        self.trace.map(display)
    }

    /// Adds what is worth knowing, if it is recorded.
    pub(crate) fn set<V: Into<Value>>(&mut self, name: &'static str, value: impl FnOnce() -> V) {
        if let Some(span) = &mut self.span {
            span.set(name, value());
        }
    }

    /// It failed, for this reason: a stable word.
    pub(crate) fn fail(&mut self, reason: &'static str) {
        if let Some(span) = &mut self.span {
            span.fail(reason);
        }
    }

    /// Its parts, one after the other from its beginning, as they were measured elsewhere.
    pub(crate) fn parts(&self, parts: &[(&'static str, std::time::Duration)]) {
        let Some(span) = &self.span else { return };
        let mut began = span.began();
        for (name, length) in parts {
            let Some(ended) = began.checked_add(*length) else { return };
            span.past(name, began, ended);
            began = ended;
        }
    }
}

/// Why traces cannot be sent as configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TracesError {
    /// The file with headers.
    #[error("otlp.headers_file: {} cannot be used", path.display())]
    Headers {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The rest.
    #[error("[otlp]")]
    Collector(#[from] CollectorError),
}

/// What sends spans, until it is told to stop.
pub(crate) struct Sending(Tasks);

impl Sending {
    /// Sends what there is, within a bound.
    pub(crate) async fn stop(self) {
        if self.0.stop(FAREWELL).await.is_err() {
            tracing::debug!("the last spans were not sent");
        }
    }
}

/// Starts what is configured.
///
/// # Errors
/// [`TracesError`] if it cannot be used as configured; nobody is asked yet.
pub(crate) fn start(config: &Config, clock: &Arc<dyn Clock>) -> Result<(Tracer, Sending), TracesError> {
    let tasks = Tasks::new();
    let Some(collector) = collector(config)? else { return Ok((Tracer::off(), Sending(tasks))) };
    let (tracer, worker) = collector.start(Arc::clone(clock))?;
    let mut stopping = tasks.stopping();
    tasks.spawn(worker.run(async move { stopping.begun().await }));
    Ok((tracer, Sending(tasks)))
}

fn collector(config: &Config) -> Result<Option<Collector>, TracesError> {
    let otlp = &config.otlp;
    let Some(endpoint) = otlp.endpoint.clone() else { return Ok(None) };
    let headers = match &otlp.headers_file {
        None => String::new(),
        Some(path) => {
            let unusable = |source| TracesError::Headers { path: path.clone(), source };
            check_private_permissions(path).map_err(|error| unusable(error.into()))?;
            std::fs::read_to_string(path).map_err(|error| unusable(error.into()))?
        }
    };
    let machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Some(Collector {
        endpoint,
        headers,
        ca_file: otlp.ca_file.clone(),
        version: env!("CARGO_PKG_VERSION"),
        instance: otlp.service_instance.clone().unwrap_or_else(machine),
        one_in: otlp.sample_one_in,
    }))
}

#[cfg(test)]
mod tests {
    //! Proves: what a request brings is kept for the log, and nothing is recorded where nobody collects.
    use super::*;

    fn course(value: &'static str) -> Course {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, hyper::header::HeaderValue::from_static(value));
        Course::begin(&Tracer::off(), &headers, "request")
    }

    #[test]
    fn a_context_is_kept_and_what_is_none_is_not() {
        let mut course = course("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(course.trace().unwrap().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(course.step("policy").trace().unwrap().to_string(), "0af7651916cd43dd8448eb211c80319c");
        course.set("never", || -> u64 { panic!("nobody records it") });
        course.fail("refused");
        assert!(course.span.is_none());
        for value in ["", "garbage", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert!(self::course(value).trace().is_none(), "{value}");
        }
        assert!(Course::begin(&Tracer::off(), &HeaderMap::new(), "request").trace().is_none());
    }
}
