//! Keys that Web3Signer takes from secret stores: fetched, so that they move with the others.
//!
//! Guarantees: the stores are only read; a store that gives nothing is named with its reason, for each key of it, and these
//! stay behind like other keys that cannot come. A secret becomes a keystore in memory before anything else sees it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_enclave::provider::ServiceFailure;
use holdfast_migrate::web3signer::{
    AwsStore, AzureLogin, AzureStore, HashicorpLogin, HashicorpStore, Settings, StoredSecret,
};
use holdfast_providers::stores::{
    AT_ONCE, AwsSecretsOptions, AzureSecretsLogin, AzureSecretsOptions, Filter, GoogleSecretsOptions, SecretName,
    Store, StoreError, StoreOptions, VaultSecretsLogin, VaultSecretsOptions,
};
use holdfast_secret::SecretText;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::super::args::Web3SignerArgs;
use super::super::keys::{Discovery, Lines};
use super::super::{Context, Exit, Failure};
use crate::outcome::chain;

/// How long AWS or Google may take with one request: Web3Signer leaves it to their libraries.
const CLOUD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// One secret to fetch.
struct Job {
    /// What it is called in the plan.
    place: PathBuf,
    store: StoreOptions,
    name: SecretName,
    lines: Lines,
    /// A command that fetches it.
    command: String,
}

/// Fetches the keys that key files and settings name. What of them stays behind is in the discovery, or, where not even
/// names are known, in the texts that come back.
///
/// # Errors
/// [`Failure`] (usage) if the settings of a store are not complete.
pub(super) async fn fetch(
    found: &mut Discovery,
    settings: &Settings,
    args: &Web3SignerArgs,
    context: &Context,
) -> Result<Vec<String>, Failure> {
    let mut jobs: Vec<Job> = std::mem::take(&mut found.stored)
        .into_iter()
        .map(|stored| {
            let dir = stored.path.parent().unwrap_or(Path::new("/")).to_owned();
            let (store, name) = of_file(stored.secret, &dir, args, context);
            Job { place: stored.path, store, name, lines: Lines::One, command: stored.command }
        })
        .collect();
    let mut opened = Vec::new();
    let mut elsewhere = Vec::new();
    for bulk in bulks(settings, args, context)? {
        let listed = match open(&bulk.store, &mut opened).await {
            Ok(store) => store.list(&bulk.filter).await.map_err(|error| told(&error)),
            Err(reason) => Err(reason),
        };
        match listed {
            Ok(names) => jobs.extend(names.into_iter().map(|name| Job {
                place: PathBuf::from(format!("{}: {name}", title(&bulk.store))),
                command: bulk.command.replace("NAME", &name),
                store: bulk.store.clone(),
                name: SecretName { name, member: None },
                lines: Lines::Each,
            })),
            Err(reason) => elsewhere.push(format!(
                "keys in {} (--{}): {reason}; or list them yourself (`{}`), put each into a key file (type: file-raw) in a \
                 directory that only you may read, and move again with --key-config",
                place(&bulk.store),
                bulk.switch,
                bulk.list
            )),
        }
    }
    if !jobs.is_empty() {
        context.output.note(format!("Fetching {} secrets.", jobs.len()));
    }
    for (job, value) in read(jobs, &mut opened).await {
        match value {
            Ok(value) => found.take(&job.place, &value, job.lines),
            Err(reason) => {
                let text = format!(
                    "{}: {reason}; or fetch it yourself (`{}`), into a key file (type: file-raw) in a directory that only you \
                     may read, and move again with --key-config",
                    place(&job.store),
                    job.command
                );
                found.skip(&job.place, text);
            }
        }
    }
    *found = std::mem::take(found).sorted();
    Ok(elsewhere)
}

/// Stores that were opened, or why they were not.
type Opened = Vec<(StoreOptions, Result<Arc<Store>, String>)>;

/// Opens a store once.
async fn open(options: &StoreOptions, opened: &mut Opened) -> Result<Arc<Store>, String> {
    if let Some((_, store)) = opened.iter().find(|(known, _)| known == options) {
        return store.clone();
    }
    let store = Store::open(options).await.map(Arc::new).map_err(|error| told(&error));
    opened.push((options.clone(), store.clone()));
    store
}

