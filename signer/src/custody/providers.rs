//! The providers of the data key, made from the configuration.
//!
//! Guarantees: a provider whose key is elsewhere is asked by a server only through a short-lived helper process,
//! so that neither a cloud's library nor a vendor's module ever runs where validator keys are; a passphrase is
//! asked for on the terminal only if nothing else opens the data key.

#[cfg(feature = "provider-passphrase")]
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "provider-passphrase")]
use holdfast_enclave::Passphrase;
use holdfast_enclave::provider::helper::{HelperProvider, Request};
use holdfast_enclave::provider::shares::{Collected, Holder, Identity, ShareSet, Shares};
use holdfast_enclave::provider::{Provider, ProviderKind, WrappedSet};
#[cfg(feature = "provider-passphrase")]
use holdfast_enclave::secret::FilePrivacy;
use holdfast_enclave::{DataKey, ProviderError};

use super::CustodyError;
use crate::config::{Config, KeyProvider, ProviderSections};

/// The hidden command that a server starts to have a data key opened.
pub(crate) const HELPER_COMMAND: &str = "unwrap-helper";

/// What starting the helper may take beside the call itself.
const HELPER_START: Duration = Duration::from_secs(5);

/// Where providers are called whose key is elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Here: this process is a command that ends soon.
    Command,
    /// In a helper process: this one is a server.
    Server,
}

/// All providers of the kinds in this set that the configuration has and that need nobody to type something. Shares that
/// were brought count.
///
/// # Errors
/// [`CustodyError`] if a passphrase or identity file cannot be read.
pub(super) fn unattended(
    config: &Config,
    set: &WrappedSet,
    brought: &Arc<Collected>,
    caller: Caller,
) -> Result<Vec<Box<dyn Provider>>, CustodyError> {
    let kinds = set.kinds()?;
    let mut providers = of_kinds(config, &kinds, caller)?;
    if kinds.contains(&ProviderKind::Shares) {
        let mut held_by = Vec::new();
        for wrapped in set.members() {
            held_by.extend(ShareSet::of(wrapped)?.map(|shares| shares.kinds()).transpose()?.unwrap_or_default());
        }
        held_by.dedup();
        let holders = of_kinds(config, &held_by, caller)?;
        providers.push(Box::new(Shares::from_holders(holders, identities(config)?, Arc::clone(brought))));
    }
    Ok(providers)
}

fn of_kinds(config: &Config, kinds: &[ProviderKind], caller: Caller) -> Result<Vec<Box<dyn Provider>>, CustodyError> {
    let mut providers: Vec<Box<dyn Provider>> = Vec::new();
    for kind in kinds {
        match kind {
            ProviderKind::File => providers.push(key_file(config, KeyFile::Present)?),
            ProviderKind::Passphrase => {
                if config.keys.passphrase_file.is_some() {
                    providers.push(with_passphrase(config, Asking::Once)?);
                }
            }
            // Made of others.
            ProviderKind::Shares => {}
            ProviderKind::AwsKms
            | ProviderKind::VaultTransit
            | ProviderKind::Pkcs11
            | ProviderKind::GcpKms
            | ProviderKind::AzureKeyVault
            | ProviderKind::Tpm => {
                let sections = config.provider_sections();
                for real in remote(&sections, *kind)? {
                    providers.push(match caller {
                        Caller::Command => real,
                        Caller::Server => in_helper(real.as_ref(), &sections)?,
                    });
                }
            }
        }
    }
    Ok(providers)
}

/// The providers that wrap a data key from now on. A key file is made if there is none.
///
/// # Errors
/// [`CustodyError`] if one cannot be had.
pub(super) fn for_wrapping(config: &Config, new_passphrase: Asking) -> Result<Vec<Box<dyn Provider>>, CustodyError> {
    wrapping(config, &config.keys.provider.0, new_passphrase)
}

