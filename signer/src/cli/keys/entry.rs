//! Where protection of each imported key begins: the present, a history, both, or nothing.

use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_slashing_db::EntryWatermark;
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

/// Finds the entry of each key.
pub(super) struct Entries {
    watermark: WatermarkArg,
    histories: Option<Interchange>,
}

impl Entries {
    /// Reads the histories, if a file is given.
    ///
    /// # Errors
    /// [`Failure`] if the file cannot be read or is not for this chain.
    pub(super) fn new(args: &ImportArgs, chain: GenesisValidatorsRoot) -> Result<Self, Failure> {
        let file = args.slashing_protection.as_deref();
        let histories = file.map(|path| read_file(path, "--slashing-protection", chain)).transpose()?;
        Ok(Self { watermark: args.watermark, histories })
    }

    /// Where protection of a key begins; `None` if only a file may say and it does not.
    pub(super) fn of(&self, key: &PublicKey) -> Option<EntryWatermark> {
        let history = self.histories.as_ref().and_then(|histories| histories.get(key)).map(|history| history.floor);
        match (self.watermark, history) {
            (WatermarkArg::NeverSigned, _) => Some(EntryWatermark::NeverSigned),
            (WatermarkArg::Now, None) => Some(EntryWatermark::Now),
            (WatermarkArg::Now, Some(floor)) => Some(EntryWatermark::NowAnd(floor.into())),
            (WatermarkArg::Interchange, Some(floor)) => Some(EntryWatermark::AtLeast(floor.into())),
            (WatermarkArg::Interchange, None) => None,
        }
    }
}
