//! Which form a signature is returned in. Clients depend on this exactly: some send no `Accept`
//! at all and look at the answer's Content-Type, so the default is plain text.

use hyper::header::{ACCEPT, HeaderMap};

/// The two forms of a signature response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `{"signature":"0x…"}`
    Json,
    /// The bare hex digits.
    Text,
}

impl Form {
    /// Web3Signer's rule for signatures: JSON if any entry of any `Accept` header is
    /// `application/json` or `*/*`, whatever its case and quality; text otherwise, also without header.
    pub(crate) fn of_signature(headers: &HeaderMap) -> Self {
        if entries(headers).any(|entry| is(entry, "application/json") || is(entry, "*/*")) {
            Self::Json
        } else {
            Self::Text
        }
    }

    /// The rule for `/upcheck`: text, unless the client names JSON and neither text nor everything.
    pub(crate) fn of_upcheck(headers: &HeaderMap) -> Self {
        let mut json = false;
        for entry in entries(headers) {
            if is(entry, "*/*") || is(entry, "text/plain") || is(entry, "text/*") {
                return Self::Text;
            }
            json |= is(entry, "application/json");
        }
        if json { Self::Json } else { Self::Text }
    }
}

fn is(entry: &str, media_type: &str) -> bool {
    entry.eq_ignore_ascii_case(media_type)
}

/// Media types of all `Accept` headers, without parameters.
fn entries(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|entry| entry.split_once(';').map_or(entry, |(media_type, _)| media_type).trim())
}

#[cfg(test)]
mod tests {
    //! Proves: the table of Accept headers that clients really send, and its corners.
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(ACCEPT, hyper::header::HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn signatures() {
        let table: [(&[&'static str], Form); 13] = [
            (&[], Form::Text),                               // Prysm, Teku
            (&["application/json"], Form::Json),             // Lighthouse, Lodestar
            (&["*/*"], Form::Json),                          // Grandine, curl
            (&["application/json, text/plain"], Form::Json), // Nimbus
            (&["text/plain"], Form::Text),
            (&["application/*"], Form::Text),
            (&["text/html, application/xhtml+xml"], Form::Text),
            (&["text/html,APPLICATION/JSON;q=0.1"], Form::Json),
            (&["text/plain;q=1.0, */*;q=0"], Form::Json),
            (&["application/json;charset=utf-8"], Form::Json),
            (&["application/jsonx"], Form::Text),
            (&[""], Form::Text),
            (&["text/plain", "application/json"], Form::Json),
        ];
        for (accept, form) in table {
            assert_eq!(Form::of_signature(&headers(accept)), form, "{accept:?}");
        }
    }

    #[test]
    fn upcheck() {
        let table: [(&[&'static str], Form); 6] = [
            (&[], Form::Text),
            (&["application/json"], Form::Json),
            (&["*/*"], Form::Text),
            (&["application/json, text/plain"], Form::Text),
            (&["text/html"], Form::Text),
            (&["application/json", "*/*"], Form::Text),
        ];
        for (accept, form) in table {
            assert_eq!(Form::of_upcheck(&headers(accept)), form, "{accept:?}");
        }
    }
}