fn wrapping(
    config: &Config,
    wanted: &[KeyProvider],
    new_passphrase: Asking,
) -> Result<Vec<Box<dyn Provider>>, CustodyError> {
    let mut providers: Vec<Box<dyn Provider>> = Vec::new();
    for provider in wanted {
        match provider {
            KeyProvider::File => providers.push(key_file(config, KeyFile::PresentOrNew)?),
            KeyProvider::Passphrase => providers.push(with_passphrase(config, new_passphrase)?),
            KeyProvider::Shares => {
                // Named first: a slip in a public key is found before anybody is asked for anything.
                let mut holders = people(config)?;
                holders.extend(
                    wrapping(config, &config.shares.providers, new_passphrase)?.into_iter().map(Holder::Provider),
                );
                providers.push(Box::new(Shares::among(holders, config.shares.threshold)?));
            }
            KeyProvider::AwsKms
            | KeyProvider::VaultTransit
            | KeyProvider::Pkcs11
            | KeyProvider::GcpKms
            | KeyProvider::AzureKeyVault
            | KeyProvider::Tpm => {
                providers.extend(remote(&config.provider_sections(), provider.kind())?);
            }
        }
    }
    Ok(providers)
}

#[cfg(feature = "provider-shares")]
fn people(config: &Config) -> Result<Vec<Holder>, ProviderError> {
    use holdfast_providers::people::Person;
    let person = |text: &String| Ok(Holder::Person(Box::new(Person::parse(text)?)));
    config.shares.recipients.iter().map(person).collect()
}

#[cfg(not(feature = "provider-shares"))]
fn people(_: &Config) -> Result<Vec<Holder>, ProviderError> {
    Err(ProviderError::NotBuilt { provider: ProviderKind::Shares })
}

/// The private keys that are configured to open shares of people.
#[cfg(feature = "provider-shares")]
fn identities(config: &Config) -> Result<Vec<Box<dyn Identity>>, ProviderError> {
    read_identities(&config.shares.identity_files)
}

#[cfg(not(feature = "provider-shares"))]
fn identities(_: &Config) -> Result<Vec<Box<dyn Identity>>, ProviderError> {
    Ok(Vec::new())
}

/// The private keys in these files.
///
/// # Errors
/// [`ProviderError`] if one cannot be read.
#[cfg(feature = "provider-shares")]
pub(crate) fn read_identities(files: &[PathBuf]) -> Result<Vec<Box<dyn Identity>>, ProviderError> {
    let mut all: Vec<Box<dyn Identity>> = Vec::new();
    for path in files {
        all.extend(
            holdfast_providers::people::Private::read(path)?
                .into_iter()
                .map(|one| -> Box<dyn Identity> { Box::new(one) }),
        );
    }
    Ok(all)
}

#[cfg(not(feature = "provider-shares"))]
pub(crate) fn read_identities(_: &[PathBuf]) -> Result<Vec<Box<dyn Identity>>, ProviderError> {
    Err(ProviderError::NotBuilt { provider: ProviderKind::Shares })
}

/// Whether a key file is made if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyFile {
    /// It must be there.
    Present,
    /// It is made. One without a recorded data key is left from a start that was cut short, and is used.
    PresentOrNew,
}

#[cfg(feature = "provider-file")]
fn key_file(config: &Config, which: KeyFile) -> Result<Box<dyn Provider>, CustodyError> {
    use holdfast_enclave::provider::file::FileProvider;
    let path = FileProvider::default_path(config.data_dir());
    let make = which == KeyFile::PresentOrNew && !path.exists();
    Ok(Box::new(if make { FileProvider::create(path)? } else { FileProvider::new(path) }))
}

#[cfg(not(feature = "provider-file"))]
fn key_file(_: &Config, _: KeyFile) -> Result<Box<dyn Provider>, CustodyError> {
    Err(ProviderError::NotBuilt { provider: ProviderKind::File }.into())
}

