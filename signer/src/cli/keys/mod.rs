//! `holdfast keys`: what comes into custody, what is there, what leaves.

mod discover;
mod entry;
mod export;
mod generate;
mod import;
mod keystores;
mod lowered;
mod passwords;
mod report;
mod yaml;

pub(super) use lowered::said;

use std::sync::Arc;

use holdfast_domain::PublicKey;
use holdfast_slashing_db::{CallerId, KeyInfo, KeyOrigin, KeyState, Switch};
use serde_json::{Value, json};

use super::args::{DeleteArgs, KeysCommand, ListArgs, ShowArgs, SwitchArgs};
use super::{Context, Exit, Failure, confirm};
use crate::clock::{SystemClock, rfc3339};
use crate::custody::{self, Custody, CustodyError};
use crate::outcome::chain;

/// Runs one of the commands.
pub(super) async fn run(command: &KeysCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        KeysCommand::Import(args) => import::run(args, context).await,
        KeysCommand::Generate(args) => generate::run(args, context).await,
        KeysCommand::Export(args) => export::run(args, context).await,
        KeysCommand::List(args) => list(args, context).await,
        KeysCommand::Show(args) => show(args, context).await,
        KeysCommand::Enable(args) => switch(args, Switch::Enable, context).await,
        KeysCommand::Disable(args) => switch(args, Switch::Disable, context).await,
        KeysCommand::Delete(args) => delete(args, context).await,
    }
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

/// Who wraps the data key, as recorded.
pub(super) async fn provider_name(custody: &Custody) -> Result<Option<String>, CustodyError> {
    Ok(custody.record().await?.map(|record| record.provider))
}

/// A key as programs see it.
pub(super) fn key_json(info: &KeyInfo, provider: Option<&str>) -> Value {
    let attestation = info.watermarks.attestation.as_ref();
    json!({
        "pubkey": info.key.to_string(),
        "state": info.state.as_str(),
        "block_slot": info.watermarks.block.as_ref().map(|mark| mark.slot.0),
        "source_epoch": attestation.map(|mark| mark.source.0),
        "target_epoch": attestation.map(|mark| mark.target.0),
        "origin": info.origin.map(origin),
        "provider": provider.filter(|_| info.origin.is_some() && info.state != KeyState::Tombstoned),
        "label": info.label,
        // A key known only by its history was never brought in by anybody.
        "created": info.origin.map(|_| rfc3339(info.created)),
        "created_by": info.origin.map(|_| info.created_by.as_str()),
        "changed": info.origin.map(|_| rfc3339(info.changed)),
        "changed_by": info.origin.map(|_| info.changed_by.as_str()),
    })
}

fn origin(origin: KeyOrigin) -> &'static str {
    match origin {
        KeyOrigin::Imported => "imported",
        KeyOrigin::Generated => "generated",
    }
}

/// Watermarks in columns; a dash where there is none.
pub(super) fn key_line(info: &KeyInfo) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let attestation = info.watermarks.attestation.as_ref();
    format!(
        "{} {:<10} {:>10} {:>8} {:>8}",
        info.key,
        info.state.as_str(),
        number(info.watermarks.block.as_ref().map(|mark| mark.slot.0)),
        number(attestation.map(|mark| mark.source.0)),
        number(attestation.map(|mark| mark.target.0)),
    )
}

/// The same, and when its state was last changed and by whom; dashes for a key nobody brought in.
fn listed(info: &KeyInfo) -> String {
    match info.origin {
        Some(_) => format!("{} {} {}", key_line(info), rfc3339(info.changed), info.changed_by),
        None => format!("{} {:<20} -", key_line(info), "-"),
    }
}

/// The heading over [`key_line`].
pub(super) fn key_heading() -> String {
    format!("{:<98} {:<10} {:>10} {:>8} {:>8}", "PUBLIC KEY", "STATE", "BLOCK SLOT", "SOURCE", "TARGET")
}

