//! Who gets in, on the real binary: TLS with files that `openssl` made, certificates, tokens and Unix users as callers,
//! and what those do who should not get in.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: a broken assumption must stop it with a message"
)]

mod admin;
mod approvals;
mod callers;
mod client;
mod commands;
mod files;
mod hostile;
mod matrix;
mod migrate;
mod revoked;
mod rotation;
mod stage;