/// The providers of a kind whose key is elsewhere: one for each key that is configured, none if there is none.
fn remote(sections: &ProviderSections, kind: ProviderKind) -> Result<Vec<Box<dyn Provider>>, ProviderError> {
    match kind {
        ProviderKind::File | ProviderKind::Passphrase | ProviderKind::Shares => Ok(Vec::new()),
        ProviderKind::AwsKms => aws(sections),
        ProviderKind::VaultTransit => transit(sections),
        ProviderKind::Pkcs11 => pkcs11(sections),
        ProviderKind::GcpKms => gcp(sections),
        ProviderKind::AzureKeyVault => azure(sections),
        ProviderKind::Tpm => tpm(sections),
    }
}

#[cfg(feature = "provider-aws-kms")]
#[expect(clippy::unnecessary_wraps, reason = "a build without this provider refuses here")]
fn aws(sections: &ProviderSections) -> Result<Vec<Box<dyn Provider>>, ProviderError> {
    use holdfast_providers::aws::{AwsKms, AwsOptions};
    let section = &sections.aws;
    let provider = |key: &String| -> Box<dyn Provider> {
        Box::new(AwsKms::provider(AwsOptions {
            key: key.clone(),
            region: section.region.clone(),
            endpoint: section.endpoint.clone(),
            timeout: Duration::from_millis(section.timeout_ms.get()),
        }))
    };
    Ok(section.keys.iter().map(provider).collect())
}

#[cfg(not(feature = "provider-aws-kms"))]
fn aws(_: &ProviderSections) -> Result<Vec<Box<dyn Provider>>, ProviderError> {
    Err(ProviderError::NotBuilt { provider: ProviderKind::AwsKms })
}

#[cfg(feature = "provider-vault-transit")]
#[expect(clippy::unnecessary_wraps, reason = "a build without this provider refuses here")]
fn transit(sections: &ProviderSections) -> Result<Vec<Box<dyn Provider>>, ProviderError> {
    use holdfast_providers::transit::{Login, Transit, TransitOptions};

    use crate::config::TransitAuth;
    let section = &sections.transit;
    let (Some(address), Some(key)) = (&section.address, &section.key) else { return Ok(Vec::new()) };
    Ok(vec![Box::new(Transit::provider(TransitOptions {
        address: address.clone(),
        mount: section.mount.clone(),
        key: key.clone(),
        namespace: section.namespace.clone(),
        login: match section.auth {
            TransitAuth::Token => Login::Token,
            TransitAuth::Approle => Login::Approle,
            TransitAuth::Kubernetes => Login::Kubernetes,
        },
        login_mount: section.auth_mount.clone(),
        role: section.role.clone(),
        secret_file: section.secret_file.clone(),
        ca_file: section.ca_file.clone(),
        timeout: Duration::from_millis(section.timeout_ms.get()),
    }))])
}

#[cfg(not(feature = "provider-vault-transit"))]
fn transit(_: &ProviderSections) -> Result<Vec<Box<dyn Provider>>, ProviderError> {
    Err(ProviderError::NotBuilt { provider: ProviderKind::VaultTransit })
}

#[cfg(feature = "provider-pkcs11")]
#[expect(clippy::unnecessary_wraps, reason = "a build without this provider refuses here")]
fn pkcs11(sections: &ProviderSections) -> Result<Vec<Box<dyn Provider>>, ProviderError> {
    use holdfast_providers::pkcs11::{Mechanism, Pkcs11, Pkcs11Options};

    use crate::config::Pkcs11Mechanism;
    let section = &sections.pkcs11;
    let (Some(module), Some(token), Some(key)) = (&section.module, &section.token, &section.key) else {
        return Ok(Vec::new());
    };
    Ok(vec![Box::new(Pkcs11::provider(Pkcs11Options {
        module: module.clone(),
        token: token.clone(),
        key: key.clone(),
        pin_file: section.pin_file.clone(),
        mechanism: match section.mechanism {
            Pkcs11Mechanism::AesGcm => Mechanism::AesGcm,
            Pkcs11Mechanism::AesKwp => Mechanism::AesKwp,
        },
        timeout: Duration::from_millis(section.timeout_ms.get()),
    }))])
}

