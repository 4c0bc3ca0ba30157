//! AWS Secrets Manager, by its HTTP API with Signature Version 4.
//!
//! Why not the client library for it: that is one more large generated crate, and two operations are asked for, in JSON. The
//! credentials' chain and the signatures are the library's own. Reading needs `secretsmanager:GetSecretValue`, listing
//! `secretsmanager:ListSecrets`.
//!
//! Source of the shapes: the service's API reference.

use std::time::{Duration, SystemTime};

use aws_config::meta::region::RegionProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use holdfast_enclave::provider::{ServiceError, ServiceFailure};
use holdfast_secret::SecretText;
use hyper::Method;
use serde_json::{Value, json};

use super::{AwsSecretsOptions, Filter};
use crate::aws::of_code;
use crate::http::{Answer, Body, Client};
use crate::runtime::within;

/// How requests and answers are written.
const JSON: &str = "application/x-amz-json-1.1";
/// Answers to one listing, of a hundred secrets each.
const MAX_PAGES: usize = 10_000;

/// Secrets of one region and account.
pub(super) struct AwsSecrets {
    client: Client,
    region: String,
    url: String,
    credentials: Credentials,
    timeout: Duration,
}

impl AwsSecrets {
    pub(super) async fn open(options: &AwsSecretsOptions) -> Result<Self, ServiceError> {
        let given = options.region.clone().map(Region::new);
        let (region, credentials) = if let Some((id, secret)) = &options.access_key {
            (given, Credentials::new(id, secret.expose(), None, None, "the other signer's settings"))
        } else {
            let own = RegionProviderChain::default_provider().region().await.or(given);
            let found = within(options.timeout, Box::pin(platform(own.clone(), options.timeout))).await?;
            (own, found)
        };
        let no_region = || ServiceError::new(ServiceFailure::Unusable, "no region is known: set AWS_REGION");
        let region = region.ok_or_else(no_region)?.to_string();
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let url = match &options.endpoint {
            Some(endpoint) => format!("{}/", endpoint.trim_end_matches('/')),
            None => format!("https://secretsmanager.{region}.{domain}/"),
        };
        Ok(Self { client: Client::keeping(None)?, region, url, credentials, timeout: options.timeout })
    }

    pub(super) async fn read(&self, name: &str) -> Result<SecretText, ServiceError> {
        let mut answer = self.call("GetSecretValue", &json!({ "SecretId": name })).await?;
        answer.take_text("/SecretString").ok_or_else(|| {
            ServiceError::new(ServiceFailure::Protocol, "the secret is binary, and the other signer reads texts only")
        })
    }

    pub(super) async fn list(&self, filter: &Filter) -> Result<Vec<String>, ServiceError> {
        let mut filters = Vec::new();
        let mut add = |key: &str, values: Vec<&String>| {
            if !values.is_empty() {
                filters.push(json!({ "Key": key, "Values": values }));
            }
        };
        add("name", filter.prefixes.iter().collect());
        add("tag-key", filter.tags.iter().map(|(tag, _)| tag).collect());
        add("tag-value", filter.tags.iter().map(|(_, value)| value).filter(|value| !value.trim().is_empty()).collect());
        let mut names = Vec::new();
        let mut body = json!({ "MaxResults": 100, "Filters": filters });
        for _ in 0..MAX_PAGES {
            let answer = self.call("ListSecrets", &body).await?;
            let secrets = answer.body.pointer("/SecretList").and_then(Value::as_array);
            let secrets = secrets.ok_or_else(|| answer.failed(ServiceFailure::Protocol))?;
            names.extend(secrets.iter().filter_map(|one| one.pointer("/Name")?.as_str().map(str::to_owned)));
            match answer.body.get("NextToken").and_then(Value::as_str) {
                Some(token) => body = json!({ "MaxResults": 100, "Filters": filters, "NextToken": token }),
                None => return Ok(names),
            }
        }
        Err(ServiceError::new(ServiceFailure::Protocol, "the list of secrets does not end"))
    }

