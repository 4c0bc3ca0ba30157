//! The key that signs checkpoints of the journal: made at the first start with a data key, sealed under it, and sealed
//! anew when it is replaced.
//!
//! Guarantees: it is never on disk unsealed; the public half lies beside it in the form auditors use; a sealed key that
//! does not open is left as it is and never replaced by itself, so that auditors are not shown a new key by mishap.

use std::path::{Path, PathBuf};

use holdfast_audit::checkpoint::CheckpointKey;
use holdfast_enclave::durable::{self, Existing};
use holdfast_enclave::seed::{self, SEALED_SEED_LEN, SeedError, SeedPurpose};
use holdfast_enclave::{DataKey, DurableError};
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
        let path = config.checkpoint_key();
        let seed = if let Some(sealed) = read(&path)? {
            self.open_seed(data_key, &sealed)
                .map_err(|source| CheckpointKeyError::Open { path: path.clone(), source })?
        } else {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(seed.as_mut_slice()).map_err(|error| CheckpointKeyError::Make(SeedError::Random(error)))?;
            let sealed = self.seal_seed(data_key, &seed)?;
            durable::write_private_file(&path, &sealed, Existing::Refuse).map_err(CheckpointKeyError::Write)?;
            seed
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

    /// Seals the checkpoint key under a data key that is about to replace the present one, besides the present one: so
    /// that it opens whichever of the two the database ends up with. Does nothing if there is none, or if it does not
    /// open now.
    ///
    /// # Errors
    /// [`CheckpointKeyError`]; what is on disk is then as it was.
    pub(super) fn prepare_checkpoint_key(
        &self,
        config: &Config,
        present: &DataKey,
        next: &DataKey,
    ) -> Result<(), CheckpointKeyError> {
        let path = config.checkpoint_key();
        let Some(sealed) = read(&path)? else { return Ok(()) };
        let Ok(seed) = self.open_seed(present, &sealed) else { return Ok(()) };
        let both = [self.seal_seed(present, &seed)?, self.seal_seed(next, &seed)?].concat();
        durable::write_private_file(&path, &both, Existing::Replace).map_err(CheckpointKeyError::Write)
    }

    /// Sees to it that a checkpoint key which is in use is sealed under the present data key, and no other: after it was
    /// replaced, here or by another signer on the same database.
    ///
    /// # Errors
    /// [`CheckpointKeyError`]; what is on disk is then as it was.
    pub(crate) fn settle_checkpoint_key(&self, config: &Config, key: &CheckpointKey) -> Result<(), CheckpointKeyError> {
        let Some(data_key) = &self.data_key else { return Ok(()) };
        let path = config.checkpoint_key();
        let settled = read(&path)?
            .is_some_and(|sealed| sealed.len() == SEALED_SEED_LEN && self.open_seed(data_key, &sealed).is_ok());
        if settled {
            return Ok(());
        }
        let seed = key.seed().map_err(|_| CheckpointKeyError::Unusable { path: path.clone() })?;
        let sealed = self.seal_seed(data_key, &seed)?;
        durable::write_private_file(&path, &sealed, Existing::Replace).map_err(CheckpointKeyError::Write)
    }

    /// Opens the first of the sealed seeds that this data key opens.
    fn open_seed(&self, data_key: &DataKey, sealed: &[u8]) -> Result<Zeroizing<[u8; 32]>, SeedError> {
        let mut problem = SeedError::Format;
        for one in sealed.chunks(SEALED_SEED_LEN) {
            match seed::open(data_key, &self.genesis_validators_root, SeedPurpose::Checkpoints, one) {
                Ok(seed) => return Ok(seed),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    fn seal_seed(&self, data_key: &DataKey, seed: &[u8; 32]) -> Result<Vec<u8>, CheckpointKeyError> {
        seed::seal(data_key, &self.genesis_validators_root, SeedPurpose::Checkpoints, seed)
            .map_err(CheckpointKeyError::Make)
    }
}

/// The file, if there is one.
fn read(path: &Path) -> Result<Option<Vec<u8>>, CheckpointKeyError> {
    match std::fs::read(path) {
        Ok(sealed) => Ok(Some(sealed)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CheckpointKeyError::Read { path: path.to_owned(), source }),
    }
}
