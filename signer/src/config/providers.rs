//! Who guards the data key, and the section of each provider whose key is elsewhere.
//!
//! Credentials are never values here: a section names the file that holds them, or leaves it to the provider's own
//! chain. So printing a configuration, and handing it to a helper process, shows no secret.

use core::fmt;
use std::borrow::Cow;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::ValueEnum;
use holdfast_enclave::provider::ProviderKind;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, IntoDeserializer as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, nonzero};

/// What protects the data key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeyProvider {
    /// A key file in the data directory, mode 0600.
    #[default]
    File,
    /// A passphrase, stretched with Argon2id.
    Passphrase,
    /// A key of AWS KMS.
    AwsKms,
    /// A key of the transit engine of HashiCorp Vault or OpenBao.
    VaultTransit,
    /// A key in a hardware module, by PKCS#11.
    Pkcs11,
    /// A key of Google Cloud KMS.
    GcpKms,
    /// A key of Azure Key Vault.
    AzureKeyVault,
    /// The TPM 2.0 chip of this machine.
    Tpm,
    /// Several people and providers, of whom some number must come together.
    Shares,
}

impl KeyProvider {
    /// The same for custody.
    pub(crate) const fn kind(self) -> ProviderKind {
        match self {
            Self::File => ProviderKind::File,
            Self::Passphrase => ProviderKind::Passphrase,
            Self::AwsKms => ProviderKind::AwsKms,
            Self::VaultTransit => ProviderKind::VaultTransit,
            Self::Pkcs11 => ProviderKind::Pkcs11,
            Self::GcpKms => ProviderKind::GcpKms,
            Self::AzureKeyVault => ProviderKind::AzureKeyVault,
            Self::Tpm => ProviderKind::Tpm,
            Self::Shares => ProviderKind::Shares,
        }
    }

    /// The word used in the configuration.
    pub(crate) const fn as_str(self) -> &'static str {
        self.kind().name()
    }
}

/// The providers of one data key: a word, or a list of words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct KeyProviders(pub(crate) Vec<KeyProvider>);

impl Default for KeyProviders {
    fn default() -> Self {
        Self(vec![KeyProvider::File])
    }
}

impl<'de> Deserialize<'de> for KeyProviders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = KeyProviders;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a provider such as \"file\", or a list of providers")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<KeyProviders, E> {
                KeyProvider::deserialize(text.into_deserializer()).map(|one| KeyProviders(vec![one]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<KeyProviders, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(KeyProviders)
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

impl JsonSchema for KeyProviders {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("KeyProviders")
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = ProviderKind::ALL.map(ProviderKind::name);
        json_schema!({
            "type": ["array", "string"], "items": { "type": "string", "enum": words }, "minItems": 1, "uniqueItems": true
        })
    }
}

/// `[aws]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AwsConfig {
    /// Address of the service, for a VPC endpoint or a test. Default: the region's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// Keys of AWS KMS for the "aws-kms" provider: ARNs, or key ids and "alias/NAME" in the region below. Each of several keys wraps the data key by itself and opens it by itself; keys of two regions survive the loss of one.
    pub(crate) keys: Vec<String>,
    /// Region of keys that are not ARNs. Default: from the environment or the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
    /// How long one call may take, in milliseconds, with finding credentials.
    pub(crate) timeout_ms: NonZeroU64,
}

impl Default for AwsConfig {
    fn default() -> Self {
        Self { endpoint: None, keys: Vec::new(), region: None, timeout_ms: nonzero(5_000) }
    }
}

/// `[azure]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AzureConfig {
    /// How to log in: "managed-identity", or as an application with "client-secret" or "workload-identity".
    pub(crate) auth: AzureAuth,
    /// The application's id, or that of one of several managed identities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<String>,
    /// RSA key for the "azure-key-vault" provider: `https://VAULT.vault.azure.net/keys/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Address of the login, for other clouds or a test. Default: the public cloud's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) login_address: Option<String>,
    /// What tokens are for: `https://managedhsm.azure.net` for a Managed HSM.
    pub(crate) resource: String,
    /// File with the application's secret (mode 0600) or federated token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Tenant of the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// How long one call may take, in milliseconds, with logging in.
    pub(crate) timeout_ms: NonZeroU64,
}

impl Default for AzureConfig {
    fn default() -> Self {
        Self {
            auth: AzureAuth::ManagedIdentity,
            client: None,
            key: None,
            login_address: None,
            resource: "https://vault.azure.net".to_owned(),
            secret_file: None,
            tenant: None,
            timeout_ms: nonzero(5_000),
        }
    }
}

