//! Stores of secrets, from which keys that move here from another signer are read (`holdfast migrate web3signer`).
//!
//! Why here: they are the services whose keys protect the data key, with the same HTTP, the same TLS and the same places of
//! credentials. They are no providers: nothing of Holdfast's own is ever in them.
//!
//! Guarantees: only read, with the credentials given for that and nothing else; one attempt for each request, within its
//! time; redirects are not followed, so that credentials go to the address named and nowhere else. What is read is wiped
//! where it is ours: buffers of HTTP and of the JSON parser are not, in a process that runs for seconds.

#[cfg(feature = "aws-kms")]
mod aws;
#[cfg(feature = "azure-key-vault")]
mod azure;
#[cfg(feature = "gcp-kms")]
mod google;
#[cfg(feature = "vault-transit")]
mod known_servers;
#[cfg(feature = "vault-transit")]
mod vault;

#[cfg(feature = "vault-transit")]
pub(crate) use known_servers::KnownServers;

use std::path::PathBuf;
use std::time::Duration;

use holdfast_enclave::provider::ServiceError;
use holdfast_secret::SecretText;

/// Secrets that are read at once: as many as a service answers without calling it too many.
pub const AT_ONCE: usize = 8;

/// A store, and how to get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOptions {
    /// AWS Secrets Manager.
    Aws(AwsSecretsOptions),
    /// The secrets of an Azure Key Vault.
    Azure(AzureSecretsOptions),
    /// Google Secret Manager.
    Google(GoogleSecretsOptions),
    /// A key-value engine, version 1 or 2, of HashiCorp Vault or OpenBao.
    Vault(VaultSecretsOptions),
}

/// AWS Secrets Manager of one region and account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsSecretsOptions {
    /// The region. With the platform's credentials only if the platform has none.
    pub region: Option<String>,
    /// Address of the service instead of the region's.
    pub endpoint: Option<String>,
    /// Identifier and secret of an access key; without it the platform's chain, as for AWS KMS.
    pub access_key: Option<(String, SecretText)>,
    /// How long one request may take.
    pub timeout: Duration,
}

/// An Azure Key Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureSecretsOptions {
    /// `https://VAULT.vault.azure.net`.
    pub address: String,
    /// How to log in.
    pub login: AzureSecretsLogin,
    /// Where the machine's identity, or the login of applications, is; where they usually are without.
    pub login_address: Option<String>,
    /// How long one request may take.
    pub timeout: Duration,
}

/// How to log in to Azure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureSecretsLogin {
    /// As the identity of the machine, or as this one of several.
    ManagedIdentity(Option<String>),
    /// As an application with its secret.
    ClientSecret {
        /// Its tenant.
        tenant: String,
        /// Its identifier.
        client: String,
        /// Its secret.
        secret: SecretText,
    },
}

/// Google Secret Manager of one project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoogleSecretsOptions {
    /// The project, by its identifier or its number.
    pub project: String,
    /// Address of the service; Google's without.
    pub endpoint: Option<String>,
    /// File of credentials (JSON): of a service account, or of a person who logged in with `gcloud`. Without one, as the
    /// account that the machine has.
    pub credentials: Option<PathBuf>,
    /// Address of the machine's metadata server; where it usually is without.
    pub metadata: Option<String>,
    /// How long one request may take.
    pub timeout: Duration,
}

/// A key-value engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSecretsOptions {
    /// `https://host:port`.
    pub address: String,
    /// How to log in.
    pub login: VaultSecretsLogin,
    /// File with the authorities that may sign the server's certificate; Mozilla's without one.
    pub ca_file: Option<PathBuf>,
    /// File with `host:port fingerprint` lines: certificates (SHA-256) that are good besides.
    pub known_servers: Option<PathBuf>,
    /// How long one request may take.
    pub timeout: Duration,
}

/// How to log in to a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultSecretsLogin {
    /// With a token.
    Token(SecretText),
    /// As the service account of a pod.
    Kubernetes {
        /// The role.
        role: String,
        /// File with the account's token; where Kubernetes puts it without.
        token_file: Option<PathBuf>,
        /// Where the login is mounted.
        mount: String,
    },
}

/// A secret of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretName {
    /// Its name; in a vault the path of the HTTP API, `/v1/…`; at Google `projects/…/secrets/…`.
    pub name: String,
    /// The member of it, in a vault.
    pub member: Option<String>,
}

/// Which secrets are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// What names begin with, one of these; any without. For AWS.
    pub prefixes: Vec<String>,
    /// Tags. AWS looks for the beginnings of names, and of values that are not empty, each by itself; of Azure's secrets
    /// those count that have all of them with exactly these values.
    pub tags: Vec<(String, String)>,
    /// An expression in the service's own language. For Google.
    pub expression: Option<String>,
}

