//! `holdfast slashing export`: signing histories out.
//!
//! Guarantees: an exported file appears complete or not at all; keys exported with `--disable` are stopped in
//! the transaction that reads their history, so the file covers all they will ever have signed here.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use holdfast_enclave::DurableError;
use holdfast_enclave::durable::{Existing, stream_private_file};
use holdfast_wire::admin::v1::export_histories_response::Part;
use holdfast_wire::admin::v1::{ExportHistoriesRequest, ExportHistoriesResponse, ExportedHistories};
use serde_json::json;
use tonic::Streaming;

use super::super::args::SlashingExportArgs;
use super::super::reach::{Need, failure, reach};
use super::super::{Context, Exit, Failure, Output};
use super::STANDARD;
use crate::admin::pipe::PieceReader;

/// Writes histories out, and stops the keys if told so.
pub(in crate::cli) async fn export(args: &SlashingExportArgs, context: &Context) -> Result<Exit, Failure> {
    let to_stdout = args.to == Path::new(STANDARD);
    if !to_stdout
        && (args.to.is_dir() || args.to.parent().is_some_and(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()))
    {
        let text = format!("--to: {} is not a file in a directory that exists; check the path", args.to.display());
        return Err(Failure::message(Exit::Usage, text));
    }
    let reached = reach(context, Need::Existing).await?;
    let pubkeys = args.key.iter().map(ToString::to_string).collect();
    let request = ExportHistoriesRequest { pubkeys, disable: args.disable };
    let answered = match reached.admin.slashing().export(request).await {
        Ok(stream) => written(stream.into_inner(), args, to_stdout).await,
        Err(status) => Err(failure(status)),
    };
    let output = reached.output;
    reached.close().await;
    let exported = answered?;
    say_exported(args, output, &exported)?;
    Ok(if exported.unknown.is_empty() { Exit::Done } else { Exit::Refused })
}

/// Takes the answer: what was found, and the file, which goes where it was asked for.
async fn written(
    mut stream: Streaming<ExportHistoriesResponse>,
    args: &SlashingExportArgs,
    to_stdout: bool,
) -> Result<ExportedHistories, Failure> {
    let first = stream.message().await.map_err(failure)?.and_then(|message| message.part);
    let Some(Part::Exported(exported)) = first else {
        return Err(Failure::message(Exit::Bug, "the answer does not begin with what was found; report this as a bug"));
    };
    let done = if to_stdout { to_standard(&mut stream).await } else { to_file(&mut stream, args.to.clone()).await };
    match done {
        Ok(()) => Ok(exported),
        Err(failure) => {
            let stopped = if args.disable { "the keys are switched off all the same; " } else { "" };
            let text = format!("{stopped}the history was not written, so export it again: {}", failure.text());
            Err(Failure::message(failure.exit(), text))
        }
    }
}

/// The next bytes of the file; `None` at its end.
async fn piece(stream: &mut Streaming<ExportHistoriesResponse>) -> Result<Option<Vec<u8>>, Failure> {
    match stream.message().await.map_err(failure)?.map(|message| message.part) {
        Some(Some(Part::File(piece))) => Ok(Some(piece)),
        Some(_) => {
            Err(Failure::message(Exit::Bug, "the answer holds something else than a file; report this as a bug"))
        }
        None => Ok(None),
    }
}

/// A reader that went away has half a history, so here that is a failure.
async fn to_standard(stream: &mut Streaming<ExportHistoriesResponse>) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new(Exit::Refused, anyhow::Error::new(error).context("cannot write to standard output"))
    };
    while let Some(piece) = piece(stream).await? {
        io::stdout().lock().write_all(&piece).map_err(failed)?;
    }
    io::stdout().lock().flush().map_err(failed)
}

/// The file appears when it is complete.
async fn to_file(stream: &mut Streaming<ExportHistoriesResponse>, path: PathBuf) -> Result<(), Failure> {
    let (sender, mut reader) = PieceReader::new();
    let writing = tokio::task::spawn_blocking(move || -> Result<(), DurableError> {
        stream_private_file(&path, Existing::Replace, |file| io::copy(&mut reader, file).map(drop))
    });
    let sent = async {
        while let Some(piece) = piece(stream).await? {
            // A writer that gave up says why.
            if !piece.is_empty() && sender.send(piece).await.is_err() {
                return Ok(());
            }
        }
        drop(sender.send(Vec::new()).await);
        Ok::<_, Failure>(())
    }
    .await;
    drop(sender);
    let wrote = writing.await.map_err(|error| Failure::new(Exit::Bug, error))?;
    sent?;
    wrote.map_err(|error| Failure::new(Exit::Refused, error))
}

fn say_exported(args: &SlashingExportArgs, output: Output, exported: &ExportedHistories) -> Result<(), Failure> {
    let ExportedHistories { exported, disabled, unknown } = exported;
    let mut lines = vec![format!("exported: {exported} validators, {disabled} switched off")];
    lines.extend(unknown.iter().map(|key| format!("{key} is not known here and is not in the file")));
    let text = lines.join("\n");
    if args.to == Path::new(STANDARD) {
        output.note(text);
    } else {
        let file = args.to.display().to_string();
        output
            .result(text, &json!({ "file": file, "exported": exported, "disabled": disabled, "unknown": unknown }))?;
    }
    if !args.disable {
        output.note(
            "The keys go on signing here, so this file is a backup and soon out of date. To move keys to another signer, \
             export with --disable.",
        );
    }
    Ok(())
}