async fn list(args: &ListArgs, context: &Context) -> Result<Exit, Failure> {
    let custody = open_record(context).await?;
    let mut keys = custody.guard.list().await.map_err(CustodyError::from)?;
    let deleted = keys.iter().filter(|info| info.state == KeyState::Tombstoned).count();
    if !args.all {
        keys.retain(|info| info.state != KeyState::Tombstoned);
    }
    let provider = provider_name(&custody).await?;
    let heading = format!("{} {:<20} BY", key_heading(), "CHANGED");
    let lines: Vec<String> = std::iter::once(heading).chain(keys.iter().map(listed)).collect();
    let json: Vec<Value> = keys.iter().map(|info| key_json(info, provider.as_deref())).collect();
    let text = if keys.is_empty() {
        "No keys. `holdfast keys import --from PATH` brings some in.".to_owned()
    } else {
        lines.join("\n")
    };
    context.output.result(text, &json!({ "keys": json, "provider": provider, "deleted": deleted }))?;
    if deleted > 0 && !args.all {
        context.output.note(format!("{deleted} deleted keys are not shown; --all shows them."));
    }
    custody.guard.shutdown().await;
    Ok(Exit::Done)
}

async fn show(args: &ShowArgs, context: &Context) -> Result<Exit, Failure> {
    let custody = open_record(context).await?;
    let info = custody.guard.key_info(&args.key).await.map_err(CustodyError::from)?;
    let provider = provider_name(&custody).await?;
    custody.guard.shutdown().await;
    let Some(info) = info else {
        return Err(Failure::message(
            Exit::Refused,
            format!("the key {} is not held here and never was; `holdfast keys list --all` shows what is", args.key),
        ));
    };
    let json = key_json(&info, provider.as_deref());
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
    context.output.result(text.join("\n"), &json)?;
    Ok(Exit::Done)
}

/// Switches keys, each in a transaction of its own; the row keeps who and when.
async fn switch(args: &SwitchArgs, to: Switch, context: &Context) -> Result<Exit, Failure> {
    let custody = open_record(context).await?;
    let done = match to {
        Switch::Enable => "enabled",
        Switch::Disable => "disabled",
    };
    let mut exit = Exit::Done;
    for key in &args.keys {
        let known = custody.guard.key_info(key).await.map_err(CustodyError::from)?;
        let without_secret = known.is_some_and(|info| info.origin.is_none());
        let problem = if without_secret {
            Some((Exit::Refused, "only its history is known here; import the key itself first".to_owned()))
        } else {
            let switched = custody.guard.switch(key, to, &operator()).await;
            switched.err().map(|error| (custody::admin_exit(&error), chain(&error)))
        };
        let (status, reason) = match problem {
            None => (done, None),
            Some((worse, reason)) => {
                exit = worse;
                ("error", Some(reason))
            }
        };
        let text =
            reason.as_ref().map_or_else(|| format!("{key} {status}"), |reason| format!("{key} {status}: {reason}"));
        context.output.result(text, &json!({ "pubkey": key.to_string(), "status": status, "reason": reason }))?;
    }
    custody.guard.shutdown().await;
    if to == Switch::Enable {
        context.output.note(
            "If these keys signed elsewhere meanwhile, import that history first (holdfast slashing import), and make \
             sure that they sign nowhere else from now on.",
        );
    }
    Ok(exit)
}

async fn delete(args: &DeleteArgs, context: &Context) -> Result<Exit, Failure> {
    let mut keys: Vec<PublicKey> = args.keys.clone();
    keys.sort_unstable();
    keys.dedup();
    let custody = open_record(context).await?;
    let question = format!(
        "Delete {} key(s)? The secrets are erased and cannot be restored from here; what they signed stays on record.",
        keys.len()
    );
    if !args.yes && !confirm(&question) {
        custody.guard.shutdown().await;
        return Err(Failure::message(
            Exit::Refused,
            "nothing was deleted; confirm with yes on a terminal, or give --yes",
        ));
    }
    let mut exit = Exit::Done;
    for key in &keys {
        let (status, reason) = match custody.guard.tombstone(key, &operator()).await {
            Ok(KeyState::Enabled | KeyState::Disabled) => ("deleted", None),
            Ok(KeyState::Tombstoned) => ("deleted before", None),
            Err(error) => {
                exit = custody::admin_exit(&error);
                ("error", Some(chain(&error)))
            }
        };
        let text =
            reason.as_ref().map_or_else(|| format!("{key} {status}"), |reason| format!("{key} {status}: {reason}"));
        context.output.result(
            text,
            &json!({ "pubkey": key.to_string(), "status": status.replace(' ', "_"), "reason": reason }),
        )?;
    }
    custody.guard.shutdown().await;
    if exit == Exit::Done {
        context.output.note("Before these keys sign elsewhere, wait until an epoch has passed without them.");
    }
    Ok(exit)
}
