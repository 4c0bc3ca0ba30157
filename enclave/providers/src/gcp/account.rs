//! Logging in as a service account, with its key file: a statement signed with the account's RSA key is exchanged for a
//! token of an hour (RFC 7523; Google's "OAuth 2.0 for Server to Server Applications").

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use holdfast_enclave::durable;
use holdfast_enclave::provider::{ServiceError, ServiceFailure};
use holdfast_secret::SecretText;
use hyper::Method;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::http::{Body, Client};

/// What the token is for, and no more.
const SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";
/// Seconds a statement is good for, the longest that is accepted.
const LIFE: u64 = 3600;

/// A service account's key file.
pub(super) struct Account {
    email: String,
    id: String,
    token_uri: String,
    key: RsaKeyPair,
}

impl Account {
    /// # Errors
    /// [`ServiceFailure::Credentials`] if the file is none, or is open to others.
    pub(super) fn read(path: &Path) -> Result<Self, ServiceError> {
        let unusable = |why: String| {
            ServiceError::new(ServiceFailure::Credentials, format!("the key file {}: {why}", path.display()))
        };
        durable::check_private_permissions(path).map_err(|error| unusable(error.to_string()))?;
        let text = Zeroizing::new(std::fs::read(path).map_err(|error| unusable(error.to_string()))?);
        // Of what the parser says, only the place: it could quote.
        let file: Value = serde_json::from_slice(&text)
            .map_err(|error| unusable(format!("it is no JSON (line {}, column {})", error.line(), error.column())))?;
        let field = |name: &str| {
            let value = file.get(name).and_then(Value::as_str);
            value.map(str::to_owned).ok_or_else(|| unusable(format!("it has no {name:?}; is it of a service account?")))
        };
        let pem = Zeroizing::new(field("private_key")?);
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| unusable("its private_key is no PKCS #8 key in PEM".to_owned()))?;
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|error| unusable(format!("its private_key cannot be used: {error}")))?;
        let id = field("private_key_id").unwrap_or_default();
        Ok(Self { email: field("client_email")?, id, token_uri: field("token_uri")?, key })
    }

    /// The statement that this account made at this time, in seconds of Unix time.
    fn statement(&self, now: u64) -> Result<SecretText, ServiceError> {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": self.id });
        let claims = json!({
            "iss": self.email, "scope": SCOPE, "aud": self.token_uri, "iat": now, "exp": now.saturating_add(LIFE),
        });
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let done = self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature);
        done.map_err(|error| {
            ServiceError::new(ServiceFailure::Unusable, format!("the account's key does not sign: {error}"))
        })?;
        Ok(SecretText::new(format!("{signed}.{}", BASE64.encode(signature))))
    }

    /// A token of this account.
    ///
    /// # Errors
    /// [`ServiceError`]; a refused statement is [`ServiceFailure::Credentials`].
    pub(super) async fn token(&self, client: &Client) -> Result<SecretText, ServiceError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the statement carries the time of day; the helper process has no clock"
        )]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let statement = self.statement(now)?;
        let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
        let form = [grant, ("assertion", statement.expose())];
        let answer = client.send(Method::POST, &self.token_uri, &[], Body::Form(&form)).await?;
        match answer.status {
            200 => answer.text("/access_token"),
            429 | 500..=599 => Err(answer.failed(ServiceFailure::Busy)),
            // Also if this machine's clock is wrong, as the server then says.
            _ => Err(answer.failed(ServiceFailure::Credentials)),
        }
    }
}
