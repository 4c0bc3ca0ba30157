//! The part of a configuration that says what protects the data key: for a command that tells it a running server.

use serde::{Deserialize, Serialize};

use super::{
    AwsConfig, AzureConfig, Config, GcpConfig, KeysConfig, Pkcs11Config, SharesConfig, TpmConfig, TransitConfig,
};

/// The sections about providers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProviderSettings {
    aws: AwsConfig,
    azure: AzureConfig,
    gcp: GcpConfig,
    keys: KeysConfig,
    pkcs11: Pkcs11Config,
    shares: SharesConfig,
    tpm: TpmConfig,
    transit: TransitConfig,
}

impl ProviderSettings {
    /// Those of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let Config { aws, azure, gcp, keys, pkcs11, shares, tpm, transit, .. } = config.clone();
        Self { aws, azure, gcp, keys, pkcs11, shares, tpm, transit }
    }

    /// As sections of a configuration file.
    ///
    /// # Errors
    /// A value that TOML has no form for, which is a bug.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Reads such sections.
    ///
    /// # Errors
    /// [`toml::de::Error`], which names the place.
    pub(crate) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The configuration with these instead of its own.
    pub(crate) fn laid_over(self, config: &Config) -> Config {
        let Self { aws, azure, gcp, keys, pkcs11, shares, tpm, transit } = self;
        Config { aws, azure, gcp, keys, pkcs11, shares, tpm, transit, ..config.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_and_leave_all_else() {
        let mut wanted = Config::default();
        wanted.keys.passphrase_file = Some("/new".into());
        let mut own = Config::default();
        own.http.max_body_bytes = std::num::NonZero::new(77).unwrap();
        let text = ProviderSettings::of(&wanted).to_toml().unwrap();
        let both = ProviderSettings::parse(&text).unwrap().laid_over(&own);
        assert_eq!((both.keys, both.http), (wanted.keys, own.http));
        assert!(ProviderSettings::parse("[http]\nlisten = \"x\"").is_err());
    }
}
