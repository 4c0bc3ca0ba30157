//! Holdfast: one program that holds validator keys, signs for validator clients through the
//! Web3Signer API, and never signs anything slashable.
//!
//! This file only starts the command line. [`app`] is where a server is put together,
//! [`pipeline`] is the walk of a request, [`cli`] holds the commands.

mod admin;
mod anchors;
mod app;
mod approval;
mod ask;
mod callers;
mod checkpoints;
mod cli;
mod clock;
mod config;
mod custody;
mod deposit;
mod doors;
mod drain;
mod exchange;
mod exits;
mod follow;
mod glance;
mod http;
mod journals;
mod keymanager;
#[cfg(feature = "backend-process")]
mod lease;
mod loader;
mod metrics;
mod notify;
mod outcome;
mod pipeline;
mod policy;
mod process;
mod reload;
mod rollback;
mod status;
mod switcher;
mod telemetry;
mod tls;
mod traces;
mod unseal;
mod upkeep;
mod vault;
mod witness;

use std::process::ExitCode;

#[cfg(not(feature = "store-sqlite"))]
compile_error!("a signer needs a store for slashing protection: enable the feature store-sqlite");
#[cfg(not(any(feature = "provider-file", feature = "provider-passphrase")))]
compile_error!("a signer needs a key provider: enable the feature provider-file or provider-passphrase");
#[cfg(not(feature = "backend-local"))]
compile_error!("a signer needs a backend that signs: enable the feature backend-local");

fn main() -> ExitCode {
    cli::main()
}
