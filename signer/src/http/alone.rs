//! The metrics listener of a process without a signer: alive, ready, and the numbers of the pools.

use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::health::{admit, probe};
use super::host::HostPolicy;
use super::peer::Peer;
use super::reply::Reply;
use super::{server, status};
use crate::callers::{Callers, Door};
use crate::drain::Tasks;
use crate::status::Board;
use crate::switcher::Running;

/// What is asked of a switcher that runs alone.
pub(crate) struct AloneProbes {
    /// The switcher.
    pub(crate) running: Arc<Running>,
    /// What is shown at `/metrics`.
    pub(crate) registry: Arc<Registry>,
    /// Knows when the process is stopping.
    pub(crate) tasks: Tasks,
    /// Accepted `Host` headers.
    pub(crate) hosts: HostPolicy,
    /// Knows the callers.
    pub(crate) callers: Arc<Callers>,
    /// What `/metrics` asks of those who come; `None` if nothing.
    pub(crate) door: Option<Door>,
    /// The status page.
    pub(crate) board: Arc<Board>,
}

/// The text of a registry.
pub(crate) fn render(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry).map(|()| text)
}

impl AloneProbes {
    fn unready(&self) -> Option<String> {
        if self.tasks.is_leaving() { Some("shutting down".to_owned()) } else { self.running.unready() }
    }
}

impl server::Service for AloneProbes {
    async fn answer(self: Arc<Self>, peer: Arc<Peer>, request: Request<Incoming>) -> Reply {
        if let Err(error) = admit(&self.callers, self.door.as_ref(), &peer, &request).await {
            return error.reply();
        }
        if let Some(reply) = status::status(&self.hosts, &self.board, &request).await {
            return reply;
        }
        probe(&self.hosts, &request, || render(&self.registry), || self.unready()).unwrap_or_else(|error| error.reply())
    }
}
