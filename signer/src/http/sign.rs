//! `POST /api/v1/eth2/sign/{identifier}`: the hot path.

use std::sync::Arc;

use holdfast_domain::PublicKey;
use holdfast_enclave::Signature;
use holdfast_wire::Excerpt;
use holdfast_wire::web3signer::{BadIdentifier, SignRequest};
use hyper::body::{Body, Bytes};
use hyper::{Request, StatusCode};

use super::accept::Form;
use super::error::ApiError;
use super::reply::{self, Reply};
use super::{Api, body};
use crate::callers::Principal;
use crate::traces::Course;

/// Signs, or says why not.
///
/// The order is Web3Signer's: the body is judged before the key is looked for, so a bad body for
/// an unknown key is 400 and not 404.
pub(super) async fn sign<B>(
    api: &Api,
    principal: &Arc<Principal>,
    request: Request<B>,
    course: &Course,
) -> Result<Reply, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (head, incoming) = request.into_parts();
    let step = course.step("read");
    let body = body::read(&head.headers, incoming, api.body_bounds).await?;
    let request = SignRequest::parse(&body, &api.signer.network)?;
    let key = identifier(head.uri.path())?;
    drop(step);
    let signature = api.signer.sign(principal, key, &request, course.step("sign")).await?;
    Ok(signed(Form::of_signature(&head.headers), &signature))
}

/// The public key at the end of the path: any letter case, `0x` optional.
fn identifier(path: &str) -> Result<PublicKey, ApiError> {
    let text = path.rsplit_once('/').map_or(path, |(_, last)| last);
    text.parse().map_err(|_| ApiError::NotAKey(BadIdentifier(Excerpt::of(text))))
}

/// A signature in the form the client reads.
fn signed(form: Form, signature: &Signature) -> Reply {
    const OPEN: &[u8] = br#"{"signature":"0x"#;
    const CLOSE: &[u8] = br#""}"#;
    let digits = hex_digits(signature.as_bytes());
    let mut body = Vec::with_capacity(OPEN.len() + digits.len() + CLOSE.len());
    match form {
        Form::Json => {
            body.extend_from_slice(OPEN);
            body.extend_from_slice(&digits);
            body.extend_from_slice(CLOSE);
            reply::of(StatusCode::OK, reply::JSON, body)
        }
        Form::Text => {
            body.extend_from_slice(b"0x");
            body.extend_from_slice(&digits);
            reply::of(StatusCode::OK, reply::TEXT, body)
        }
    }
}

fn hex_digits(bytes: &[u8; 96]) -> [u8; 192] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble & 15)).copied().unwrap_or(b'0');
    let mut out = [0; 192];
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            *high = digit(byte >> 4);
            *low = digit(*byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    //! Proves: how a key is read from the path, and how a signature is written.
    use super::*;

    #[test]
    fn a_key_in_any_spelling() {
        let digits = "ab".repeat(48);
        let key = PublicKey::from_bytes([0xab; 48]);
        for text in [digits.clone(), format!("0x{digits}"), format!("0X{}", digits.to_uppercase())] {
            assert_eq!(identifier(&format!("/api/v1/eth2/sign/{text}")).expect("a key"), key);
        }
    }

    #[test]
    fn anything_else_is_no_key() {
        for text in ["", "0x", "0x1234", &"ab".repeat(49), &"zz".repeat(48), &"x".repeat(9_000)] {
            let error = identifier(&format!("/api/v1/eth2/sign/{text}")).expect_err("not a key");
            assert_eq!(error.verdict().status, StatusCode::NOT_FOUND);
            assert!(crate::outcome::chain(&error).len() < 300, "the answer does not repeat everything");
        }
    }

    #[test]
    fn digits_are_lower_case_and_in_order() {
        let mut bytes = [0; 96];
        bytes[0] = 0x0f;
        bytes[95] = 0xa5;
        let digits = hex_digits(&bytes);
        assert_eq!(&digits[..2], b"0f");
        assert_eq!(&digits[190..], b"a5");
    }
}
