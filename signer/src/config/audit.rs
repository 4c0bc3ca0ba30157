//! `[audit]`: how often the journal is signed, and who keeps what was signed.

use std::num::NonZeroU32;
use std::path::PathBuf;

use holdfast_secret::SecretLink;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};

/// `[audit]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditConfig {
    /// File that every checkpoint is appended to, besides the journal. On another disk, or synchronised to another machine, it shows that the end of the journal was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint_file: Option<PathBuf>,
    /// How often the end of the journal is signed with the checkpoint key, in minutes, if there is something new; and when the server stops. 0 never signs.
    pub(crate) checkpoint_minutes: u32,
    /// Bucket of an S3-compatible store that gets every checkpoint as an object. Credentials are found as for AWS KMS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) s3_bucket: Option<String>,
    /// Address of the store, if it is not AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) s3_endpoint: Option<String>,
    /// For how many days the store is to refuse to delete a checkpoint, whoever asks (object lock, mode COMPLIANCE). The bucket must have been made with object lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) s3_lock_days: Option<NonZeroU32>,
    /// What the names of objects begin with, such as "holdfast/".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) s3_prefix: Option<String>,
    /// Region of the bucket; without it, that of the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) s3_region: Option<String>,
    /// Log collector that gets every checkpoint as a message of RFC 5424: tls://host:6514 or tcp://host:601.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) syslog: Option<String>,
    /// File with the certificate authorities of the collector (PEM), instead of Mozilla's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) syslog_ca_file: Option<PathBuf>,
    /// File with the certificate authorities of the webhook (PEM), instead of Mozilla's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) webhook_ca_file: Option<PathBuf>,
    /// File with a secret shared with the webhook: each post then carries X-Holdfast-Signature, an HMAC-SHA256 of its body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) webhook_hmac_file: Option<PathBuf>,
    /// File with a bearer token for the webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) webhook_token_file: Option<PathBuf>,
    /// Address that every checkpoint is posted to. Its path is taken for a secret and never shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) webhook_url: Option<SecretLink>,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            checkpoint_file: None,
            checkpoint_minutes: 10,
            s3_bucket: None,
            s3_endpoint: None,
            s3_lock_days: None,
            s3_prefix: None,
            s3_region: None,
            syslog: None,
            syslog_ca_file: None,
            webhook_ca_file: None,
            webhook_hmac_file: None,
            webhook_token_file: None,
            webhook_url: None,
        }
    }
}

impl Config {
    pub(super) fn check_audit(&self) -> Result<(), ConfigError> {
        let audit = &self.audit;
        let setting = |key, problem: &str| Err(ConfigError::Setting { key, problem: problem.to_owned() });
        let given = audit.s3_bucket.is_some() || audit.syslog.is_some() || audit.webhook_url.is_some();
        if audit.checkpoint_minutes == 0 && (given || audit.checkpoint_file.is_some()) {
            return setting(
                "audit.checkpoint_minutes",
                "is 0, so there is nothing to be kept; give a number of minutes",
            );
        }
        if audit.s3_bucket.is_some() && !cfg!(feature = "anchor-s3") {
            return setting("audit.s3_bucket", "needs a build with the feature anchor-s3");
        }
        if audit.s3_bucket.is_none() && audit.s3_lock_days.is_some() {
            return setting("audit.s3_lock_days", "needs audit.s3_bucket");
        }
        let more =
            audit.webhook_ca_file.is_some() || audit.webhook_hmac_file.is_some() || audit.webhook_token_file.is_some();
        if audit.webhook_url.is_none() && more {
            return setting("audit.webhook_url", "is missing, while other settings of the webhook are given");
        }
        if audit.syslog.is_none() && audit.syslog_ca_file.is_some() {
            return setting("audit.syslog", "is missing, while audit.syslog_ca_file is given");
        }
        Ok(())
    }
}
