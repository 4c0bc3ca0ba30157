//! `[witness]`: whose epoch leases the vault signs by.

use core::fmt;
use core::str::FromStr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use holdfast_witness::{Pins, VerifyingKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, SigningBackend, TlsConfig, nonzero};

/// `[witness]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WitnessConfig {
    /// Name of the group of signers that hold the same keys: of these, one at a time signs blocks and attestations. The same on every signer of the group; a-z, 0-9, "-", "_" and ".".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// The witnesses, each as "https://host:port#0xPUBLICKEY", or http:// without TLS, as `holdfast witness init` and `serve` print it. Without any the vault needs no lease. Needs signing.backend = "process".
    pub(crate) servers: Vec<WitnessServer>,
    /// How many of the witnesses have to grant a lease: more than half. Default: the smallest such number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quorum: Option<usize>,
    /// How long a witness may take to answer, in milliseconds.
    pub(crate) timeout_ms: NonZeroU64,
    /// PEM file with the authorities that vouch for witnesses with https://. Default: the public ones. Read again for each request, as are the two below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// PEM file with the certificate that this signer shows to witnesses that ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file with its private key. Default: the file of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
    /// TLS of `holdfast witness serve`, on the witness. Off while neither certificate nor pkcs12 is set. The files are read again when they change.
    pub(crate) tls: TlsConfig,
}

impl Default for WitnessConfig {
    fn default() -> Self {
        Self {
            group: None,
            servers: Vec::new(),
            quorum: None,
            timeout_ms: nonzero(2_000),
            ca: None,
            certificate: None,
            key: None,
            tls: TlsConfig::default(),
        }
    }
}

/// Where a witness is, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WitnessServer {
    /// Whether it is spoken to with TLS.
    pub(crate) secure: bool,
    /// Host and port.
    pub(crate) authority: String,
    /// Its public key.
    pub(crate) key: VerifyingKey,
}

impl fmt::Display for WitnessServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}#{}", self.authority, self.key)
    }
}

impl WitnessServer {
    /// Its host.
    #[cfg(any(test, feature = "backend-process"))]
    pub(crate) fn host(&self) -> &str {
        self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host)
    }

    /// Whether it is on this machine.
    #[cfg(any(test, feature = "backend-process"))]
    pub(crate) fn is_here(&self) -> bool {
        let host = self.host().trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FromStr for WitnessServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected a witness as https://host:port#0xPUBLICKEY, or with http://, as `holdfast witness init` prints it";
        let (url, key) = text.split_once('#').ok_or(expected)?;
        let (secure, authority) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(expected.to_owned()),
        };
        let authority = authority.trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').ok_or(expected)?;
        if host.is_empty() || authority.contains(['/', '@', '?']) || port.parse::<u16>().is_err() {
            return Err(expected.to_owned());
        }
        let key = key.parse().map_err(|_| "the part after # is no public key: 0x and 64 digits".to_owned())?;
        Ok(Self { secure, authority: authority.to_owned(), key })
    }
}

impl WitnessConfig {
    /// What the vault is to believe; `None` without witnesses.
    ///
    /// # Errors
    /// [`ConfigError`], which says what does not fit.
    pub(crate) fn pins(&self) -> Result<Option<Pins>, ConfigError> {
        let setting = |key, problem: String| ConfigError::Setting { key, problem };
        if self.servers.is_empty() {
            return match self.group {
                None => Ok(None),
                Some(_) => Err(setting("witness.servers", "names no witness; name at least one, or no group".into())),
            };
        }
        let missing = || setting("witness.group", "is missing; give the signers with these keys a name".into());
        let group = self.group.as_ref().ok_or_else(missing)?;
        let group = group.parse().map_err(|error| setting("witness.group", format!("is no name: {error}")))?;
        let keys: Vec<_> = self.servers.iter().map(|server| server.key).collect();
        let majority = keys.len().div_euclid(2).saturating_add(1);
        Pins::new(group, keys, self.quorum.unwrap_or(majority))
            .map(Some)
            .map_err(|error| setting("witness.servers", format!("and quorum do not fit: {error}")))
    }
}

