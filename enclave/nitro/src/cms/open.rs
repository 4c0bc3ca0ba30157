//! The recipient's side: a key pair of one boot, and opening what was sent to it.

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use zeroize::{Zeroize as _, Zeroizing};

use super::{CiphertextForRecipient, CmsError};

/// Why an envelope was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It has not the shape of one.
    #[error("what was sent is no envelope of KMS")]
    Envelope(#[source] CmsError),
    /// It is for another key, or was changed. Which of the steps failed is not told: whoever sends envelopes could learn
    /// from that.
    #[error("the envelope does not open with this key: it is for another recipient, or was changed")]
    DoesNotOpen,
    /// The library cannot make a key.
    #[error("cannot make an RSA key")]
    MakeKey,
}

/// An RSA-2048 key pair that lives as long as this value. Making one takes a fraction of a second, or seconds without
/// hardware virtualisation.
pub struct RecipientKey {
    private: OaepPrivateDecryptingKey,
    public: Vec<u8>,
}

impl std::fmt::Debug for RecipientKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RecipientKey(private)")
    }
}

impl RecipientKey {
    /// A new key pair.
    ///
    /// # Errors
    /// If the library cannot make one.
    pub fn generate() -> Result<Self, OpenError> {
        let make = || -> Result<Self, Unspecified> {
            let private = PrivateDecryptingKey::generate(KeySize::Rsa2048)?;
            let public = private.public_key().as_der()?.as_ref().to_vec();
            Ok(Self { private: OaepPrivateDecryptingKey::new(private)?, public })
        };
        make().map_err(|_| OpenError::MakeKey)
    }

    /// The public key as SubjectPublicKeyInfo in DER (294 bytes): what goes into the attestation document.
    pub fn public_key_der(&self) -> &[u8] {
        &self.public
    }

    /// Opens an envelope. What comes out was not authenticated by anything: see the module.
    ///
    /// # Errors
    /// If it has another shape than those of KMS, is for another key, or was changed.
    pub fn open(&self, envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let envelope = CiphertextForRecipient::parse(envelope).map_err(OpenError::Envelope)?;
        self.decrypt(&envelope).map_err(|_| OpenError::DoesNotOpen)
    }

    /// Opens bytes that were encrypted to this key without an envelope (RSAES-OAEP, SHA-256).
    ///
    /// # Errors
    /// [`OpenError::DoesNotOpen`] if they are for another key, or were changed.
    pub fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let mut out = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let opened = self.private.decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut out, None);
        let length = opened.map_err(|_| OpenError::DoesNotOpen)?.len();
        out.get_mut(length..).unwrap_or_default().zeroize();
        out.truncate(length);
        Ok(out)
    }

    fn decrypt(&self, envelope: &CiphertextForRecipient<'_>) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
        let mut wrapped = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let key = self.private.decrypt(&OAEP_SHA256_MGF1SHA256, envelope.wrapped_key(), &mut wrapped, None)?;
        let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, key)?)?;
        let mut content = Zeroizing::new(envelope.content().to_vec());
        let context = DecryptionContext::Iv128(FixedLength::from(*envelope.iv()));
        let length = cipher.decrypt(&mut content, context)?.len();
        // The padding says how long the plaintext is; the rest is wiped with it.
        content.get_mut(length..).unwrap_or_default().zeroize();
        content.truncate(length);
        Ok(content)
    }
}
