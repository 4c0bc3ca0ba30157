//! The little HTTP that buckets and webhooks need: one request at a time, no redirects, bounded answers.

use std::path::Path;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::{AnchorError, tls};

/// Largest answer: a thousand names of objects.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// How much of what the other side says about an error is told.
const MAX_SAID: usize = 200;

/// Sends requests.
pub(crate) struct Client(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// What the other side said.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// This answer as an error, with the beginning of what it says.
    pub(crate) fn refused(&self) -> AnchorError {
        let text = String::from_utf8_lossy(&self.body);
        // Of S3's XML only the words.
        let text = text.split_once("<Code>").map_or(text.as_ref(), |(_, rest)| rest);
        let plain: String = text
            .split('<')
            .map(|part| part.split_once('>').map_or(part, |(_, text)| text).trim())
            .filter(|part| !part.is_empty())
            .take(2)
            .collect::<Vec<_>>()
            .join(", ");
        let plain: String = plain.chars().filter(|letter| !letter.is_control()).take(MAX_SAID).collect();
        let said = if plain.is_empty() { plain } else { format!(": {plain}") };
        AnchorError::Refused { status: self.status, said }
    }
}

impl Client {
    pub(crate) fn new(setting: &'static str, ca_file: Option<&Path>) -> Result<Self, AnchorError> {
        let tls = tls::client_config(setting, ca_file)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        // Ten minutes lie between two notes: no connection is worth keeping.
        Ok(Self(legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)))
    }

    /// One request. Values of headers never reach a log.
    pub(crate) async fn send(
        &self,
        method: Method,
        uri: Uri,
        headers: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> Result<Answer, AnchorError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).map_err(|_| AnchorError::Setting {
                setting: name,
                problem: "has characters that a header cannot have".to_owned(),
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let response = self.0.request(request).await.map_err(|error| AnchorError::Unreachable(error.into()))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(AnchorError::Unreachable)?;
        Ok(Answer { status, body: body.to_bytes().to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_says_is_told_in_short() {
        let said = |body: &[u8]| Answer { status: 403, body: body.to_vec() }.refused().to_string();
        let xml = b"<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>No.</Message><X>y</X></Error>";
        assert_eq!(said(xml), "it answered 403: AccessDenied, No.");
        assert_eq!(said(b""), "it answered 403");
        assert_eq!(said(b"go\x1b[2Jaway"), "it answered 403: go[2Jaway");
        assert!(said(&[b'x'; 9_999]).len() < 300);
    }
}
