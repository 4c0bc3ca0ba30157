//! Google Secret Manager of one project, by its REST API.
//!
//! Guarantees: one token, got at the beginning, goes to the address of the service only; what is read must fit the checksum
//! that comes with it. The account needs `secretmanager.secrets.list` on the project and `secretmanager.versions.access` on
//! the secrets.
//!
//! Source of the shapes: the API's reference (`projects.secrets.list`, `projects.secrets.versions.access`, error model). In
//! its JSON, fields that are empty are left out.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc::{CRC_32_ISCSI, Crc};
use holdfast_enclave::provider::{ServiceError, ServiceFailure};
use holdfast_secret::SecretText;
use hyper::Method;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Filter, GoogleSecretsOptions};
use crate::gcp::{Credentials, machine_token, sorted};
use crate::http::{Answer, Body, Client, form};
use crate::runtime::within;

/// Where the service is.
const ENDPOINT: &str = "https://secretmanager.googleapis.com";
/// What the token is for: the service knows no narrower scope.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Secrets that one answer lists, as text: each may carry some kilobytes of labels and annotations.
const PAGE: &str = "50";
/// Answers to one listing.
const MAX_PAGES: usize = 10_000;
/// The checksum is CRC-32C, by Castagnoli's polynomial.
static CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Secrets of one project.
pub(super) struct GoogleSecrets {
    client: Client,
    endpoint: String,
    project: String,
    /// The header.
    bearer: SecretText,
    quota_project: Option<String>,
    timeout: Duration,
}

impl GoogleSecrets {
    pub(super) async fn open(options: &GoogleSecretsOptions) -> Result<Self, ServiceError> {
        let client = Client::keeping(None)?;
        let (token, quota_project) = if let Some(path) = &options.credentials {
            let credentials = Credentials::read(path)?;
            let token = within(options.timeout, credentials.token(&client, SCOPE)).await?;
            (token, credentials.quota_project)
        } else {
            let got = within(options.timeout, machine_token(&client, options.metadata.as_deref())).await;
            (got.map_err(nobody)?, None)
        };
        let bearer = SecretText::new(format!("Bearer {}", token.expose()));
        let endpoint = options.endpoint.as_deref().unwrap_or(ENDPOINT).trim_end_matches('/').to_owned();
        let project = options.project.clone();
        Ok(Self { client, endpoint, project, bearer, quota_project, timeout: options.timeout })
    }

    /// The newest version of a secret, as the other signer reads it.
    pub(super) async fn read(&self, name: &str) -> Result<SecretText, ServiceError> {
        let mut answer = self.get(&format!("{}/v1/{name}/versions/latest:access", self.endpoint)).await?;
        value(&mut answer)
    }

    pub(super) async fn list(&self, filter: &Filter) -> Result<Vec<String>, ServiceError> {
        let mut names = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut query = vec![("pageSize", PAGE)];
            query.extend(filter.expression.as_deref().map(|expression| ("filter", expression)));
            query.extend(token.as_deref().map(|token| ("pageToken", token)));
            let url = format!("{}/v1/projects/{}/secrets?{}", self.endpoint, self.project, form(&query));
            let (more, next) = page(&self.get(&url).await?)?;
            names.extend(more);
            if next.is_none() {
                return Ok(names);
            }
            token = next;
        }
        Err(ServiceError::new(ServiceFailure::Protocol, "the list of secrets does not end"))
    }

    async fn get(&self, url: &str) -> Result<Answer, ServiceError> {
        let mut headers = vec![("authorization", self.bearer.expose())];
        headers.extend(self.quota_project.as_deref().map(|project| ("x-goog-user-project", project)));
        let answer = within(self.timeout, self.client.send(Method::GET, url, &headers, Body::Empty)).await?;
        if answer.status == 200 { Ok(answer) } else { Err(sorted(&answer, ServiceFailure::Unusable)) }
    }
}

