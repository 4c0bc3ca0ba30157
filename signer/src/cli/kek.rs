//! `holdfast kek`: the key-encryption keys that protect the data key, which seals every stored key.

use std::sync::Arc;

use holdfast_enclave::provider::shares::PersonShare;
use holdfast_wire::admin::v1::{KekStatusRequest, NewDataKey, RotateKekRequest, RotateKekResponse};
use serde_json::json;

use super::args::{KekCommand, KekInitArgs, KekRotateArgs, ProviderArgs};
use super::reach::{Need, failure, reach, say};
use super::{Context, Exit, Failure, Output, unseal};
use crate::admin::provider_names as names;
use crate::clock::{SystemClock, rfc3339};
use crate::config::{Config, ProviderSettings};
use crate::custody;

/// Runs one of the commands.
pub(super) async fn run(command: &KekCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        KekCommand::Init(args) => init(args, context).await,
        KekCommand::Status(_) => status(context).await,
        KekCommand::Rotate(args) => rotate(args, context).await,
        KekCommand::Unseal(args) => unseal::run(args, context),
    }
}

/// Whether there are as many holders as were said.
fn check_holders(args: &ProviderArgs, config: &Config) -> Result<(), Failure> {
    let holders = config.shares.recipients.len().saturating_add(config.shares.providers.len());
    match args.shares {
        Some(said) if usize::from(said) != holders => {
            let text = format!("--shares says {said} holders, and {holders} are named with --recipient and --provider");
            Err(Failure::message(Exit::Usage, text))
        }
        _ => Ok(()),
    }
}

/// Writes people's shares where they were asked for.
fn hand_out(args: &ProviderArgs, people: &[PersonShare], context: &Context) -> Result<(), Failure> {
    match &args.share_dir {
        Some(_) if people.is_empty() => {
            context.output.note("The data key is not split, so there are no shares to write.");
            Ok(())
        }
        Some(folder) => unseal::hand_out(people, folder, context),
        None => Ok(()),
    }
}

async fn init(args: &KekInitArgs, context: &Context) -> Result<Exit, Failure> {
    check_holders(&args.providers, &context.config)?;
    let mut custody = custody::open_sealed(&context.config, Arc::new(SystemClock)).await?;
    if let Some(record) = custody.record().await? {
        custody.guard.shutdown().await;
        return Err(Failure::message(
            Exit::Refused,
            format!(
                "there is a data key already, protected by provider {:?} since {}; nothing was changed. \
                 `holdfast kek status` shows whether it opens, `holdfast kek rotate` changes what protects it",
                record.provider,
                rfc3339(record.stored)
            ),
        ));
    }
    let made = custody.ensure_data_key(&context.config).await;
    let shares = custody.share_set().await;
    custody.guard.shutdown().await;
    made?;
    let description = custody.protected_by.unwrap_or_default();
    context.output.result(
        format!("Made a data key, protected by: {description}."),
        &json!({ "status": "made", "provider": names(&context.config), "protected_by": description }),
    )?;
    hand_out(&args.providers, &shares?.map(|shares| shares.people()).unwrap_or_default(), context)?;
    context
        .output
        .note("Whoever loses what protects it loses the stored keys: keep the mnemonic or the keystores as well.");
    Ok(Exit::Done)
}

async fn rotate(args: &KekRotateArgs, context: &Context) -> Result<Exit, Failure> {
    let mut wrap = context.config.clone();
    if let Some(path) = args.new_passphrase_file.as_ref().or(wrap.keys.passphrase_file.as_ref()) {
        // The server may work in another directory.
        wrap.keys.passphrase_file = Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    }
    check_holders(&args.providers, &wrap)?;
    let settings_toml = ProviderSettings::of(&wrap).to_toml().map_err(|error| Failure::new(Exit::Bug, error))?;
    let reached = reach(context, Need::Existing).await?;
    let request = RotateKekRequest { settings_toml, data_key: args.data_key };
    let rotated = reached.admin.kek().rotate(request).await;
    let output = reached.output;
    reached.close().await;
    let rotated = rotated.map_err(failure)?.into_inner();
    say_rotated(&rotated, output)?;
    let people: Vec<PersonShare> = rotated
        .shares
        .iter()
        .map(|share| PersonShare {
            number: u8::try_from(share.number).unwrap_or_default(),
            label: share.holder.clone(),
            sealed: share.sealed.clone(),
        })
        .collect();
    hand_out(&args.providers, &people, context)?;
    let RotateKekResponse { provider_before, provider, data_key, .. } = rotated;
    if data_key.is_some() {
        output.note(
            "Backups of the database from before still hold the old data key and everything sealed under it: destroy \
             them, or guard them as before. If a stored key itself may have been seen, only an exit of its validator helps.",
        );
        return Ok(Exit::Done);
    }
    let kept = |name: &str| provider.split(',').any(|kept| kept == name);
    let dropped: Vec<_> = provider_before.split(',').filter(|name| !kept(name)).collect();
    if !dropped.is_empty() {
        output.note(format!(
            "No longer needed: {}. Backups of the database from before still open with it, so keep it as long as those.",
            dropped.join(", ")
        ));
    }
    Ok(Exit::Done)
}

fn say_rotated(rotated: &RotateKekResponse, output: Output) -> Result<(), Failure> {
    let RotateKekResponse { provider_before, provider, opened_by, protected_by, data_key, .. } = rotated;
    let Some(NewDataKey { number, number_before, keys }) = data_key else {
        return output.result(
            format!("The data key was opened by: {opened_by}. From now on it is protected by: {protected_by}."),
            &json!({ "status": "rotated", "provider": provider, "provider_before": provider_before,
                     "opened_by": opened_by, "protected_by": protected_by }),
        );
    };
    output.result(
        format!(
            "{keys} keys are sealed under the new data key {number}, which is protected by: {protected_by}. \
             The old data key {number_before}, which was opened by {opened_by}, is gone from the database."
        ),
        &json!({ "status": "replaced", "provider": provider, "data_key": number, "data_key_before": number_before,
                 "keys": keys, "opened_by": opened_by, "protected_by": protected_by }),
    )
}

async fn status(context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Existing).await?;
    let report = reached.admin.kek().status(KekStatusRequest {}).await;
    let output = reached.output;
    reached.close().await;
    say(&report.map_err(failure)?.into_inner(), output)
}
