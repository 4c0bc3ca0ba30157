//! An RSA key of Azure Key Vault or Managed HSM, by its REST API.
//!
//! Guarantees: guards are wrapped with RSA-OAEP-256 by the key that was configured; the version that did it is
//! recorded, and used to unwrap only if it is a version of that key. RSA binds nothing to a context: the seal around
//! the data key does. Each call gets a token of its own, as a managed identity, or as an application with its secret
//! or a federated token from a file. The identity needs "wrap key" and "unwrap key" on this key, no more.
//!
//! Source of the shapes: the API's reference (`wrapKey`, `unwrapKey`, error bodies), the instance metadata service's
//! and the identity platform's.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use holdfast_enclave::provider::{
    GuardKey, KeyService, ProviderKind, Remote, ServiceError, ServiceFailure, WrapContext,
};
use holdfast_secret::SecretText;
use hyper::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::http::{Answer, Body, Client};
use crate::runtime;
use crate::secret_file::{self, Privacy};

/// Where a machine of this cloud finds its identity.
pub const IDENTITY: &str = "http://169.254.169.254";
/// Where applications log in.
pub const LOGIN: &str = "https://login.microsoftonline.com";
/// The version of the API that is spoken.
pub(crate) const VERSION: &str = "api-version=7.4";

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AzureLogin {
    /// As the identity of the machine.
    ManagedIdentity,
    /// As an application, with its secret from a file.
    ClientSecret,
    /// As an application, with a federated token from a file, as AKS mounts it.
    WorkloadIdentity,
}

/// Which key, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureOptions {
    /// `https://VAULT.vault.azure.net/keys/NAME`, or one version of it.
    pub key: String,
    /// How to log in.
    pub login: AzureLogin,
    /// Tenant of the application.
    pub tenant: Option<String>,
    /// The application's id, or that of one of several managed identities.
    pub client: Option<String>,
    /// File with the secret or the federated token.
    pub secret_file: Option<PathBuf>,
    /// Where the machine's identity, or the login of applications, is; [`IDENTITY`] or [`LOGIN`] without one.
    pub login_address: Option<String>,
    /// What the token is for: `https://vault.azure.net`, or Managed HSM's.
    pub resource: String,
    /// How long one call may take, with logging in.
    pub timeout: Duration,
}

/// A key of Azure Key Vault.
pub struct AzureKeyVault(AzureOptions);

impl AzureKeyVault {
    /// The provider of this key.
    pub fn provider(options: AzureOptions) -> Remote<Self> {
        let limit = options.timeout.saturating_add(Duration::from_secs(1));
        Remote::new(Self(options), limit)
    }

    async fn token(&self, client: &Client) -> Result<SecretText, ServiceError> {
        fn given<'a>(value: Option<&'a String>, name: &str) -> Result<&'a str, ServiceError> {
            let missing = || ServiceError::new(ServiceFailure::Unusable, format!("azure.{name} is not given"));
            value.map(String::as_str).ok_or_else(missing)
        }
        let options = &self.0;
        let secret = |privacy| {
            let missing = || ServiceError::new(ServiceFailure::Unusable, "azure.secret_file is not given");
            secret_file::read(options.secret_file.as_deref().ok_or_else(missing)?, privacy)
        };
        let proof = match options.login {
            AzureLogin::ManagedIdentity => Proof::Machine { client: options.client.as_deref() },
            AzureLogin::ClientSecret | AzureLogin::WorkloadIdentity => {
                let (tenant, client) =
                    (given(options.tenant.as_ref(), "tenant")?, given(options.client.as_ref(), "client")?);
                if options.login == AzureLogin::ClientSecret {
                    Proof::Secret { tenant, client, secret: secret(Privacy::Required)? }
                } else {
                    Proof::Federated { tenant, client, token: secret(Privacy::Ignored)? }
                }
            }
        };
        token(client, options.login_address.as_deref(), &options.resource, proof).await
    }

    async fn call(&self, key: &str, operation: &str, value: &[u8]) -> Result<Answer, ServiceError> {
        let client = Client::new(None)?;
        let token = self.token(&client).await?;
        let bearer = SecretText::new(format!("Bearer {}", token.expose()));
        let body = json!({ "alg": "RSA-OAEP-256", "value": BASE64.encode(value) });
        let url = format!("{key}/{operation}?{VERSION}");
        client.send(Method::POST, &url, &[("authorization", bearer.expose())], Body::Json(&body)).await
    }

    /// Whether this is the configured key, or a version of it.
    fn is_ours(&self, key: &str) -> bool {
        let rest = key.strip_prefix(self.0.key.trim_end_matches('/'));
        let version = |rest: &str| rest.len() > 1 && rest.bytes().skip(1).all(|byte| byte.is_ascii_alphanumeric());
        rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('/') && version(rest)))
    }
}

impl KeyService for AzureKeyVault {
    fn kind(&self) -> ProviderKind {
        ProviderKind::AzureKeyVault
    }

    fn key(&self) -> &str {
        &self.0.key
    }

    /// The version that wrapped, a line end, and what came out.
    fn encrypt(&self, guard: &GuardKey, _: &WrapContext) -> Result<Vec<u8>, ServiceError> {
        let plain = Zeroizing::new(guard.expose(<[u8]>::to_vec));
        runtime::block_on(self.0.timeout, async {
            let answer = self.call(self.0.key.trim_end_matches('/'), "wrapkey", &plain).await?;
            if answer.status != 200 {
                return Err(sorted(&answer, ServiceFailure::Unusable));
            }
            let (version, value) = (answer.text("/kid")?, answer.text("/value")?);
            if self.is_ours(version.expose()) {
                Ok(format!("{}\n{}", version.expose(), value.expose()).into_bytes())
            } else {
                Err(ServiceError::new(ServiceFailure::Protocol, format!("it wrapped with {}", version.expose())))
            }
        })
    }

