//! `holdfast kek`: the key-encryption keys that protect the data key, which seals every stored key.

use std::sync::Arc;

use holdfast_enclave::provider::Checked;
use serde_json::{Value, json};

use super::args::{KekCommand, KekRotateArgs};
use super::{Context, Exit, Failure, keys};
use crate::clock::{SystemClock, rfc3339};
use crate::config::Config;
use crate::custody::{self, Rotated, Terminal};
use crate::outcome::chain;

/// Runs one of the commands.
pub(super) async fn run(command: &KekCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        KekCommand::Init(_) => init(context).await,
        KekCommand::Status(_) => status(context).await,
        KekCommand::Rotate(args) => rotate(args, context).await,
    }
}

/// The names of the configured providers, as recorded.
fn names(config: &Config) -> String {
    config.keys.provider.0.iter().map(|provider| provider.as_str()).collect::<Vec<_>>().join(",")
}

async fn init(context: &Context) -> Result<Exit, Failure> {
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
    custody.guard.shutdown().await;
    made?;
    let description = custody.protected_by.unwrap_or_default();
    context.output.result(
        format!("Made a data key, protected by: {description}."),
        &json!({ "status": "made", "provider": names(&context.config), "protected_by": description }),
    )?;
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
    let mut custody = keys::open_record(context).await?;
    let rotated = custody.rotate(&context.config, &wrap).await;
    custody.guard.shutdown().await;
    let Some(Rotated { before, opened_by, now }) = rotated? else {
        return Err(Failure::message(
            Exit::Refused,
            "there is no data key yet, so there is nothing to rotate: `holdfast kek init` makes one",
        ));
    };
    let provider = names(&wrap);
    context.output.result(
        format!("The data key was opened by: {opened_by}. From now on it is protected by: {now}."),
        &json!({ "status": "rotated", "provider": provider, "provider_before": before, "opened_by": opened_by,
                 "protected_by": now }),
    )?;
    let dropped: Vec<_> = before.split(',').filter(|name| !provider.split(',').any(|kept| kept == *name)).collect();
    if !dropped.is_empty() {
        context.output.note(format!(
            "No longer needed: {}. Backups of the database from before still open with it, so keep it as long as those.",
            dropped.join(", ")
        ));
    }
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
