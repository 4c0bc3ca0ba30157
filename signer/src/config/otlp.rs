//! `[otlp]`: where traces of requests go.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};

/// `[otlp]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OtlpConfig {
    /// File with the certificate authorities of the collector (PEM), instead of Mozilla's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Address of the collector for OTLP over HTTP, without /v1/traces. Without it nothing is recorded. Needs a build with the feature otlp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// File with lines "Name: value" that are sent to the collector as headers, such as "Authorization: Bearer …"; mode 0600.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) headers_file: Option<PathBuf>,
    /// Of the requests that bring no trace context, one in so many is recorded; 0 for none, 1 for all. One that brings a context (traceparent) is recorded if that says so.
    pub(crate) sample_one_in: u32,
    /// What this process is called among others of its kind (service.instance.id). Default: the name of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service_instance: Option<String>,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self { ca_file: None, endpoint: None, headers_file: None, sample_one_in: 100, service_instance: None }
    }
}

impl Config {
    pub(super) fn check_otlp(&self) -> Result<(), ConfigError> {
        let otlp = &self.otlp;
        let wrong = |key, problem: &str| Err(ConfigError::Setting { key, problem: problem.to_owned() });
        let Some(endpoint) = &otlp.endpoint else {
            if otlp.headers_file.is_some() || otlp.ca_file.is_some() {
                return wrong("otlp.endpoint", "is missing, while other settings of the collector are given");
            }
            return Ok(());
        };
        if !holdfast_traces::CAN_SEND {
            return wrong(
                "otlp.endpoint",
                "needs a build with the feature otlp: `cargo build --release --features otlp`; or leave it out",
            );
        }
        let web = endpoint.starts_with("http://") || endpoint.starts_with("https://");
        // What is secret belongs into the headers, as addresses are shown.
        if !web || endpoint.contains(['@', '?', '#']) {
            return wrong(
                "otlp.endpoint",
                "is no http:// or https:// address without user, password and query, such as http://127.0.0.1:4318",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn with(endpoint: Option<&str>, headers_file: Option<&Path>) -> Result<(), String> {
        let mut config = Config::default();
        config.otlp.endpoint = endpoint.map(ToOwned::to_owned);
        config.otlp.headers_file = headers_file.map(ToOwned::to_owned);
        config.check_otlp().map_err(|error| error.to_string())
    }

    #[test]
    fn a_collector_is_one_or_the_process_does_not_start() {
        assert_eq!(with(None, None), Ok(()));
        assert!(with(None, Some(Path::new("/h"))).unwrap_err().contains("otlp.endpoint is missing"));
        let good = with(Some("http://127.0.0.1:4318"), Some(Path::new("/h")));
        if !holdfast_traces::CAN_SEND {
            assert!(good.unwrap_err().contains("feature otlp"));
            return;
        }
        assert_eq!(good, Ok(()));
        for endpoint in ["127.0.0.1:4318", "grpc://c:4317", "https://user:T0PSECRET@c", "https://c?key=T0PSECRET"] {
            let error = with(Some(endpoint), None).unwrap_err();
            assert!(error.contains("http://127.0.0.1:4318") && !error.contains("T0PSECRET"), "{error}");
        }
    }
}
