//! `holdfast slashing export`: signing histories out.
//!
//! Guarantees: an exported file appears complete or not at all; keys exported with `--disable` are stopped in
//! the transaction that reads their history, so the file covers all they will ever have signed here.

use std::io::{self, Write};
use std::path::Path;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_enclave::durable::{Existing, stream_private_file};
use holdfast_slashing_db::interchange::{WriteError, Writer};
use holdfast_slashing_db::{KeyState, Then, Withdraw, Withdrawn};
use serde_json::json;

use super::super::args::SlashingExportArgs;
use super::super::keys::{open_record, operator};
use super::super::{Context, Exit, Failure};
use super::STANDARD;
use crate::custody::CustodyError;

/// Writes histories out, and stops the keys if told so.
pub(in crate::cli) async fn export(args: &SlashingExportArgs, context: &Context) -> Result<Exit, Failure> {
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
    let network = custody.genesis_validators_root;
    let written = if to_stdout {
        // A reader that went away has half a history, so here that is a failure.
        let written = write_file(io::stdout().lock(), network, &exported);
        written.map_err(|error| anyhow::Error::new(error).context("cannot write to standard output"))
    } else {
        stream_private_file(&args.to, Existing::Replace, |file| write_file(file, network, &exported))
            .map_err(anyhow::Error::new)
    };
    let written = written.map_err(|error| Failure::new(Exit::Refused, error));
    if let Err(failure) = written {
        let stopped = if args.disable { "the keys are switched off all the same; " } else { "" };
        let text = format!("{stopped}the history was not written, so export it again: {}", failure.text());
        return Err(Failure::message(failure.exit(), text));
    }
    let known = |key: &PublicKey| exported.binary_search_by_key(key, |one| one.key).is_ok();
    let unknown: Vec<&PublicKey> = args.key.iter().filter(|key| !known(key)).collect();
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

/// Writes the interchange file of these keys, which must ascend, one validator after the other.
pub(in crate::cli) fn write_file(
    out: impl Write,
    network: GenesisValidatorsRoot,
    keys: &[Withdrawn],
) -> io::Result<()> {
    let plain = |error| match error {
        WriteError::Io(error) => error,
        error => io::Error::other(error),
    };
    let mut writer = Writer::begin(out, network).map_err(plain)?;
    for one in keys {
        writer.validator(&one.key, &one.watermarks).map_err(plain)?;
    }
    writer.finish().map_err(plain)?.flush()
}
