//! A symmetric key of Google Cloud KMS, by its REST API.
//!
//! Guarantees: the key is named in every call; network and data key are the additional authenticated data. The access
//! token is the machine's own, from the metadata server (Compute Engine, GKE with workload identity, Cloud Run), that
//! of a service account with a key file, or from a file that something else keeps fresh; none is kept. The account needs
//! `cloudkms.cryptoKeyVersions.useToEncrypt` and `useToDecrypt` on this key, no more.
//!
//! Source of the shapes: the API's reference (`cryptoKeys.encrypt`, `.decrypt`, error model) and the metadata server's.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use holdfast_enclave::provider::{
    GuardKey, KeyService, ProviderKind, Remote, ServiceError, ServiceFailure, WrapContext,
};
use holdfast_secret::SecretText;
use hyper::Method;
use serde_json::{Value, json};

use crate::http::{Answer, Body, Client};
use crate::runtime;
use crate::secret_file::{self, Privacy};

mod account;

pub(crate) use account::Credentials;

/// Where the API is.
pub const ENDPOINT: &str = "https://cloudkms.googleapis.com";
/// Where a machine of this cloud finds its own token.
pub const METADATA: &str = "http://metadata.google.internal";
/// What a token is for, and no more.
const SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";

/// Which key, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcpOptions {
    /// `projects/P/locations/L/keyRings/R/cryptoKeys/K`.
    pub key: String,
    /// Address of the API; [`ENDPOINT`] without one.
    pub endpoint: Option<String>,
    /// Address of the metadata server; [`METADATA`] without one.
    pub metadata: Option<String>,
    /// File with an access token, instead of the metadata server.
    pub token_file: Option<PathBuf>,
    /// Key file of a service account (JSON), instead of the metadata server.
    pub key_file: Option<PathBuf>,
    /// How long one call may take, with getting a token.
    pub timeout: Duration,
}

/// A key of Google Cloud KMS.
pub struct GcpKms(GcpOptions);

impl GcpKms {
    /// The provider of this key.
    pub fn provider(options: GcpOptions) -> Remote<Self> {
        let limit = options.timeout.saturating_add(Duration::from_secs(1));
        Remote::new(Self(options), limit)
    }

    async fn token(&self, client: &Client) -> Result<SecretText, ServiceError> {
        if let Some(path) = &self.0.token_file {
            return secret_file::read(path, Privacy::Required);
        }
        if let Some(path) = &self.0.key_file {
            return Credentials::of_account(path)?.token(client, SCOPE).await;
        }
        machine_token(client, self.0.metadata.as_deref()).await
    }

    async fn call(&self, operation: &str, body: &Value) -> Result<Answer, ServiceError> {
        let client = Client::new(None)?;
        let token = self.token(&client).await?;
        let bearer = SecretText::new(format!("Bearer {}", token.expose()));
        let endpoint = self.0.endpoint.as_deref().unwrap_or(ENDPOINT).trim_end_matches('/');
        let url = format!("{endpoint}/v1/{}:{operation}", self.0.key);
        client.send(Method::POST, &url, &[("authorization", bearer.expose())], Body::Json(body)).await
    }
}

impl KeyService for GcpKms {
    fn kind(&self) -> ProviderKind {
        ProviderKind::GcpKms
    }

    fn key(&self) -> &str {
        &self.0.key
    }

    fn encrypt(&self, guard: &GuardKey, context: &WrapContext) -> Result<Vec<u8>, ServiceError> {
        let plaintext = guard.expose(|guard| BASE64.encode(guard));
        let body = json!({ "plaintext": plaintext, "additionalAuthenticatedData": BASE64.encode(context.line()) });
        runtime::block_on(self.0.timeout, async {
            let answer = self.call("encrypt", &body).await?;
            if answer.status != 200 {
                return Err(sorted(&answer, ServiceFailure::Unusable));
            }
            let broken = |_| answer.failed(ServiceFailure::Protocol);
            BASE64.decode(answer.text("/ciphertext")?.expose()).map_err(broken)
        })
    }

    fn decrypt(&self, ciphertext: &[u8], context: &WrapContext) -> Result<GuardKey, ServiceError> {
        let (ciphertext, bound) = (BASE64.encode(ciphertext), BASE64.encode(context.line()));
        let body = json!({ "ciphertext": ciphertext, "additionalAuthenticatedData": bound });
        runtime::block_on(self.0.timeout, async {
            let answer = self.call("decrypt", &body).await?;
            if answer.status != 200 {
                return Err(sorted(&answer, ServiceFailure::Rejected));
            }
            let broken = |_| answer.failed(ServiceFailure::Protocol);
            GuardKey::take(&mut BASE64.decode(answer.text("/plaintext")?.expose()).map_err(broken)?)
        })
    }
}

/// A token of the account that the machine has, from this metadata server or the usual one.
///
/// # Errors
/// [`ServiceError`].
pub(crate) async fn machine_token(client: &Client, metadata: Option<&str>) -> Result<SecretText, ServiceError> {
    let server = metadata.unwrap_or(METADATA).trim_end_matches('/');
    let url = format!("{server}/computeMetadata/v1/instance/service-accounts/default/token");
    let answer = client.send(Method::GET, &url, &[("metadata-flavor", "Google")], Body::Empty).await?;
    token_in(&answer)
}

/// The token that a server gave out.
fn token_in(answer: &Answer) -> Result<SecretText, ServiceError> {
    match answer.status {
        200 => answer.text("/access_token"),
        429 | 500..=599 => Err(answer.failed(ServiceFailure::Busy)),
        _ => Err(answer.failed(ServiceFailure::Credentials)),
    }
}

/// What an answer other than success means. `invalid`: what an argument that does not fit means for this operation.
pub(crate) fn sorted(answer: &Answer, invalid: ServiceFailure) -> ServiceError {
    let status = answer.body.pointer("/error/status").and_then(Value::as_str).unwrap_or_default();
    answer.failed(match (answer.status, status) {
        // The version that would be used is disabled, destroyed or about to be.
        (400, "FAILED_PRECONDITION") => ServiceFailure::KeyDisabled,
        (400, "INVALID_ARGUMENT") => invalid,
        (401, _) => ServiceFailure::Credentials,
        (403, _) => ServiceFailure::Denied,
        (404, _) => ServiceFailure::KeyMissing,
        (429 | 500..=599, _) => ServiceFailure::Busy,
        _ => ServiceFailure::Protocol,
    })
}