/// Without a file, a machine that is none of Google's has no credentials, rather than a network that fails.
fn nobody(error: ServiceError) -> ServiceError {
    match error.failure {
        ServiceFailure::Unreachable | ServiceFailure::TimedOut => ServiceError::new(
            ServiceFailure::Credentials,
            format!(
                "there are none: GOOGLE_APPLICATION_CREDENTIALS names no file, nobody logged in with `gcloud auth \
                 application-default login`, and no metadata server answers ({})",
                error.source
            ),
        ),
        _ => error,
    }
}

/// The names on one page of the list, and where the next one is.
fn page(answer: &Answer) -> Result<(Vec<String>, Option<String>), ServiceError> {
    let broken = || answer.failed(ServiceFailure::Protocol);
    let page = answer.body.as_object().ok_or_else(broken)?;
    let secrets = page.get("secrets").map(|secrets| secrets.as_array().ok_or_else(broken)).transpose()?;
    let mut names = Vec::new();
    for secret in secrets.into_iter().flatten() {
        let name = secret.get("name").and_then(Value::as_str).filter(|name| is_secret(name));
        let odd = || ServiceError::new(ServiceFailure::Protocol, "a secret in the list has no name");
        names.push(name.ok_or_else(odd)?.to_owned());
    }
    let next = page.get("nextPageToken").and_then(Value::as_str).filter(|token| !token.is_empty());
    Ok((names, next.map(str::to_owned)))
}

/// Whether a name is `projects/PROJECT/secrets/SECRET`, so that it leads nowhere else in an address.
fn is_secret(name: &str) -> bool {
    let plain = |text: &str, more: &[u8]| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || more.contains(&byte);
        !text.is_empty() && !text.starts_with('.') && text.bytes().all(good)
    };
    let parts: Vec<&str> = name.split('/').collect();
    matches!(parts.as_slice(), ["projects", project, "secrets", secret] if plain(project, b"-.:") && plain(secret, b"-_"))
}

