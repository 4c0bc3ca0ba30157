//! A bucket of an S3-compatible store: each checkpoint is an object, and none replaces another.
//!
//! Guarantees: an object is written only if its name is free (`If-None-Match: *`); if it is not, what is there must be
//! the same note. With a lock (`COMPLIANCE`) the store itself refuses to delete or replace it until its time is over,
//! also to the account that wrote it. The signer needs `s3:PutObject` and `s3:GetObject`, and with a lock
//! `s3:PutObjectRetention`; an auditor `s3:ListBucket` and `s3:GetObject`.
//!
//! Credentials come from the platform's own chain, as for AWS KMS; requests are signed with Signature Version 4.

use core::fmt;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_lc_rs::digest;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use holdfast_domain::UnixMillis;
use hyper::{Method, Uri};
use tokio::sync::OnceCell;

use crate::http::{Answer, Client};
use crate::{AnchorError, Note};

/// Milliseconds of a day.
const DAY: u64 = 86_400_000;
/// Answers to one listing, of up to a thousand names each: at ten minutes between checkpoints, fourteen years.
const MAX_PAGES: usize = 750;
/// Digits of a batch in the name of an object.
const DIGITS: usize = 20;

/// Which bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Options {
    /// Its name.
    pub bucket: String,
    /// What the names of objects begin with; "" for nothing.
    pub prefix: String,
    /// Its region; without one, that of the platform.
    pub region: Option<String>,
    /// Address of the store, for stores other than AWS.
    pub endpoint: Option<String>,
    /// For how many days the store is to refuse to delete an object; none without.
    pub lock_days: Option<u32>,
}

/// Writes objects, and reads them back.
pub struct S3Anchor {
    options: S3Options,
    client: Client,
    /// Credentials are found once, and renewed by their provider.
    platform: OnceCell<SdkConfig>,
}