impl Config {
    /// Leases need a vault, and certificates a witness that is spoken to with TLS.
    pub(super) fn check_witnesses(&self) -> Result<(), ConfigError> {
        let witness = &self.witness;
        witness.tls.check("witness.tls")?;
        let wrong = |key, problem: &str| Err(ConfigError::Setting { key, problem: problem.to_owned() });
        if witness.key.is_some() && witness.certificate.is_none() {
            return wrong("witness.key", "is set without witness.certificate");
        }
        let secure = witness.servers.iter().any(|server| server.secure);
        if !secure && (witness.ca.is_some() || witness.certificate.is_some()) {
            return wrong(
                "witness.servers",
                "has no https:// address, so witness.ca and witness.certificate are of no use",
            );
        }
        if self.witness.pins()?.is_some() && self.signing.backend == SigningBackend::InProcess {
            return Err(ConfigError::Setting {
                key: "witness.servers",
                problem: "needs a vault that signs by lease; set signing.backend = \"process\" or \"enclave\""
                    .to_owned(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn witnesses_are_read_and_must_fit() {
        let key = |seed: u8| holdfast_witness::SigningKey::from_seed(&[seed; 32]).public();
        let server = |seed| WitnessServer { secure: false, authority: format!("w{seed}:9005"), key: key(seed) };
        let text = format!("http://w1:9005#{}", key(1));
        assert_eq!(text.parse(), Ok(server(1)));
        assert_eq!(server(1).to_string(), text);
        let secure = WitnessServer { secure: true, ..server(1) };
        let text = format!("https://w1:9005#{}", key(1));
        assert_eq!((text.parse(), secure.to_string()), (Ok(secure), text));
        let here = |authority: &str| WitnessServer { authority: authority.to_owned(), ..server(1) }.is_here();
        assert!(here("127.0.0.1:1") && here("[::1]:1") && here("localhost:1") && !here("10.0.0.7:1") && !here("w1:1"));
        for bad in [
            "",
            "http://w1:9005",
            "https://w1:9005#0x12",
            "ftp://w1:9005#0x12",
            "http://w1#0x12",
            "http://w1:9005/x#0x12",
            "http://:1#0x12",
        ] {
            assert!(bad.parse::<WitnessServer>().is_err(), "{bad}");
        }
        let config = |count: u8, quorum, group: Option<&str>| WitnessConfig {
            group: group.map(str::to_owned),
            servers: (1..=count).map(server).collect(),
            quorum,
            ..WitnessConfig::default()
        };
        assert_eq!(config(0, None, None).pins().unwrap(), None);
        for (count, quorum) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
            assert_eq!(config(count, None, Some("a")).pins().unwrap().unwrap().quorum(), quorum, "a majority");
        }
        let file = || Some(PathBuf::from("f"));
        let secure = || vec![WitnessServer { secure: true, ..server(1) }];
        let checked = |witness: WitnessConfig| Config { witness, ..Config::default() }.check_witnesses();
        let with =
            |servers, certificate, key| WitnessConfig { servers, certificate, key, ..config(1, None, Some("a")) };
        for (bad, part) in [
            (with(vec![server(1)], file(), file()), "no https:// address"),
            (with(secure(), None, file()), "without witness.certificate"),
            (with(secure(), file(), None), "needs a vault"),
        ] {
            let problem = checked(bad).unwrap_err().to_string();
            assert!(problem.contains(part), "{problem}");
        }
        for bad in [
            config(0, None, Some("a")),
            config(1, None, None),
            config(1, None, Some("A b")),
            config(3, Some(1), Some("a")),
        ] {
            assert!(bad.pins().is_err());
        }
    }
}
