//! `holdfast kek`: the key-encryption keys that protect the data key, which seals every stored key.

use std::sync::Arc;

use holdfast_enclave::provider::Checked;
use holdfast_enclave::provider::shares::ShareSet;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::args::{KekCommand, KekInitArgs, KekRotateArgs, ProviderArgs};
use super::{Context, Exit, Failure, keys, unseal};
use crate::clock::{SystemClock, rfc3339};
use crate::config::Config;
use crate::custody::{self, NewDataKey, Rotated, Terminal};
use crate::outcome::chain;

/// Runs one of the commands.
pub(super) async fn run(command: &KekCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        KekCommand::Init(args) => init(args, context).await,
        KekCommand::Status(_) => status(context).await,
        KekCommand::Rotate(args) => rotate(args, context).await,
        KekCommand::Unseal(args) => unseal::run(args, context),
    }
}

/// The names of the configured providers, as recorded.
fn names(config: &Config) -> String {
    config.keys.provider.0.iter().map(|provider| provider.as_str()).collect::<Vec<_>>().join(",")
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
fn hand_out(args: &ProviderArgs, shares: Option<&ShareSet>, context: &Context) -> Result<(), Failure> {
    match (&args.share_dir, shares) {
        (Some(folder), Some(shares)) => unseal::hand_out(&shares.people(), folder, context),
        (Some(_), None) => {
            context.output.note("The data key is not split, so there are no shares to write.");
            Ok(())
        }
        (None, _) => Ok(()),
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
    hand_out(&args.providers, shares?.as_ref(), context)?;
    context
        .output
        .note("Whoever loses what protects it loses the stored keys: keep the mnemonic or the keystores as well.");
    Ok(Exit::Done)
}

async fn rotate(args: &KekRotateArgs, context: &Context) -> Result<Exit, Failure> {
    let mut wrap = context.config.clone();
    if let Some(path) = &args.new_passphrase_file {
        wrap.keys.passphrase_file = Some(path.clone());
    }
    check_holders(&args.providers, &wrap)?;
    if args.data_key {
        return replace_data_key(args, &wrap, context).await;
    }
    let mut custody = keys::open_record(context).await?;
    let rotated = custody.rotate(&context.config, &wrap).await;
    let shares = custody.share_set().await;
    custody.guard.shutdown().await;
    let Some(Rotated { before, opened_by, now }) = rotated? else {
        return Err(nothing_to_rotate());
    };
    let provider = names(&wrap);
    context.output.result(
        format!("The data key was opened by: {opened_by}. From now on it is protected by: {now}."),
        &json!({ "status": "rotated", "provider": provider, "provider_before": before, "opened_by": opened_by,
                 "protected_by": now }),
    )?;
    hand_out(&args.providers, shares?.as_ref(), context)?;
    let dropped: Vec<_> = before.split(',').filter(|name| !provider.split(',').any(|kept| kept == *name)).collect();
    if !dropped.is_empty() {
        context.output.note(format!(
            "No longer needed: {}. Backups of the database from before still open with it, so keep it as long as those.",
            dropped.join(", ")
        ));
    }
    Ok(Exit::Done)
}

fn nothing_to_rotate() -> Failure {
    let text = "there is no data key yet, so there is nothing to rotate: `holdfast kek init` makes one";
    Failure::message(Exit::Refused, text)
}

/// A new data key, and every stored key sealed anew.
async fn replace_data_key(args: &KekRotateArgs, wrap: &Config, context: &Context) -> Result<Exit, Failure> {
    let mut custody = keys::open_record(context).await?;
    let bar = context.output.has_bar().then(|| {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} keys sealed anew  {eta} left");
        ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    let replaced = custody
        .replace_data_key(&context.config, wrap, |done, all| {
            if let Some(bar) = &bar {
                bar.set_length(u64::try_from(all).unwrap_or(u64::MAX));
                bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
            }
        })
        .await;
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let shares = custody.share_set().await;
    custody.guard.shutdown().await;
    let Some(NewDataKey { before, now, opened_by, protected_by, keys }) = replaced? else {
        return Err(nothing_to_rotate());
    };
    context.output.result(
        format!(
            "{keys} keys are sealed under the new data key {now}, which is protected by: {protected_by}. \
             The old data key {before}, which was opened by {opened_by}, is gone from the database.",
            now = now.0,
            before = before.0
        ),
        &json!({ "status": "replaced", "provider": names(wrap), "data_key": now.0, "data_key_before": before.0,
                 "keys": keys, "opened_by": opened_by, "protected_by": protected_by }),
    )?;
    hand_out(&args.providers, shares?.as_ref(), context)?;
    context.output.note(
        "Backups of the database from before still hold the old data key and everything sealed under it: destroy them, \
         or guard them as before. If a stored key itself may have been seen, only an exit of its validator helps.",
    );
    Ok(Exit::Done)
}

async fn status(context: &Context) -> Result<Exit, Failure> {
    let mut custody = keys::open_record(context).await?;
    let record = custody.record().await?;
    let Some(record) = record else {
        custody.guard.shutdown().await;
        context.output.result(
            "No data key yet: `holdfast kek init`, or the first `holdfast keys import`, makes one.",
            &json!({ "provider": null, "opens": false }),
        )?;
        return Ok(Exit::Done);
    };
    let checked = custody.check_providers(&context.config).await;
    // A passphrase is only asked for where nothing else opens the data key.
    let others_open = checked.as_ref().is_ok_and(|checked| checked.iter().any(|member| member.result.is_ok()));
    custody.terminal = if others_open { Terminal::Leave } else { Terminal::MayAsk };
    let opened = custody.open_data_key(&context.config).await;
    custody.guard.shutdown().await;
    let members = checked.unwrap_or_default();
    let failing = members.iter().filter(|member| member.result.is_err()).count();
    let (id, since, provider) = (record.id.0, rfc3339(record.stored), record.provider);
    let (text, exit, protected_by, reason) = match &opened {
        Ok(()) => {
            let by = custody.protected_by.unwrap_or_default();
            let exit = if failing == 0 { Exit::Done } else { Exit::Refused };
            (format!("Data key {id}, protected since {since} by: {by}. It opens."), exit, Some(by), None)
        }
        Err(error) => {
            let reason = chain(error);
            let text =
                format!("Data key {id}, protected since {since} by provider {provider}. It does not open: {reason}");
            (text, error.exit(), None, Some(reason))
        }
    };
    let mut lines = vec![text];
    if members.len() > 1 {
        lines.extend(members.iter().map(member_line));
    }
    context.output.result(
        lines.join("\n"),
        &json!({
            "provider": provider,
            "data_key": id,
            "since": since,
            "opens": opened.is_ok(),
            "protected_by": protected_by,
            "reason": reason,
            "providers": members.iter().map(member_json).collect::<Vec<_>>(),
        }),
    )?;
    Ok(exit)
}

fn member_line(member: &Checked) -> String {
    let name =
        member.key.as_ref().map_or_else(|| member.provider.to_string(), |key| format!("{} {key}", member.provider));
    match &member.result {
        Ok(_) => format!("  {name}: opens it"),
        Err(error) => format!("  {name}: does not open it: {}", chain(error)),
    }
}

fn member_json(member: &Checked) -> Value {
    let error = member.result.as_ref().err();
    json!({
        "provider": member.provider.name(),
        "key": member.key,
        "opens": error.is_none(),
        "failure": error.map(holdfast_enclave::ProviderError::word),
        "reason": error.map(|error| chain(error)),
    })
}
