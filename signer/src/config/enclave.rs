//! `[enclave]`: a vault in an AWS Nitro enclave, for `signing.backend = "enclave"`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, SigningBackend};

/// `[enclave]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EnclaveConfig {
    /// Where the vault listens: "vsock:CID:PORT", or "unix:PATH:PORT" for a socket that connects to ports of a virtual machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// File with the data key as AWS KMS encrypted it for enclaves, which `holdfast enclave wrap` makes. It holds no secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_key_file: Option<PathBuf>,
    /// Key of AWS KMS that decrypts for the enclave: an ARN, or a key id or "alias/NAME". Region, endpoint and time limit are those of the section aws.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// PCR0 of the images that are accepted, as `holdfast enclave describe` prints it: one, or two during an upgrade.
    pub(crate) pcr0: Vec<String>,
    /// PCR8 of the certificates whose signed images are accepted.
    pub(crate) pcr8: Vec<String>,
}

impl Config {
    /// Whether everything is there that a vault in an enclave needs.
    pub(super) fn check_enclave(&self) -> Result<(), ConfigError> {
        let setting = |key, problem: &str| Err(ConfigError::Setting { key, problem: problem.to_owned() });
        if self.signing.backend != SigningBackend::Enclave {
            return Ok(());
        }
        let section = &self.enclave;
        if section.address.is_none() {
            return setting("enclave.address", "is missing; say where the vault listens, such as \"vsock:16:9002\"");
        }
        if section.key.is_none() {
            return setting("enclave.key", "is missing; name the key of AWS KMS that decrypts for the enclave");
        }
        if section.data_key_file.is_none() {
            return setting("enclave.data_key_file", "is missing; `holdfast enclave wrap` makes the file");
        }
        for (key, values) in [("enclave.pcr0", &section.pcr0), ("enclave.pcr8", &section.pcr8)] {
            for value in values {
                match value.parse::<holdfast_nitro::Pcr>() {
                    Ok(holdfast_nitro::Pcr::ZERO) => {
                        return setting(
                            key,
                            "is zero, which every enclave in debug mode has; give the image's own value",
                        );
                    }
                    Ok(_) => {}
                    Err(error) => return setting(key, &format!("holds {value:?}: {error}")),
                }
            }
        }
        if section.pcr0.is_empty() && section.pcr8.is_empty() {
            return setting("enclave.pcr0", "is empty; name the image, as `holdfast enclave describe` prints it");
        }
        Ok(())
    }
}
