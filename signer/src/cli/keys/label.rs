//! `holdfast keys label`: the labels of keys, and which keys have each for commands that look at the policy.

use std::collections::BTreeMap;

use holdfast_wire::admin::v1::{LabelKeysRequest, LabelledKey};
use serde_json::json;

use super::super::args::LabelArgs;
use super::super::reach::{Need, exit_of_word, failure, reach};
use super::super::{Context, Exit, Failure};
use super::listed;
use crate::policy::KeysOfLabels;

/// Changes labels, or says what would be.
pub(super) async fn run(args: &LabelArgs, context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Existing).await?;
    let request = LabelKeysRequest {
        pubkeys: args.keys.iter().map(ToString::to_string).collect(),
        add: args.add.clone(),
        remove: args.remove.clone(),
        dry_run: args.dry_run,
    };
    let answer = reached.admin.keys().label(request).await;
    let output = reached.output;
    reached.close().await;
    let mut exit = Exit::Done;
    for LabelledKey { pubkey, result, reason, before, labels } in answer.map_err(failure)?.into_inner().keys {
        let status = match (result.as_str(), args.dry_run) {
            ("done", false) => "labelled",
            ("done", true) => "would be labelled",
            ("unchanged", _) => "unchanged",
            (word, _) => {
                exit = exit_of_word(word);
                "error"
            }
        };
        let shown = |all: &[String]| if all.is_empty() { "none".to_owned() } else { all.join(",") };
        let said = reason.clone().unwrap_or_else(|| format!("{} (before: {})", shown(&labels), shown(&before)));
        let value = json!({
            "pubkey": pubkey, "status": status.replace(' ', "_"), "reason": reason, "before": before, "labels": labels,
            "dry_run": args.dry_run,
        });
        output.result(format!("{pubkey} {status}: {said}"), &value)?;
    }
    if args.dry_run {
        output.note("Nothing was changed. Without --dry-run it is done.");
    }
    Ok(exit)
}

/// The keys that have each label, asked only where a rule names labels and there is a database.
pub(in crate::cli) async fn of_rules(context: &Context) -> Result<KeysOfLabels, Failure> {
    let mut labels = BTreeMap::new();
    if context.config.policy.iter().all(|rule| rule.labels.is_none())
        || crate::custody::require_existing(&context.config).is_err()
    {
        return Ok(labels);
    }
    let reached = reach(context, Need::Existing).await?;
    let found = listed(&reached.admin, false).await;
    reached.close().await;
    for key in found?.keys {
        let Ok(pubkey) = key.pubkey.parse() else { continue };
        for label in key.labels {
            KeysOfLabels::entry(&mut labels, label).or_default().insert(pubkey);
        }
    }
    Ok(labels)
}