/// Why a store gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// This build does not speak with such stores.
    #[error("this build lacks the feature {feature}: take one that has it")]
    NotBuilt {
        /// The feature of this crate.
        feature: &'static str,
    },
    /// It cannot list what is in it.
    #[error("it cannot be asked for all secrets")]
    NoList,
    /// It did not do what it was asked; sorted by what to do, with what it said.
    #[error("{}", .0.source)]
    Service(ServiceError),
}

impl From<ServiceError> for StoreError {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

/// A store that was opened: its credentials are there.
pub struct Store(Inner);

enum Inner {
    #[cfg(feature = "aws-kms")]
    Aws(Box<aws::AwsSecrets>),
    #[cfg(feature = "azure-key-vault")]
    Azure(azure::AzureSecrets),
    #[cfg(feature = "gcp-kms")]
    Google(google::GoogleSecrets),
    #[cfg(feature = "vault-transit")]
    Vault(vault::VaultSecrets),
}

impl Store {
    /// Finds credentials, or logs in.
    ///
    /// # Errors
    /// [`StoreError`].
    #[cfg_attr(
        not(any(feature = "aws-kms", feature = "azure-key-vault", feature = "gcp-kms", feature = "vault-transit")),
        expect(clippy::unused_async, reason = "a build without any of them refuses at once")
    )]
    pub async fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        match options {
            #[cfg(feature = "aws-kms")]
            // Its chain of credentials makes large futures.
            StoreOptions::Aws(options) => {
                Ok(Self(Inner::Aws(Box::new(Box::pin(aws::AwsSecrets::open(options)).await?))))
            }
            #[cfg(not(feature = "aws-kms"))]
            StoreOptions::Aws(_) => Err(StoreError::NotBuilt { feature: "aws-kms" }),
            #[cfg(feature = "azure-key-vault")]
            StoreOptions::Azure(options) => Ok(Self(Inner::Azure(azure::AzureSecrets::open(options).await?))),
            #[cfg(not(feature = "azure-key-vault"))]
            StoreOptions::Azure(_) => Err(StoreError::NotBuilt { feature: "azure-key-vault" }),
            #[cfg(feature = "gcp-kms")]
            StoreOptions::Google(options) => Ok(Self(Inner::Google(google::GoogleSecrets::open(options).await?))),
            #[cfg(not(feature = "gcp-kms"))]
            StoreOptions::Google(_) => Err(StoreError::NotBuilt { feature: "gcp-kms" }),
            #[cfg(feature = "vault-transit")]
            StoreOptions::Vault(options) => Ok(Self(Inner::Vault(vault::VaultSecrets::open(options).await?))),
            #[cfg(not(feature = "vault-transit"))]
            StoreOptions::Vault(_) => Err(StoreError::NotBuilt { feature: "vault-transit" }),
        }
    }

    /// Reads one secret.
    ///
    /// # Errors
    /// [`StoreError`].
    #[cfg_attr(
        not(any(feature = "aws-kms", feature = "azure-key-vault", feature = "gcp-kms", feature = "vault-transit")),
        expect(unused_variables, clippy::unused_async, reason = "there is no store to ask")
    )]
    pub async fn read(&self, secret: &SecretName) -> Result<SecretText, StoreError> {
        match self.0 {
            #[cfg(feature = "aws-kms")]
            Inner::Aws(ref store) => Ok(store.read(&secret.name).await?),
            #[cfg(feature = "azure-key-vault")]
            Inner::Azure(ref store) => Ok(store.read(&secret.name).await?),
            #[cfg(feature = "gcp-kms")]
            Inner::Google(ref store) => Ok(store.read(&secret.name).await?),
            #[cfg(feature = "vault-transit")]
            Inner::Vault(ref store) => Ok(store.read(secret).await?),
        }
    }

    /// The names of all secrets that the filter lets through.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::NoList`] for a vault.
    #[cfg_attr(
        not(any(feature = "aws-kms", feature = "azure-key-vault", feature = "gcp-kms")),
        expect(unused_variables, clippy::unused_async, reason = "there is no store to ask")
    )]
    pub async fn list(&self, filter: &Filter) -> Result<Vec<String>, StoreError> {
        match self.0 {
            #[cfg(feature = "aws-kms")]
            Inner::Aws(ref store) => Ok(store.list(filter).await?),
            #[cfg(feature = "azure-key-vault")]
            Inner::Azure(ref store) => Ok(store.list(filter).await?),
            #[cfg(feature = "gcp-kms")]
            Inner::Google(ref store) => Ok(store.list(filter).await?),
            #[cfg(feature = "vault-transit")]
            Inner::Vault(_) => Err(StoreError::NoList),
        }
    }
}
