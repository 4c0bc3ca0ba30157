//! What is asked of the Nitro security module, in its own words (CBOR maps with one entry each).
//!
//! Guarantees: an answer that was not asked for is an error. A document is passed on as it is; of its content only the
//! time is read, which is safe as it comes from the module itself and not over a wire.
//!
//! Source: the request and response types of `aws-nitro-enclaves-nsm-api`, and the user guide's chapter on attestation.

use std::io;

use ciborium::Value;
use holdfast_domain::UnixMillis;
use holdfast_enclave_sys::SysError;
use holdfast_enclave_sys::nsm::SecurityModule;

use crate::machine::Failed;

/// The security module of this enclave.
pub(crate) struct Module(SecurityModule);

impl Module {
    /// The module; `None` where there is none.
    ///
    /// # Errors
    /// If there is one and it cannot be opened: then its clock cannot be had, and no other one may take its place.
    pub(crate) fn open() -> Result<Option<Self>, Failed> {
        match SecurityModule::open() {
            Ok(module) => Ok(Some(Self(module))),
            Err(SysError::SecurityModule(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failed::Device(error)),
        }
    }

    fn ask(&self, request: &Value) -> Result<Value, Failed> {
        let mut bytes = Vec::new();
        ciborium::into_writer(request, &mut bytes).map_err(|_| Failed::Answer)?;
        let answer = self.0.ask(&bytes).map_err(Failed::Device)?;
        ciborium::from_reader(answer.as_slice()).map_err(|_| Failed::Answer)
    }

    /// An attestation document. What is empty is not mentioned in it.
    pub(crate) fn attest(&self, nonce: &[u8], user_data: &[u8], public_key: &[u8]) -> Result<Vec<u8>, Failed> {
        let answer = self.ask(&attestation(nonce, user_data, public_key))?;
        bytes_of(&answer, "Attestation", "document").ok_or(Failed::Answer)
    }

    /// Random bytes, some hundreds.
    pub(crate) fn random(&self) -> Result<Vec<u8>, Failed> {
        let answer = self.ask(&Value::Text("GetRandom".to_owned()))?;
        bytes_of(&answer, "GetRandom", "random").ok_or(Failed::Answer)
    }

    /// What the hypervisor holds for the present.
    pub(crate) fn time(&self) -> Result<UnixMillis, Failed> {
        time_of(&self.attest(&[], &[], &[])?).ok_or(Failed::Answer)
    }
}

fn attestation(nonce: &[u8], user_data: &[u8], public_key: &[u8]) -> Value {
    let field = |name: &str, bytes: &[u8]| {
        let value = if bytes.is_empty() { Value::Null } else { Value::Bytes(bytes.to_vec()) };
        (Value::Text(name.to_owned()), value)
    };
    let fields = vec![field("user_data", user_data), field("nonce", nonce), field("public_key", public_key)];
    Value::Map(vec![(Value::Text("Attestation".to_owned()), Value::Map(fields))])
}

fn entry<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    map.as_map()?.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
}

fn bytes_of(answer: &Value, kind: &str, field: &str) -> Option<Vec<u8>> {
    entry(entry(answer, kind)?, field)?.as_bytes().cloned()
}

/// The time in a document: a COSE_Sign1 of four parts, of which the third is a map with everything.
fn time_of(document: &[u8]) -> Option<UnixMillis> {
    let document: Value = ciborium::from_reader(document).ok()?;
    let payload = document.as_array()?.get(2)?.as_bytes()?;
    let payload: Value = ciborium::from_reader(payload.as_slice()).ok()?;
    u64::try_from(entry(&payload, "timestamp")?.as_integer()?).ok().map(UnixMillis)
}

#[cfg(test)]
mod tests {
    //! Proved here: requests are those of AWS's own library, byte for byte; answers are read, and others are not. That a
    //! module understands them is shown by the boot tests.

    use super::*;

    fn encoded(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        bytes
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn requests_are_the_module_s() {
        let expected =
            [b"\xa1\x6bAttestation\xa3\x69user_data\x42ab\x65nonce\x41n\x6apublic_key".as_slice(), b"\xf6"].concat();
        assert_eq!(encoded(&attestation(b"n", b"ab", b"")), expected);
    }

    #[test]
    fn the_time_of_a_document_is_read() {
        let payload = Value::Map(vec![(text("module_id"), text("i-1")), (text("timestamp"), Value::from(1_234_u64))]);
        let document = |payload: Value| {
            encoded(&Value::Array(vec![Value::Bytes(vec![]), Value::Map(vec![]), payload, Value::Bytes(vec![])]))
        };
        assert_eq!(time_of(&document(Value::Bytes(encoded(&payload)))), Some(UnixMillis(1_234)));
        for other in [
            document(Value::Null),
            document(Value::Bytes(encoded(&Value::Map(vec![(text("timestamp"), Value::from(-1))])))),
            document(Value::Bytes(vec![])),
            encoded(&Value::Array(vec![])),
            Vec::new(),
        ] {
            assert_eq!(time_of(&other), None);
        }
    }

    #[test]
    fn an_error_is_no_answer() {
        let error = Value::Map(vec![(text("Error"), text("InvalidArgument"))]);
        assert_eq!(bytes_of(&error, "Attestation", "document"), None);
        let answer =
            Value::Map(vec![(text("Attestation"), Value::Map(vec![(text("document"), Value::Bytes(vec![1, 2]))]))]);
        assert_eq!(bytes_of(&answer, "Attestation", "document"), Some(vec![1, 2]));
        assert_eq!(bytes_of(&answer, "GetRandom", "random"), None);
    }
}
