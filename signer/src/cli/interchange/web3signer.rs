//! Web3Signer's slashing protection database as the source of an import.
//!
//! Guarantees: nothing is written there; while something that looks like Web3Signer is connected, nothing is
//! taken in unless the operator says so, because what it signs afterwards would be missing here.

use std::time::Duration;

use holdfast_domain::GenesisValidatorsRoot;
use holdfast_slashing_db::PostgresOptions;
use holdfast_slashing_db::web3signer::{
    Connections, Contents, Demand, Fault, HighWatermark, ReadError, SCHEMA_VERSION, Source,
};
use serde_json::{Value, json};

use super::super::args::SlashingImportArgs;
use super::super::{Context, Exit, Failure};
use super::import::{LeftOut, Taken};
use crate::custody;
use crate::outcome::chain;

const STOP_FIRST: &str = "Web3Signer must be stopped before this, wherever it uses that database, and must not be \
     started again with these keys: what it signs from now on is not known here.";

/// How a database is read.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Reading {
    /// The option that named it, for messages.
    pub(in crate::cli) option: &'static str,
    /// What to do if something else than Web3Signer is connected in its way.
    pub(in crate::cli) otherwise: &'static str,
    /// Go on although Web3Signer seems to be connected.
    pub(in crate::cli) ignore_connections: bool,
    /// Nothing is taken in.
    pub(in crate::cli) dry_run: bool,
    /// Leave out validators that cannot be read.
    pub(in crate::cli) partial: bool,
}

/// Reads a database, and its high watermark.
///
/// # Errors
/// [`Failure`] that names the option.
pub(in crate::cli) async fn take(
    options: &PostgresOptions,
    reading: Reading,
    network: GenesisValidatorsRoot,
    context: &Context,
) -> Result<(Taken, Option<HighWatermark>), Failure> {
    let failure = |error: ReadError| failure(&error, reading);
    context.output.note(STOP_FIRST);
    let mut source = Source::connect(options).await.map_err(failure)?;
    let connections = source.connections().await.map_err(failure)?;
    examine(&connections, reading, context)?;
    let demand = if reading.partial { Demand::Readable } else { Demand::All };
    let contents = source.read(network, demand).await.map_err(failure)?;
    let Contents { interchange, switched_off, left_out, high_watermark } = contents;
    if let Some(high) = high_watermark {
        context.output.note(high_note(high));
    }
    let source = json!({
        "address": source.address(),
        "schema_version": SCHEMA_VERSION,
        "validators": interchange.len(),
        "switched_off": switched_off,
        "high_watermark": high_watermark.map(high_json),
        "connections": connections.iter().map(connection_json).collect::<Vec<_>>(),
    });
    let left_out = left_out.iter().map(left_out_line).collect();
    Ok((Taken { interchange, left_out, source: Some(source) }, high_watermark))
}

/// Address and password of `slashing import`.
///
/// # Errors
/// [`Failure`] (usage), which does not repeat the address.
pub(super) fn options(url: &str, args: &SlashingImportArgs, context: &Context) -> Result<PostgresOptions, Failure> {
    // The address may hold a password, so it is never repeated.
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        let hint = if url.starts_with("jdbc:") {
            "; the address in Web3Signer's own settings without jdbc: and with the user in it"
        } else {
            ""
        };
        let text = format!("--from-web3signer: expected postgres://user@host:port/database?sslmode=…{hint}");
        return Err(Failure::message(Exit::Usage, text));
    }
    let mut options = PostgresOptions::new(url);
    options.connect_timeout = Duration::from_millis(context.config.database.connect_timeout_ms.get());
    if let Some(path) = &args.web3signer_password_file {
        options.password = Some(custody::database_password(path)?);
    }
    Ok(options)
}

fn failure(error: &ReadError, reading: Reading) -> Failure {
    let exit = match error {
        ReadError::Address { .. } => Exit::Usage,
        ReadError::Unreachable { .. } => Exit::Unreachable,
        _ => Exit::Refused,
    };
    Failure::message(exit, format!("{}: {}; nothing was imported", reading.option, chain(error)))
}

/// Refuses while Web3Signer seems to run, and names everybody else.
fn examine(connections: &[Connections], reading: Reading, context: &Context) -> Result<(), Failure> {
    let list = |wanted: bool| {
        let some = connections.iter().filter(|one| one.look_like_web3signer() == wanted).map(words);
        some.collect::<Vec<_>>().join("; ")
    };
    let (signers, others) = (list(true), list(false));
    if !signers.is_empty() {
        let text = format!("Web3Signer seems to be connected to its database ({signers})");
        if !reading.ignore_connections && !reading.dry_run {
            let what = format!(
                "stop it first, wherever it runs, then start again; {}; nothing was imported",
                reading.otherwise
            );
            return Err(Failure::message(Exit::Refused, format!("{}: {text}: {what}", reading.option)));
        }
        context.output.note(format!("{text}. What it signs from now on is not known here."));
    }
    if !others.is_empty() {
        context
            .output
            .note(format!("Others are connected to that database ({others}). If one of them is a signer, stop it."));
    }
    Ok(())
}

fn words(one: &Connections) -> String {
    let name = if one.program.is_empty() { "no program name" } else { one.program.as_str() };
    let from = if one.from.is_empty() { String::new() } else { format!(" from {}", one.from) };
    format!("{} x {name}, role {}{from}", one.count, one.role)
}

fn connection_json(one: &Connections) -> Value {
    json!({
        "count": one.count, "program": one.program, "role": one.role, "from": one.from,
        "looks_like_web3signer": one.look_like_web3signer(),
    })
}

fn high_note(high: HighWatermark) -> String {
    let mut marks = Vec::new();
    marks.extend(high.slot.map(|slot| format!("slot {slot}")));
    marks.extend(high.epoch.map(|epoch| format!("epoch {epoch}")));
    format!(
        "Web3Signer's high watermark is set ({}). It may sign anything below, so nothing below is signed here, for \
         any of these keys. If it was set by mistake, remove it there first (watermark-repair \
         --remove-high-watermark).",
        marks.join(", ")
    )
}

fn high_json(high: HighWatermark) -> Value {
    json!({ "slot": high.slot.map(|slot| slot.0), "epoch": high.epoch.map(|epoch| epoch.0) })
}

fn left_out_line((row, fault): &(i64, Fault)) -> LeftOut {
    let reason = fault.to_string();
    LeftOut {
        text: format!("validator with id {row} left out: {reason}"),
        value: json!({ "row": row, "change": "left_out", "reason": reason }),
    }
}