impl S3Anchor {
    /// Checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// [`AnchorError::Setting`].
    pub fn new(options: S3Options) -> Result<Self, AnchorError> {
        let wrong = |setting, problem: &str| Err(AnchorError::Setting { setting, problem: problem.to_owned() });
        let plain = |text: &str, more: &str| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte))
        };
        if options.bucket.is_empty() || !plain(&options.bucket, ".-_") {
            return wrong("audit.s3_bucket", "must be the name of a bucket: letters, digits and .-_");
        }
        let parts = options.prefix.split('/');
        if !plain(&options.prefix, ".-_/") || parts.clone().any(|part| part == "." || part == "..") {
            return wrong("audit.s3_prefix", "may hold letters, digits and .-_/ only");
        }
        if options.prefix.starts_with('/') || options.prefix.contains("//") {
            return wrong("audit.s3_prefix", "must not begin with a slash or hold two in a row");
        }
        if let Some(endpoint) = &options.endpoint {
            let uri: Option<Uri> = endpoint.parse().ok();
            let usable = uri.is_some_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                    && uri.query().is_none()
            });
            if !usable {
                return wrong("audit.s3_endpoint", "must look like https://host:port, without user and password");
            }
        }
        Ok(Self { client: Client::new("audit.s3_endpoint", None)?, options, platform: OnceCell::new() })
    }

    pub(crate) async fn keep(&self, note: &Note, now: UnixMillis) -> Result<(), AnchorError> {
        let name = self.name(&note.object());
        let body = note.text.as_bytes();
        let mut headers = vec![
            ("content-type", "text/plain; charset=utf-8".to_owned()),
            ("if-none-match", "*".to_owned()),
            // Some stores look for this one when there is a lock, and it is what client libraries send.
            ("x-amz-sdk-checksum-algorithm", "SHA256".to_owned()),
            ("x-amz-checksum-sha256", BASE64.encode(digest::digest(&digest::SHA256, body))),
        ];
        if let Some(days) = self.options.lock_days {
            let until = UnixMillis(now.0.saturating_add(u64::from(days).saturating_mul(DAY)));
            headers.push(("x-amz-object-lock-mode", "COMPLIANCE".to_owned()));
            headers.push(("x-amz-object-lock-retain-until-date", until.rfc3339_millis()));
        }
        let answer = self.send(Method::PUT, &name, "", headers, body, now).await?;
        if answer.is_success() {
            return Ok(());
        }
        // 412: it is there. 409: somebody writes it at this moment, most probably an attempt of ours that timed out.
        if !matches!(answer.status, 409 | 412) {
            return Err(answer.refused());
        }
        match self.get(&name, now).await? {
            there if there == body => Ok(()),
            _ => Err(AnchorError::Different),
        }
    }

    /// The notes of the last objects of each journal: as many as `each`, oldest first.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub async fn last_notes(&self, each: usize, now: UnixMillis) -> Result<Vec<String>, AnchorError> {
        let mut notes = Vec::new();
        for names in self.list(now).await?.into_values() {
            for name in names.iter().skip(names.len().saturating_sub(each)) {
                let bytes = self.get(name, now).await?;
                notes.push(String::from_utf8(bytes).map_err(|_| AnchorError::Protocol)?);
            }
        }
        Ok(notes)
    }

    /// Names of all notes by journal, sorted.
    async fn list(&self, now: UnixMillis) -> Result<BTreeMap<String, Vec<String>>, AnchorError> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut from = String::new();
        for _ in 0..MAX_PAGES {
            let prefix = escaped(&self.name(""));
            let query = format!("?{from}list-type=2&prefix={prefix}");
            let answer = self.send(Method::GET, "", &query, Vec::new(), b"", now).await?;
            if !answer.is_success() {
                return Err(answer.refused());
            }
            let text = String::from_utf8(answer.body).map_err(|_| AnchorError::Protocol)?;
            if !text.contains("<ListBucketResult") {
                return Err(AnchorError::Protocol);
            }
            for name in elements(&text, "Key") {
                if let Some(instance) = self.instance_of(name) {
                    found.entry(instance.to_owned()).or_default().push(name.to_owned());
                }
            }
            let next = elements(&text, "NextContinuationToken").next();
            let Some(token) = next.filter(|_| elements(&text, "IsTruncated").next() == Some("true")) else {
                for names in found.values_mut() {
                    names.sort();
                }
                return Ok(found);
            };
            from = format!("continuation-token={}&", escaped(token));
        }
        Err(AnchorError::Protocol)
    }

    /// The journal that an object is of; other objects in the bucket are none of ours.
    fn instance_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let (instance, batch) = name.strip_prefix(&self.name(""))?.split_once('/')?;
        let hex = instance.len() == 32 && instance.bytes().all(|byte| byte.is_ascii_hexdigit());
        let batch = batch.strip_suffix(".note")?;
        (hex && batch.len() == DIGITS && batch.bytes().all(|byte| byte.is_ascii_digit())).then_some(instance)
    }

    async fn get(&self, name: &str, now: UnixMillis) -> Result<Vec<u8>, AnchorError> {
        let answer = self.send(Method::GET, name, "", Vec::new(), b"", now).await?;
        if answer.is_success() { Ok(answer.body) } else { Err(answer.refused()) }
    }

    fn name(&self, object: &str) -> String {
        match self.options.prefix.trim_end_matches('/') {
            "" => object.to_owned(),
            prefix => format!("{prefix}/{object}"),
        }
    }

    async fn platform(&self) -> &SdkConfig {
        self.platform
            .get_or_init(|| async {
                let mut loader = aws_config::defaults(BehaviorVersion::latest()).retry_config(RetryConfig::disabled());
                if let Some(region) = &self.options.region {
                    loader = loader.region(Region::new(region.clone()));
                }
                loader.load().await
            })
            .await
    }

    /// One signed request about an object, or with an empty name about the bucket.
    async fn send(
        &self,
        method: Method,
        name: &str,
        query: &str,
        mut headers: Vec<(&'static str, String)>,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<Answer, AnchorError> {
        let platform = self.platform().await;
        let region = platform.region().map_or("us-east-1", Region::as_ref);
        let endpoint = match &self.options.endpoint {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => format!("https://s3.{region}.amazonaws.com"),
        };
        let url = format!("{endpoint}/{}/{name}{query}", self.options.bucket);
        let url = if name.is_empty() { format!("{endpoint}/{}{query}", self.options.bucket) } else { url };
        let broken = || AnchorError::Setting { setting: "audit.s3_endpoint", problem: "is no address".to_owned() };
        let uri: Uri = url.parse().map_err(|_| broken())?;
        let none = || AnchorError::Credentials("the platform has none".into());
        let provider = platform.credentials_provider().ok_or_else(none)?;
        let found = provider.provide_credentials().await;
        let identity = found.map_err(|error| AnchorError::Credentials(error.into()))?.into();

        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let unsigned = |error: Box<dyn std::error::Error + Send + Sync>| AnchorError::Credentials(error);
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("s3")
            .time(UNIX_EPOCH.checked_add(Duration::from_millis(now.0)).unwrap_or(UNIX_EPOCH))
            .settings(settings)
            .build()
            .map_err(|error| unsigned(error.into()))?
            .into();
        let given: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = SignableRequest::new(method.as_str(), url, given.into_iter(), SignableBody::Bytes(body))
            .map_err(|error| unsigned(error.into()))?;
        let (signed, _) = sign(request, &parameters).map_err(|error| unsigned(error.into()))?.into_parts();
        let (signed, _) = signed.into_parts();
        headers.extend(signed.into_iter().map(|header| (header.name(), header.value().to_owned())));
        self.client.send(method, uri, &headers, body.to_vec()).await
    }
}

