//! `holdfast kek`: the key-encryption key that protects the data key, which seals every stored key.

use std::sync::Arc;

use serde_json::json;

use super::args::KekCommand;
use super::{Context, Exit, Failure, keys};
use crate::clock::{SystemClock, rfc3339};
use crate::custody;
use crate::outcome::chain;

/// Runs one of the commands.
pub(super) async fn run(command: &KekCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        KekCommand::Init(_) => init(context).await,
        KekCommand::Status(_) => status(context).await,
    }
}

async fn init(context: &Context) -> Result<Exit, Failure> {
    let mut custody = custody::open_sealed(&context.config, Arc::new(SystemClock)).await?;
    if let Some(record) = custody.record().await? {
        custody.guard.shutdown().await;
        return Err(Failure::message(
            Exit::Refused,
            format!(
                "there is a data key already, protected by provider {:?} since {}; nothing was changed. \
                 `holdfast kek status` shows whether it opens",
                record.provider,
                rfc3339(record.stored)
            ),
        ));
    }
    let made = custody.ensure_data_key(&context.config).await;
    custody.guard.shutdown().await;
    made?;
    let provider = context.config.keys.provider.as_str();
    let description = custody.protected_by.unwrap_or_default();
    context.output.result(
        format!("Made a data key, protected by: {description}."),
        &json!({ "status": "made", "provider": provider, "protected_by": description }),
    )?;
    context
        .output
        .note("Whoever loses what protects it loses the stored keys: keep the mnemonic or the keystores as well.");
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
    let opened = custody.open_data_key(&context.config).await;
    custody.guard.shutdown().await;
    let (id, since, provider) = (record.id.0, rfc3339(record.stored), record.provider);
    let (text, exit, protected_by, reason) = match &opened {
        Ok(()) => {
            let by = custody.protected_by.unwrap_or_default();
            (format!("Data key {id}, protected since {since} by: {by}. It opens."), Exit::Done, Some(by), None)
        }
        Err(error) => {
            let reason = chain(error);
            let text =
                format!("Data key {id}, protected since {since} by provider {provider}. It does not open: {reason}");
            (text, error.exit(), None, Some(reason))
        }
    };
    context.output.result(
        text,
        &json!({
            "provider": provider,
            "data_key": id,
            "since": since,
            "opens": opened.is_ok(),
            "protected_by": protected_by,
            "reason": reason,
        }),
    )?;
    Ok(exit)
}
