//! `holdfast slashing import` and `export`: signing histories in and out (EIP-3076, version 5).
//!
//! Guarantees: a file is taken in whole or not at all, unless the operator asks for what can be read of
//! it; an exported file appears complete or not at all; keys exported with `--disable` are stopped in the
//! transaction that reads their history, so the file covers all they will ever have signed here.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_enclave::durable::{Existing, write_private_file};
use holdfast_slashing_db::interchange::{
    Interchange, ReadError, Salvaged, Totals, ValidatorReport, Writer, read, salvage,
};
use holdfast_slashing_db::rules::Horizon;
use holdfast_slashing_db::{ImportMode, KeyState, Then, Watermarks, Withdraw, Withdrawn};
use serde_json::{Value, json};

use super::args::{SlashingExportArgs, SlashingImportArgs};
use super::keys::{open_direct, open_record, operator};
use super::output;
use super::{Context, Exit, Failure};
use crate::custody::{Custody, CustodyError};
use crate::outcome::chain;

/// The name that stands for standard input or output.
const STANDARD: &str = "-";

fn open(path: &Path, option: &str) -> Result<Box<dyn Read>, Failure> {
    if path == Path::new(STANDARD) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| {
        let text = format!("{option}: cannot open {}: {error}; check the path and its permissions", path.display());
        Failure::message(Exit::Usage, text)
    })?;
    Ok(Box::new(file))
}

fn unreadable(path: &Path, error: &ReadError) -> Failure {
    Failure::message(Exit::Refused, format!("{}: {}; nothing was imported", path.display(), chain(error)))
}

/// Reads an interchange file for this chain, all of it or nothing.
///
/// # Errors
/// [`Failure`] that names the file and the place in it.
pub(super) fn read_file(path: &Path, option: &str, network: GenesisValidatorsRoot) -> Result<Interchange, Failure> {
    read(open(path, option)?, network).map_err(|error| unreadable(path, &error))
}

/// Takes histories in.
pub(super) async fn import(args: &SlashingImportArgs, context: &Context) -> Result<Exit, Failure> {
    // A wrong path is noticed before a database is made.
    let file = open(&args.from, "--from")?;
    let custody = open_direct(context).await?;
    let network = custody.genesis_validators_root;
    let result = if args.allow_partial {
        salvage(file, network)
    } else {
        read(file, network).map(|interchange| Salvaged { interchange, left_out: Vec::new() })
    };
    let Salvaged { interchange, left_out } = match result {
        Ok(salvaged) => salvaged,
        Err(error) => {
            custody.guard.shutdown().await;
            return Err(unreadable(&args.from, &error));
        }
    };
    let beyond = beyond(&interchange, &custody, context);
    let mode = if args.dry_run { ImportMode::DryRun } else { ImportMode::Commit };
    let imported = custody.guard.import(interchange, mode, &operator()).await.map_err(CustodyError::from);
    custody.guard.shutdown().await;
    let report = imported?;
    for validator in &report.validators {
        context.output.result(line(validator), &value(validator))?;
    }
    for (index, error) in &left_out {
        let reason = chain(error);
        let text = format!("data[{index}] left out: {reason}");
        context.output.result(text, &json!({ "entry": index, "change": "left_out", "reason": reason }))?;
    }
    say_totals(context, mode, report.totals(), left_out.len())?;
    if beyond > 0 {
        context.output.note(format!(
            "{beyond} validators have signed beyond the present, by this file and this machine's clock: until the chain \
             is there they can sign nothing. Check that the file is what it should be."
        ));
    }
    Ok(if left_out.is_empty() { Exit::Done } else { Exit::Refused })
}

/// How many histories lie in the future.
fn beyond(interchange: &Interchange, custody: &Custody, context: &Context) -> usize {
    let tolerance = context.config.slashing.future_tolerance_slots;
    let horizon = Horizon::new(&custody.slot_clock, custody.clock.now(), tolerance);
    interchange.iter().filter(|(_, history)| history.floor.is_beyond(horizon)).count()
}

fn say_totals(context: &Context, mode: ImportMode, totals: Totals, left_out: usize) -> Result<(), Failure> {
    let Totals { new, raised, unchanged, rows } = totals;
    let (dry, verb) = match mode {
        ImportMode::Commit => (false, "imported"),
        ImportMode::DryRun => (true, "would be imported, nothing was changed"),
    };
    let text = format!(
        "{verb}: {new} validators new, {raised} raised, {unchanged} unchanged, {left_out} left out \
         ({} blocks and {} attestations read)",
        rows.blocks, rows.attestations
    );
    context.output.result(
        text,
        &json!({
            "dry_run": dry,
            "totals": {
                "new": new, "raised": raised, "unchanged": unchanged, "left_out": left_out,
                "blocks": rows.blocks, "attestations": rows.attestations,
            },
        }),
    )
}

