//! The sender's side: what is encrypted to the key of an enclave's boot without more.
//!
//! Guarantees: only that key opens it. What it does not: that the key is an enclave's. That is what an attestation document
//! says, which names the key.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};

/// Bytes are no RSA public key, or too long for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing can be encrypted to that public key: it is no RSA key")]
pub struct NotWrapped;

/// Encrypts a short secret to a public key (SubjectPublicKeyInfo, DER) with RSAES-OAEP and SHA-256.
///
/// # Errors
/// [`NotWrapped`].
pub fn wrap(public_key: &[u8], secret: &[u8]) -> Result<Vec<u8>, NotWrapped> {
    let key = PublicEncryptingKey::from_der(public_key).map_err(|_| NotWrapped)?;
    let to = OaepPublicEncryptingKey::new(key).map_err(|_| NotWrapped)?;
    let mut out = vec![0; to.ciphertext_size()];
    let length = to.encrypt(&OAEP_SHA256_MGF1SHA256, secret, &mut out, None).map_err(|_| NotWrapped)?.len();
    out.truncate(length);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::RecipientKey;
    use super::*;

    #[test]
    fn what_is_wrapped_opens_with_the_one_key() {
        let [one, other] = [(); 2].map(|()| RecipientKey::generate().unwrap());
        let wrapped = wrap(one.public_key_der(), &[7; 32]).unwrap();
        assert_eq!(one.unwrap(&wrapped).unwrap().as_slice(), [7; 32]);
        assert!(other.unwrap(&wrapped).is_err());
        assert_ne!(wrap(one.public_key_der(), &[7; 32]).unwrap(), wrapped);
        assert_eq!(wrap(b"no key", &[7; 32]), Err(NotWrapped));
        assert_eq!(wrap(one.public_key_der(), &[7; 250]), Err(NotWrapped));
    }
}
