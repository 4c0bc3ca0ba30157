//! The little HTTP that key services need: JSON out and in, one call at a time, no redirects, and what they say about
//! errors.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use holdfast_enclave::provider::{ServiceError, ServiceFailure};
use holdfast_secret::SecretText;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

/// Largest answer.
const MAX_BODY: usize = 64 * 1024;

type Cause = Box<dyn Error + Send + Sync>;

/// Sends requests.
pub(crate) struct Client(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// What is sent.
pub(crate) enum Body<'a> {
    /// Nothing.
    Empty,
    /// JSON.
    Json(&'a Value),
    /// Names and values of a form.
    #[cfg(any(feature = "azure-key-vault", feature = "gcp-kms"))]
    Form(&'a [(&'a str, &'a str)]),
}

/// What the server said.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body; null if it is not JSON.
    pub(crate) body: Value,
}

impl Answer {
    /// The text at a place in the body; an error if there is none.
    pub(crate) fn text(&self, pointer: &str) -> Result<SecretText, ServiceError> {
        let text = self.body.pointer(pointer).and_then(Value::as_str);
        text.map(SecretText::new).ok_or_else(|| self.failed(ServiceFailure::Protocol))
    }

    /// The server's own words about an error, wherever this kind of server puts them.
    pub(crate) fn errors(&self) -> String {
        let list = self.body.get("errors").and_then(Value::as_array).into_iter().flatten();
        let places = ["/error/status", "/error/code", "/error/innererror/code", "/error/message", "/error_description"];
        let at = places.into_iter().filter_map(|place| self.body.pointer(place));
        list.chain(at).filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
    }

    /// This answer as an error.
    pub(crate) fn failed(&self, failure: ServiceFailure) -> ServiceError {
        ServiceError::new(failure, format!("status {}: {}", self.status, self.errors()))
    }
}

impl Client {
    /// Trusts the authorities in `ca_file`, or Mozilla's.
    ///
    /// # Errors
    /// [`ServiceFailure::Unusable`] if the file is no good.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, ServiceError> {
        let tls = tls(ca_file)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Self(legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)))
    }

    /// One request. Values of `headers` never reach a log.
    ///
    /// # Errors
    /// [`ServiceError`] without an answer. An answer that is an error is none here.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&'static str, &str)],
        body: Body<'_>,
    ) -> Result<Answer, ServiceError> {
        let unusable =
            |error: Cause| ServiceError::new(ServiceFailure::Unusable, format!("the address {url:?}: {error}"));
        let uri: Uri = url.parse().map_err(|error: hyper::http::uri::InvalidUri| unusable(error.into()))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(unusable("it must begin with https:// (or http://)".into()));
        }
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).map_err(|_| {
                ServiceError::new(ServiceFailure::Credentials, format!("{name} has characters that it cannot have"))
            })?;
            value.set_sensitive(true);
            all.insert(HeaderName::from_static(name), value);
        }
        let (kind, bytes) = match body {
            Body::Empty => (None, Bytes::new()),
            Body::Json(value) => (Some("application/json"), Bytes::from(value.to_string())),
            #[cfg(any(feature = "azure-key-vault", feature = "gcp-kms"))]
            Body::Form(fields) => (Some("application/x-www-form-urlencoded"), Bytes::from(form(fields))),
        };
        if let Some(kind) = kind {
            all.insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        // Some services want the length of nothing as well.
        all.insert(hyper::header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        let mut request = Request::new(Full::new(bytes));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = all;
        let unreachable = |error: Cause| ServiceError::new(ServiceFailure::Unreachable, error);
        let response = self.0.request(request).await.map_err(|error| unreachable(error.into()))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(unreachable)?.to_bytes();
        Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
    }
}

/// `application/x-www-form-urlencoded`.
#[cfg(any(feature = "azure-key-vault", feature = "gcp-kms"))]
fn form(fields: &[(&str, &str)]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default().to_ascii_uppercase();
    let escaped = |text: &str| {
        let mut out = String::new();
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
                byte => out.extend(['%', digit(byte >> 4), digit(byte & 15)]),
            }
        }
        out
    };
    fields.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect::<Vec<_>>().join("&")
}

fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, ServiceError> {
    let unusable = |text: String| ServiceError::new(ServiceFailure::Unusable, text);
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let broken = |error: String| unusable(format!("the authorities in {}: {error}", path.display()));
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| broken(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| broken(error.to_string()))?;
            roots.add(certificate).map_err(|error| broken(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(broken("it holds no certificate".to_owned()));
        }
    } else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_read_or_refused() {
        assert!(Client::new(None).is_ok());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        for text in ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
            let error = Client::new(Some(&path)).map(|_| ()).unwrap_err();
            assert_eq!(error.failure, ServiceFailure::Unusable);
            assert!(error.source.to_string().contains("ca.pem"), "{}", error.source);
        }
    }

    #[cfg(any(feature = "azure-key-vault", feature = "gcp-kms"))]
    #[test]
    fn forms_are_escaped() {
        assert_eq!(form(&[("a b", "1&2=é"), ("c", "x~-._")]), "a%20b=1%262%3D%C3%A9&c=x~-._");
    }
}
