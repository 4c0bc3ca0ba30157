//! The little HTTP that key services need: JSON out and in, one call at a time, no redirects, and what they say about
//! errors.

use std::error::Error;
use std::fmt;
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
use zeroize::Zeroize as _;

/// Largest answer: a page of a store's list of secrets.
const MAX_BODY: usize = 1024 * 1024;
/// Connections that are kept for the next request, where many follow each other.
const KEPT: usize = 8;

type Cause = Box<dyn Error + Send + Sync>;

/// Sends requests.
pub(crate) struct Client(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// What is sent.
pub(crate) enum Body<'a> {
    /// Nothing.
    #[cfg(any(feature = "vault-transit", feature = "gcp-kms", feature = "azure-key-vault"))]
    Empty,
    /// JSON.
    #[cfg(any(feature = "vault-transit", feature = "gcp-kms", feature = "azure-key-vault"))]
    Json(&'a Value),
    /// Names and values of a form.
    #[cfg(any(feature = "azure-key-vault", feature = "gcp-kms"))]
    Form(&'a [(&'a str, &'a str)]),
    /// Bytes of this type.
    #[cfg(feature = "aws-kms")]
    Raw(&'static str, &'a [u8]),
}

/// Whose certificates are good.
#[derive(Default)]
pub(crate) struct Trust<'a> {
    /// File with authorities; Mozilla's without one.
    pub(crate) ca_file: Option<&'a Path>,
    /// Certificates that are good besides.
    #[cfg(feature = "vault-transit")]
    pub(crate) known: Option<crate::stores::KnownServers>,
}

/// What the server said.
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body; null if it is not JSON.
    pub(crate) body: Value,
}

/// The body may hold a secret.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Answer {
    /// Takes the text at a place out of the body, so that no copy of it stays behind.
    pub(crate) fn take_text(&mut self, pointer: &str) -> Option<SecretText> {
        match self.body.pointer_mut(pointer).map(Value::take) {
            Some(Value::String(text)) => Some(SecretText::new(text)),
            _ => None,
        }
    }

    /// The text at a place in the body; an error if there is none.
    #[cfg(any(feature = "vault-transit", feature = "gcp-kms", feature = "azure-key-vault"))]
    pub(crate) fn text(&self, pointer: &str) -> Result<SecretText, ServiceError> {
        let text = self.body.pointer(pointer).and_then(Value::as_str);
        text.map(SecretText::new).ok_or_else(|| self.failed(ServiceFailure::Protocol))
    }

    /// The server's own words about an error, wherever this kind of server puts them.
    pub(crate) fn errors(&self) -> String {
        let list = self.body.get("errors").and_then(Value::as_array).into_iter().flatten();
        let places = [
            "/__type",
            "/Message",
            "/message",
            "/error/status",
            "/error/code",
            "/error/innererror/code",
            "/error/message",
            "/error_description",
        ];
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
    #[cfg(any(feature = "vault-transit", feature = "gcp-kms", feature = "azure-key-vault"))]
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, ServiceError> {
        Self::of(&Trust { ca_file, ..Trust::default() }, 0)
    }

    /// The same for many requests one after the other, which share connections.
    ///
    /// # Errors
    /// [`ServiceFailure::Unusable`] likewise.
    pub(crate) fn keeping(trust: Option<Trust<'_>>) -> Result<Self, ServiceError> {
        Self::of(&trust.unwrap_or_default(), KEPT)
    }

    fn of(trust: &Trust<'_>, kept: usize) -> Result<Self, ServiceError> {
        let tls = tls(trust)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Self(legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(kept).build(connector)))
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
            #[cfg(any(feature = "vault-transit", feature = "gcp-kms", feature = "azure-key-vault"))]
            Body::Empty => (None, Bytes::new()),
            #[cfg(any(feature = "vault-transit", feature = "gcp-kms", feature = "azure-key-vault"))]
            Body::Json(value) => (Some("application/json"), Bytes::from(value.to_string())),
            #[cfg(any(feature = "azure-key-vault", feature = "gcp-kms"))]
            Body::Form(fields) => (Some("application/x-www-form-urlencoded"), Bytes::from(form(fields))),
            #[cfg(feature = "aws-kms")]
            Body::Raw(kind, bytes) => (Some(kind), Bytes::copy_from_slice(bytes)),
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
        let answer = Answer { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null) };
        // It may have held a secret, of which the answer has a copy.
        if let Ok(mut bytes) = body.try_into_mut() {
            bytes.as_mut().zeroize();
        }
        Ok(answer)
    }
}

/// `application/x-www-form-urlencoded`, which does for a query, too.
#[cfg(any(feature = "azure-key-vault", feature = "gcp-kms"))]
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
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

fn tls(trust: &Trust<'_>) -> Result<ClientConfig, ServiceError> {
    let unusable = |text: String| ServiceError::new(ServiceFailure::Unusable, text);
    let mut roots = RootCertStore::empty();
    if let Some(path) = trust.ca_file {
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
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    #[cfg(feature = "vault-transit")]
    if let Some(known) = trust.known.clone() {
        let usual = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        return Ok(builder.dangerous().with_custom_certificate_verifier(known.verifier(usual)).with_no_client_auth());
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(all(test, any(feature = "vault-transit", feature = "gcp-kms", feature = "azure-key-vault")))]
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
