//! The switcher in front of scripted nodes: which node saw what, when, and what the client got.
#![allow(clippy::disallowed_methods, reason = "tasks and clocks belong to the tests")]
#![allow(unreachable_pub, reason = "the modules of one test program")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails the test"
)]
#![allow(
    clippy::too_many_lines,
    clippy::match_same_arms,
    clippy::inconsistent_struct_constructor,
    reason = "a scenario reads best in one piece, a table row by row"
)]

#[path = "../scripted/mod.rs"]
mod scripted;

mod attestation;
mod bad_input;
mod balance;
mod duties;
mod events;
mod incidents;
mod prepare;
mod produce;
mod publish;
mod reads;
mod rows;
mod stage;
mod submit;
mod synthetic;
