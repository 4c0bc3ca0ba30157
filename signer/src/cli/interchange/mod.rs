//! `holdfast slashing import` and `export`: signing histories in and out.

mod export;
mod file;
mod import;
#[cfg(feature = "store-postgres")]
pub(super) mod web3signer;

pub(super) use export::export;
pub(super) use file::read_file;
pub(super) use import::{import, take_in};

/// The name that stands for standard input or output.
const STANDARD: &str = "-";