/// Reads secrets, several at once, and gives them back in their order.
async fn read(jobs: Vec<Job>, opened: &mut Opened) -> Vec<(Job, Result<SecretText, String>)> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut reading = JoinSet::new();
    let mut results: Vec<Option<Result<SecretText, String>>> = Vec::with_capacity(jobs.len());
    for (index, job) in jobs.iter().enumerate() {
        match open(&job.store, opened).await {
            Ok(store) => {
                let (permits, name) = (Arc::clone(&permits), job.name.clone());
                reading.spawn(async move {
                    let _permit = permits.acquire_owned().await;
                    (index, store.read(&name).await.map_err(|error| told(&error)))
                });
                results.push(None);
            }
            Err(reason) => results.push(Some(Err(reason))),
        }
    }
    while let Some(ended) = reading.join_next().await {
        if let Ok((index, value)) = ended
            && let Some(result) = results.get_mut(index)
        {
            *result = Some(value);
        }
    }
    let value =
        |value: Option<_>| value.unwrap_or_else(|| Err("it was not read, by a fault of this program".to_owned()));
    jobs.into_iter().zip(results.into_iter().map(value)).collect()
}

/// All secrets of a store.
struct Bulk {
    store: StoreOptions,
    filter: Filter,
    /// The switch that is on.
    switch: &'static str,
    /// The command that lists them.
    list: String,
    /// The command that fetches NAME.
    command: String,
}

fn bulks(settings: &Settings, args: &Web3SignerArgs, context: &Context) -> Result<Vec<Bulk>, Failure> {
    let usage = |error| Failure::new(Exit::Usage, anyhow::Error::new(error).context("Web3Signer's settings"));
    let mut bulks = Vec::new();
    if let Some(bulk) = settings.aws_bulk().map_err(usage)? {
        bulks.push(Bulk {
            store: aws(bulk.store),
            filter: Filter { prefixes: bulk.prefixes, tags: bulk.tags, ..Filter::default() },
            switch: "aws-secrets-enabled",
            list: "aws secretsmanager list-secrets".to_owned(),
            command: "aws secretsmanager get-secret-value --secret-id 'NAME' --query SecretString --output text"
                .to_owned(),
        });
    }
    if let Some(bulk) = settings.azure_bulk().map_err(usage)? {
        let vault = bulk.store.vault.clone();
        bulks.push(Bulk {
            store: azure(bulk.store, args, context),
            filter: Filter { tags: bulk.tags, ..Filter::default() },
            switch: "azure-vault-enabled",
            list: format!("az keyvault secret list --vault-name {vault}"),
            command: format!("az keyvault secret show --vault-name {vault} --name NAME --query value --output tsv"),
        });
    }
    if let Some(bulk) = settings.google_bulk().map_err(usage)? {
        bulks.push(Bulk {
            list: format!("gcloud secrets list --project {}", bulk.project),
            store: StoreOptions::Google(GoogleSecretsOptions {
                project: bulk.project,
                endpoint: args.gcp_address.clone(),
                credentials: google_credentials(),
                metadata: context.config.gcp.metadata.clone(),
                timeout: CLOUD_TIMEOUT,
            }),
            filter: Filter { expression: bulk.filter, ..Filter::default() },
            switch: "gcp-secrets-enabled",
            command: "gcloud secrets versions access NAME/versions/latest".to_owned(),
        });
    }
    Ok(bulks)
}

/// The file of Google's application default credentials, where their libraries look for it: the one that the environment
/// names, even if it is not there, or that of `gcloud`. Without one they are those of the machine.
fn google_credentials() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("GOOGLE_APPLICATION_CREDENTIALS").or_else(|| {
        let config = variable("CLOUDSDK_CONFIG").or_else(|| Some(variable("HOME")?.join(".config/gcloud")))?;
        let file = config.join("application_default_credentials.json");
        file.is_file().then_some(file)
    })
}

