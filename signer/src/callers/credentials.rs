//! The `Authorization` header: HTTP Basic (RFC 7617) and bearer tokens (RFC 6750).

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use hyper::header::{AUTHORIZATION, HeaderMap};
use zeroize::Zeroizing;

/// Longest header that is looked at, in bytes.
const MAX_BYTES: usize = 4_096;

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a request says to prove who sent it. Wiped when dropped.
#[derive(PartialEq, Eq)]
pub(super) enum Credentials {
    /// No header.
    None,
    /// A name and a token.
    Basic {
        /// The name.
        name: Vec<u8>,
        /// The token.
        token: Zeroizing<Vec<u8>>,
    },
    /// A token.
    Bearer(Zeroizing<Vec<u8>>),
    /// A header that is none of these.
    Unreadable,
}

impl Credentials {
    /// Of a request. More than one header is unreadable: somebody between might look at another of them.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = all.next() else { return Self::None };
        if all.next().is_some() || value.len() > MAX_BYTES {
            return Self::Unreadable;
        }
        let value = value.as_bytes();
        if let Some(token) = after(value, b"bearer ") {
            return Self::Bearer(Zeroizing::new(token.to_vec()));
        }
        let Some(encoded) = after(value, b"basic ") else { return Self::Unreadable };
        let Ok(decoded) = BASE64.decode(encoded).map(Zeroizing::new) else { return Self::Unreadable };
        let Some(colon) = decoded.iter().position(|byte| *byte == b':') else { return Self::Unreadable };
        let (name, rest) = decoded.split_at(colon);
        let token = rest.get(1..).unwrap_or_default();
        Self::Basic { name: name.to_vec(), token: Zeroizing::new(token.to_vec()) }
    }
}

/// What follows a scheme, which is written in any letter case.
fn after<'a>(value: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = value.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    //! Proves: what is read from which header.
    use hyper::header::HeaderValue;

    use super::*;

    fn of(values: &[&str]) -> Credentials {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        Credentials::of(&headers)
    }

    fn basic(name: &str, token: &str) -> Credentials {
        Credentials::Basic { name: name.into(), token: Zeroizing::new(token.into()) }
    }

    #[test]
    fn headers() {
        assert!(of(&[]) == Credentials::None);
        assert!(of(&["Basic dmMtMTp0b2tlbg=="]) == basic("vc-1", "token"));
        assert!(of(&["bAsIc  dmMtMTp0b2tlbg"]) == basic("vc-1", "token"), "without padding");
        assert!(of(&["Basic YTpiOmM="]) == basic("a", "b:c"), "the first colon divides (RFC 7617 section 2)");
        assert!(of(&["Basic Og=="]) == basic("", ""));
        assert!(of(&["Bearer abc"]) == Credentials::Bearer(Zeroizing::new(b"abc".to_vec())));
        let long = format!("Bearer {}", "a".repeat(MAX_BYTES));
        for bad in
            [&["Basic !"][..], &["Basic YWJj"], &["Digest x"], &["Basic"], &[""], &[&long], &["Bearer a", "Bearer a"]]
        {
            assert!(of(bad) == Credentials::Unreadable, "{bad:?}");
        }
    }
}
