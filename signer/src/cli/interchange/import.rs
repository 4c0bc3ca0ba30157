//! `holdfast slashing import`: signing histories in.
//!
//! Guarantees: a source is taken in whole or not at all, unless the operator asks for what can be read of it;
//! it is read to its end before a database is opened or made, and a dry run makes none.

use holdfast_approvals::{Act, Payload};
use holdfast_domain::Clock as _;
use holdfast_slashing_db::interchange::{ImportReport, Interchange, SwitchedOff, Totals, ValidatorReport};
use holdfast_slashing_db::rules::Horizon;
use holdfast_slashing_db::{CallerId, ImportMode, Watermarks};
use serde_json::{Value, json};

use super::super::approvals;
use super::super::args::SlashingImportArgs;
use super::super::keys::{open_direct, operator, said};
use super::super::{Context, Exit, Failure};
use super::file;
use crate::clock::SystemClock;
use crate::custody::{self, Chain, CustodyError};

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
    let (taken, by) = take(args, &chain, context).await?;
    let Taken { interchange, left_out, source } = taken;
    let beyond = beyond(&interchange, &chain, context);
    let mode = if args.dry_run { ImportMode::DryRun } else { ImportMode::Commit };
    let report = if args.dry_run && !custody::is_there(&context.config)? {
        context.output.note("There is no database yet, and a dry run makes none.");
        interchange.into_nothing()
    } else {
        let custody = open_direct(context).await?;
        if mode == ImportMode::Commit {
            let (acts, payload) = (lowers(args, &left_out), payload(args, &interchange, &left_out));
            let pending = approvals::examine(acts, &payload, &args.approval, &custody, context).await?;
            let _cleared = pending.spend(&args.approval, context).await?;
        }
        let imported = custody.guard.import(interchange, mode, &by).await.map_err(CustodyError::from);
        custody.guard.shutdown().await;
        imported?
    };
    for validator in &report.validators {
        context.output.result(line(validator), &value(validator))?;
    }
    for LeftOut { text, value } in &left_out {
        context.output.result(text, value)?;
    }
    say_totals(context, mode, &report, left_out.len(), source.as_ref())?;
    if beyond > 0 {
        context.output.note(format!(
            "{beyond} validators have signed beyond the present, by this source and this machine's clock: until the \
             chain is there they can sign nothing. Check that the source is what it should be."
        ));
    }
    Ok(if left_out.is_empty() { Exit::Done } else { Exit::Refused })
}

/// Whether something that may be missing is accepted.
fn lowers(args: &SlashingImportArgs, left_out: &[LeftOut]) -> &'static [Act] {
    if args.ignore_connections || !left_out.is_empty() { &[Act::LowerProtection] } else { &[] }
}

/// What exactly is taken in, and what is not, for people to approve.
fn payload(args: &SlashingImportArgs, interchange: &Interchange, left_out: &[LeftOut]) -> Payload {
    let mut lines = vec!["Take in a signing history of which something may be missing.".to_owned()];
    if args.ignore_connections {
        lines.push("Web3Signer may still be connected to its database.".to_owned());
    }
    lines.extend(left_out.iter().map(|one| format!("left out {}", one.text)));
    lines.extend(interchange.iter().map(|(key, history)| format!("key {key} {}", said(&history.floor.into()))));
    Payload::new(lines)
}

/// Reads the source that was named, and says in whose name it is taken in.
#[cfg_attr(
    not(feature = "store-postgres"),
    expect(unused_variables, reason = "only for PostgreSQL is anything configured")
)]
async fn take(args: &SlashingImportArgs, chain: &Chain, context: &Context) -> Result<(Taken, CallerId), Failure> {
    let root = chain.genesis_validators_root;
    match (&args.from, &args.from_web3signer) {
        #[cfg(feature = "store-postgres")]
        (_, Some(url)) => {
            let by = CallerId::new(&format!("{} from web3signer", operator().as_str()));
            Ok((super::web3signer::take(url, args, root, context).await?, by))
        }
        #[cfg(not(feature = "store-postgres"))]
        (_, Some(_)) => {
            let text = "--from-web3signer needs PostgreSQL, which this build does not have; export a file from \
                 Web3Signer and import that with --from";
            Err(Failure::message(Exit::Usage, text))
        }
        (Some(path), None) => Ok((file::take(path, args.allow_partial, root)?, operator())),
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
    context: &Context,
    mode: ImportMode,
    report: &ImportReport,
    left_out: usize,
    source: Option<&Value>,
) -> Result<(), Failure> {
    let Totals { new, raised, unchanged, rows } = report.totals();
    let (dry, verb) = match mode {
        ImportMode::Commit => (false, "imported"),
        ImportMode::DryRun => (true, "would be imported, nothing was changed"),
    };
    let off = |how: SwitchedOff| report.validators.iter().filter(|one| one.switched_off == how).count();
    let (off_now, off_already, noted) = (off(SwitchedOff::Now), off(SwitchedOff::Already), off(SwitchedOff::Noted));
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
         ({} blocks and {} attestations read){off_there}",
        rows.blocks, rows.attestations
    );
    let value = json!({
        "dry_run": dry,
        "source": source,
        "totals": {
            "new": new, "raised": raised, "unchanged": unchanged, "left_out": left_out,
            "blocks": rows.blocks, "attestations": rows.attestations,
            "switched_off": off_now, "off_already": off_already, "noted_off": noted,
        },
    });
    context.output.result(text, &value)
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
    let off = match report.switched_off {
        SwitchedOff::NotAsked => "",
        SwitchedOff::Now => ", switched off",
        SwitchedOff::Already => ", off already",
        SwitchedOff::Noted => ", not held here, noted as off",
    };
    format!("{} {:<9} {before} -> {}{off}", report.key, report.change.as_str(), marks_text(&report.after))
}

fn value(report: &ValidatorReport) -> Value {
    json!({
        "pubkey": report.key.to_string(),
        "change": report.change.as_str(),
        "before": report.before.as_ref().map(marks_json),
        "after": marks_json(&report.after),
        "blocks": report.rows.blocks,
        "attestations": report.rows.attestations,
        "switched_off": report.switched_off.as_str(),
    })
}