#[cfg(not(feature = "provider-pkcs11"))]
fn pkcs11(_: &ProviderSections) -> Result<Vec<Box<dyn Provider>>, ProviderError> {
    Err(ProviderError::NotBuilt { provider: ProviderKind::Pkcs11 })
}

#[cfg(feature = "provider-gcp-kms")]
#[expect(clippy::unnecessary_wraps, reason = "a build without this provider refuses here")]
fn gcp(sections: &ProviderSections) -> Result<Vec<Box<dyn Provider>>, ProviderError> {
    use holdfast_providers::gcp::{GcpKms, GcpOptions};
    let section = &sections.gcp;
    let Some(key) = &section.key else { return Ok(Vec::new()) };
    Ok(vec![Box::new(GcpKms::provider(GcpOptions {
        key: key.clone(),
        endpoint: section.endpoint.clone(),
        metadata: section.metadata.clone(),
        token_file: section.token_file.clone(),
        key_file: section.key_file.clone(),
        timeout: Duration::from_millis(section.timeout_ms.get()),
    }))])
}

#[cfg(not(feature = "provider-gcp-kms"))]
fn gcp(_: &ProviderSections) -> Result<Vec<Box<dyn Provider>>, ProviderError> {
    Err(ProviderError::NotBuilt { provider: ProviderKind::GcpKms })
}

#[cfg(feature = "provider-azure-key-vault")]
#[expect(clippy::unnecessary_wraps, reason = "a build without this provider refuses here")]
fn azure(sections: &ProviderSections) -> Result<Vec<Box<dyn Provider>>, ProviderError> {
    use holdfast_providers::azure::{AzureKeyVault, AzureLogin, AzureOptions};

    use crate::config::AzureAuth;
    let section = &sections.azure;
    let Some(key) = &section.key else { return Ok(Vec::new()) };
    Ok(vec![Box::new(AzureKeyVault::provider(AzureOptions {
        key: key.clone(),
        login: match section.auth {
            AzureAuth::ManagedIdentity => AzureLogin::ManagedIdentity,
            AzureAuth::ClientSecret => AzureLogin::ClientSecret,
            AzureAuth::WorkloadIdentity => AzureLogin::WorkloadIdentity,
        },
        tenant: section.tenant.clone(),
        client: section.client.clone(),
        secret_file: section.secret_file.clone(),
        login_address: section.login_address.clone(),
        resource: section.resource.clone(),
        timeout: Duration::from_millis(section.timeout_ms.get()),
    }))])
}

#[cfg(not(feature = "provider-azure-key-vault"))]
fn azure(_: &ProviderSections) -> Result<Vec<Box<dyn Provider>>, ProviderError> {
    Err(ProviderError::NotBuilt { provider: ProviderKind::AzureKeyVault })
}

#[cfg(feature = "provider-tpm")]
#[expect(clippy::unnecessary_wraps, reason = "a build without this provider refuses here")]
fn tpm(sections: &ProviderSections) -> Result<Vec<Box<dyn Provider>>, ProviderError> {
    use holdfast_providers::tpm::{Tpm, TpmOptions};
    let section = &sections.tpm;
    Ok(vec![Box::new(Tpm::provider(TpmOptions {
        device: section.device.clone(),
        pcrs: section.pcrs.clone(),
        pin_file: section.pin_file.clone(),
        owner_password_file: section.owner_password_file.clone(),
        timeout: Duration::from_millis(section.timeout_ms.get()),
    }))])
}

#[cfg(not(feature = "provider-tpm"))]
fn tpm(_: &ProviderSections) -> Result<Vec<Box<dyn Provider>>, ProviderError> {
    Err(ProviderError::NotBuilt { provider: ProviderKind::Tpm })
}

