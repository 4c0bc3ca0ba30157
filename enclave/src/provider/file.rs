//! The default provider: 32 random bytes in a private file beside the data.
//!
//! Guarantees: the file is created durably, readable by its owner only, and never overwritten; a file
//! that others may read is refused with the command that mends it.
//!
//! What it protects: copies of the database without the file (a backup, a snapshot of the volume it is
//! on). Whoever reads both reads the keys: put the file on another volume or a mounted secret, or use a
//! passphrase, if that matters.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use holdfast_enclave_sys::LockedBytes;
use zeroize::Zeroizing;

use super::{Envelope, Provider, ProviderKind, WrapContext, Wrapped, seal_with};
use crate::aead::SECRET_LEN;
use crate::durable::{self, Existing};
use crate::error::{PermissionError, ProviderError, SecretError};
use crate::secret::{self, DataKey};

/// Guards data keys with a key file, which is read at each call.
#[derive(Debug, Clone)]
pub struct FileProvider {
    path: PathBuf,
}

impl FileProvider {
    /// Uses the key file at `path`. It is read when needed.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the key file is in a data directory: `kek/file.key`.
    pub fn default_path(data_dir: &Path) -> PathBuf {
        data_dir.join("kek").join("file.key")
    }

    /// Creates a key file with a new random key, and its directory if missing.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Durable`] if it is there already or cannot be written; [`ProviderError::Secret`]
    /// without randomness or memory.
    pub fn create(path: PathBuf) -> Result<Self, ProviderError> {
        // A directory that is there may be shared with others: the file itself is private.
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists()) {
            durable::create_private_dir(dir)?;
        }
        let key = secret::random_bytes()?;
        key.expose(|bytes| durable::write_private_file(&path, bytes, Existing::Refuse))?;
        Ok(Self { path })
    }

    /// Where the key file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> Result<LockedBytes, ProviderError> {
        let path = || self.path.clone();
        durable::check_private_permissions(&self.path).map_err(|error| match error {
            PermissionError::Unreadable { source, .. } if source.kind() == ErrorKind::NotFound => {
                ProviderError::KeyFileMissing { path: path() }
            }
            error => error.into(),
        })?;
        let failed = |source| ProviderError::KeyFileRead { path: path(), source };
        let file = File::open(&self.path).map_err(failed)?;
        // One byte more than a key, to notice an excess.
        let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_LEN.saturating_add(1)));
        file.take(33).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() != SECRET_LEN {
            return Err(ProviderError::KeyFileLength { path: path() });
        }
        LockedBytes::take(&mut bytes).map_err(|source| ProviderError::Secret(SecretError::Memory(source)))
    }
}

impl Provider for FileProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::File
    }

    fn wrap(&self, key: &DataKey, context: &WrapContext) -> Result<Wrapped, ProviderError> {
        seal_with(&self.read()?, self.kind(), &[], key, context)
    }

    fn unwrap(&self, wrapped: &Wrapped, context: &WrapContext) -> Result<DataKey, ProviderError> {
        let envelope = Envelope::parse_own(wrapped, self.kind())?;
        if !envelope.parameters.is_empty() {
            return Err(ProviderError::Malformed);
        }
        envelope.open(&self.read()?, context)
    }

    fn describe(&self) -> String {
        format!("key file {}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: creation is private and never overwrites; bad files are refused by kind. Wrapping
    //! itself is in `tests/conformance.rs`, for every provider.

    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use holdfast_domain::GenesisValidatorsRoot;

    use super::*;
    use crate::provider::DataKeyId;

    const CONTEXT: WrapContext = WrapContext { network: GenesisValidatorsRoot([3; 32]), data_key: DataKeyId(1) };

    #[test]
    fn the_key_file_is_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = FileProvider::default_path(dir.path());
        let provider = FileProvider::create(path.clone()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let key_file = fs::read(&path).unwrap();
        assert_eq!(key_file.len(), SECRET_LEN);
        assert!(matches!(FileProvider::create(path.clone()), Err(ProviderError::Durable(_))));
        assert_eq!(fs::read(&path).unwrap(), key_file);
        assert!(provider.describe().contains("kek/file.key"));
    }

    #[test]
    fn bad_key_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = FileProvider::default_path(dir.path());
        let provider = FileProvider::create(path.clone()).unwrap();
        let data_key = DataKey::generate().unwrap();
        let wrapped = provider.wrap(&data_key, &CONTEXT).unwrap();
        let unwrap = || provider.unwrap(&wrapped, &CONTEXT).map(|_| ()).unwrap_err();

        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = unwrap();
        assert!(matches!(error, ProviderError::Permissions(_)));
        assert!(error.to_string().ends_with(&format!("chmod 600 {}", path.display())), "{error}");

        for content in [&[1; 31][..], &[1; 33], &[]] {
            durable::write_private_file(&path, content, Existing::Replace).unwrap();
            assert!(matches!(unwrap(), ProviderError::KeyFileLength { .. }));
        }
        durable::write_private_file(&path, &[1; 32], Existing::Replace).unwrap();
        assert!(matches!(unwrap(), ProviderError::WrongKeyFile));
        fs::remove_file(&path).unwrap();
        assert!(matches!(unwrap(), ProviderError::KeyFileMissing { .. }));
    }
}
