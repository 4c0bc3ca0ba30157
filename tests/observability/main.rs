//! What operators see, on the real binary: metrics against their table, dashboards and alerts on a real Prometheus, the
//! status page in a real browser, `holdfast top`.
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

mod alerts;
mod browser;
mod dashboards;
mod exposition;
mod guarded;
mod metrics_table;
mod page;
mod programs;
mod stage;
mod top;
mod traces;
