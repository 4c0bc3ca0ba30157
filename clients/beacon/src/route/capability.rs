//! Which node does not take or give which form of which endpoint.
//!
//! Why it exists: a node that answered 415 or 406 once will do so again, and a duty has no time for a
//! second attempt each slot. What it guarantees: what is remembered is forgotten when the node's version
//! changes; not knowing means trying.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::attestation::Form;
use super::table::Endpoint;
use crate::{NodeView, UpstreamId};

/// What a form is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    /// In the request's body: 415.
    Request,
    /// In the answer's: 406.
    Answer,
}

type Key = (UpstreamId, Endpoint, Form, Direction);

/// What nodes refused. Holds at most nodes times endpoints times four entries.
#[derive(Debug, Default)]
pub(super) struct Capabilities(Mutex<HashMap<Key, String>>);

fn version(node: &NodeView) -> String {
    node.version.as_ref().map(|version| version.text.to_string()).unwrap_or_default()
}

impl Capabilities {
    /// The node refused.
    pub(super) fn refused(&self, node: &NodeView, endpoint: Endpoint, form: Form, direction: Direction) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((node.id(), endpoint, form, direction), version(node));
    }

    /// Whether the node, in its present version, is known to refuse.
    pub(super) fn refuses(&self, node: &NodeView, endpoint: Endpoint, form: Form, direction: Direction) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(node.id(), endpoint, form, direction)).is_some_and(|at| *at == version(node))
    }
}
