//! EIP-2335 keystores: from file to key and back.
//!
//! Guarantees: a [`Keystore`] is well-formed and its key derivation affordable; [`Keystore::decrypt`] gives a
//! key only after the checksum matched and the key turned out to be the claimed one. The derived key and every
//! copy of the secret made here are wiped.
//!
//! The remaining hole: the checksum covers the ciphertext but not the initialisation vector, so without a
//! `pubkey` in the file nothing detects a damaged vector.

use std::fmt;

use ctr::cipher::{KeyIvInit, StreamCipher};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{KeystoreError, SecretFlaw};
use crate::json;
use crate::kdf::{Kdf, KdfChoice, KdfLimits};
use crate::password::Password;
use crate::path::DerivationPath;
use crate::public_key::PublicKey;
use crate::secret::Secret;

/// The counter is the whole vector, big-endian (EIP-2335; NIST SP 800-38A, section 6.5).
type Aes128Ctr = ctr::Ctr128BE<aes::Aes128>;

/// Longest file that is read as a keystore, in bytes. Real ones have under 1 KiB.
pub const MAX_FILE_BYTES: usize = 64 * 1024;

/// An encrypted private key, as in a file.
///
/// Not secret, but worth protecting: its password can be guessed offline. `Debug` shows only what identifies it.
#[derive(Clone)]
pub struct Keystore(Fields);

/// What a file holds, each value checked by itself.
#[derive(Clone)]
pub(crate) struct Fields {
    pub(crate) kdf: Kdf,
    pub(crate) checksum: [u8; 32],
    pub(crate) iv: [u8; 16],
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) description: Option<String>,
    pub(crate) pubkey: Option<PublicKey>,
    pub(crate) path: String,
    pub(crate) uuid: Uuid,
}

impl Keystore {
    /// Reads a keystore file within the default [`KdfLimits`].
    ///
    /// # Errors
    ///
    /// What [`KeystoreError`] lists from `TooLarge` to `KdfTooExpensive`, and `BadSecret` if the ciphertext is not
    /// 32 bytes long. The key derivation is not run.
    pub fn from_json(file: &[u8]) -> Result<Self, KeystoreError> {
        Self::from_json_within(file, &KdfLimits::default())
    }

    /// Reads a keystore file within limits of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`Self::from_json`].
    pub fn from_json_within(file: &[u8], limits: &KdfLimits) -> Result<Self, KeystoreError> {
        let fields = json::read(file, limits)?;
        match fields.ciphertext.len() {
            32 => Ok(Self(fields)),
            bytes => Err(KeystoreError::BadSecret(SecretFlaw::Length { bytes })),
        }
    }

    /// Writes a keystore file: indented JSON with a line feed at the end.
    ///
    /// `dklen` is written as 32, the part of the derived key that matters.
    pub fn to_json(&self) -> String {
        json::write(&self.0)
    }

    /// The public key the file claims. Only [`Self::decrypt`] proves it.
    pub fn pubkey(&self) -> Option<PublicKey> {
        self.0.pubkey
    }

    /// The path the file claims, possibly empty; not checked against EIP-2334.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The identifier of the file.
    pub fn uuid(&self) -> Uuid {
        self.0.uuid
    }

    /// The description in the file.
    pub fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// The key derivation function of the file and its cost.
    pub fn kdf(&self) -> KdfChoice {
        self.0.kdf.choice()
    }

    /// Memory that [`Self::decrypt`] allocates for the key derivation, in bytes: 256 MiB for the usual scrypt, 0
    /// for pbkdf2. Bound how many decryptions run at once by the sum of these.
    pub fn kdf_memory_bytes(&self) -> u64 {
        self.0.kdf.choice().memory_bytes()
    }

    /// Decrypts and checks the key. Takes about a second of one core: keep it off threads that serve requests.
    ///
    /// # Errors
    ///
    /// [`KeystoreError::WrongPassword`] if the checksum does not match, [`KeystoreError::BadSecret`] if the secret is
    /// not a private key, [`KeystoreError::PubkeyMismatch`] if it is the key of another validator than claimed.
    pub fn decrypt(&self, password: &Password) -> Result<Secret, KeystoreError> {
        let plaintext = self.0.open(password)?;
        let secret = Secret::from_be_bytes(plaintext.as_slice())?;
        match self.0.pubkey {
            Some(claimed) if claimed != secret.public_key() => {
                Err(KeystoreError::PubkeyMismatch { claimed, actual: secret.public_key() })
            }
            Some(_) | None => Ok(secret),
        }
    }

