//! `holdfast slashing import`: signing histories in.
//!
//! Guarantees: a source is taken in whole or not at all, unless the operator asks for what can be read of it;
//! it is read to its end before a database is opened or made, and a dry run makes none.

use holdfast_domain::Clock as _;
use holdfast_slashing_db::ImportMode;
use holdfast_slashing_db::interchange::Interchange;
use holdfast_slashing_db::rules::Horizon;
use holdfast_wire::admin::v1::import_histories_request::Part;
use holdfast_wire::admin::v1::{
    Histories, HistoryChange, ImportHistoriesOptions, ImportHistoriesRequest, Remarks, Watermarks,
};
use serde_json::{Value, json};

use super::super::approvals;
use super::super::args::SlashingImportArgs;
use super::super::reach::{Need, reach};
use super::super::{Context, Exit, Failure, Output};
use super::file;
use crate::admin::{Admin, convert};
use crate::clock::SystemClock;
use crate::custody::{self, Chain};

/// Histories in one message.
const PAGE: usize = 1_000;

/// What a source said.
pub(super) struct Taken {
    /// The histories.
    pub(super) interchange: Interchange,
    /// What could not be read.
    pub(super) left_out: Vec<LeftOut>,
    /// More about the source, for programs.
    pub(super) source: Option<Value>,
}

/// A part of a source that could not be read.
pub(super) struct LeftOut {
    /// For people.
    pub(super) text: String,
    /// For programs.
    pub(super) value: Value,
}

/// Takes histories in.
pub(in crate::cli) async fn import(args: &SlashingImportArgs, context: &Context) -> Result<Exit, Failure> {
    let chain = custody::chain(&context.config).await?;
    let (taken, from) = take(args, &chain, context).await?;
    let Taken { interchange, left_out, source } = taken;
    let beyond = beyond(&interchange, &chain, context);
    let mode = if args.dry_run { ImportMode::DryRun } else { ImportMode::Commit };
    let (changes, output) =
        if args.dry_run && context.config.remote.server.is_none() && !custody::is_there(&context.config)? {
            context.output.note("There is no database yet, and a dry run makes none.");
            (interchange.into_nothing().validators.iter().map(convert::change).collect(), context.output)
        } else {
            let reached = reach(context, Need::Make).await?;
            let changes = send(&reached.admin, &interchange, (mode, from), (args, &left_out), context).await;
            let output = reached.output;
            reached.close().await;
            (changes?, output)
        };
    for change in &changes {
        output.result(line(change), &value(change))?;
    }
    for LeftOut { text, value } in &left_out {
        output.result(text, value)?;
    }
    say_totals(output, mode, &changes, left_out.len(), source.as_ref())?;
    if beyond > 0 {
        output.note(format!(
            "{beyond} validators have signed beyond the present, by this source and this machine's clock: until the \
             chain is there they can sign nothing. Check that the source is what it should be."
        ));
    }
    Ok(if left_out.is_empty() { Exit::Done } else { Exit::Refused })
}

/// What is said about the source to those who approve; nothing, if all of it is taken in.
fn remarks(args: &SlashingImportArgs, left_out: &[LeftOut]) -> Vec<String> {
    let connected = args.ignore_connections.then(|| "Web3Signer may still be connected to its database".to_owned());
    connected.into_iter().chain(left_out.iter().map(|one| one.text.clone())).collect()
}

/// Has the services take histories in, and hears what that changes.
async fn send(
    admin: &Admin,
    interchange: &Interchange,
    (mode, source): (ImportMode, Option<String>),
    (args, left_out): (&SlashingImportArgs, &[LeftOut]),
    context: &Context,
) -> Result<Vec<HistoryChange>, Failure> {
    let part = |part| ImportHistoriesRequest { part: Some(part) };
    let root = interchange.genesis_validators_root().to_string();
    let dry_run = mode == ImportMode::DryRun;
    let lines = if dry_run { Vec::new() } else { remarks(args, left_out) };
    let incomplete = !lines.is_empty();
    let options = ImportHistoriesOptions { dry_run, genesis_validators_root: Some(root), source, incomplete };
    let histories: Vec<_> = interchange
        .iter()
        .map(|(key, history)| convert::history_message(key, history, interchange.is_switched_off(key)))
        .collect();
    let mut parts = vec![part(Part::Options(options))];
    parts.extend(histories.chunks(PAGE).map(|page| part(Part::Histories(Histories { histories: page.to_vec() }))));
    parts.extend(lines.chunks(PAGE).map(|page| part(Part::Remarks(Remarks { lines: page.to_vec() }))));
    let carried = if incomplete { approvals::carried(&args.approval)? } else { None };
    parts.extend(carried.iter().flat_map(|text| approvals::pieces(text)).map(|piece| part(Part::Approval(piece))));
    let asked = async {
        let mut answers = admin.slashing().import(tokio_stream::iter(parts)).await?.into_inner();
        let mut changes = Vec::with_capacity(histories.len());
        while let Some(answer) = answers.message().await? {
            changes.extend(answer.changes);
        }
        Ok(changes)
    };
    match asked.await {
        Ok(changes) => Ok(changes),
        Err(status) => Err(approvals::refused(status, admin, &args.approval, context).await),
    }
}

