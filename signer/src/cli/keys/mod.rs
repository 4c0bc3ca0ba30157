//! `holdfast keys`: what comes into custody, what is there, what leaves.

mod discover;
mod entry;
mod export;
mod generate;
mod import;
mod keystores;
mod label;
mod passwords;
mod raw;
mod report;
mod wallets;
mod yaml;

pub(super) use discover::{BulkPasswords, Candidate, Discovery, Lines, Skipped, discover, web3signer};
pub(super) use raw::text as secret_text;
pub(super) use wallets::open as open_wallets;

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_domain::PublicKey;
use holdfast_slashing_db::interchange::Interchange;
use holdfast_slashing_db::{CallerId, Switch};
use holdfast_wire::admin::v1::{
    DeleteKeysRequest, KeyResult, KeyState, ListKeysRequest, ListKeysResponse, ShowKeyRequest, ShowKeyResponse,
    SwitchKeysRequest,
};
use serde_json::{Value, json};

use super::args::{DeleteArgs, ImportArgs, KeysCommand, ListArgs, ShowArgs, SwitchArgs};
#[cfg(feature = "backend-enclave")]
use super::args::{EnclaveGenerateArgs, EnclaveImportArgs};
use super::reach::{Need, exit_of_word, failure, reach};
use super::{Context, Exit, Failure, Output, confirm};
use crate::admin::Admin;
use crate::admin::show::{self, key_heading, key_json};
use crate::clock::SystemClock;
#[cfg(feature = "backend-enclave")]
use crate::config::SigningBackend;
use crate::custody::{self, Custody};
use crate::outcome::chain;

/// Runs one of the commands.
pub(super) async fn run(command: &KeysCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        KeysCommand::Import(args) => import::run(args, context, import::Sealing::Here).await,
        KeysCommand::Generate(args) => generate::run(args, context, generate::Where::VaultProcess).await,
        KeysCommand::Export(args) => export::run(args, context).await,
        KeysCommand::List(args) => list(args, context).await,
        KeysCommand::Show(args) => show(args, context).await,
        KeysCommand::Enable(args) => switch(args, Switch::Enable, context).await,
        KeysCommand::Disable(args) => switch(args, Switch::Disable, context).await,
        KeysCommand::Label(args) => label::run(args, context).await,
        KeysCommand::Delete(args) => delete(args, context).await,
    }
}

/// What is known here of a key whose secret is, or was, here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Here {
    /// It may sign.
    On,
    /// It is switched off.
    Off,
    /// It was deleted.
    Deleted,
}

/// The keys that are, or were, here. Makes no database.
pub(super) async fn here(context: &Context) -> Result<BTreeMap<PublicKey, Here>, Failure> {
    if context.config.remote.server.is_none() && !custody::is_there(&context.config)? {
        return Ok(BTreeMap::new());
    }
    let reached = reach(context, Need::Existing).await?;
    let all = ListKeysRequest { deleted: true, ..ListKeysRequest::default() };
    let listed = listed(&reached.admin, all).await;
    reached.close().await;
    let mut here = BTreeMap::new();
    for key in listed?.keys {
        let Ok(public_key) = key.pubkey.parse() else { continue };
        let state = match key.state() {
            KeyState::Tombstoned => Here::Deleted,
            // A key without an origin is known by its history alone.
            _ if key.origin == 0 => continue,
            KeyState::Enabled => Here::On,
            KeyState::Disabled | KeyState::Unspecified => Here::Off,
        };
        here.insert(public_key, state);
    }
    Ok(here)
}

/// Lets keys sign: behind a fence with [`Switch::Enable`], without one with [`Switch::EnableUnfenced`].
pub(super) async fn enable(keys: Vec<PublicKey>, to: Switch, context: &Context) -> Result<Exit, Failure> {
    switch(&SwitchArgs { keys }, to, context).await
}

/// Imports what was found elsewhere than with `--from`, for `holdfast migrate`.
pub(super) async fn bring(
    found: Discovery,
    histories: Interchange,
    args: &ImportArgs,
    context: &Context,
) -> Result<Exit, Failure> {
    import::bring(found, Some(histories), args, context, import::Sealing::Here).await
}

/// `holdfast enclave import`: the same as `keys import`, but that the vault in the enclave seals.
#[cfg(feature = "backend-enclave")]
pub(super) async fn import_into_enclave(args: &EnclaveImportArgs, context: &Context) -> Result<Exit, Failure> {
    for_enclave(context, "holdfast keys import")?;
    import::run(&args.keys, context, import::Sealing::Enclave(args.data_key.0)).await
}

/// `holdfast enclave generate`: the same as `keys generate`, but that the vault in the enclave makes them.
#[cfg(feature = "backend-enclave")]
pub(super) async fn generate_in_enclave(args: &EnclaveGenerateArgs, context: &Context) -> Result<Exit, Failure> {
    for_enclave(context, "holdfast keys generate")?;
    generate::run(&args.keys, context, generate::Where::Enclave(args.data_key.0)).await
}

/// Refuses what is for an enclave where there is none.
#[cfg(feature = "backend-enclave")]
fn for_enclave(context: &Context, otherwise: &str) -> Result<(), Failure> {
    if context.config.signing.backend != SigningBackend::Enclave {
        let message = format!(
            "this is for a signer whose keys are in an enclave: set signing.backend = \"enclave\" and the section [enclave], \
             or use `{otherwise}`"
        );
        return Err(Failure::message(Exit::Usage, message));
    }
    Ok(custody::require_existing(&context.config)?)
}

/// Who does it, as recorded: the user of this machine.
pub(super) fn operator() -> CallerId {
    CallerId::new(&format!("cli:uid={}", rustix::process::getuid().as_raw()))
}

