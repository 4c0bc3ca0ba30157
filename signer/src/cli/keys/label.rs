//! `holdfast keys label`: changes the labels of keys.

use holdfast_wire::admin::v1::{LabelKeysRequest, LabelKeysResponse, LabelledKey};
use serde_json::json;

use super::super::approvals;
use super::super::args::LabelArgs;
use super::super::reach::{Need, Reached, exit_of_word, reach};
use super::super::{Context, Exit, Failure, Output};

/// Changes labels, or says what would be.
pub(super) async fn run(args: &LabelArgs, context: &Context) -> Result<Exit, Failure> {
    let carried = approvals::carried(&args.approval)?;
    let reached = reach(context, Need::Existing).await?;
    let answer = change(args, carried, &reached, context).await;
    let output = reached.output;
    reached.close().await;
    say(&answer?, args.dry_run, output)
}

async fn change(
    args: &LabelArgs,
    carried: Option<String>,
    reached: &Reached,
    context: &Context,
) -> Result<LabelKeysResponse, Failure> {
    let request = LabelKeysRequest {
        pubkeys: args.keys.iter().map(ToString::to_string).collect(),
        add: args.add.iter().map(ToString::to_string).collect(),
        remove: args.remove.iter().map(ToString::to_string).collect(),
        dry_run: args.dry_run,
        approval: carried.unwrap_or_default().into_bytes(),
    };
    match reached.admin.keys().label(request).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(approvals::refused(status, &reached.admin, &args.approval, context).await),
    }
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
