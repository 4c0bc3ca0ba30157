//! The execution pool while it is changed, and its encrypted connections: against scripted JSON-RPC servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test: its tasks are its own, and a broken assumption must stop it"
)]

#[path = "../certificates/mod.rs"]
mod certificates;
#[path = "../execution_nodes/mod.rs"]
mod execution_nodes;
#[path = "../scripted/mod.rs"]
mod scripted;

mod balance;
mod control;
mod links;

use serde_json::{Value, json};

pub(crate) fn call(method: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": [] })
}

pub(crate) fn subscribe(id: u64) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "eth_subscribe", "params": ["newHeads"] })
}