impl fmt::Display for S3Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.options.bucket, self.name(""))
    }
}

/// The texts of all elements of this name. Names of objects of ours hold nothing that XML escapes; a token could.
fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    core::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (text, after) = after.split_once(&close)?;
        rest = after;
        Some(text)
    })
}

/// For a query: everything but unreserved characters (RFC 3986) escaped, after undoing what XML escapes.
fn escaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default().to_ascii_uppercase();
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => out.extend(['%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> S3Options {
        S3Options { bucket: "audit".to_owned(), prefix: "h/".to_owned(), region: None, endpoint: None, lock_days: None }
    }

    #[test]
    fn names_sort_as_batches_do_and_others_are_left_alone() {
        let anchor = S3Anchor::new(options()).unwrap();
        let note = |batch| Note { instance: "ab".repeat(16), batch, text: String::new() };
        let names: Vec<String> = [9, 10, 1_000_000].map(|batch| anchor.name(&note(batch).object())).to_vec();
        assert!(names.is_sorted() && names[0].starts_with("h/abab"), "{names:?}");
        assert_eq!(anchor.instance_of(&names[2]), Some("ab".repeat(16).as_str()));
        for other in ["h/x", "h/abab/1.note", "other", &names[0][1..], &format!("{}x", names[0])] {
            assert_eq!(anchor.instance_of(other), None, "{other}");
        }
        assert_eq!(anchor.to_string(), "s3://audit/h/");
    }

    #[test]
    fn settings_that_cannot_be_used_are_refused() {
        let with = |change: &dyn Fn(&mut S3Options)| {
            let mut options = options();
            change(&mut options);
            S3Anchor::new(options).err().map(|error| error.to_string()).unwrap_or_default()
        };
        for bucket in ["", "a/b", "a b", "ä"] {
            assert!(with(&|options| bucket.clone_into(&mut options.bucket)).contains("audit.s3_bucket"), "{bucket}");
        }
        for prefix in ["/x", "a//b", "a/../b", "a?b"] {
            assert!(with(&|options| prefix.clone_into(&mut options.prefix)).contains("audit.s3_prefix"), "{prefix}");
        }
        for endpoint in ["x", "ftp://x", "https://u:hunter2@x", "https://x?y"] {
            let error = with(&|options| options.endpoint = Some(endpoint.to_owned()));
            assert!(error.contains("audit.s3_endpoint") && !error.contains("hunter2"), "{endpoint}: {error}");
        }
    }

    #[test]
    fn answers_are_taken_apart() {
        let xml = "<a><Key>one</Key><Key>two</Key><T>a&amp;b=</T></a>";
        assert_eq!(elements(xml, "Key").collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(elements(xml, "T").next().map(escaped).as_deref(), Some("a%26b%3D"));
        assert_eq!(elements("<Key>open", "Key").next(), None);
    }
}
