//! Secret values as types of their own, so that none can be printed, copied or compared by accident.
//!
//! Guarantees: content is in locked memory and zeroed on drop; no `Debug`, `Clone`, `Display` or
//! serialization; comparison is constant time; a [`SecretKey`] always belongs to its public key.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use holdfast_domain::PublicKey;
use holdfast_enclave_sys::{LockedBytes, SecretScalar};
use holdfast_slashing_db::DataKeyId;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize as _, Zeroizing};

use crate::aead::{self, Fingerprint, SECRET_LEN};
use crate::durable;
use crate::error::{KeyError, SecretError};

/// A passphrase as typed or read from a file. May be empty: some keystores have an empty password.
///
/// ```compile_fail,E0277
/// # let passphrase = holdfast_enclave::Passphrase::new("x".to_owned()).ok().unwrap();
/// println!("{passphrase:?}"); // secrets are never printed
/// ```
///
/// ```compile_fail,E0599
/// # let passphrase = holdfast_enclave::Passphrase::new("x".to_owned()).ok().unwrap();
/// let copy = passphrase.clone(); // nor copied
/// ```
pub struct Passphrase(LockedBytes);

/// Whether a passphrase file must be closed to other users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilePrivacy {
    /// Refuse a file that others may read: for passphrases that guard this signer.
    Required,
    /// Read it whatever its mode: for keystore password files written by other programs.
    Ignored,
}

impl Passphrase {
    /// Longest passphrase, in bytes.
    pub const MAX_LEN: usize = 4096;

    /// Takes over text and wipes it. One line ending at the end is not part of the passphrase.
    ///
    /// # Errors
    ///
    /// [`SecretError::TooLong`] above [`Self::MAX_LEN`]; [`SecretError::Memory`] without memory.
    pub fn new(text: String) -> Result<Self, SecretError> {
        Self::from_bytes(Zeroizing::new(text.into_bytes()))
    }

    /// Reads a passphrase file. One line ending at the end is not part of the passphrase.
    ///
    /// # Errors
    ///
    /// [`SecretError::Permissions`] if others may read it and `privacy` forbids that;
    /// [`SecretError::Read`] if it cannot be read; otherwise as [`Self::new`].
    pub fn read_file(path: &Path, privacy: FilePrivacy) -> Result<Self, SecretError> {
        match privacy {
            FilePrivacy::Required => durable::check_private_permissions(path)?,
            FilePrivacy::Ignored => {}
        }
        let failed = |source| SecretError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        // Room for all of it from the start: a growing vector would leave copies behind. Two more than
        // the limit for the line ending, one more to notice an excess.
        let limit = Self::MAX_LEN.saturating_add(3);
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
        file.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut bytes).map_err(failed)?;
        Self::from_bytes(bytes)
    }

    fn from_bytes(mut bytes: Zeroizing<Vec<u8>>) -> Result<Self, SecretError> {
        let text = bytes.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let len = text.map_or(bytes.len(), <[u8]>::len);
        if len > Self::MAX_LEN {
            return Err(SecretError::TooLong { max: Self::MAX_LEN });
        }
        let text = bytes.get_mut(..len).unwrap_or_default();
        Ok(Self(LockedBytes::take(text).map_err(SecretError::Memory)?))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether both are the same, in constant time for equal lengths: for "type it again".
    pub fn matches(&self, other: &Self) -> bool {
        self.expose(|a| other.expose(|b| a.ct_eq(b).into()))
    }

    /// As the password of a keystore, or of a message encrypted like one. It is wiped, but not in locked memory.
    ///
    /// # Errors
    ///
    /// [`KeystoreError::PasswordNotUtf8`](eth2_keystore::KeystoreError::PasswordNotUtf8).
    pub fn keystore_password(&self) -> Result<eth2_keystore::Password, eth2_keystore::KeystoreError> {
        self.expose(eth2_keystore::Password::from_bytes)
    }

    /// Takes over bytes and wipes them; as [`Self::new`] for a passphrase that need not be text.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn of_bytes(bytes: Vec<u8>) -> Result<Self, SecretError> {
        Self::from_bytes(Zeroizing::new(bytes))
    }

    /// Lends the bytes: to those who open something with them, or hand them on to the process that does.
    pub fn expose<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        self.0.expose(f)
    }
}

/// The key that validator keys are sealed under: 32 random bytes.
///
/// ```compile_fail,E0277
/// # let key = holdfast_enclave::DataKey::generate().ok().unwrap();
/// println!("{key:?}"); // secrets are never printed
/// ```
pub struct DataKey {
    bytes: LockedBytes,
    fingerprint: Fingerprint,
    id: Option<DataKeyId>,
}

