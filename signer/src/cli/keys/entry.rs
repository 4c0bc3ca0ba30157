//! Where protection of each imported key begins: the present, a history, both, or nothing.

use holdfast_domain::GenesisValidatorsRoot;
use holdfast_slashing_db::interchange::Interchange;

use super::super::args::{ImportArgs, WatermarkArg};
use super::super::interchange::read_file;
use super::super::{Exit, Failure};

/// Said of a key that the only source of protection does not know.
pub(super) const NOT_LISTED: &str = "the file given with --slashing-protection does not list this key, so it says \
     nothing about what the key has signed; use --watermark now";

/// Refuses combinations that mean nothing, before anything is opened.
///
/// # Errors
/// [`Failure`] (usage).
pub(super) fn check(args: &ImportArgs) -> Result<(), Failure> {
    let problem = match (args.watermark, &args.slashing_protection) {
        (WatermarkArg::Interchange, None) => {
            "--watermark interchange needs the file that says what the keys have signed: --slashing-protection FILE"
        }
        (WatermarkArg::NeverSigned, Some(_)) => {
            "--watermark never-signed and --slashing-protection contradict each other; use --watermark now"
        }
        (WatermarkArg::Interchange, Some(_)) | (WatermarkArg::Now, _) | (WatermarkArg::NeverSigned, None) => {
            return Ok(());
        }
    };
    Err(Failure::message(Exit::Usage, problem))
}

/// What keys have signed elsewhere, if a file is given.
///
/// # Errors
/// [`Failure`] if the file cannot be read or is not for this chain.
pub(super) fn histories(args: &ImportArgs, chain: GenesisValidatorsRoot) -> Result<Option<Interchange>, Failure> {
    args.slashing_protection.as_deref().map(|path| read_file(path, "--slashing-protection", chain)).transpose()
}
