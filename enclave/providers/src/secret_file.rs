//! Credentials from files.

use std::path::Path;

use holdfast_enclave::durable;
use holdfast_enclave::provider::{ServiceError, ServiceFailure};
use holdfast_secret::SecretText;

/// Whether other users must not be able to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privacy {
    /// They must not.
    Required,
    /// Whatever the platform chose, as for the tokens Kubernetes mounts.
    #[cfg(any(feature = "vault-transit", feature = "azure-key-vault"))]
    Ignored,
}

/// Reads a credential. One line ending at the end is not part of it.
///
/// # Errors
/// [`ServiceFailure::Credentials`] if it cannot be read, is empty, or is open to others.
pub(crate) fn read(path: &Path, privacy: Privacy) -> Result<SecretText, ServiceError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        ServiceError::new(ServiceFailure::Credentials, format!("cannot take {}: {error}", path.display()))
    };
    if privacy == Privacy::Required {
        durable::check_private_permissions(path).map_err(|error| failed(error.into()))?;
    }
    let secret = SecretText::of_file(std::fs::read_to_string(path).map_err(|error| failed(error.into()))?);
    if secret.is_empty() {
        return Err(failed("it is empty".into()));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_line_is_read_and_an_open_or_empty_file_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let write = |text: &str, mode| {
            std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("s.abc\n", 0o600);
        assert_eq!(read(&path, Privacy::Required).unwrap().expose(), "s.abc");
        write("s.abc", 0o644);
        let error = read(&path, Privacy::Required).unwrap_err();
        assert_eq!(error.failure, ServiceFailure::Credentials);
        assert!(error.source.to_string().contains("chmod 600"), "{}", error.source);
        write("\n", 0o600);
        assert!(read(&path, Privacy::Required).is_err());
        assert!(read(&dir.path().join("none"), Privacy::Required).is_err());
    }
}
