//! A key of the transit engine of HashiCorp Vault or OpenBao, by its HTTP API.
//!
//! Guarantees: the key is named in every call; network and data key are the associated data, so the key must be of
//! a type that takes such (`aes256-gcm96`, the default, or `chacha20-poly1305`). Each call logs in anew, if a login
//! is needed, with a credential from a file, and keeps no token. Redirects are not followed: a token goes to the
//! address that was configured and nowhere else.
//!
//! Source of the shapes: the servers' own API documents (transit, approle and Kubernetes login, status codes).

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
use zeroize::Zeroize as _;

use crate::http::{Answer, Body, Client};
use crate::runtime;
use crate::secret_file::{self, Privacy};

/// Where a pod finds the token of its service account.
pub(crate) const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// With a token from a file.
    Token,
    /// As a role, with its secret id from a file.
    Approle,
    /// As the service account of a pod.
    Kubernetes,
}

/// Which key, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitOptions {
    /// Address of the server, `https://host:port`.
    pub address: String,
    /// Where the engine is mounted.
    pub mount: String,
    /// Name of the key.
    pub key: String,
    /// Namespace, where the server has them.
    pub namespace: Option<String>,
    /// How to log in.
    pub login: Login,
    /// Where the login method is mounted, if not at its own name.
    pub login_mount: Option<String>,
    /// The role's id, or its name for Kubernetes.
    pub role: Option<String>,
    /// File with the token, the secret id or the service account's token.
    pub secret_file: Option<PathBuf>,
    /// File with the authorities that may sign the server's certificate; Mozilla's without one.
    pub ca_file: Option<PathBuf>,
    /// How long one call may take, with logging in.
    pub timeout: Duration,
}

/// A key of a transit engine.
pub struct Transit(TransitOptions);

impl Transit {
    /// The provider of this key.
    pub fn provider(options: TransitOptions) -> Remote<Self> {
        let limit = options.timeout.saturating_add(Duration::from_secs(1));
        Remote::new(Self(options), limit)
    }

    fn secret(&self, what: &str) -> Result<SecretText, ServiceError> {
        let missing =
            || ServiceError::new(ServiceFailure::Unusable, format!("transit.secret_file is not given: {what}"));
        let path = self.0.secret_file.as_deref().ok_or_else(missing)?;
        secret_file::read(path, Privacy::Required)
    }

    fn role(&self) -> Result<&str, ServiceError> {
        let missing =
            || ServiceError::new(ServiceFailure::Unusable, "transit.role is not given: the role to log in as");
        self.0.role.as_deref().ok_or_else(missing)
    }

    /// A token, by the configured way.
    async fn token(&self, client: &Client) -> Result<SecretText, ServiceError> {
        let (own_name, body) = match self.0.login {
            Login::Token => return self.secret("the file that holds the token"),
            Login::Approle => {
                let secret = self.secret("the file that holds the role's secret id")?;
                ("approle", json!({ "role_id": self.role()?, "secret_id": secret.expose() }))
            }
            Login::Kubernetes => {
                let path = self.0.secret_file.clone().unwrap_or_else(|| PathBuf::from(POD_TOKEN));
                let token = secret_file::read(&path, Privacy::Ignored)?;
                ("kubernetes", json!({ "role": self.role()?, "jwt": token.expose() }))
            }
        };
        let mount = self.0.login_mount.as_deref().unwrap_or(own_name);
        let answer = self.send(client, Method::POST, &format!("auth/{mount}/login"), None, Body::Json(&body)).await?;
        match answer.status {
            200 => {}
            // Both are what a wrong or expired credential gets.
            400 | 403 => return Err(answer.failed(ServiceFailure::Credentials)),
            _ => return Err(sorted(&answer)),
        }
        answer.text("/auth/client_token")
    }

    async fn send(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Body<'_>,
    ) -> Result<Answer, ServiceError> {
        // Some servers refuse requests without the first, as a browser cannot be made to send it.
        let mut headers = vec![("x-vault-request", "true")];
        headers.extend(token.map(|token| ("x-vault-token", token)));
        headers.extend(self.0.namespace.as_deref().map(|namespace| ("x-vault-namespace", namespace)));
        let url = format!("{}/v1/{path}", self.0.address.trim_end_matches('/'));
        client.send(method, &url, &headers, body).await
    }

    /// One of the engine's operations; the answer's text at `field`.
    async fn call(&self, operation: &str, body: &Value, field: &str) -> Result<SecretText, ServiceError> {
        let client = Client::new(self.0.ca_file.as_deref())?;
        let token = self.token(&client).await?;
        let path = format!("{}/{operation}/{}", self.0.mount, self.0.key);
        let answer = self.send(&client, Method::POST, &path, Some(token.expose()), Body::Json(body)).await?;
        if answer.status == 403 {
            // The same answer for a token that is no longer one and for one that may not.
            let path = "auth/token/lookup-self";
            let valid = self.send(&client, Method::GET, path, Some(token.expose()), Body::Empty).await?.status == 200;
            return Err(answer.failed(if valid { ServiceFailure::Denied } else { ServiceFailure::Credentials }));
        }
        if answer.status != 200 {
            return Err(sorted(&answer));
        }
        if self.0.login == Login::Token {
            self.renew(&client, token.expose()).await;
        }
        answer.text(field)
    }

