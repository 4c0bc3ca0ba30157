//! The operations of an enclave: documents, and what is encrypted to its boot key.

use super::{array, bounded, public_key};
use crate::error::Malformed;
use crate::limits::{MAX_CMS, MAX_DOCUMENT, MAX_NONCE, MAX_SEALED, MAX_WRAPPED_KEY};
use crate::message::{DataKeyCommitment, EncryptedKey};
use crate::v1;

/// Where the keys are in `ProvisionAttested`.
pub(super) const KEYS: u32 = 2;

pub(super) fn pack_attest(nonce: &[u8]) -> Option<v1::Attest> {
    (nonce.len() <= MAX_NONCE).then(|| v1::Attest { nonce: nonce.to_vec() })
}

pub(super) fn unpack_attest(attest: v1::Attest) -> Result<Vec<u8>, Malformed> {
    bounded("nonce", MAX_NONCE, attest.nonce)
}

pub(super) fn pack_document(document: &[u8]) -> Option<v1::Attested> {
    (document.len() <= MAX_DOCUMENT).then(|| v1::Attested { document: document.to_vec() })
}

pub(super) fn unpack_document(attested: v1::Attested) -> Result<Vec<u8>, Malformed> {
    bounded("document", MAX_DOCUMENT, attested.document)
}

pub(super) fn pack_provision(cms: &[u8], keys: Vec<v1::SealedKey>) -> Option<v1::ProvisionAttested> {
    (cms.len() <= MAX_CMS).then(|| v1::ProvisionAttested { cms: cms.to_vec(), keys })
}

pub(super) fn unpack_provision(provision: v1::ProvisionAttested) -> Result<(Vec<u8>, Vec<v1::SealedKey>), Malformed> {
    Ok((bounded("cms", MAX_CMS, provision.cms)?, provision.keys))
}

pub(super) fn pack_import(key: &EncryptedKey) -> Option<v1::ImportAttested> {
    (key.wrapped_key.len() <= MAX_WRAPPED_KEY).then(|| v1::ImportAttested {
        public_key: key.public_key.as_bytes().to_vec(),
        data_key: key.data_key.0.to_vec(),
        wrapped_key: key.wrapped_key.clone(),
        ciphertext: key.ciphertext.to_vec(),
    })
}

pub(super) fn unpack_import(import: v1::ImportAttested) -> Result<EncryptedKey, Malformed> {
    Ok(EncryptedKey {
        public_key: public_key(&import.public_key)?,
        data_key: DataKeyCommitment(array("data_key", &import.data_key)?),
        wrapped_key: bounded("wrapped_key", MAX_WRAPPED_KEY, import.wrapped_key)?,
        ciphertext: array("ciphertext", &import.ciphertext)?,
    })
}

pub(super) fn pack_imported(sealed: &[u8]) -> Option<v1::Imported> {
    (sealed.len() <= MAX_SEALED).then(|| v1::Imported { sealed: sealed.to_vec() })
}

pub(super) fn unpack_imported(imported: v1::Imported) -> Result<Vec<u8>, Malformed> {
    bounded("sealed", MAX_SEALED, imported.sealed)
}