/// Opens an existing database for a command that needs no secret.
pub(super) async fn open_record(context: &Context) -> Result<Custody, Failure> {
    custody::require_existing(&context.config)?;
    open_direct(context).await
}

/// Opens the database, making it if need be, and says so.
pub(super) async fn open_direct(context: &Context) -> Result<Custody, Failure> {
    let custody = custody::open_sealed(&context.config, Arc::new(SystemClock)).await?;
    let path = context.config.database()?.to_string();
    context.output.note(format!("No server is running; working on {path} itself."));
    Ok(custody)
}

/// Every key that is asked for; who wraps the data key, and how many are deleted.
pub(super) async fn listed(admin: &Admin, wanted: ListKeysRequest) -> Result<ListKeysResponse, Failure> {
    let mut pages = admin.keys().list(wanted).await.map_err(failure)?.into_inner();
    let mut all = ListKeysResponse::default();
    while let Some(page) = pages.message().await.map_err(failure)? {
        all.provider = all.provider.or(page.provider);
        all.deleted = all.deleted.max(page.deleted);
        all.keys.extend(page.keys);
    }
    Ok(all)
}

async fn list(args: &ListArgs, context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Existing).await?;
    let wanted = ListKeysRequest { deleted: args.all, labels: args.labels.iter().map(ToString::to_string).collect() };
    let ListKeysResponse { keys, provider, deleted } = listed(&reached.admin, wanted).await?;
    let heading = format!("{} {:<20} {:<14} LABELS", key_heading(), "CHANGED", "BY");
    let lines: Vec<String> = std::iter::once(heading).chain(keys.iter().map(show::listed)).collect();
    let json: Vec<Value> = keys.iter().map(|key| key_json(key, provider.as_deref())).collect();
    let text = if keys.is_empty() && !args.labels.is_empty() {
        "No key has these labels. `holdfast keys label` gives keys labels.".to_owned()
    } else if keys.is_empty() {
        "No keys. `holdfast keys import --from PATH` brings some in.".to_owned()
    } else {
        lines.join("\n")
    };
    reached.output.result(text, &json!({ "keys": json, "provider": provider, "deleted": deleted }))?;
    if deleted > 0 && !args.all {
        reached.output.note(format!("{deleted} deleted keys are not shown; --all shows them."));
    }
    reached.close().await;
    Ok(Exit::Done)
}

async fn show(args: &ShowArgs, context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Existing).await?;
    let shown = reached.admin.keys().show(ShowKeyRequest { pubkey: args.key.to_string() }).await;
    let output = reached.output;
    reached.close().await;
    let ShowKeyResponse { key, provider } = shown.map_err(failure)?.into_inner();
    let json = key_json(&key.unwrap_or_default(), provider.as_deref());
    let text: Vec<String> = json
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| {
            format!(
                "{name:<13} {}",
                value.as_str().map_or_else(|| value.to_string(), str::to_owned).replace("null", "-")
            )
        })
        .collect();
    output.result(text.join("\n"), &json)?;
    Ok(Exit::Done)
}

/// What became of each key, under these words; and how the command ends.
fn say_results(results: &[KeyResult], (done, before): (&str, &str), output: Output) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for KeyResult { pubkey, result, reason } in results {
        let status = match result.as_str() {
            "done" => done,
            "done_before" => before,
            word => {
                exit = exit_of_word(word);
                "error"
            }
        };
        let text = reason
            .as_ref()
            .map_or_else(|| format!("{pubkey} {status}"), |reason| format!("{pubkey} {status}: {reason}"));
        output.result(text, &json!({ "pubkey": pubkey, "status": status.replace(' ', "_"), "reason": reason }))?;
    }
    Ok(exit)
}

/// Switches keys; the row keeps who and when.
async fn switch(args: &SwitchArgs, to: Switch, context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Existing).await?;
    let request = SwitchKeysRequest {
        pubkeys: args.keys.iter().map(ToString::to_string).collect(),
        without_fence: to == Switch::EnableUnfenced,
    };
    let mut keys = reached.admin.keys();
    let (done, answer) = match to {
        Switch::Enable | Switch::EnableUnfenced => ("enabled", keys.enable(request).await),
        Switch::Disable => ("disabled", keys.disable(request).await),
    };
    let output = reached.output;
    reached.close().await;
    let exit = say_results(&answer.map_err(failure)?.into_inner().keys, (done, done), output)?;
    if to == Switch::Enable {
        output.note(
            "Keys that were off are fenced at the present: what they signed elsewhere until now is not contradicted, and they \
             sign from about the next epoch on. Make sure that they sign nowhere else from now on.",
        );
    }
    Ok(exit)
}

async fn delete(args: &DeleteArgs, context: &Context) -> Result<Exit, Failure> {
    let mut keys: Vec<PublicKey> = args.keys.clone();
    keys.sort_unstable();
    keys.dedup();
    let reached = reach(context, Need::Existing).await?;
    let question = format!(
        "Delete {} key(s)? The secrets are erased and cannot be restored from here; what they signed stays on record.",
        keys.len()
    );
    if !args.yes && !confirm(&question) {
        reached.close().await;
        return Err(Failure::message(
            Exit::Refused,
            "nothing was deleted; confirm with yes on a terminal, or give --yes",
        ));
    }
    let request = DeleteKeysRequest { pubkeys: keys.iter().map(ToString::to_string).collect() };
    let answer = reached.admin.keys().delete(request).await;
    let output = reached.output;
    reached.close().await;
    let exit = say_results(&answer.map_err(failure)?.into_inner().keys, ("deleted", "deleted before"), output)?;
    if exit == Exit::Done {
        output.note("Before these keys sign elsewhere, wait until an epoch has passed without them.");
    }
    Ok(exit)
}
