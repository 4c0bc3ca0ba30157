//! From what a backend computed to what may leave the process.
//!
//! Guarantees: a [`Signature`] comes only from a `RawSignature`, and only after the check that the
//! policy of its backend demands: here, or together with others where they come together.

use core::fmt;
use core::time::Duration;

use holdfast_domain::{PublicKey, SigningRoot};

#[cfg(feature = "backend-local")]
use crate::backend::VerifyPolicy;
#[cfg(feature = "backend-local")]
use crate::error::SignError;

/// A BLS signature as a backend computed it: not yet fit to leave.
#[must_use]
pub(crate) struct RawSignature([u8; 96]);

impl RawSignature {
    pub(crate) const fn new(bytes: [u8; 96]) -> Self {
        Self(bytes)
    }

    /// What was verified with others, or need not be.
    #[cfg(feature = "backend-process")]
    pub(crate) const fn checked(self) -> Signature {
        Signature(self.0)
    }

    /// Checks it as `policy` demands.
    #[cfg(feature = "backend-local")]
    pub(crate) fn release(
        self,
        policy: VerifyPolicy,
        key: &PublicKey,
        root: &SigningRoot,
    ) -> Result<Signature, SignError> {
        let valid = match policy {
            VerifyPolicy::TrustBackend => true,
            VerifyPolicy::BeforeRelease => holdfast_enclave_sys::verify(key.as_bytes(), root.as_bytes(), &self.0),
        };
        if valid { Ok(Signature(self.0)) } else { Err(SignError::Invalid { key: *key }) }
    }
}

/// A BLS signature: 96 bytes, compressed G2, as it stands on the wire. Displayed as `0x` hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 96]);

impl Signature {
    /// The 96 compressed bytes.
    pub const fn as_bytes(&self) -> &[u8; 96] {
        &self.0
    }
}

/// Whether a signature from anywhere is `key`'s over `root`.
pub fn holds(key: &PublicKey, root: &SigningRoot, signature: &[u8; 96]) -> bool {
    holdfast_enclave_sys::verify(key.as_bytes(), root.as_bytes(), signature)
}

/// A signature, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// The signature.
    pub signature: Signature,
    /// How long it took.
    pub times: SignTimes,
}

/// How long the steps from a permit to a signature took. For measurements only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignTimes {
    /// Waiting until the backend began.
    pub queue: Duration,
    /// Hashing the root to the curve, or waiting for another signature that hashes it: next to nothing
    /// if it was hashed before.
    pub hash: Duration,
    /// Multiplying, and verifying where that is on.
    pub sign: Duration,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(all(test, feature = "backend-local"))]
mod tests {
    //! Proved here: a wrong signature is withheld if the policy says so, and only then.

    use super::*;
    use crate::generate;
    use crate::support::{attestation, root};

    #[test]
    fn a_wrong_signature_is_withheld_on_demand() {
        let key = generate::secret_key().unwrap();
        let (asked, other) = (root(&attestation(1)), root(&attestation(2)));
        let sign = |root: &SigningRoot| {
            RawSignature::new(key.scalar().sign(&holdfast_enclave_sys::hash_to_g2(root.as_bytes())))
        };
        let release = |raw: RawSignature, policy| raw.release(policy, key.public_key(), &asked);
        assert!(release(sign(&asked), VerifyPolicy::BeforeRelease).is_ok());
        assert!(release(sign(&other), VerifyPolicy::TrustBackend).is_ok());
        let withheld = release(sign(&other), VerifyPolicy::BeforeRelease);
        assert!(matches!(withheld, Err(SignError::Invalid { key: named }) if named == *key.public_key()));
        let withheld = release(RawSignature::new([0; 96]), VerifyPolicy::BeforeRelease);
        assert!(matches!(withheld, Err(SignError::Invalid { .. })));
    }

    #[test]
    fn it_is_shown_as_hex() {
        let mut bytes = [0; 96];
        bytes[0] = 0xab;
        assert_eq!(Signature(bytes).to_string(), format!("0xab{}", "00".repeat(95)));
    }
}
