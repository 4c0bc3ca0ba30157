//! Signing histories through the real binary: EIP-3076 files in and out on the command line and over the
//! Keymanager API, judged by what the signing API then signs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

mod bad_input;
mod handover;
mod keymanager;
mod migrate;
mod migrate_clients;
mod migrate_google;
mod migrate_stores;
mod on_postgres;
mod support;
mod vectors;
mod web3signer;
mod web3signer_bad;
mod web3signer_db;
mod wrong_database;
