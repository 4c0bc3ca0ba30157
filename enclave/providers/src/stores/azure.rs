//! The secrets of an Azure Key Vault, by its REST API.
//!
//! Guarantees: one token, got at the beginning; a list is followed only within the vault. The identity needs "get" on
//! secrets, and "list" where all are taken.
//!
//! Source of the shapes: the API's reference (`Get Secret`, `Get Secrets`).

use std::time::Duration;

use holdfast_enclave::provider::{ServiceError, ServiceFailure};
use holdfast_secret::SecretText;
use hyper::Method;
use serde_json::Value;

use super::{AzureSecretsLogin, AzureSecretsOptions, Filter};
use crate::azure::{Proof, VERSION, sorted, token};
use crate::http::{Answer, Body, Client};
use crate::runtime::within;

/// What the token is for.
const RESOURCE: &str = "https://vault.azure.net";
/// Answers to one listing, of 25 secrets each.
const MAX_PAGES: usize = 10_000;

/// Secrets of one vault.
pub(super) struct AzureSecrets {
    client: Client,
    address: String,
    /// The header.
    bearer: SecretText,
    timeout: Duration,
}

impl AzureSecrets {
    pub(super) async fn open(options: &AzureSecretsOptions) -> Result<Self, ServiceError> {
        let client = Client::keeping(None)?;
        let proof = match &options.login {
            AzureSecretsLogin::ManagedIdentity(client) => Proof::Machine { client: client.as_deref() },
            AzureSecretsLogin::ClientSecret { tenant, client, secret } => {
                Proof::Secret { tenant, client, secret: secret.clone() }
            }
        };
        let got = token(&client, options.login_address.as_deref(), RESOURCE, proof);
        let got = within(options.timeout, got).await?;
        let bearer = SecretText::new(format!("Bearer {}", got.expose()));
        let address = options.address.trim_end_matches('/').to_owned();
        Ok(Self { client, address, bearer, timeout: options.timeout })
    }

    pub(super) async fn read(&self, name: &str) -> Result<SecretText, ServiceError> {
        let mut answer = self.get(&format!("{}/secrets/{name}?{VERSION}", self.address)).await?;
        answer.take_text("/value").ok_or_else(|| answer.failed(ServiceFailure::Protocol))
    }

    pub(super) async fn list(&self, filter: &Filter) -> Result<Vec<String>, ServiceError> {
        let odd = |problem: &str| ServiceError::new(ServiceFailure::Protocol, problem.to_owned());
        let mut names = Vec::new();
        let mut url = format!("{}/secrets?{VERSION}&maxresults=25", self.address);
        for _ in 0..MAX_PAGES {
            let answer = self.get(&url).await?;
            let page = answer.body.pointer("/value").and_then(Value::as_array);
            for secret in page.ok_or_else(|| answer.failed(ServiceFailure::Protocol))? {
                if has(secret, filter) {
                    names.push(name_of(secret).ok_or_else(|| odd("a secret in the list has no name"))?);
                }
            }
            match answer.body.pointer("/nextLink").and_then(Value::as_str).filter(|link| !link.is_empty()) {
                None => return Ok(names),
                Some(link) if link.strip_prefix(&self.address).is_some_and(|rest| rest.starts_with('/')) => {
                    link.clone_into(&mut url);
                }
                Some(_) => return Err(odd("the list goes on at another address than the vault's")),
            }
        }
        Err(odd("the list of secrets does not end"))
    }

    async fn get(&self, url: &str) -> Result<Answer, ServiceError> {
        let headers = [("authorization", self.bearer.expose())];
        let answer = within(self.timeout, self.client.send(Method::GET, url, &headers, Body::Empty)).await?;
        if answer.status == 200 { Ok(answer) } else { Err(sorted(&answer, ServiceFailure::Unusable)) }
    }
}

/// Whether a secret has all the tags.
fn has(secret: &Value, filter: &Filter) -> bool {
    let tag = |name: &str| secret.get("tags")?.get(name)?.as_str();
    filter.tags.iter().all(|(name, value)| tag(name) == Some(value))
}

/// Its name: the end of its identifier.
fn name_of(secret: &Value) -> Option<String> {
    let name = secret.get("id")?.as_str()?.rsplit('/').next()?;
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    plain.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_tags_count_and_names_are_plain() {
        let secret = |id: &str, tags: Value| json!({ "id": id, "tags": tags });
        let filter = |tags: &[(&str, &str)]| Filter {
            tags: tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Filter::default()
        };
        let one = secret("https://v/secrets/key-1", json!({ "net": "hoodi", "live": "" }));
        assert!(has(&one, &filter(&[])) && has(&one, &filter(&[("net", "hoodi"), ("live", "")])));
        assert!(!has(&one, &filter(&[("net", "")])) && !has(&one, &filter(&[("other", "")])));
        assert!(!has(&json!({ "id": "x" }), &filter(&[("net", "hoodi")])));
        assert_eq!(name_of(&one).as_deref(), Some("key-1"));
        for odd in ["", "https://v/secrets/", "https://v/secrets/a?b", "https://v/secrets/a%2e"] {
            assert_eq!(name_of(&secret(odd, Value::Null)), None, "{odd}");
        }
    }
}
