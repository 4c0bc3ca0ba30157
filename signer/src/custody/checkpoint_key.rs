//! The key that signs checkpoints of the journal: made at the first start with a data key, sealed under it.
//!
//! Guarantees: it is never on disk unsealed; the public half lies beside it in the form auditors use; a sealed key that
//! does not open is left as it is and never replaced by itself, so that auditors are not shown a new key by mishap.

use std::path::PathBuf;

use holdfast_audit::checkpoint::CheckpointKey;
use holdfast_enclave::DurableError;
use holdfast_enclave::durable::{self, Existing};
use holdfast_enclave::seed::{self, SeedError, SeedPurpose};
use zeroize::Zeroizing;

use super::Custody;
use crate::config::Config;

/// Why checkpoints cannot be signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointKeyError {
    /// The file cannot be read.
    #[error("cannot read the checkpoint key {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot store the checkpoint key")]
    Write(#[source] DurableError),
    /// A new key could not be made.
    #[error("cannot make a checkpoint key")]
    Make(#[source] SeedError),
    /// It does not open.
    #[error(
        "the checkpoint key {} does not open, so no checkpoints are signed; bring the file back from a backup, or move \
         it away to have a new key made, and give auditors its public half, too", path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SeedError,
    },
    /// What was sealed is no key.
    #[error("the checkpoint key {} opens, but is not a key: report this as a bug", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

impl Custody {
    /// The checkpoint key, made if there is none yet; `None` while there is no data key to seal it with.
    ///
    /// # Errors
    /// [`CheckpointKeyError`]; what is on disk is then as it was.
    pub(crate) fn checkpoint_key(&self, config: &Config) -> Result<Option<CheckpointKey>, CheckpointKeyError> {
        let Some(data_key) = &self.data_key else { return Ok(None) };
        let (path, network) = (config.checkpoint_key(), &self.genesis_validators_root);
        let seed = match std::fs::read(&path) {
            Ok(sealed) => seed::open(data_key, network, SeedPurpose::Checkpoints, &sealed)
                .map_err(|source| CheckpointKeyError::Open { path: path.clone(), source })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut seed = Zeroizing::new([0; 32]);
                getrandom::fill(seed.as_mut_slice())
                    .map_err(|error| CheckpointKeyError::Make(SeedError::Random(error)))?;
                let sealed =
                    seed::seal(data_key, network, SeedPurpose::Checkpoints, &seed).map_err(CheckpointKeyError::Make)?;
                durable::write_private_file(&path, &sealed, Existing::Refuse).map_err(CheckpointKeyError::Write)?;
                seed
            }
            Err(source) => return Err(CheckpointKeyError::Read { path, source }),
        };
        let key = CheckpointKey::from_seed(seed.as_slice(), self.instance)
            .map_err(|_| CheckpointKeyError::Unusable { path: path.clone() })?;
        let public = format!("{}\n", key.verifying_key());
        let beside = config.checkpoint_public_key();
        if std::fs::read_to_string(&beside).is_ok_and(|stored| stored == public) {
            return Ok(Some(key));
        }
        durable::write_private_file(&beside, public.as_bytes(), Existing::Replace)
            .map_err(CheckpointKeyError::Write)?;
        Ok(Some(key))
    }
}