impl DataKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    ///
    /// [`SecretError::Random`] without randomness; [`SecretError::Memory`] without memory.
    pub fn generate() -> Result<Self, SecretError> {
        random_bytes().map(Self::from_locked)
    }

    /// Takes over 32 bytes and wipes them, also on failure: for whoever has unwrapped them.
    ///
    /// # Errors
    ///
    /// [`SecretError::Memory`] without memory, [`SecretError::Length`] if it is another number of bytes.
    pub fn take(bytes: &mut [u8]) -> Result<Self, SecretError> {
        if bytes.len() != SECRET_LEN {
            let len = bytes.len();
            bytes.zeroize();
            return Err(SecretError::Length { len });
        }
        LockedBytes::take(bytes).map(Self::from_locked).map_err(SecretError::Memory)
    }

    /// Takes over 32 bytes.
    pub(crate) fn from_plain(mut bytes: Zeroizing<[u8; SECRET_LEN]>) -> Result<Self, SecretError> {
        LockedBytes::take(bytes.as_mut_slice()).map(Self::from_locked).map_err(SecretError::Memory)
    }

    fn from_locked(bytes: LockedBytes) -> Self {
        let fingerprint = aead::fingerprint(b"holdfast data key", &bytes);
        Self { bytes, fingerprint, id: None }
    }

    /// Notes which recorded data key this is, so that what is sealed under it says so
    /// ([`SealedKey::under`](holdfast_slashing_db::SealedKey::under)).
    #[must_use]
    pub fn numbered(self, id: DataKeyId) -> Self {
        Self { id: Some(id), ..self }
    }

    /// Which recorded data key this is, where that was noted.
    pub fn id(&self) -> Option<DataKeyId> {
        self.id
    }

    /// Whether both are the same key, in constant time: for "did the new wrapping survive?".
    pub fn matches(&self, other: &Self) -> bool {
        self.bytes.expose(|a| other.bytes.expose(|b| a.ct_eq(b).into()))
    }

    pub(crate) fn bytes(&self) -> &LockedBytes {
        &self.bytes
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// 32 bytes of the operating system's randomness, in locked memory.
pub(crate) fn random_bytes() -> Result<LockedBytes, SecretError> {
    let mut bytes = LockedBytes::zeroed(SECRET_LEN).map_err(SecretError::Memory)?;
    bytes.expose_mut(getrandom::fill).map_err(SecretError::Random)?;
    Ok(bytes)
}

/// A validator's private key together with the public key it belongs to.
///
/// ```compile_fail,E0277
/// # let key = holdfast_enclave::generate::secret_key().ok().unwrap();
/// println!("{key:?}"); // secrets are never printed
/// ```
pub struct SecretKey {
    public_key: PublicKey,
    scalar: SecretScalar,
}

impl SecretKey {
    /// Takes over a big-endian private key, wipes `bytes` also on failure, and computes the public key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unusable`] if it is not a BLS12-381 private key, or without memory.
    pub fn from_be_bytes(bytes: &mut [u8; 32]) -> Result<Self, KeyError> {
        let scalar = SecretScalar::from_be_bytes(bytes).map_err(KeyError::Unusable)?;
        let public_key = PublicKey::from_bytes(scalar.public_key());
        Ok(Self { public_key, scalar })
    }

    /// A scalar whose public key is vouched for by the authenticated encryption it came out of, so that
    /// opening 10 000 keys costs no curve arithmetic. Only [`crate::seal`] may call this.
    pub(crate) fn vouched_for(public_key: PublicKey, scalar: SecretScalar) -> Self {
        Self { public_key, scalar }
    }

    /// The public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Lends the big-endian private key, for writing a keystore. The copy is wiped afterwards.
    pub fn expose_be_bytes<R>(&self, f: impl FnOnce(&[u8; 32]) -> R) -> R {
        self.scalar.expose_be_bytes(f)
    }

    pub(crate) fn scalar(&self) -> &SecretScalar {
        &self.scalar
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: what is and is not part of a passphrase, its limits, and private files.

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(contents: &[u8], mode: u32, privacy: FilePrivacy) -> Result<Passphrase, SecretError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        std::io::Write::write_all(&mut File::create(&path).unwrap(), contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        Passphrase::read_file(&path, privacy)
    }

    #[test]
    fn one_line_ending_is_dropped_and_spaces_are_kept() {
        for (text, kept) in
            [("a b ", "a b "), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("", ""), ("\n", ""), ("a\r", "a\r")]
        {
            Passphrase::new(text.to_owned()).unwrap().expose(|bytes| assert_eq!(bytes, kept.as_bytes(), "{text:?}"));
            read(text.as_bytes(), 0o600, FilePrivacy::Required)
                .unwrap()
                .expose(|bytes| assert_eq!(bytes, kept.as_bytes(), "{text:?} from a file"));
        }
    }

    #[test]
    fn the_limit_is_exact() {
        let longest = "x".repeat(Passphrase::MAX_LEN);
        assert!(Passphrase::new(longest.clone()).is_ok());
        assert!(read(format!("{longest}\r\n").as_bytes(), 0o600, FilePrivacy::Required).is_ok());
        for over in [format!("{longest}x"), format!("{longest}xxxxxxx\n")] {
            assert!(matches!(Passphrase::new(over.clone()), Err(SecretError::TooLong { .. })));
            let from_file = read(over.as_bytes(), 0o600, FilePrivacy::Required);
            assert!(matches!(from_file, Err(SecretError::TooLong { .. })));
        }
    }

    #[test]
    fn an_open_file_is_refused_when_privacy_is_required() {
        let refused = read(b"secret", 0o644, FilePrivacy::Required).map(|_| ());
        assert!(matches!(refused, Err(SecretError::Permissions(_))));
        assert!(read(b"secret", 0o644, FilePrivacy::Ignored).is_ok());
    }

    #[test]
    fn passphrases_compare() {
        let passphrase = |text: &str| Passphrase::new(text.to_owned()).unwrap();
        assert!(passphrase("one").matches(&passphrase("one\n")));
        assert!(!passphrase("one").matches(&passphrase("two")));
        assert!(!passphrase("one").matches(&passphrase("one ")));
    }

    #[test]
    fn data_keys_differ() {
        let (a, b) = (DataKey::generate().unwrap(), DataKey::generate().unwrap());
        assert!(a.matches(&a) && !a.matches(&b));
        assert_ne!(a.fingerprint(), b.fingerprint());
    }
}
