//! `holdfast approve` and `holdfast approvals`: who approves, what was approved.

mod approve;
mod gate;

use holdfast_approvals::{Demand, Policy, check};
use holdfast_domain::Clock as _;
use serde_json::{Value, json};

use super::args::{AdoptArgs, ApprovalsCommand, ApprovalsVerifyArgs};
use super::keys::{open_record, operator};
use super::{Context, Exit, Failure};
use crate::approval::{Adopted, Gate};
use crate::clock::SystemClock;
pub(super) use approve::{keygen, run as approve};
pub(super) use gate::{Pending, examine, examine_at, examine_exits};

/// Runs one of the commands that need the configuration.
pub(super) async fn run(command: &ApprovalsCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        ApprovalsCommand::Keygen(args) => keygen(args, context.output),
        ApprovalsCommand::Verify(args) => verify(args, context),
        ApprovalsCommand::Status => status(context).await,
        ApprovalsCommand::Adopt(args) => adopt(args, context).await,
    }
}

/// Says who signed a request, and whether that is enough for the approvers configured here.
fn verify(args: &ApprovalsVerifyArgs, context: &Context) -> Result<Exit, Failure> {
    let Some(brought) = gate::read(&args.files)? else { return Ok(Exit::Done) };
    let policy = context.config.approvals.policy()?;
    let text = brought.request.to_text();
    let mut exit = Exit::Done;
    for approval in &brought.approvals {
        let fingerprint = approval.key().fingerprint();
        let name = policy.as_ref().and_then(|policy| policy.whose(approval.key())).map(ToString::to_string);
        let problem = approval.verify(text.as_bytes()).err().map(|error| error.to_string());
        if problem.is_some() {
            exit = Exit::Refused;
        }
        let holds = problem.as_ref().map_or_else(|| "holds".to_owned(), |problem| format!("does NOT count: {problem}"));
        let who = name.as_deref().unwrap_or("(nobody named in this configuration)");
        let value = json!({
            "key": fingerprint.to_string(), "name": name, "valid": problem.is_none(), "reason": problem,
        });
        context.output.result(format!("{fingerprint} {who}: {holds}"), &value)?;
    }
    let request = &brought.request;
    let verdict = policy.as_ref().map(|policy| {
        let (scope, payload) = (&request.scope, &request.payload);
        let now = SystemClock.now();
        check(request, &brought.approvals, &Demand { scope, act: request.act, payload, policy, now }).err()
    });
    let (words, enough, reason) = match &verdict {
        None => (
            format!(
                "{} approvals; no approvers are configured here, so whether they are enough is not known",
                brought.approvals.len()
            ),
            None,
            None,
        ),
        Some(None) => ("enough approvals for the approvers configured here".to_owned(), Some(true), None),
        Some(Some(refused)) => (format!("not enough: {refused}"), Some(false), Some(refused.reason())),
    };
    if enough == Some(false) {
        exit = Exit::Refused;
    }
    let value = json!({
        "request": request.id.to_string(), "act": request.act.as_str(), "expires": request.expires.rfc3339(),
        "approvals": brought.approvals.len(), "enough": enough, "reason": reason,
    });
    context.output.result(words, &value)?;
    Ok(exit)
}

/// Shows the approvers, configured and in force.
async fn status(context: &Context) -> Result<Exit, Failure> {
    let custody = open_record(context).await?;
    let gate = Gate::of(&custody, &context.config)?;
    let pinned = gate.pinned().await;
    custody.guard.shutdown().await;
    let pinned = pinned.map_err(|error| Failure::new(Exit::Refused, error))?;
    let configured = context.config.approvals.policy()?;
    let (text, exit) = match (&configured, &pinned) {
        (None, None) => ("Nothing needs approvals: no approvers are configured.".to_owned(), Exit::Done),
        (Some(one), None) => (format!("Configured, and pinned with the first use:\n{}", one.to_text()), Exit::Done),
        (one, Some(other)) if one.as_ref() == Some(other) => (format!("In force:\n{}", other.to_text()), Exit::Done),
        (one, Some(other)) => {
            let one = one.as_ref().map_or_else(|| "nobody\n".to_owned(), Policy::to_text);
            let text = format!(
                "In force:\n{}\nConfigured, but NOT in force, so dangerous acts are refused until `holdfast approvals adopt`:\n{one}",
                other.to_text()
            );
            (text, Exit::Refused)
        }
    };
    let value = json!({ "configured": shown(configured.as_ref()), "in_force": shown(pinned.as_ref()) });
    context.output.result(text, &value)?;
    Ok(exit)
}

fn shown(policy: Option<&Policy>) -> Value {
    policy.map_or(Value::Null, |policy| {
        let people: Vec<Value> = policy
            .approvers()
            .iter()
            .map(|one| json!({ "name": one.name.to_string(), "key": one.key.to_string() }))
            .collect();
        json!({
            "digest": policy.digest().to_string(), "threshold": policy.threshold().0, "approvers": people,
            "bulk_exit_above": policy.bulk_exit_above().0, "lifetime_seconds": policy.lifetime().0,
        })
    })
}

/// Puts the configured approvers in force.
async fn adopt(args: &AdoptArgs, context: &Context) -> Result<Exit, Failure> {
    let custody = open_record(context).await?;
    let adopted = async {
        let gate = Gate::of(&custody, &context.config)?;
        let brought = gate::read(&args.approval.approval)?;
        let adopted = gate.adopt(brought.as_ref(), &operator()).await;
        adopted.map_err(|blocked| gate::failed(blocked, &args.approval, context))
    };
    let adopted = adopted.await;
    custody.guard.shutdown().await;
    let adopted = adopted?;
    let text = match adopted {
        Adopted::Already => "the approvers of the configuration are in force already",
        Adopted::Now => "the approvers of the configuration are in force now",
    };
    context.output.result(text, &json!({ "adopted": adopted == Adopted::Now }))?;
    Ok(Exit::Done)
}