    /// Encrypts a key with a random salt, vector and identifier, and its public key.
    ///
    /// Without a `path` the file says `""`, which EIP-2335 has for keys that are not derived.
    ///
    /// # Errors
    ///
    /// [`KeystoreError::KdfTooExpensive`] or [`KeystoreError::Malformed`] for a cost that [`Self::from_json`] would refuse;
    /// [`KeystoreError::Random`].
    pub fn encrypt(
        secret: &Secret,
        password: &Password,
        path: Option<&DerivationPath>,
        kdf: KdfChoice,
        description: Option<&str>,
    ) -> Result<Self, KeystoreError> {
        let mut buffer = Zeroizing::new([0; 32]);
        secret.expose(|bytes| buffer.copy_from_slice(bytes));
        let sealed = Fields::seal(buffer.as_slice(), password, kdf)?;
        Ok(Self(Fields {
            description: description.map(str::to_owned),
            pubkey: Some(secret.public_key()),
            path: path.map(ToString::to_string).unwrap_or_default(),
            ..sealed
        }))
    }
}

impl Fields {
    /// Encrypts bytes with a random salt, vector and identifier.
    pub(crate) fn seal(plaintext: &[u8], password: &Password, kdf: KdfChoice) -> Result<Self, KeystoreError> {
        let kdf = Kdf::new(kdf, random::<32>()?.to_vec(), &KdfLimits::default())?;
        let iv = random::<16>()?;
        let key = SplitKey::new(&kdf, password);
        // Encrypted in place: what is in the buffer afterwards is no secret.
        let mut ciphertext = Zeroizing::new(plaintext.to_vec());
        key.apply_cipher(&iv, &mut ciphertext);
        Ok(Self {
            checksum: key.checksum(&ciphertext),
            iv,
            ciphertext: ciphertext.to_vec(),
            kdf,
            description: None,
            pubkey: None,
            path: String::new(),
            uuid: uuid::Builder::from_random_bytes(random()?).into_uuid(),
        })
    }

    /// Decrypts; the checksum must match.
    pub(crate) fn open(&self, password: &Password) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
        let key = SplitKey::new(&self.kdf, password);
        if !bool::from(key.checksum(&self.ciphertext).ct_eq(&self.checksum)) {
            return Err(KeystoreError::WrongPassword);
        }
        let mut plaintext = Zeroizing::new(self.ciphertext.clone());
        key.apply_cipher(&self.iv, &mut plaintext);
        Ok(plaintext)
    }
}

impl fmt::Debug for Keystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keystore")
            .field("pubkey", &self.0.pubkey)
            .field("path", &self.0.path)
            .field("uuid", &self.0.uuid)
            .field("kdf", &self.0.kdf.choice())
            .finish_non_exhaustive()
    }
}

/// A derived key in its two uses: bytes 0..16 encrypt, bytes 16..32 go into the checksum.
struct SplitKey {
    cipher: Zeroizing<[u8; 16]>,
    checksum: Zeroizing<[u8; 16]>,
}

impl SplitKey {
    fn new(kdf: &Kdf, password: &Password) -> Self {
        let derived = kdf.derive(password.as_bytes());
        let mut split = Self { cipher: Zeroizing::new([0; 16]), checksum: Zeroizing::new([0; 16]) };
        let (cipher, checksum) = derived.split_at(16);
        split.cipher.copy_from_slice(cipher);
        split.checksum.copy_from_slice(checksum);
        split
    }

    /// `sha256(key[16..32] || ciphertext)`.
    fn checksum(&self, ciphertext: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.checksum.as_slice()).chain_update(ciphertext).finalize().into()
    }

    /// Encrypts or decrypts, which is the same in counter mode.
    fn apply_cipher(&self, iv: &[u8; 16], data: &mut [u8]) {
        let key: &[u8; 16] = &self.cipher;
        Aes128Ctr::new(key.into(), iv.into()).apply_keystream(data);
    }
}

fn random<const N: usize>() -> Result<[u8; N], KeystoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KeystoreError::Random)?;
    Ok(bytes)
}