    fn decrypt(&self, ciphertext: &[u8], _: &WrapContext) -> Result<GuardKey, ServiceError> {
        let rejected = |problem: &str| ServiceError::new(ServiceFailure::Rejected, problem.to_owned());
        let text = std::str::from_utf8(ciphertext).map_err(|_| rejected("the ciphertext is not text"))?;
        let (version, value) = text.split_once('\n').ok_or_else(|| rejected("the ciphertext names no key"))?;
        if !self.is_ours(version) {
            return Err(ServiceError::new(ServiceFailure::WrongKey, format!("it was wrapped with {version}")));
        }
        let value = BASE64.decode(value).map_err(|_| rejected("the ciphertext is not base64"))?;
        runtime::block_on(self.0.timeout, async {
            let answer = self.call(version, "unwrapkey", &value).await?;
            if answer.status != 200 {
                return Err(sorted(&answer, ServiceFailure::Rejected));
            }
            let broken = |_| answer.failed(ServiceFailure::Protocol);
            GuardKey::take(&mut BASE64.decode(answer.text("/value")?.expose()).map_err(broken)?)
        })
    }
}

/// Who logs in, and what shows it.
pub(crate) enum Proof<'a> {
    /// The identity of the machine, or this one of several.
    Machine {
        /// Its identifier.
        client: Option<&'a str>,
    },
    /// An application with its secret.
    Secret {
        /// Its tenant.
        tenant: &'a str,
        /// Its identifier.
        client: &'a str,
        /// Its secret.
        secret: SecretText,
    },
    /// An application with a federated token.
    Federated {
        /// Its tenant.
        tenant: &'a str,
        /// Its identifier.
        client: &'a str,
        /// The token.
        token: SecretText,
    },
}

/// A token for `resource`, from `server` or the usual place.
///
/// # Errors
/// [`ServiceError`].
pub(crate) async fn token(
    client: &Client,
    server: Option<&str>,
    resource: &str,
    proof: Proof<'_>,
) -> Result<SecretText, ServiceError> {
    let assertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let (tenant, id, shown, fields) = match &proof {
        Proof::Machine { client: which } => {
            let server = server.unwrap_or(IDENTITY).trim_end_matches('/');
            let which = which.map_or_else(String::new, |id| format!("&client_id={id}"));
            let path = "metadata/identity/oauth2/token?api-version=2018-02-01";
            let url = format!("{server}/{path}&resource={resource}{which}");
            let answer = client.send(Method::GET, &url, &[("metadata", "true")], Body::Empty).await?;
            return logged_in(answer);
        }
        Proof::Secret { tenant, client, secret } => (tenant, client, secret, vec!["client_secret"]),
        Proof::Federated { tenant, client, token } => {
            (tenant, client, token, vec!["client_assertion", "client_assertion_type"])
        }
    };
    let url = format!("{}/{tenant}/oauth2/v2.0/token", server.unwrap_or(LOGIN).trim_end_matches('/'));
    let scope = format!("{resource}/.default");
    let mut form = vec![("grant_type", "client_credentials"), ("client_id", *id), ("scope", scope.as_str())];
    form.extend(fields.into_iter().zip([shown.expose(), assertion]));
    logged_in(client.send(Method::POST, &url, &[], Body::Form(&form)).await?)
}

fn logged_in(mut answer: Answer) -> Result<SecretText, ServiceError> {
    match answer.status {
        200 => answer.take_text("/access_token").ok_or_else(|| answer.failed(ServiceFailure::Protocol)),
        429 | 500..=599 => Err(answer.failed(ServiceFailure::Busy)),
        _ => Err(answer.failed(ServiceFailure::Credentials)),
    }
}

/// What an answer other than success means. `invalid`: what a parameter that does not fit means for this operation.
pub(crate) fn sorted(answer: &Answer, invalid: ServiceFailure) -> ServiceError {
    let inner = answer.body.pointer("/error/innererror/code").and_then(Value::as_str).unwrap_or_default();
    answer.failed(match (answer.status, inner) {
        (400, _) => invalid,
        (401, _) => ServiceFailure::Credentials,
        (403, "KeyDisabled" | "KeyNotYetValid" | "KeyExpired" | "SecretDisabled") | (409, _) => {
            ServiceFailure::KeyDisabled
        }
        (403, _) => ServiceFailure::Denied,
        (404, _) => ServiceFailure::KeyMissing,
        (429 | 500..=599, _) => ServiceFailure::Busy,
        _ => ServiceFailure::Protocol,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_of_the_configured_key_are_ours() {
        let vault = AzureKeyVault(AzureOptions {
            key: "https://v.vault.azure.net/keys/holdfast".to_owned(),
            login: AzureLogin::ManagedIdentity,
            tenant: None,
            client: None,
            secret_file: None,
            login_address: None,
            resource: "https://vault.azure.net".to_owned(),
            timeout: Duration::from_secs(1),
        });
        let base = "https://v.vault.azure.net/keys/holdfast";
        assert!(vault.is_ours(base) && vault.is_ours(&format!("{base}/78deebed173b48e48f55abf87ed4cf71")));
        for other in ["", "2", "/", "/a/b", "/../evil", "/a?x=1"] {
            assert!(!vault.is_ours(&format!("{base}{other}")) || other.is_empty(), "{other}");
        }
        assert!(!vault.is_ours("https://evil.example/keys/holdfast/1"));
    }
}
