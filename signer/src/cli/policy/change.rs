//! `holdfast policy apply` and `reset`: other rules in force, and what differs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use holdfast_wire::admin::v1::{
    ChangePolicyResponse, PolicyChange, PolicyOrigin, ReplacePolicyRequest, ResetPolicyRequest,
};
use serde_json::{Value, json};
use tonic::Status;

use super::super::approvals;
use super::super::args::{PolicyApplyArgs, PolicyChangeArgs};
use super::super::reach::{Need, Reached, failure, reach};
use super::super::{Context, Exit, Failure, Output};
use super::{Sent, called, origin, rules_json, told};

/// What is asked for.
enum Asked<'a> {
    /// The rules of this file.
    Rules(&'a Path, &'a Sent),
    /// Those of the configuration.
    Configuration,
}

impl Asked<'_> {
    async fn send(
        &self,
        reached: &Reached,
        (expected, dry_run, force): (String, bool, bool),
        approval: Vec<u8>,
    ) -> Result<ChangePolicyResponse, Status> {
        let mut client = reached.admin.policy();
        let answer = match self {
            Self::Rules(_, sent) => {
                let rules_toml = sent.text.clone();
                client
                    .replace(ReplacePolicyRequest { rules_toml, expected_digest: expected, dry_run, force, approval })
                    .await
            }
            Self::Configuration => {
                client.reset(ResetPolicyRequest { expected_digest: expected, dry_run, force, approval }).await
            }
        };
        Ok(answer?.into_inner())
    }
}

/// Puts the rules of a file in force.
pub(super) async fn apply(args: &PolicyApplyArgs, context: &Context) -> Result<Exit, Failure> {
    let sent = Sent::read(&args.file, context)?;
    run(&Asked::Rules(&args.file, &sent), &args.change, context).await
}

/// Withdraws rules that were given.
pub(super) async fn reset(args: &PolicyChangeArgs, context: &Context) -> Result<Exit, Failure> {
    run(&Asked::Configuration, args, context).await
}

async fn run(asked: &Asked<'_>, args: &PolicyChangeArgs, context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Existing).await?;
    let changed = change(asked, args, &reached, context).await;
    let output = reached.output;
    reached.close().await;
    let changed = changed?;
    print(asked, args, &changed, output)?;
    Ok(if args.dry_run && changed.objection.is_some() && !args.force { Exit::Refused } else { Exit::Done })
}

/// Looks first, and then replaces just what was looked at.
async fn change(
    asked: &Asked<'_>,
    args: &PolicyChangeArgs,
    reached: &Reached,
    context: &Context,
) -> Result<ChangePolicyResponse, Failure> {
    let carried = approvals::carried(&args.approval)?.unwrap_or_default().into_bytes();
    let expected = args.expect.clone().unwrap_or_default();
    let looked = asked.send(reached, (expected, true, args.force), Vec::new()).await.map_err(failure)?;
    if args.dry_run {
        return Ok(looked);
    }
    // None only where what is in force cannot be read.
    let seen = looked.before.as_ref().map(|rules| rules.digest.clone()).unwrap_or_default();
    match asked.send(reached, (seen, false, args.force), carried).await {
        Ok(changed) => Ok(changed),
        Err(status) => Err(approvals::refused(status, &reached.admin, &args.approval, context).await),
    }
}

fn print(
    asked: &Asked<'_>,
    args: &PolicyChangeArgs,
    changed: &ChangePolicyResponse,
    output: Output,
) -> Result<(), Failure> {
    let before = changed.before.clone().unwrap_or_default();
    let after = changed.after.clone().unwrap_or_default();
    let (status, heading) = if changed.done {
        ("done", format!("In force now: {}, {}.", called(&after), origin(&after)))
    } else if before.digest == after.digest && before.origin == after.origin {
        ("same", format!("Nothing to do: in force are {}, {}.", called(&before), origin(&before)))
    } else {
        let old = if changed.before.is_some() { called(&before) } else { "rules that cannot be read".to_owned() };
        ("dry_run", format!("Nothing was done. {} would take the place of {old}.", called(&after)))
    };
    let mut text = format!("{heading}\n");
    for change in &changed.changes {
        describe(change, &mut text);
    }
    let (place, lines): (String, Option<&BTreeMap<String, usize>>) = match asked {
        Asked::Rules(path, sent) => (path.display().to_string(), Some(&sent.lines)),
        Asked::Configuration => (after.place.clone(), None),
    };
    let (found, findings) = told(&changed.findings, &place, lines);
    text.push_str(&found);
    if let Some(objection) = &changed.objection {
        let forced = if args.force { "forced" } else { "this needs --force" };
        let _ = writeln!(text, "{forced}: {objection}");
    }
    let value = json!({
        "status": status,
        "before": changed.before.as_ref().map(rules_json),
        "after": rules_json(&after),
        "changes": changed.changes.iter().map(change_json).collect::<Vec<_>>(),
        "findings": findings,
        "objection": changed.objection,
    });
    output.result(text, &value)?;
    if changed.done && after.origin() == PolicyOrigin::Given {
        output.note(
            "They stay in force over restarts, in place of [[policy]] and [[groups]] of the configuration, until `holdfast \
             policy reset`. Signers that share a database each have rules of their own.",
        );
    }
    Ok(())
}

/// One difference, as lines.
fn describe(change: &PolicyChange, text: &mut String) {
    let PolicyChange { what, name, before, after, keys_added, keys_removed } = change;
    let mark = match (before, after) {
        (None, _) => '+',
        (_, None) => '-',
        _ => '~',
    };
    let _ = writeln!(text, "{mark} {what} \"{name}\"");
    let lines =
        |some: &Option<String>| some.iter().flat_map(|text| text.lines()).map(str::to_owned).collect::<Vec<_>>();
    let (old, new) = (lines(before), lines(after));
    for line in old.iter().filter(|line| !new.contains(line)) {
        let _ = writeln!(text, "    - {line}");
    }
    for line in new.iter().filter(|line| !old.contains(line)) {
        let _ = writeln!(text, "    + {line}");
    }
    for (sign, keys) in [('-', keys_removed), ('+', keys_added)] {
        for key in keys {
            let _ = writeln!(text, "    {sign} {key}");
        }
    }
}

fn change_json(change: &PolicyChange) -> Value {
    json!({
        "what": change.what, "name": change.name, "before": change.before, "after": change.after,
        "keys_added": change.keys_added, "keys_removed": change.keys_removed,
    })
}
