//! What the fake of AWS KMS does for enclaves: reads an attestation document, compares its registers with a policy, and
//! encrypts to the key in it, in the shape of the real service.
//!
//! What it does not do is verify the document's signature, because the emulated device of QEMU signs nothing; that is why it is
//! here and nowhere in the product, whose verifier has no such way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use ciborium::Value;
use holdfast_nitro::Pcr;
use holdfast_nitro::cms::seal::{Form, seal};

/// Documents older than this are refused, as the real service does.
const MAX_AGE_MILLIS: u64 = 5 * 60 * 1000;

/// Which enclaves may decrypt: for each register that is named, one of its values.
#[derive(Debug, Clone, Default)]
pub struct RecipientPolicy(BTreeMap<u8, BTreeSet<Pcr>>);

/// What is read of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Registers.
    pub pcrs: BTreeMap<u8, Pcr>,
    /// The enclave's key.
    pub public_key: Vec<u8>,
    /// What it answers.
    pub nonce: Vec<u8>,
    /// What else the enclave says.
    pub user_data: Vec<u8>,
    /// When it was made, in milliseconds since 1970.
    pub timestamp: u64,
}

impl Document {
    /// Reads a document, signed or not; `None` if it has another shape than they have.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let Value::Array(parts) = ciborium::from_reader(&mut rest).ok()? else { return None };
        let [Value::Bytes(protected), Value::Map(unprotected), Value::Bytes(payload), Value::Bytes(signature)] =
            parts.as_slice()
        else {
            return None;
        };
        // ES384 with a signature; or no algorithm and zeros, as QEMU writes.
        let signed = protected == &[0xa1, 0x01, 0x38, 0x22] && signature.len() == 96;
        let emulated = protected == &[0xa1, 0x01, 0x20] && signature.iter().all(|byte| *byte == 0);
        if !(signed || emulated) || !unprotected.is_empty() || !rest.is_empty() {
            return None;
        }
        let Value::Map(fields) = ciborium::from_reader(payload.as_slice()).ok()? else { return None };
        let field = |name: &str| fields.iter().find(|(field, _)| field.as_text() == Some(name)).map(|(_, value)| value);
        if field("digest")?.as_text() != Some("SHA384") {
            return None;
        }
        let optional = |name: &str| field(name).and_then(Value::as_bytes).cloned().unwrap_or_default();
        let pcrs = field("pcrs")?.as_map()?.iter().map(|(index, value)| {
            let index = u8::try_from(index.as_integer()?).ok().filter(|index| *index < 32)?;
            Some((index, Pcr::try_from(value.as_bytes()?.as_slice()).ok()?))
        });
        Some(Self {
            pcrs: pcrs.collect::<Option<_>>()?,
            public_key: optional("public_key"),
            nonce: optional("nonce"),
            user_data: optional("user_data"),
            timestamp: u64::try_from(field("timestamp")?.as_integer()?).ok()?,
        })
    }
}

impl RecipientPolicy {
    /// With one more value that a register may have.
    #[must_use]
    pub fn allow(mut self, register: u8, value: Pcr) -> Self {
        self.0.entry(register).or_default().insert(value);
        self
    }

    /// The plaintext for the enclave that made this document, or the code of an error.
    pub fn answer(&self, document: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, &'static str> {
        let document = Document::read(document).ok_or("ValidationException")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "KMSInternalException")?.as_millis();
        if u128::from(document.timestamp + MAX_AGE_MILLIS) < now {
            return Err("ValidationException");
        }
        let fits = |(register, allowed): (&u8, &BTreeSet<Pcr>)| {
            document.pcrs.get(register).is_some_and(|value| allowed.contains(value))
        };
        if !self.0.iter().all(fits) {
            return Err("AccessDeniedException");
        }
        seal(&document.public_key, plaintext, Form::Pieces(4096)).map_err(|_| "ValidationException")
    }
}