/// How to log in to Azure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AzureAuth {
    /// As the identity of the machine.
    #[default]
    ManagedIdentity,
    /// As an application, with its secret.
    ClientSecret,
    /// As an application, with a federated token.
    WorkloadIdentity,
}

/// `[gcp]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GcpConfig {
    /// Address of the API, for a private endpoint or a test. Default: Google's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// Key for the "gcp-kms" provider: projects/P/locations/L/keyRings/R/cryptoKeys/K.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Key file of a service account (JSON), mode 0600, instead of the metadata server: for machines outside of Google's cloud.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<PathBuf>,
    /// Address of the metadata server, where the machine's token is. Default: Google's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<String>,
    /// How long one call may take, in milliseconds, with getting a token.
    pub(crate) timeout_ms: NonZeroU64,
    /// File with an access token that something else keeps fresh, mode 0600, instead of the metadata server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
}

impl Default for GcpConfig {
    fn default() -> Self {
        Self { endpoint: None, key: None, key_file: None, metadata: None, timeout_ms: nonzero(5_000), token_file: None }
    }
}

/// `[pkcs11]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Pkcs11Config {
    /// Label of the AES key in the token, for the "pkcs11" provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// "aes-gcm", or "aes-kwp" for modules that only wrap keys.
    pub(crate) mechanism: Pkcs11Mechanism,
    /// The vendor's module, for example /usr/lib/softhsm/libsofthsm2.so. It is loaded only by the short-lived process that opens the data key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) module: Option<PathBuf>,
    /// File that holds the user PIN, mode 0600; one trailing line break is not part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pin_file: Option<PathBuf>,
    /// How long one call may take, in milliseconds, with loading the module and logging in.
    pub(crate) timeout_ms: NonZeroU64,
    /// Label of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
}

impl Default for Pkcs11Config {
    fn default() -> Self {
        Self {
            key: None,
            mechanism: Pkcs11Mechanism::AesGcm,
            module: None,
            pin_file: None,
            timeout_ms: nonzero(10_000),
            token: None,
        }
    }
}

/// How a hardware module encrypts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pkcs11Mechanism {
    /// AES in Galois/Counter mode.
    #[default]
    AesGcm,
    /// AES key wrap with padding.
    AesKwp,
}

/// `[shares]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SharesConfig {
    /// Private keys (of age-keygen, or OpenSSH Ed25519 without a passphrase) that open shares of people without asking anybody, mode 0600. For drills and commands: as many of them on one machine as are needed make the split worthless.
    pub(crate) identity_files: Vec<PathBuf>,
    /// Providers that hold a share each, and give it without anybody doing anything.
    pub(crate) providers: Vec<KeyProvider>,
    /// People who hold a share each, by public key: "age1…" or "ssh-ed25519 …".
    pub(crate) recipients: Vec<String>,
    /// How many holders must come together, for the "shares" provider: 2 to 16.
    pub(crate) threshold: u8,
}

impl Default for SharesConfig {
    fn default() -> Self {
        Self { identity_files: Vec::new(), providers: Vec::new(), recipients: Vec::new(), threshold: 2 }
    }
}

/// `[tpm]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TpmConfig {
    /// The chip's device with the kernel's resource manager, for the "tpm" provider; or the Unix socket of a TPM in software.
    pub(crate) device: PathBuf,
    /// File that holds the password of the owner hierarchy, mode 0600. Default: none is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner_password_file: Option<PathBuf>,
    /// Platform configuration registers (SHA-256 bank, 0 to 23) that `kek init` and `kek rotate` bind the data key to, as they are then. 7 measures Secure Boot; most others change with updates. Default: none, so that it opens in any state of this machine.
    pub(crate) pcrs: Vec<u8>,
    /// File that holds a PIN of up to 32 bytes, mode 0600, which the chip asks for and protects against guessing. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pin_file: Option<PathBuf>,
    /// How long one call may take, in milliseconds.
    pub(crate) timeout_ms: NonZeroU64,
}

impl Default for TpmConfig {
    fn default() -> Self {
        Self {
            device: PathBuf::from("/dev/tpmrm0"),
            owner_password_file: None,
            pcrs: Vec::new(),
            pin_file: None,
            timeout_ms: nonzero(20_000),
        }
    }
}

/// `[transit]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TransitConfig {
    /// Address of HashiCorp Vault or OpenBao for the "vault-transit" provider, such as `https://vault.example:8200`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// How to log in: "token", "approle" or "kubernetes".
    pub(crate) auth: TransitAuth,
    /// Where the login method is mounted. Default: its own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth_mount: Option<String>,
    /// File with the authorities that may sign the server's certificate, as PEM. Default: Mozilla's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Name of the transit key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Where the transit engine is mounted.
    pub(crate) mount: String,
    /// Namespace, where the server has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    /// The role's id (approle) or name (kubernetes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<String>,
    /// File with the token, the secret id of the role, or the service account's token, by login method; mode 0600 except for Kubernetes. Default for Kubernetes: where a pod has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_file: Option<PathBuf>,
    /// How long one call may take, in milliseconds, with logging in.
    pub(crate) timeout_ms: NonZeroU64,
}

