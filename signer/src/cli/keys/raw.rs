//! What lies in files in clear: texts with secrets, and private keys, which are made into keystores in memory, so that they
//! come in by the one way there is.
//!
//! Guarantees: a secret is in wiped memory only; a key leaves it encrypted, under a random password that is nobody else's.

use std::io;
use std::path::Path;
use std::sync::Arc;

use eth2_keystore::{KdfChoice, Keystore, Secret};
use holdfast_domain::PublicKey;
use holdfast_enclave::Passphrase;
use holdfast_secret::SecretText;
use zeroize::Zeroizing;

use crate::outcome::chain;

/// Nobody can guess 256 random bits, so the derivation need not be slow.
const KDF: KdfChoice = KdfChoice::Pbkdf2 { c: 1 };

/// A keystore made here.
pub(super) struct Made {
    /// Its public key, derived from the secret.
    pub(super) key: PublicKey,
    /// The keystore (EIP-2335).
    pub(super) json: String,
    /// Its password.
    pub(super) password: Arc<Passphrase>,
}

/// Makes a keystore of 64 hexadecimal digits.
///
/// # Errors
/// Why they are no key; they are not repeated.
pub(super) fn keystore(digits: &SecretText) -> Result<Made, String> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    hex::decode_to_slice(digits.expose(), bytes.as_mut_slice()).map_err(|_| "not 64 hexadecimal digits".to_owned())?;
    of_secret(&Secret::from_be_bytes(bytes.as_slice()).map_err(|error| chain(&error))?)
}

/// Makes a keystore of a key.
///
/// # Errors
/// What the system lacks for it.
pub(super) fn of_secret(secret: &Secret) -> Result<Made, String> {
    let mut random = Zeroizing::new([0_u8; 32]);
    getrandom::fill(random.as_mut_slice()).map_err(|error| format!("no random numbers: {error}"))?;
    let password = Passphrase::new(hex::encode(random.as_slice())).map_err(|error| chain(&error))?;
    let own = password.keystore_password().map_err(|error| chain(&error))?;
    let keystore = Keystore::encrypt(secret, &own, None, KDF, None).map_err(|error| chain(&error))?;
    Ok(Made {
        key: PublicKey::from_bytes(secret.public_key().to_bytes()),
        json: keystore.to_json(),
        password: Arc::new(password),
    })
}

/// The text of a file that may hold secrets in clear.
///
/// # Errors
/// Those of the file; one that is longer than `most` bytes or no text.
pub(in crate::cli) fn text(path: &Path, most: u64) -> io::Result<SecretText> {
    use io::Read as _;
    let file = std::fs::File::open(path)?;
    let len = file.metadata()?.len();
    let too_long = || io::Error::other(format!("it is longer than {most} bytes"));
    if len > most {
        return Err(too_long());
    }
    // Room for all of it from the start: growing would leave copies behind. One more notices an excess.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(len).unwrap_or(0).saturating_add(1)));
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(too_long());
    }
    String::from_utf8(std::mem::take(&mut *bytes)).map(SecretText::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        io::Error::new(io::ErrorKind::InvalidData, "it is no text (UTF-8)")
    })
}