fn of_file(secret: StoredSecret, dir: &Path, args: &Web3SignerArgs, context: &Context) -> (StoreOptions, SecretName) {
    match secret {
        StoredSecret::Hashicorp { store, path, name } => {
            (hashicorp(store, dir, args), SecretName { name: path, member: Some(name) })
        }
        StoredSecret::Aws { store, name } => (aws(store), SecretName { name, member: None }),
        StoredSecret::Azure { store, name } => (azure(store, args, context), SecretName { name, member: None }),
    }
}

fn hashicorp(store: HashicorpStore, dir: &Path, args: &Web3SignerArgs) -> StoreOptions {
    let login = match store.login {
        HashicorpLogin::Token(token) => VaultSecretsLogin::Token(token),
        HashicorpLogin::Kubernetes { role, token_file, mount } => {
            VaultSecretsLogin::Kubernetes { role, token_file: token_file.map(|path| dir.join(path)), mount }
        }
    };
    StoreOptions::Vault(VaultSecretsOptions {
        address: store.address,
        login,
        ca_file: args.vault_ca.clone(),
        known_servers: store.known_servers.map(|path| dir.join(path)),
        timeout: store.timeout,
    })
}

fn aws(store: AwsStore) -> StoreOptions {
    let AwsStore { region, endpoint, access_key } = store;
    StoreOptions::Aws(AwsSecretsOptions { region, endpoint, access_key, timeout: CLOUD_TIMEOUT })
}

fn azure(store: AzureStore, args: &Web3SignerArgs, context: &Context) -> StoreOptions {
    let login = match store.login {
        AzureLogin::ClientSecret { tenant, client, secret } => {
            AzureSecretsLogin::ClientSecret { tenant, client, secret }
        }
        AzureLogin::ManagedIdentity(client) => AzureSecretsLogin::ManagedIdentity(client),
    };
    let usual = format!("https://{}.vault.azure.net", store.vault);
    StoreOptions::Azure(AzureSecretsOptions {
        address: args.azure_address.clone().unwrap_or(usual),
        login,
        login_address: context.config.azure.login_address.clone(),
        timeout: store.timeout,
    })
}

const fn title(store: &StoreOptions) -> &'static str {
    match store {
        StoreOptions::Aws(_) => "AWS Secrets Manager",
        StoreOptions::Azure(_) => "Azure Key Vault",
        StoreOptions::Google(_) => "Google Secret Manager",
        StoreOptions::Vault(_) => "HashiCorp Vault",
    }
}

/// The store with its address, to begin a sentence.
fn place(store: &StoreOptions) -> String {
    let title = title(store);
    match store {
        StoreOptions::Aws(AwsSecretsOptions { endpoint: Some(endpoint), .. }) => format!("{title} at {endpoint}"),
        StoreOptions::Aws(AwsSecretsOptions { region: Some(region), .. }) => format!("{title} in {region}"),
        StoreOptions::Aws(_) => title.to_owned(),
        StoreOptions::Azure(options) => format!("{title} at {}", options.address),
        StoreOptions::Google(options) => format!("{title} of the project {}", options.project),
        StoreOptions::Vault(options) => format!("{title} at {}", options.address),
    }
}

/// What a store did not do and what to do, to follow its name.
fn told(error: &StoreError) -> String {
    let StoreError::Service(service) = error else { return error.to_string() };
    let what = match service.failure {
        ServiceFailure::Unreachable => {
            "cannot be reached from here (check the network, the address if it is one of a container, and over TLS --vault-ca)"
        }
        ServiceFailure::TimedOut => "did not answer in time (check the network, and give the command again)",
        ServiceFailure::Busy => "is overloaded or has a fault of its own (give the command again later)",
        ServiceFailure::Credentials => "takes no such credentials (renew them where Web3Signer has them)",
        ServiceFailure::Denied => "does not let these credentials read it (grant that, or renew them)",
        ServiceFailure::KeyDisabled => "has it switched off, or marked for deletion (restore it)",
        ServiceFailure::KeyMissing => "has no such secret (check its name)",
        ServiceFailure::Unusable => "cannot be used as it is set up there",
        ServiceFailure::WrongKey
        | ServiceFailure::Rejected
        | ServiceFailure::Measurement
        | ServiceFailure::Protocol => "gave an answer that makes no sense (check that the address is the service's)",
    };
    format!("{what}: {}", chain(&*service.source))
}