impl Default for TransitConfig {
    fn default() -> Self {
        Self {
            address: None,
            auth: TransitAuth::Token,
            auth_mount: None,
            ca_file: None,
            key: None,
            mount: "transit".to_owned(),
            namespace: None,
            role: None,
            secret_file: None,
            timeout_ms: nonzero(5_000),
        }
    }
}

/// How to log in to HashiCorp Vault or OpenBao.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TransitAuth {
    /// With a token from a file.
    #[default]
    Token,
    /// As a role, with its secret id from a file.
    Approle,
    /// As the service account of a pod.
    Kubernetes,
}

/// The sections of providers whose key is elsewhere: all that a helper process needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProviderSections {
    /// AWS KMS.
    pub(crate) aws: AwsConfig,
    /// Azure Key Vault.
    pub(crate) azure: AzureConfig,
    /// Google Cloud KMS.
    pub(crate) gcp: GcpConfig,
    /// Hardware modules.
    pub(crate) pkcs11: Pkcs11Config,
    /// The TPM.
    pub(crate) tpm: TpmConfig,
    /// HashiCorp Vault and OpenBao.
    pub(crate) transit: TransitConfig,
}

impl Config {
    /// The sections of providers whose key is elsewhere.
    pub(crate) fn provider_sections(&self) -> ProviderSections {
        ProviderSections {
            aws: self.aws.clone(),
            azure: self.azure.clone(),
            gcp: self.gcp.clone(),
            pkcs11: self.pkcs11.clone(),
            tpm: self.tpm.clone(),
            transit: self.transit.clone(),
        }
    }

    /// What is wrong with how the data key is to be split.
    fn lacking_for_shares(&self) -> Option<(&'static str, &'static str)> {
        let holders = self.shares.recipients.len().saturating_add(self.shares.providers.len());
        let threshold = usize::from(self.shares.threshold);
        first_missing([
            (
                "shares.recipients",
                (2..=16).contains(&holders),
                "name 2 to 16 holders in all, in shares.recipients and shares.providers",
            ),
            ("shares.threshold", (2..=holders).contains(&threshold), "give a number from 2 to that of all holders"),
            (
                "shares.providers",
                !self.shares.providers.contains(&KeyProvider::Shares),
                "name providers that hold a share themselves",
            ),
        ])
    }

    /// Addresses of services are printed as they are, so they hold no credentials: those have files of their own.
    fn check_addresses(&self) -> Result<(), ConfigError> {
        let addresses = [
            ("audit.s3_endpoint", &self.audit.s3_endpoint),
            ("audit.syslog", &self.audit.syslog),
            ("aws.endpoint", &self.aws.endpoint),
            ("azure.key", &self.azure.key),
            ("azure.login_address", &self.azure.login_address),
            ("gcp.endpoint", &self.gcp.endpoint),
            ("gcp.metadata", &self.gcp.metadata),
            ("transit.address", &self.transit.address),
        ];
        let with_user = |(_, address): &(_, &Option<String>)| address.as_ref().is_some_and(|text| text.contains('@'));
        let problem = "must hold no user and password; name the file with the credentials instead";
        match addresses.into_iter().find(with_user) {
            Some((key, _)) => Err(ConfigError::Setting { key, problem: problem.to_owned() }),
            None => Ok(()),
        }
    }