fn in_helper(real: &dyn Provider, sections: &ProviderSections) -> Result<Box<dyn Provider>, ProviderError> {
    let configuration =
        toml::to_string(sections).map_err(|error| ProviderError::Helper { problem: error.to_string() })?;
    let own_limit = match real.kind() {
        ProviderKind::File | ProviderKind::Passphrase | ProviderKind::Shares => Duration::ZERO,
        ProviderKind::AwsKms => Duration::from_millis(sections.aws.timeout_ms.get()),
        ProviderKind::VaultTransit => Duration::from_millis(sections.transit.timeout_ms.get()),
        ProviderKind::Pkcs11 => Duration::from_millis(sections.pkcs11.timeout_ms.get()),
        ProviderKind::GcpKms => Duration::from_millis(sections.gcp.timeout_ms.get()),
        ProviderKind::AzureKeyVault => Duration::from_millis(sections.azure.timeout_ms.get()),
        ProviderKind::Tpm => Duration::from_millis(sections.tpm.timeout_ms.get()),
    };
    let limit = own_limit.saturating_add(HELPER_START);
    Ok(Box::new(HelperProvider::new(real, helper_command, configuration, limit)))
}

/// This very program, also if its file was replaced since it started.
fn helper_command() -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("holdfast").arg(HELPER_COMMAND);
    command
}

/// What a helper does: unwraps, once, with the provider and key it is told.
///
/// # Errors
/// [`ProviderError`].
pub(crate) fn help(request: &Request) -> Result<DataKey, ProviderError> {
    let sections: ProviderSections = toml::from_str(&request.configuration)
        .map_err(|error| ProviderError::Helper { problem: error.message().to_owned() })?;
    let key = Some(request.key.as_str()).filter(|key| !key.is_empty());
    let provider = remote(&sections, request.provider)?.into_iter().find(|provider| provider.key() == key);
    let missing = || ProviderError::NotConfigured { provider: request.provider, key: key.map(str::to_owned) };
    provider.ok_or_else(missing)?.unwrap(&request.wrapped, &request.context)
}

/// How often a passphrase is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// To open something with it.
    Once,
    /// To protect something with it, where a slip would lock its owner out.
    Twice,
}

/// The provider of a passphrase from the configured file, or from the terminal.
///
/// # Errors
/// [`CustodyError`] if it cannot be had.
#[cfg(feature = "provider-passphrase")]
pub(super) fn with_passphrase(config: &Config, asking: Asking) -> Result<Box<dyn Provider>, CustodyError> {
    use holdfast_enclave::provider::passphrase::PassphraseProvider;
    Ok(Box::new(PassphraseProvider::new(passphrase(config, asking)?)?))
}

#[cfg(not(feature = "provider-passphrase"))]
pub(super) fn with_passphrase(_: &Config, _: Asking) -> Result<Box<dyn Provider>, CustodyError> {
    Err(ProviderError::NotBuilt { provider: ProviderKind::Passphrase }.into())
}

#[cfg(feature = "provider-passphrase")]
fn passphrase(config: &Config, asking: Asking) -> Result<Passphrase, CustodyError> {
    if let Some(path) = &config.keys.passphrase_file {
        return Ok(Passphrase::read_file(path, FilePrivacy::Required)?);
    }
    if !std::io::stdin().is_terminal() {
        return Err(CustodyError::NoPassphrase);
    }
    let ask = |prompt: &str| -> Result<Passphrase, CustodyError> {
        Ok(Passphrase::new(rpassword::prompt_password(prompt).map_err(CustodyError::Prompt)?)?)
    };
    match asking {
        Asking::Once => ask("Passphrase that protects the stored keys: "),
        Asking::Twice => {
            let first = ask("New passphrase to protect the stored keys: ")?;
            let second = ask("The same passphrase again: ")?;
            if first.matches(&second) { Ok(first) } else { Err(CustodyError::PassphrasesDiffer) }
        }
    }
}