/// Reads the source that was named, and says in whose name it is taken in.
#[cfg_attr(
    not(feature = "store-postgres"),
    expect(unused_variables, reason = "only for PostgreSQL is anything configured")
)]
async fn take(args: &SlashingImportArgs, chain: &Chain, context: &Context) -> Result<(Taken, Option<String>), Failure> {
    let root = chain.genesis_validators_root;
    match (&args.from, &args.from_web3signer) {
        #[cfg(feature = "store-postgres")]
        (_, Some(url)) => Ok((super::web3signer::take(url, args, root, context).await?, Some("web3signer".to_owned()))),
        #[cfg(not(feature = "store-postgres"))]
        (_, Some(_)) => {
            let text = "--from-web3signer needs PostgreSQL, which this build does not have; export a file from \
                 Web3Signer and import that with --from";
            Err(Failure::message(Exit::Usage, text))
        }
        (Some(path), None) => Ok((file::take(path, args.allow_partial, root)?, None)),
        (None, None) => Err(Failure::message(Exit::Usage, "give --from FILE or --from-web3signer URL")),
    }
}

/// How many histories lie in the future.
fn beyond(interchange: &Interchange, chain: &Chain, context: &Context) -> usize {
    let tolerance = context.config.slashing.future_tolerance_slots;
    let horizon = Horizon::new(&chain.slot_clock, SystemClock.now(), tolerance);
    interchange.iter().filter(|(_, history)| history.floor.is_beyond(horizon)).count()
}

fn say_totals(
    output: Output,
    mode: ImportMode,
    changes: &[HistoryChange],
    left_out: usize,
    source: Option<&Value>,
) -> Result<(), Failure> {
    let (dry, verb) = match mode {
        ImportMode::Commit => (false, "imported"),
        ImportMode::DryRun => (true, "would be imported, nothing was changed"),
    };
    let count = |word: &str| changes.iter().filter(|one| one.change == word).count();
    let (new, raised, unchanged) = (count("new"), count("raised"), count("unchanged"));
    let sum = |rows: fn(&HistoryChange) -> u64| changes.iter().map(rows).fold(0, u64::saturating_add);
    let (blocks, attestations) = (sum(|one| one.blocks), sum(|one| one.attestations));
    let off = |how: &str| changes.iter().filter(|one| one.switched_off.as_deref() == Some(how)).count();
    let (off_now, off_already, noted) = (off("switched_off"), off("off_already"), off("noted"));
    let off_there = if off_now.saturating_add(off_already).saturating_add(noted) > 0 {
        format!(
            "; of the keys that are off there, {off_now} were switched off here, {off_already} could not sign here \
             before, {noted} are not held here and will enter switched off"
        )
    } else {
        String::new()
    };
    let text = format!(
        "{verb}: {new} validators new, {raised} raised, {unchanged} unchanged, {left_out} left out \
         ({blocks} blocks and {attestations} attestations read){off_there}"
    );
    let value = json!({
        "dry_run": dry,
        "source": source,
        "totals": {
            "new": new, "raised": raised, "unchanged": unchanged, "left_out": left_out,
            "blocks": blocks, "attestations": attestations,
            "switched_off": off_now, "off_already": off_already, "noted_off": noted,
        },
    });
    output.result(text, &value)
}

fn marks_json(marks: &Watermarks) -> Value {
    json!({ "block_slot": marks.block_slot, "source_epoch": marks.source_epoch, "target_epoch": marks.target_epoch })
}

fn marks_text(marks: &Watermarks) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    format!(
        "slot {}, source {}, target {}",
        number(marks.block_slot),
        number(marks.source_epoch),
        number(marks.target_epoch)
    )
}

fn line(change: &HistoryChange) -> String {
    let before = change.before.as_ref().map_or_else(|| "not known".to_owned(), marks_text);
    let off = match change.switched_off.as_deref() {
        Some("switched_off") => ", switched off",
        Some("off_already") => ", off already",
        Some("noted") => ", not held here, noted as off",
        _ => "",
    };
    let after = marks_text(&change.after.unwrap_or_default());
    format!("{} {:<9} {before} -> {after}{off}", change.pubkey, change.change)
}

fn value(change: &HistoryChange) -> Value {
    json!({
        "pubkey": change.pubkey,
        "change": change.change,
        "before": change.before.as_ref().map(marks_json),
        "after": marks_json(&change.after.unwrap_or_default()),
        "blocks": change.blocks,
        "attestations": change.attestations,
        "switched_off": change.switched_off,
    })
}
