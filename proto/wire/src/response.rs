//! What is answered, as JSON.

use core::fmt;
use std::borrow::Cow;

use holdfast_domain::PublicKey;
use serde::{Serialize, Serializer};

/// Body of a successful sign request whose client accepts JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SignatureResponse {
    /// Compressed BLS signature; written as `0x` and lower-case hex.
    #[serde(serialize_with = "hex")]
    pub signature: [u8; 96],
}

/// Body of a failed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    /// The HTTP status, also where the transport has none of its own (an item of a batch).
    pub code: u16,
    /// What went wrong and what to do, for people.
    pub message: Cow<'static, str>,
    /// Stable word, for programs.
    pub reason: &'static str,
}

/// One element of the answer to a batch, in the order of the identifiers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum BatchItem {
    /// The key signed.
    Signed {
        /// Which key.
        #[serde(serialize_with = "display")]
        identifier: PublicKey,
        /// Compressed BLS signature; written as `0x` and lower-case hex.
        #[serde(serialize_with = "hex")]
        signature: [u8; 96],
    },
    /// The key did not sign; the others may have.
    Failed {
        /// Which key, or the start of a text that names none.
        identifier: String,
        /// Why.
        error: ErrorBody,
    },
}

fn display<T: fmt::Display, S: Serializer>(value: &T, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(value)
}

fn hex<S: Serializer>(bytes: &[u8; 96], out: S) -> Result<S::Ok, S::Error> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from);
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("0x");
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    out.serialize_str(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_shapes_clients_read() {
        let mut signature = [0xa5; 96];
        signature[0] = 0x0f;
        let digits = format!("0x0f{}", "a5".repeat(95));
        assert_eq!(
            serde_json::to_string(&SignatureResponse { signature }).unwrap(),
            format!(r#"{{"signature":"{digits}"}}"#)
        );
        let identifier = PublicKey::from_bytes([0xb0; 48]);
        assert_eq!(
            serde_json::to_string(&BatchItem::Signed { identifier, signature }).unwrap(),
            format!(r#"{{"identifier":"0x{}","signature":"{digits}"}}"#, "b0".repeat(48))
        );
        let error = ErrorBody { code: 404, message: "no such key".into(), reason: "key_not_found" };
        assert_eq!(
            serde_json::to_string(&BatchItem::Failed { identifier: identifier.to_string(), error }).unwrap(),
            format!(
                r#"{{"identifier":"0x{}","error":{{"code":404,"message":"no such key","reason":"key_not_found"}}}}"#,
                "b0".repeat(48)
            )
        );
    }
}
