//! The switcher in the real binary: by itself, with live control, and beside the signer, with scripted nodes. With real
//! nodes and a real validator client it runs in the comparison (`--bin failover`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test: a broken assumption must stop it with a message"
)]

#[path = "../../clients/beacon/tests/scripted/mod.rs"]
mod scripted;

#[allow(dead_code, reason = "the tests of access use all of it")]
#[path = "../access/client.rs"]
mod client;
#[allow(dead_code, reason = "the tests of access use all of it")]
#[path = "../access/stage.rs"]
mod stage;

mod alone;
mod doppelganger;
mod execution;
mod journal;
mod tls;