    /// Renews a token that has less than half of its time left. The server asks each provider every hour, and so keeps one
    /// alive. What cannot be renewed is used as long as it lasts.
    async fn renew(&self, client: &Client, token: &str) {
        let Ok(about) = self.send(client, Method::GET, "auth/token/lookup-self", Some(token), Body::Empty).await else {
            return;
        };
        let number = |name: &str| about.body.pointer(name).and_then(Value::as_u64).unwrap_or(0);
        // A periodic token's time is its period; another's is what it was made with.
        let whole = number("/data/period").max(number("/data/creation_ttl"));
        let renewable = about.body.pointer("/data/renewable").and_then(Value::as_bool).unwrap_or(false);
        if renewable && number("/data/ttl").saturating_mul(2) < whole {
            // Said by its result the next time, if it matters.
            let _ = self.send(client, Method::POST, "auth/token/renew-self", Some(token), Body::Json(&json!({}))).await;
        }
    }
}

impl KeyService for Transit {
    fn kind(&self) -> ProviderKind {
        ProviderKind::VaultTransit
    }

    fn key(&self) -> &str {
        &self.0.key
    }

    fn encrypt(&self, guard: &GuardKey, context: &WrapContext) -> Result<Vec<u8>, ServiceError> {
        let plaintext = guard.expose(|guard| BASE64.encode(guard));
        let body = json!({ "plaintext": plaintext, "associated_data": BASE64.encode(context.line()) });
        let ciphertext =
            runtime::block_on(self.0.timeout, async { self.call("encrypt", &body, "/data/ciphertext").await })?;
        Ok(ciphertext.expose().as_bytes().to_vec())
    }

    fn decrypt(&self, ciphertext: &[u8], context: &WrapContext) -> Result<GuardKey, ServiceError> {
        let rejected = |_| ServiceError::new(ServiceFailure::Rejected, "the ciphertext is not text");
        let ciphertext = std::str::from_utf8(ciphertext).map_err(rejected)?;
        let body = json!({ "ciphertext": ciphertext, "associated_data": BASE64.encode(context.line()) });
        let text = runtime::block_on(self.0.timeout, async { self.call("decrypt", &body, "/data/plaintext").await })?;
        let broken = |_| ServiceError::new(ServiceFailure::Protocol, "the plaintext is not base64");
        let mut plain = BASE64.decode(text.expose()).map_err(broken)?;
        let guard = GuardKey::take(&mut plain);
        plain.zeroize();
        guard
    }
}

/// What an answer other than success and 403 means.
pub(crate) fn sorted(answer: &Answer) -> ServiceError {
    let says = |word: &str| answer.errors().contains(word);
    answer.failed(match answer.status {
        400 if says("key not found") => ServiceFailure::KeyMissing,
        400 if says("disallowed by policy") || says("soft-deleted") => ServiceFailure::KeyDisabled,
        400 if says("authentication failed") || says("invalid ciphertext") || says("unable to decrypt") => {
            ServiceFailure::Rejected
        }
        300..=400 | 405 => ServiceFailure::Unusable,
        401 | 403 => ServiceFailure::Credentials,
        404 => ServiceFailure::KeyMissing,
        // Sealed, standby, overloaded, or not caught up.
        412 | 429 | 472 | 473 | 500..=599 => ServiceFailure::Busy,
        _ => ServiceFailure::Protocol,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted() {
        let answer = |status, errors: &str| sorted(&Answer { status, body: json!({ "errors": [errors] }) });
        for (status, errors, failure) in [
            (400, "encryption key not found", ServiceFailure::KeyMissing),
            (400, "cipher: message authentication failed", ServiceFailure::Rejected),
            (400, "invalid ciphertext: no prefix", ServiceFailure::Rejected),
            (400, "ciphertext or signature version is disallowed by policy (too old)", ServiceFailure::KeyDisabled),
            (400, "associated data is not supported for this key type", ServiceFailure::Unusable),
            (404, "no handler for route", ServiceFailure::KeyMissing),
            (503, "Vault is sealed", ServiceFailure::Busy),
            (429, "", ServiceFailure::Busy),
            (307, "", ServiceFailure::Unusable),
            (200, "", ServiceFailure::Protocol),
        ] {
            let error = answer(status, errors);
            assert_eq!(error.failure, failure, "{status} {errors}");
            assert!(error.source.to_string().contains(errors), "{}", error.source);
        }
    }
}
