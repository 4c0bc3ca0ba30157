//! The shape of a document, checked before anything in it is believed: what COSE allows and the hypervisor does not
//! write is refused, so that the same content has one encoding.

use std::collections::BTreeMap;

use ciborium::Value;
use coset::{Algorithm, CborSerializable as _, CoseError, CoseSign1, Header, iana};

use super::{PcrIndex, ShapeError, Timestamp};
use crate::Pcr;

/// Longest document in bytes; real ones have about 5000, with the largest optional fields about 7500.
pub(super) const MAX_DOCUMENT: usize = 16 * 1024;
/// `r` and `s` of ECDSA on P-384.
const SIGNATURE: usize = 96;
/// Longest nonce and user data (AWS, "Verifying the root of trust").
const MAX_SHORT: usize = 512;
/// Longest certificate and public key (same source).
const MAX_LONG: usize = 1024;
/// Most certificates above the enclave's own; there are four.
const MAX_BUNDLE: usize = 8;
/// Longest identifier of an enclave; real ones have 39 characters.
const MAX_MODULE: usize = 256;

/// A document taken apart, nothing of it believed yet.
pub(super) struct Parts {
    /// What was signed.
    pub(super) signed: Vec<u8>,
    /// The signature, `r ‖ s`.
    pub(super) signature: Vec<u8>,
    /// The fields.
    pub(super) payload: Payload,
}

/// The fields of a document.
pub(super) struct Payload {
    pub(super) module: String,
    pub(super) timestamp: Timestamp,
    pub(super) pcrs: BTreeMap<PcrIndex, Pcr>,
    pub(super) certificate: Vec<u8>,
    pub(super) bundle: Vec<Vec<u8>>,
    pub(super) public_key: Option<Vec<u8>>,
    pub(super) user_data: Option<Vec<u8>>,
    pub(super) nonce: Option<Vec<u8>>,
}

/// Takes a document apart.
pub(super) fn parse(document: &[u8]) -> Result<Parts, ShapeError> {
    if document.len() > MAX_DOCUMENT {
        return Err(ShapeError::TooLong);
    }
    let cose = CoseSign1::from_slice(document).map_err(|error| match error {
        CoseError::UnregisteredIanaValue | CoseError::UnregisteredIanaNonPrivateValue => ShapeError::Algorithm,
        _ => ShapeError::NotCose,
    })?;
    if cose.protected.header.alg != Some(Algorithm::Assigned(iana::Algorithm::ES384)) {
        return Err(ShapeError::Algorithm);
    }
    if cose.protected.header != (Header { alg: cose.protected.header.alg.clone(), ..Header::default() }) {
        return Err(ShapeError::ProtectedHeader);
    }
    if cose.unprotected != Header::default() {
        return Err(ShapeError::UnprotectedHeader);
    }
    if cose.signature.len() != SIGNATURE {
        return Err(ShapeError::SignatureLength);
    }
    let signed = cose.tbs_data(&[]);
    let payload = payload(cose.payload.as_deref().ok_or(ShapeError::Payload)?)?;
    let signature = cose.signature.clone();
    // The content is signed as it stands. What is around it is not, and must not vary: a canonical header, lengths in
    // their shortest form, no tag.
    if cose.protected.original_data.as_deref() != Some(&[0xa1, 0x01, 0x38, 0x22]) {
        return Err(ShapeError::NotCanonical);
    }
    if cose.to_vec().map_err(|_| ShapeError::NotCose)? != document {
        return Err(ShapeError::NotCanonical);
    }
    Ok(Parts { signed, signature, payload })
}

/// The fields as they are collected; each may come once.
struct Fields(BTreeMap<&'static str, Value>);

/// All there are (AWS, "Verifying the root of trust").
const FIELDS: [&str; 9] =
    ["module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce"];

impl Fields {
    fn collect(bytes: &[u8]) -> Result<Self, ShapeError> {
        let mut rest = bytes;
        let Ok(Value::Map(entries)) = ciborium::from_reader(&mut rest) else { return Err(ShapeError::Payload) };
        if !rest.is_empty() {
            return Err(ShapeError::Payload);
        }
        let mut fields = BTreeMap::new();
        for (name, value) in entries {
            let Value::Text(name) = name else { return Err(ShapeError::Payload) };
            let known = FIELDS.into_iter().find(|field| *field == name).ok_or(ShapeError::UnknownField)?;
            if fields.insert(known, value).is_some() {
                return Err(ShapeError::Twice(known));
            }
        }
        Ok(Self(fields))
    }

    fn take(&mut self, name: &'static str) -> Result<Value, ShapeError> {
        self.0.remove(name).ok_or(ShapeError::Missing(name))
    }

    fn text(&mut self, name: &'static str, longest: usize) -> Result<String, ShapeError> {
        match self.take(name)? {
            Value::Text(text) if (1..=longest).contains(&text.len()) => Ok(text),
            _ => Err(ShapeError::Field(name)),
        }
    }

    /// Bytes, null, or nothing at all.
    fn optional(&mut self, name: &'static str, longest: usize) -> Result<Option<Vec<u8>>, ShapeError> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bytes(bytes)) if bytes.len() <= longest => Ok(Some(bytes)),
            Some(_) => Err(ShapeError::Field(name)),
        }
    }
}

fn payload(bytes: &[u8]) -> Result<Payload, ShapeError> {
    let mut fields = Fields::collect(bytes)?;
    if fields.text("digest", MAX_MODULE)? != "SHA384" {
        return Err(ShapeError::Digest);
    }
    let Value::Integer(timestamp) = fields.take("timestamp")? else { return Err(ShapeError::Field("timestamp")) };
    Ok(Payload {
        module: fields.text("module_id", MAX_MODULE)?,
        timestamp: Timestamp::from_millis(u64::try_from(timestamp).map_err(|_| ShapeError::Field("timestamp"))?),
        pcrs: pcrs(fields.take("pcrs")?)?,
        certificate: certificate(fields.take("certificate")?, "certificate")?,
        bundle: match fields.take("cabundle")? {
            Value::Array(all) if (1..=MAX_BUNDLE).contains(&all.len()) => {
                all.into_iter().map(|one| certificate(one, "cabundle")).collect::<Result<_, _>>()?
            }
            _ => return Err(ShapeError::Field("cabundle")),
        },
        public_key: fields.optional("public_key", MAX_LONG)?,
        user_data: fields.optional("user_data", MAX_SHORT)?,
        nonce: fields.optional("nonce", MAX_SHORT)?,
    })
}

fn certificate(value: Value, field: &'static str) -> Result<Vec<u8>, ShapeError> {
    match value {
        Value::Bytes(bytes) if (1..=MAX_LONG).contains(&bytes.len()) => Ok(bytes),
        _ => Err(ShapeError::Field(field)),
    }
}

fn pcrs(value: Value) -> Result<BTreeMap<PcrIndex, Pcr>, ShapeError> {
    let wrong = || ShapeError::Field("pcrs");
    let Value::Map(entries) = value else { return Err(wrong()) };
    let mut pcrs = BTreeMap::new();
    for (index, value) in entries {
        let (Value::Integer(index), Value::Bytes(bytes)) = (index, value) else { return Err(wrong()) };
        let index = u8::try_from(index).ok().and_then(PcrIndex::new).ok_or_else(wrong)?;
        let pcr = Pcr::try_from(bytes.as_slice()).map_err(|_| wrong())?;
        if pcrs.insert(index, pcr).is_some() {
            return Err(wrong());
        }
    }
    if pcrs.contains_key(&PcrIndex::IMAGE) { Ok(pcrs) } else { Err(wrong()) }
}