    /// Whether each provider that is named has what it needs.
    pub(super) fn check_providers(&self) -> Result<(), ConfigError> {
        self.check_addresses()?;
        let setting = |key, problem: String| Err(ConfigError::Setting { key, problem });
        let providers = &self.keys.provider.0;
        if providers.is_empty() {
            return setting("keys.provider", "is empty; name a provider, such as \"file\"".to_owned());
        }
        for (place, provider) in providers.iter().enumerate() {
            if providers.iter().take(place).any(|earlier| earlier == provider) {
                return setting("keys.provider", format!("names {} twice; name it once", provider.as_str()));
            }
            let lacking = match provider {
                KeyProvider::File | KeyProvider::Passphrase | KeyProvider::Tpm => None,
                KeyProvider::Shares => self.lacking_for_shares(),
                KeyProvider::AwsKms => first_missing([(
                    "aws.keys",
                    !self.aws.keys.is_empty(),
                    "name at least one key, such as \"alias/holdfast\"",
                )]),
                KeyProvider::VaultTransit => first_missing([
                    ("transit.address", self.transit.address.is_some(), "give the server's address"),
                    ("transit.key", self.transit.key.is_some(), "give the name of the transit key"),
                ]),
                KeyProvider::Pkcs11 => first_missing([
                    ("pkcs11.module", self.pkcs11.module.is_some(), "give the path of the vendor's module"),
                    ("pkcs11.token", self.pkcs11.token.is_some(), "give the label of the token"),
                    ("pkcs11.key", self.pkcs11.key.is_some(), "give the label of the AES key in it"),
                ]),
                KeyProvider::GcpKms => first_missing([(
                    "gcp.key",
                    self.gcp.key.is_some(),
                    "give the key's resource name: projects/P/locations/L/keyRings/R/cryptoKeys/K",
                )]),
                KeyProvider::AzureKeyVault => first_missing([(
                    "azure.key",
                    self.azure.key.is_some(),
                    "give the key's address: https://VAULT.vault.azure.net/keys/NAME",
                )]),
            };
            if let Some((key, what)) = lacking {
                return setting(key, format!("is not as provider {} needs it; {what}", provider.as_str()));
            }
        }
        if let Some(register) = self.tpm.pcrs.iter().find(|register| **register > 23) {
            return setting("tpm.pcrs", format!("names register {register}; there are 0 to 23"));
        }
        if self.tpm.device.as_os_str().is_empty() || self.tpm.device.as_os_str().len() > 255 {
            return setting("tpm.device", "is empty or longer than 255 bytes".to_owned());
        }
        match self.aws.keys.iter().find(|key| key.is_empty() || key.len() > 255) {
            Some(_) => setting("aws.keys", "names a key that is empty or longer than 255 characters".to_owned()),
            None => Ok(()),
        }
    }
}

/// The first setting that is not given, and what to do about it.
fn first_missing<const N: usize>(
    needed: [(&'static str, bool, &'static str); N],
) -> Option<(&'static str, &'static str)> {
    needed.into_iter().find(|(_, given, _)| !given).map(|(key, _, what)| (key, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn providers(text: &str) -> Result<KeyProviders, toml::de::Error> {
        #[derive(Deserialize)]
        struct Only {
            provider: KeyProviders,
        }
        toml::from_str::<Only>(text).map(|only| only.provider)
    }

    #[test]
    fn one_provider_or_a_list() {
        assert_eq!(providers("provider = \"aws-kms\"").unwrap().0, [KeyProvider::AwsKms]);
        let two = providers("provider = [\"pkcs11\", \"file\"]").unwrap();
        assert_eq!(two.0, [KeyProvider::Pkcs11, KeyProvider::File]);
        for wrong in ["provider = \"kms\"", "provider = [\"file\", \"kms\"]", "provider = 1"] {
            assert!(providers(wrong).is_err(), "{wrong}");
        }
        for provider in KeyProvider::value_variants() {
            assert_eq!(providers(&format!("provider = {:?}", provider.as_str())).unwrap().0, [*provider]);
        }
    }

    #[test]
    fn a_provider_without_its_section_is_refused_with_the_setting() {
        let mut config = Config::default();
        for (provider, key) in [
            (KeyProvider::AwsKms, "aws.keys"),
            (KeyProvider::VaultTransit, "transit.address"),
            (KeyProvider::Pkcs11, "pkcs11.module"),
            (KeyProvider::GcpKms, "gcp.key"),
            (KeyProvider::AzureKeyVault, "azure.key"),
        ] {
            config.keys.provider = KeyProviders(vec![KeyProvider::File, provider]);
            let error = config.check_providers().unwrap_err().to_string();
            assert!(error.starts_with(key) && error.contains(provider.as_str()), "{error}");
        }
        config.aws.keys = vec!["alias/x".to_owned()];
        config.keys.provider = KeyProviders(vec![KeyProvider::AwsKms]);
        assert!(config.check_providers().is_ok());
        config.keys.provider = KeyProviders(vec![KeyProvider::AwsKms; 2]);
        assert!(config.check_providers().unwrap_err().to_string().contains("twice"));
        config.keys.provider = KeyProviders(Vec::new());
        assert!(config.check_providers().unwrap_err().to_string().contains("is empty"));
    }

    #[test]
    fn sections_reach_a_helper_as_they_are() {
        let mut config = Config::default();
        config.aws.keys = vec!["alias/\"x\"".to_owned()];
        config.pkcs11.mechanism = Pkcs11Mechanism::AesKwp;
        let sections = config.provider_sections();
        let text = toml::to_string(&sections).unwrap();
        assert_eq!(toml::from_str::<ProviderSections>(&text).unwrap(), sections);
    }
}
