//! The collector of traces as it is configured, and what a build without the feature `otlp` says to it.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use holdfast_domain::Clock;

#[cfg(feature = "otlp")]
use crate::otlp::Sender;
use crate::tracer::Tracer;

/// Where traces go, and what is said of this process there.
#[derive(Debug, Clone)]
pub struct Collector {
    /// Address, without `/v1/traces`: `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// Lines `Name: value`, sent with every request; secrets as a rule.
    pub headers: String,
    /// Whom to trust instead of Mozilla's authorities (PEM).
    pub ca_file: Option<PathBuf>,
    /// `service.version` of the resource.
    pub version: &'static str,
    /// `service.instance.id` of the resource.
    pub instance: String,
    /// Of the traces that begin here, one in so many is sent; none if 0. Who brings a context decides for itself.
    pub one_in: u32,
}

/// Why a collector cannot be used as configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectorError {
    /// The address.
    #[error(
        "the address of the collector is no http:// or https:// address without user, password and query, such as http://127.0.0.1:4318"
    )]
    Endpoint,
    /// The headers. The value is not shown.
    #[error("line {line} of the headers for the collector is not \"Name: value\"")]
    Header {
        /// Which line, from 1.
        line: usize,
    },
    /// The authorities.
    #[error("{} holds no usable certificate authorities (PEM)", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The library for TLS.
    #[error("TLS cannot be set up")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// This build sends nothing.
    #[error("this build cannot send traces: build with the feature otlp")]
    NotBuilt,
}

/// Brings spans to the collector, until it is told to stop.
#[derive(Debug)]
pub struct Worker(#[cfg(feature = "otlp")] Sender, #[cfg(not(feature = "otlp"))] std::convert::Infallible);

impl Collector {
    /// A tracer that records for this collector, and what brings it there. Nobody is asked yet.
    ///
    /// # Errors
    /// [`CollectorError`] if it cannot be used as configured, or not in this build.
    #[cfg(feature = "otlp")]
    pub fn start(self, clock: Arc<dyn Clock>) -> Result<(Tracer, Worker), CollectorError> {
        self.sender(clock).map(|(tracer, sender)| (tracer, Worker(sender)))
    }

    /// Says that this build cannot send traces.
    ///
    /// # Errors
    /// [`CollectorError::NotBuilt`], always.
    #[cfg(not(feature = "otlp"))]
    pub fn start(self, _clock: Arc<dyn Clock>) -> Result<(Tracer, Worker), CollectorError> {
        Err(CollectorError::NotBuilt)
    }
}

impl Worker {
    /// Sends what there is as it comes, until `stopping` completes; then once more what there is.
    pub async fn run(self, stopping: impl Future<Output = ()> + Send) {
        #[cfg(feature = "otlp")]
        self.0.run(stopping).await;
        #[cfg(not(feature = "otlp"))]
        {
            drop(stopping);
            match self.0 {}
        }
    }
}
