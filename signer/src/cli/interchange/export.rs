//! `holdfast slashing export`: signing histories out.
//!
//! Guarantees: an exported file appears complete or not at all; keys exported with `--disable` are stopped in
//! the transaction that reads their history, so the file covers all they will ever have signed here.

use std::path::Path;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_enclave::durable::{Existing, write_private_file};
use holdfast_slashing_db::interchange::Writer;
use holdfast_slashing_db::{KeyState, Then, Withdraw, Withdrawn};
use serde_json::json;

use super::super::args::SlashingExportArgs;
use super::super::keys::{open_record, operator};
use super::super::output;
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
fn interchange_text(network: GenesisValidatorsRoot, keys: &[Withdrawn]) -> Result<String, Failure> {
    let bug = |error| Failure::new(Exit::Bug, anyhow::Error::new(error).context("cannot write the interchange"));
    let mut writer = Writer::begin(Vec::new(), network).map_err(bug)?;
    for one in keys {
        writer.validator(&one.key, &one.watermarks).map_err(bug)?;
    }
    let bytes = writer.finish().map_err(bug)?;
    String::from_utf8(bytes).map_err(|error| Failure::new(Exit::Bug, error))
}
