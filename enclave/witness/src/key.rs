//! Ed25519 keys, with every signature bound to what it is for.
//!
//! Guarantees: a signature is over a purpose and the message, so that nothing signed as one thing passes as another;
//! weak keys and malleable signatures are refused; private keys have no `Debug` and are wiped when dropped.

use core::fmt;

use ed25519_dalek::Signer as _;
use zeroize::Zeroizing;

use crate::error::MessageError;

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// What a signature is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Membership in a group.
    Member,
    /// The vault that asks.
    Holder,
    /// A grant.
    Grant,
}

impl Purpose {
    /// None is a prefix of another.
    const fn words(self) -> &'static [u8] {
        match self {
            Self::Member => b"holdfast witness v1: request of a member\n",
            Self::Holder => b"holdfast witness v1: request of a holder\n",
            Self::Grant => b"holdfast witness v1: grant\n",
        }
    }

    fn over(self, message: &[u8]) -> Vec<u8> {
        [self.words(), message].concat()
    }
}

/// A private key.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// [`getrandom::Error`] if the system has no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice())?;
        Ok(Self::from_seed(&seed))
    }

    /// The one with this seed, which stays the caller's to wipe.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The seed.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public key.
    pub fn public(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key().to_bytes())
    }

    pub(crate) fn sign(&self, purpose: Purpose, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(&purpose.over(message)).to_bytes()
    }
}

/// A public key. Prints as `0x` and 64 digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// The key with these bytes.
    ///
    /// # Errors
    /// [`MessageError::Key`] if they are none, or a weak one.
    pub fn new(bytes: [u8; 32]) -> Result<Self, MessageError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| MessageError::Key)?;
        if key.is_weak() { Err(MessageError::Key) } else { Ok(Self(bytes)) }
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn verify(
        &self,
        purpose: Purpose,
        message: &[u8],
        signature: &[u8; SIGNATURE_LEN],
    ) -> Result<(), MessageError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_| MessageError::Key)?;
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        key.verify_strict(&purpose.over(message), &signature).map_err(|_| MessageError::Signature)
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::str::FromStr for VerifyingKey {
    type Err = MessageError;

    fn from_str(text: &str) -> Result<Self, MessageError> {
        Self::new(holdfast_domain::root::parse_hex::<32>(text).ok_or(MessageError::Key)?)
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: purposes are apart, and keys come back from their text.

    use super::*;

    const PURPOSES: [Purpose; 3] = [Purpose::Member, Purpose::Holder, Purpose::Grant];

    #[test]
    fn a_signature_is_for_one_purpose_one_key_and_one_message() {
        let [key, other] = [1, 2].map(|seed| SigningKey::from_seed(&[seed; 32]));
        for purpose in PURPOSES {
            let signature = key.sign(purpose, b"message");
            for checked in PURPOSES {
                assert_eq!(key.public().verify(checked, b"message", &signature).is_ok(), checked == purpose);
            }
            assert!(other.public().verify(purpose, b"message", &signature).is_err());
            assert!(key.public().verify(purpose, b"Message", &signature).is_err());
        }
    }

    #[test]
    fn keys_come_back_from_their_text() {
        let key = SigningKey::generate().unwrap().public();
        assert_eq!(key.to_string().parse::<VerifyingKey>().unwrap(), key);
        // The neutral element, for which any signature could be made.
        let mut weak = [0; 32];
        weak[0] = 1;
        assert!(VerifyingKey::new(weak).is_err());
        assert!("0x12".parse::<VerifyingKey>().is_err());
    }
}