fn marks_json(marks: &Watermarks) -> Value {
    json!({
        "block_slot": marks.block.map(|mark| mark.slot.0),
        "source_epoch": marks.attestation.map(|mark| mark.source.0),
        "target_epoch": marks.attestation.map(|mark| mark.target.0),
    })
}

fn marks_text(marks: &Watermarks) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    format!(
        "slot {}, source {}, target {}",
        number(marks.block.map(|mark| mark.slot.0)),
        number(marks.attestation.map(|mark| mark.source.0)),
        number(marks.attestation.map(|mark| mark.target.0))
    )
}

fn line(report: &ValidatorReport) -> String {
    let before = report.before.as_ref().map_or_else(|| "not known".to_owned(), marks_text);
    format!("{} {:<9} {before} -> {}", report.key, report.change.as_str(), marks_text(&report.after))
}

fn value(report: &ValidatorReport) -> Value {
    json!({
        "pubkey": report.key.to_string(),
        "change": report.change.as_str(),
        "before": report.before.as_ref().map(marks_json),
        "after": marks_json(&report.after),
        "blocks": report.rows.blocks,
        "attestations": report.rows.attestations,
    })
}

/// Writes histories out, and stops the keys if told so.
pub(super) async fn export(args: &SlashingExportArgs, context: &Context) -> Result<Exit, Failure> {
    let to_stdout = args.to == Path::new(STANDARD);
    if !to_stdout
        && (args.to.is_dir() || args.to.parent().is_some_and(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()))
    {
        let text = format!("--to: {} is not a file in a directory that exists; check the path", args.to.display());
        return Err(Failure::message(Exit::Usage, text));
    }
    let custody = open_record(context).await?;
    let keys = (!args.key.is_empty()).then(|| args.key.clone());
    let then = if args.disable { Then::Stop(Withdraw::Disable) } else { Then::Keep };
    let exported = custody.guard.export(keys, then, &operator()).await.map_err(CustodyError::from);
    custody.guard.shutdown().await;
    let exported = exported?;
    let text = interchange_text(custody.genesis_validators_root, &exported)?;
    let written = if to_stdout {
        output::print(&text)
    } else {
        write_private_file(&args.to, text.as_bytes(), Existing::Replace)
            .map_err(|error| Failure::new(Exit::Refused, error))
    };
    if let Err(failure) = written {
        let stopped = if args.disable { "the keys are switched off all the same; " } else { "" };
        let text = format!("{stopped}the history was not written, so export it again: {}", failure.text());
        return Err(Failure::message(failure.exit(), text));
    }
    let unknown: Vec<&PublicKey> = args.key.iter().filter(|key| !exported.iter().any(|one| one.key == **key)).collect();
    let disabled =
        exported.iter().filter(|one| args.disable && one.had_secret && one.before == KeyState::Enabled).count();
    say_exported(args, context, exported.len(), disabled, &unknown)?;
    Ok(if unknown.is_empty() { Exit::Done } else { Exit::Refused })
}

fn say_exported(
    args: &SlashingExportArgs,
    context: &Context,
    exported: usize,
    disabled: usize,
    unknown: &[&PublicKey],
) -> Result<(), Failure> {
    let mut lines = vec![format!("exported: {exported} validators, {disabled} switched off")];
    lines.extend(unknown.iter().map(|key| format!("{key} is not known here and is not in the file")));
    let text = lines.join("\n");
    if args.to == Path::new(STANDARD) {
        context.output.note(text);
    } else {
        context.output.result(
            text,
            &json!({
                "file": args.to.display().to_string(),
                "exported": exported,
                "disabled": disabled,
                "unknown": unknown.iter().map(ToString::to_string).collect::<Vec<_>>(),
            }),
        )?;
    }
    if !args.disable {
        context.output.note(
            "The keys go on signing here, so this file is a backup and soon out of date. To move keys to another signer, \
             export with --disable.",
        );
    }
    Ok(())
}

/// The interchange file of these keys, which must ascend.
///
/// # Errors
/// [`Failure`] if memory cannot be written, which does not happen.
pub(crate) fn interchange_text(network: GenesisValidatorsRoot, keys: &[Withdrawn]) -> Result<String, Failure> {
    let bug = |error| Failure::new(Exit::Bug, anyhow::Error::new(error).context("cannot write the interchange"));
    let mut writer = Writer::begin(Vec::new(), network).map_err(bug)?;
    for one in keys {
        writer.validator(&one.key, &one.watermarks).map_err(bug)?;
    }
    let bytes = writer.finish().map_err(bug)?;
    String::from_utf8(bytes).map_err(|error| Failure::new(Exit::Bug, error))
}
