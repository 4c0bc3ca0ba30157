//! `holdfast keys label`: changes the labels of keys.

use holdfast_approvals::{Act, Payload};
use holdfast_domain::PublicKey;
use holdfast_slashing_db::LabelChange;
use holdfast_wire::admin::v1::{LabelKeysRequest, LabelKeysResponse, LabelledKey};
use serde_json::json;

use super::super::approvals;
use super::super::args::LabelArgs;
use super::super::reach::{Need, Reached, exit_of_word, failure, reach};
use super::super::{Context, Exit, Failure, Output};

/// Changes labels, or says what would be.
pub(super) async fn run(args: &LabelArgs, context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Existing).await?;
    let answer = change(args, &reached, context).await;
    let output = reached.output;
    reached.close().await;
    say(&answer?, args.dry_run, output)
}

async fn change(args: &LabelArgs, reached: &Reached, context: &Context) -> Result<LabelKeysResponse, Failure> {
    if !args.dry_run {
        cleared(args, reached, context).await?;
    }
    let request = LabelKeysRequest {
        pubkeys: args.keys.iter().map(ToString::to_string).collect(),
        add: args.add.iter().map(ToString::to_string).collect(),
        remove: args.remove.iter().map(ToString::to_string).collect(),
        dry_run: args.dry_run,
    };
    Ok(reached.admin.keys().label(request).await.map_err(failure)?.into_inner())
}

/// Brings what people approved, where the database is open here and a rule names such a label. A server refuses what needs
/// approvals.
async fn cleared(args: &LabelArgs, reached: &Reached, context: &Context) -> Result<(), Failure> {
    let change = LabelChange { add: args.add.iter().cloned().collect(), remove: args.remove.iter().cloned().collect() };
    let Some((desk, _)) = &reached.own else { return Ok(()) };
    let Some(gate) = desk.approvals().filter(|_| desk.changes_policy(&change)) else { return Ok(()) };
    let payload = payload(&args.keys, &change);
    let pending = approvals::examine_at(gate.clone(), &[Act::Policy], &payload, &args.approval, context).await?;
    desk.bring(pending.spend(&args.approval, context).await?);
    Ok(())
}

fn payload(keys: &[PublicKey], change: &LabelChange) -> Payload {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    let mut lines =
        vec![format!("Change the labels of {} keys, by which rules of the policy select them.", keys.len())];
    lines.extend(change.add.iter().map(|label| format!("add {label}")));
    lines.extend(change.remove.iter().map(|label| format!("remove {label}")));
    lines.extend(keys.iter().map(|key| format!("key {key}")));
    Payload::new(lines)
}

fn say(answer: &LabelKeysResponse, dry_run: bool, output: Output) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for LabelledKey { pubkey, result, reason, before, labels } in &answer.keys {
        let status = match (result.as_str(), dry_run) {
            ("done", false) => "labelled",
            ("done", true) => "would be labelled",
            ("unchanged", _) => "unchanged",
            (word, _) => {
                exit = exit_of_word(word);
                "error"
            }
        };
        let shown = |all: &[String]| if all.is_empty() { "none".to_owned() } else { all.join(",") };
        let said = reason.clone().unwrap_or_else(|| format!("{} (before: {})", shown(labels), shown(before)));
        let value = json!({
            "pubkey": pubkey, "status": status.replace(' ', "_"), "reason": reason, "before": before, "labels": labels,
            "dry_run": dry_run,
        });
        output.result(format!("{pubkey} {status}: {said}"), &value)?;
    }
    if dry_run {
        output.note("Nothing was changed. Without --dry-run it is done.");
    }
    Ok(exit)
}