/// The value that an answer holds.
fn value(answer: &mut Answer) -> Result<SecretText, ServiceError> {
    let broken = |why: &'static str| ServiceError::new(ServiceFailure::Protocol, why);
    if !answer.body.pointer("/payload").is_some_and(Value::is_object) {
        return Err(answer.failed(ServiceFailure::Protocol));
    }
    let data = answer.take_text("/payload/data").unwrap_or_default();
    let bytes = BASE64.decode(data.expose()).map_err(|_| broken("the secret is not base64"))?;
    let bytes = Zeroizing::new(bytes);
    let fits = match answer.body.pointer("/payload/dataCrc32c") {
        None => true,
        // A number of 64 bits is a text in this JSON.
        Some(Value::String(sum)) => sum.parse::<u32>() == Ok(CASTAGNOLI.checksum(&bytes)),
        Some(_) => false,
    };
    if !fits {
        return Err(broken("the secret does not fit its checksum, so it was changed on the way"));
    }
    let text = std::str::from_utf8(&bytes);
    Ok(SecretText::new(text.map_err(|_| broken("the secret is binary, and the other signer reads texts only"))?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, body: Value) -> Answer {
        Answer { status, body }
    }

    #[test]
    fn pages_are_followed_and_names_lead_nowhere_else() {
        let names =
            |page: &Value| page.as_array().unwrap().iter().map(|name| json!({ "name": name })).collect::<Value>();
        let of = |body: Value| page(&answer(200, body)).map_err(|error| error.failure);
        let two = names(&json!(["projects/12/secrets/key_1", "projects/example.com:p-1/secrets/K-2"]));
        let read = of(json!({ "secrets": two, "nextPageToken": "a+/=", "totalSize": 3 })).unwrap();
        assert_eq!(read.0, ["projects/12/secrets/key_1", "projects/example.com:p-1/secrets/K-2"]);
        assert_eq!(read.1.as_deref(), Some("a+/="));
        // What is empty is left out: the last page, a page of which the filter took all, a project without secrets.
        assert_eq!(of(json!({ "nextPageToken": "" })), Ok((Vec::new(), None)));
        assert_eq!(of(json!({ "nextPageToken": "b" })), Ok((Vec::new(), Some("b".to_owned()))));
        assert_eq!(of(json!({})), Ok((Vec::new(), None)));
        for odd in [
            "",
            "key",
            "projects/1/secrets/",
            "projects/1/secrets/a/versions/1",
            "projects/1/secrets/a?b",
            "projects/1/secrets/a%2fb",
            "projects/../secrets/a",
            "projects/1/locations/l/secrets/a",
        ] {
            assert_eq!(of(json!({ "secrets": names(&json!([odd])) })), Err(ServiceFailure::Protocol), "{odd}");
        }
        for odd in [json!({ "secrets": "x" }), json!({ "secrets": [{}] }), json!([]), Value::Null] {
            assert_eq!(of(odd.clone()), Err(ServiceFailure::Protocol), "{odd}");
        }
    }

    #[test]
    fn a_value_must_fit_its_checksum_and_be_a_text() {
        let of = |payload: Value| {
            let read =
                value(&mut answer(200, json!({ "name": "projects/1/secrets/a/versions/3", "payload": payload })));
            read.map(|text| text.expose().to_owned()).map_err(|error| error.source.to_string())
        };
        // The check value of CRC-32/ISCSI in the catalogue of such sums: 0xe3069283 for these digits.
        let digits = BASE64.encode("123456789");
        assert_eq!(of(json!({ "data": digits, "dataCrc32c": "3808858755" })), Ok("123456789".to_owned()));
        assert_eq!(of(json!({ "data": digits })), Ok("123456789".to_owned()));
        assert_eq!(of(json!({ "dataCrc32c": "0" })), Ok(String::new()));
        for sum in [json!("3808858756"), json!("-1"), json!(""), json!(3_808_858_755_u32)] {
            let said = of(json!({ "data": digits, "dataCrc32c": sum })).unwrap_err();
            assert!(said.contains("does not fit its checksum"), "{said}");
        }
        assert!(of(json!({ "data": "hunter2!" })).unwrap_err().contains("not base64"));
        assert!(of(json!({ "data": BASE64.encode([0xff_u8, 0xfe]) })).unwrap_err().contains("binary"));
        assert!(of(Value::Null).unwrap_err().contains("status 200"));
    }

    #[test]
    fn answers_are_sorted_and_told() {
        for (status, code, failure) in [
            (400, "FAILED_PRECONDITION", ServiceFailure::KeyDisabled),
            (400, "INVALID_ARGUMENT", ServiceFailure::Unusable),
            (401, "UNAUTHENTICATED", ServiceFailure::Credentials),
            (403, "PERMISSION_DENIED", ServiceFailure::Denied),
            (404, "NOT_FOUND", ServiceFailure::KeyMissing),
            (429, "RESOURCE_EXHAUSTED", ServiceFailure::Busy),
            (503, "UNAVAILABLE", ServiceFailure::Busy),
            (302, "", ServiceFailure::Protocol),
        ] {
            let body = json!({ "error": { "code": status, "status": code, "message": "because" } });
            let error = sorted(&answer(status, body), ServiceFailure::Unusable);
            assert_eq!(error.failure, failure, "{status} {code}");
            assert!(error.source.to_string().contains("because"), "{}", error.source);
        }
    }

    #[test]
    fn a_machine_without_an_account_is_told_from_a_service_that_is_away() {
        for (failure, becomes) in [
            (ServiceFailure::Unreachable, ServiceFailure::Credentials),
            (ServiceFailure::TimedOut, ServiceFailure::Credentials),
            (ServiceFailure::Busy, ServiceFailure::Busy),
        ] {
            let error = nobody(ServiceError::new(failure, "because"));
            assert_eq!(error.failure, becomes);
            assert!(error.source.to_string().contains("because"), "{}", error.source);
        }
    }
}