    async fn call(&self, operation: &str, body: &Value) -> Result<Answer, ServiceError> {
        let (body, target) = (body.to_string(), format!("secretsmanager.{operation}"));
        let signed = self.signed(&target, body.as_bytes())?;
        let mut headers = vec![("x-amz-target", target.as_str())];
        headers.extend(signed.iter().map(|(name, value)| (*name, value.expose())));
        let sent = self.client.send(Method::POST, &self.url, &headers, Body::Raw(JSON, body.as_bytes()));
        let answer = within(self.timeout, sent).await?;
        if answer.status == 200 { Ok(answer) } else { Err(sorted(&answer)) }
    }

    /// The headers that sign a request.
    fn signed(&self, target: &str, body: &[u8]) -> Result<Vec<(&'static str, SecretText)>, ServiceError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            ServiceError::new(ServiceFailure::Unusable, format!("the request cannot be signed: {error}"))
        };
        #[expect(clippy::disallowed_methods, reason = "a signature carries the time of day")]
        let now = SystemTime::now();
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("secretsmanager")
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(error.into()))?
            .into();
        let given = [("content-type", JSON), ("x-amz-target", target)];
        let request = SignableRequest::new("POST", self.url.as_str(), given.into_iter(), SignableBody::Bytes(body))
            .map_err(|error| failed(error.into()))?;
        let (signed, _) = sign(request, &parameters).map_err(|error| failed(error.into()))?.into_parts();
        let (headers, _) = signed.into_parts();
        Ok(headers.into_iter().map(|header| (header.name(), SecretText::new(header.value()))).collect())
    }
}

/// Credentials of the platform's own chain.
async fn platform(region: Option<Region>, timeout: Duration) -> Result<Credentials, ServiceError> {
    let none = |error: Box<dyn std::error::Error + Send + Sync>| ServiceError::new(ServiceFailure::Credentials, error);
    let timeouts = TimeoutConfig::builder().operation_timeout(timeout).build();
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .region(region);
    let config = loader.load().await;
    let provider = config.credentials_provider().ok_or_else(|| none("the platform has none".into()))?;
    provider.provide_credentials().await.map_err(|error| none(crate::aws::with_causes(&error).into()))
}

/// What an answer that is an error means.
fn sorted(answer: &Answer) -> ServiceError {
    let code = answer.body.get("__type").and_then(Value::as_str).unwrap_or_default();
    // With or without a name space in front.
    let code = code.rsplit('#').next().unwrap_or_default();
    let failure = match code {
        "ResourceNotFoundException" => ServiceFailure::KeyMissing,
        // "You can't perform this operation on the secret because it was marked for deletion."
        "InvalidRequestException" => ServiceFailure::KeyDisabled,
        "DecryptionFailure" | "DecryptionFailureException" => ServiceFailure::Denied,
        "InternalServiceError" | "InternalServiceErrorException" => ServiceFailure::Busy,
        "InvalidParameterException" => ServiceFailure::Unusable,
        code => match (of_code(code), answer.status) {
            (ServiceFailure::Protocol, 429 | 500..=599) => ServiceFailure::Busy,
            (ServiceFailure::Protocol, 401 | 403) => ServiceFailure::Credentials,
            (failure, _) => failure,
        },
    };
    answer.failed(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted_and_told() {
        let answer =
            |status, code: &str| sorted(&Answer { status, body: json!({ "__type": code, "Message": "because" }) });
        for (status, code, failure) in [
            (400, "ResourceNotFoundException", ServiceFailure::KeyMissing),
            (400, "com.amazonaws.secretsmanager#InvalidRequestException", ServiceFailure::KeyDisabled),
            (400, "AccessDeniedException", ServiceFailure::Denied),
            (400, "UnrecognizedClientException", ServiceFailure::Credentials),
            (400, "ThrottlingException", ServiceFailure::Busy),
            (503, "", ServiceFailure::Busy),
            (403, "Odd", ServiceFailure::Credentials),
            (404, "", ServiceFailure::Protocol),
        ] {
            let error = answer(status, code);
            assert_eq!(error.failure, failure, "{status} {code}");
            assert!(error.source.to_string().contains("because"), "{}", error.source);
        }
    }
}
