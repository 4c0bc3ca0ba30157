//! `holdfast approve` and `holdfast approvals`: who approves, what was approved.

mod approve;
mod gate;

use std::fmt::Write as _;

use holdfast_approvals::{Demand, check};
use holdfast_domain::{Clock as _, UnixMillis};
use holdfast_wire::admin::v1::{ApprovalRequest, ApprovalState, ApprovalsStatusRequest, ListApprovalsRequest};
use serde_json::json;

use super::args::{AdoptArgs, ApprovalsCommand, ApprovalsListArgs, ApprovalsShowArgs, ApprovalsVerifyArgs};
use super::keys::{open_record, operator};
use super::reach::{self, Need, failure, reach, say};
use super::{Context, Exit, Failure};
use crate::approval::{Adopted, Gate};
use crate::clock::{SystemClock, rfc3339};
use crate::reload;
pub(super) use approve::{keygen, run as approve};
pub(super) use gate::{carried, examine, examine_exits, pieces, refused};

/// Runs one of the commands that need the configuration.
pub(super) async fn run(command: &ApprovalsCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        ApprovalsCommand::Keygen(args) => keygen(args, context.output),
        ApprovalsCommand::Verify(args) => verify(args, context),
        ApprovalsCommand::Status => status(context).await,
        ApprovalsCommand::List(args) => list(args, context).await,
        ApprovalsCommand::Show(args) => show(args, context).await,
        ApprovalsCommand::Bring(args) => bring(args, context),
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
    let reached = reach(context, Need::Existing).await?;
    let report = reached.admin.approvals().status(ApprovalsStatusRequest {}).await;
    let output = reached.output;
    reached.close().await;
    say(&report.map_err(failure)?.into_inner(), output)
}

/// Lists what was asked of people, as the journal knows it.
async fn list(args: &ApprovalsListArgs, context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Existing).await?;
    let asked = async {
        let mut pages = reached.admin.approvals().list(ListApprovalsRequest { all: args.all }).await?.into_inner();
        let mut all = Vec::new();
        while let Some(page) = pages.message().await? {
            all.extend(page.requests);
        }
        Ok(all)
    };
    let requests: Result<Vec<ApprovalRequest>, tonic::Status> = asked.await;
    let output = reached.output;
    reached.close().await;
    let requests = requests.map_err(failure)?;
    for one in &requests {
        // Writing to a text cannot fail.
        let time = |millis: u64| rfc3339(UnixMillis(millis));
        let state = match one.state() {
            ApprovalState::Pending => "pending",
            ApprovalState::Used => "used",
            ApprovalState::Expired => "expired",
            ApprovalState::Unspecified => "unknown",
        };
        let mut text = format!(
            "{} {state:<8} {:<17} asked {} by {}, expires {}: {}",
            one.id,
            one.act,
            time(one.asked_unix_millis),
            one.asked_by,
            one.expires,
            one.summary
        );
        if let Some(used) = one.used_unix_millis {
            let _ = write!(text, "\n  used {}, given by {}", time(used), one.given.join(", "));
        }
        if let Some(why) = &one.last_refusal {
            let _ = write!(text, "\n  refused {} times, last: {why}", one.refused);
        }
        let value = json!({
            "id": one.id, "state": state, "act": one.act, "summary": one.summary, "payload_sha256": one.payload_sha256,
            "asked": time(one.asked_unix_millis), "asked_by": one.asked_by, "expires": one.expires, "given": one.given,
            "used": one.used_unix_millis.map(time), "refused": one.refused, "last_refusal": one.last_refusal,
        });
        output.result(text, &value)?;
    }
    if requests.is_empty() {
        output.note(if args.all { "Nothing was ever asked of anybody." } else { "Nothing waits for approvals." });
    }
    Ok(Exit::Done)
}

/// Prints a request that the running server made lately.
async fn show(args: &ApprovalsShowArgs, context: &Context) -> Result<Exit, Failure> {
    let reached = reach(context, Need::Existing).await?;
    let request = gate::fetch(&args.id, &reached.admin).await;
    let output = reached.output;
    reached.close().await;
    let request = request?;
    output.result(request.to_text().trim_end(), &json!({ "request": request.to_text() }))?;
    Ok(Exit::Done)
}

/// Puts what people signed where a reload of the running server finds it.
fn bring(args: &ApprovalsVerifyArgs, context: &Context) -> Result<Exit, Failure> {
    let Some(brought) = gate::read(&args.files)? else { return Ok(Exit::Done) };
    let act = brought.request.act;
    if !reload::ACTS.contains(&act) {
        let text = format!(
            "this is for the act {act}, which no reload does: give the command that asked, with --approval and these files"
        );
        return Err(Failure::message(Exit::Usage, text));
    }
    let path =
        reload::bring(context.config.data_dir(), &brought).map_err(|error| Failure::new(Exit::Refused, error))?;
    let (place, count) = (path.display(), brought.approvals.len());
    context.output.result(
        format!("{count} approvals for the act {act}, for the next `holdfast reload` (or SIGHUP): {place}"),
        &json!({ "act": act.as_str(), "approvals": count, "request": brought.request.id.to_string(), "file": place.to_string() }),
    )?;
    Ok(Exit::Done)
}

/// Puts the configured approvers in force.
async fn adopt(args: &AdoptArgs, context: &Context) -> Result<Exit, Failure> {
    if reach::is_running(context).await {
        let text = "a server is running, and its approvers change by a reload: put them into its configuration, give `holdfast reload`, \
                    and do what its log says then; or stop it and give this command again";
        return Err(Failure::message(Exit::Refused, text));
    }
    let custody = open_record(context).await?;
    let adopted = async {
        let gate = Gate::of(&custody, &context.config);
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
