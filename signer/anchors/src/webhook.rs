//! A webhook: the note is posted to an address, with a bearer token or an HMAC of it.
//!
//! `Content-Type: text/plain; charset=utf-8`, the signed note as body, `Idempotency-Key: <instance>/<batch>`, and if
//! there is a shared secret `X-Holdfast-Signature: sha256=<HMAC-SHA256 of the body in hex>`. Any 2xx is kept; 409 says
//! that it was kept before.

use core::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use holdfast_secret::{SecretLink, SecretText};
use hyper::{Method, Uri};

use crate::http::Client;
use crate::{AnchorError, Note};

/// Which webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookOptions {
    /// `https://…`, or `http://…` in a network of one's own.
    pub url: SecretLink,
    /// Whom to trust instead of Mozilla's authorities.
    pub ca_file: Option<PathBuf>,
    /// Bearer token.
    pub token: Option<SecretText>,
    /// Secret shared with the receiver, for the HMAC.
    pub hmac: Option<SecretText>,
}

/// Posts notes.
pub struct WebhookAnchor {
    client: Client,
    uri: Uri,
    options: WebhookOptions,
}

impl WebhookAnchor {
    /// Checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// [`AnchorError::Setting`].
    pub fn new(options: WebhookOptions) -> Result<Self, AnchorError> {
        let wrong = |problem: &str| AnchorError::Setting { setting: "audit.webhook_url", problem: problem.to_owned() };
        let uri: Uri = options.url.expose().parse().map_err(|_| wrong("is no address"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("must begin with https:// (or http://)"));
        }
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(wrong("must hold no user and password; put a token into audit.webhook_token_file"));
        }
        let client = Client::new("audit.webhook_ca_file", options.ca_file.as_deref().map(Path::new))?;
        Ok(Self { client, uri, options })
    }

    pub(crate) async fn keep(&self, note: &Note) -> Result<(), AnchorError> {
        let mut headers = vec![
            ("content-type", "text/plain; charset=utf-8".to_owned()),
            ("idempotency-key", format!("{}/{}", note.instance, note.batch)),
        ];
        if let Some(token) = &self.options.token {
            headers.push(("authorization", format!("Bearer {}", token.expose())));
        }
        if let Some(secret) = &self.options.hmac {
            headers.push(("x-holdfast-signature", signature(secret, note.text.as_bytes())));
        }
        let body = note.text.clone().into_bytes();
        let answer = self.client.send(Method::POST, self.uri.clone(), &headers, body).await?;
        if answer.is_success() || answer.status == 409 { Ok(()) } else { Err(answer.refused()) }
    }
}

impl fmt::Display for WebhookAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.url.fmt(f)
    }
}

fn signature(secret: &SecretText, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    format!("sha256={}", hex::encode(hmac::sign(&key, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        let signed = signature(&SecretText::new("Jefe"), b"what do ya want for nothing?");
        assert_eq!(signed, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn addresses_that_cannot_be_used_are_refused_without_being_shown() {
        for url in ["hooks.example/T0PSECRET", "ftp://hooks.example/T0PSECRET", "https://u:T0PSECRET@hooks.example/"] {
            let options = WebhookOptions { url: SecretLink::new(url), ca_file: None, token: None, hmac: None };
            let Err(error) = WebhookAnchor::new(options) else { panic!("{url} was taken") };
            assert!(error.to_string().contains("audit.webhook_url") && !error.to_string().contains("T0PSECRET"));
        }
    }
}
