//! A key-value engine of HashiCorp Vault or OpenBao, by its HTTP API.
//!
//! Guarantees: the token goes to the address that was named, over TLS only to a server that the authorities or a fingerprint
//! vouch for. Both versions of the engine are read: the second wraps what it holds once more. The token needs `read` on the
//! path.

use std::path::Path;
use std::time::Duration;

use holdfast_enclave::provider::{ServiceError, ServiceFailure};
use holdfast_secret::SecretText;
use hyper::Method;
use serde_json::{Value, json};

use super::known_servers::KnownServers;
use super::{SecretName, VaultSecretsLogin, VaultSecretsOptions};
use crate::http::{Answer, Body, Client, Trust};
use crate::runtime::within;
use crate::secret_file::{self, Privacy};
use crate::transit::{POD_TOKEN, sorted};

/// Secrets of one server.
pub(super) struct VaultSecrets {
    client: Client,
    address: String,
    token: SecretText,
    timeout: Duration,
}

impl VaultSecrets {
    pub(super) async fn open(options: &VaultSecretsOptions) -> Result<Self, ServiceError> {
        let address = options.address.trim_end_matches('/').to_owned();
        let known = options.known_servers.as_deref().map(|path| KnownServers::read(path, &address)).transpose()?;
        let client = Client::keeping(Some(Trust { ca_file: options.ca_file.as_deref(), known }))?;
        let token = match &options.login {
            VaultSecretsLogin::Token(token) => token.clone(),
            VaultSecretsLogin::Kubernetes { role, token_file, mount } => {
                let pod = secret_file::read(token_file.as_deref().unwrap_or(Path::new(POD_TOKEN)), Privacy::Ignored)?;
                let body = json!({ "role": role, "jwt": pod.expose() });
                let url = format!("{address}/v1/auth/{mount}/login");
                let sent = client.send(Method::POST, &url, &[("x-vault-request", "true")], Body::Json(&body));
                let mut answer = within(options.timeout, sent).await?;
                match answer.status {
                    200 => {}
                    400 | 403 => return Err(answer.failed(ServiceFailure::Credentials)),
                    _ => return Err(sorted(&answer)),
                }
                answer.take_text("/auth/client_token").ok_or_else(|| answer.failed(ServiceFailure::Protocol))?
            }
        };
        Ok(Self { client, address, token, timeout: options.timeout })
    }

    pub(super) async fn read(&self, secret: &SecretName) -> Result<SecretText, ServiceError> {
        let headers = [("x-vault-request", "true"), ("x-vault-token", self.token.expose())];
        let url = format!("{}{}", self.address, secret.name);
        let sent = self.client.send(Method::GET, &url, &headers, Body::Empty);
        let mut answer = within(self.timeout, sent).await?;
        match answer.status {
            200 => {}
            // The same answer for a token that is no longer one and for one that may not.
            403 => return Err(answer.failed(ServiceFailure::Denied)),
            _ => return Err(sorted(&answer)),
        }
        let member = secret.member.as_deref().unwrap_or("value");
        take(&mut answer, member).ok_or_else(|| {
            let text = format!("there is no text called {member:?} in it; deleted versions have none");
            ServiceError::new(ServiceFailure::KeyMissing, text)
        })
    }
}

/// The member, of the second version of the engine or of the first.
fn take(answer: &mut Answer, member: &str) -> Option<SecretText> {
    let member = member.replace('~', "~0").replace('/', "~1");
    let second = answer.body.pointer("/data/metadata").is_some_and(Value::is_object)
        || answer.body.pointer("/data/data").is_some_and(Value::is_object);
    answer.take_text(&format!("{}/{member}", if second { "/data/data" } else { "/data" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_the_engine_are_read() {
        let of = |body: Value, member: &str| {
            take(&mut Answer { status: 200, body }, member).map(|text| text.expose().to_owned())
        };
        let second = || json!({ "data": { "data": { "value": "a", "b/c~": "d" }, "metadata": { "version": 3 } } });
        assert_eq!(of(second(), "value").as_deref(), Some("a"));
        assert_eq!(of(second(), "b/c~").as_deref(), Some("d"));
        assert_eq!(of(second(), "metadata"), None);
        assert_eq!(of(json!({ "data": { "value": "a" } }), "value").as_deref(), Some("a"));
        assert_eq!(of(json!({ "data": { "data": null, "metadata": {} } }), "value"), None);
        assert_eq!(of(json!({ "data": { "data": { "value": 7 } } }), "value"), None);
        assert_eq!(of(Value::Null, "value"), None);
    }
}
