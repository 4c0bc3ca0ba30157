//! `holdfast.admin.v1.Approvals`: who approves dangerous acts, and what was asked of them.

use std::sync::Arc;

use holdfast_access::AdminArea;
use holdfast_approvals::{Act, Policy};
use holdfast_domain::UnixMillis;
use holdfast_wire::admin::v1::approvals_server::Approvals;
use holdfast_wire::admin::v1::{
    ApprovalRequest, ApprovalState, ApprovalsStatusRequest, FetchApprovalRequest, FetchApprovalResponse,
    ListApprovalsRequest, ListApprovalsResponse, Report,
};
use holdfast_wire::admin::{Reason, refusal};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::audit;
use super::desk::{Desk, blocked_status};
use super::gate::Gate;
use super::pipe;
use crate::approval::{self, Known, Ledger};
use crate::outcome::{Exit, chain};

/// Requests in a page of a list.
const PAGE: usize = 500;
/// Bytes of a request in one message.
const PIECE_BYTES: usize = 64 * 1024;

/// Answers about approvals.
pub(crate) struct ApprovalsService(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl Approvals for ApprovalsService {
    type ListStream = ReceiverStream<Result<ListApprovalsResponse, Status>>;
    type FetchStream = ReceiverStream<Result<FetchApprovalResponse, Status>>;

    async fn status(&self, request: Request<ApprovalsStatusRequest>) -> Result<Response<Report>, Status> {
        let who = Gate::caller(&request)?;
        self.0.gate.may_read(&who, AdminArea::Approvals)?;
        Ok(Response::new(status(self.0.approvals()).await?))
    }

    async fn list(&self, request: Request<ListApprovalsRequest>) -> Result<Response<Self::ListStream>, Status> {
        let who = Gate::caller(&request)?;
        self.0.gate.may_read(&who, AdminArea::Approvals)?;
        let all = request.into_inner().all;
        let (config, instance, now) = (self.0.config.clone(), self.0.instance, self.0.gate.clock().now());
        let (pages, stream) = mpsc::channel(pipe::WAITING);
        // It ends when nobody receives any more.
        drop(tokio::task::spawn_blocking(move || {
            let read = || -> Result<Ledger, Status> {
                let mut ledger = Ledger::default();
                for batch in audit::open(&config, Some(instance))?.present() {
                    if pages.is_closed() {
                        break;
                    }
                    let batch = batch.map_err(|error| refusal(Reason::Refused, chain(&error)))?;
                    batch.events().for_each(|event| ledger.take(event));
                }
                Ok(ledger)
            };
            let requests: Vec<ApprovalRequest> = match read() {
                Ok(ledger) => ledger.into_known().map(|known| message(known, now)).collect(),
                Err(status) => return drop(pages.blocking_send(Err(status))),
            };
            let shown: Vec<ApprovalRequest> =
                requests.into_iter().filter(|one| all || one.state() == ApprovalState::Pending).collect();
            for page in shown.chunks(PAGE) {
                if pages.blocking_send(Ok(ListApprovalsResponse { requests: page.to_vec() })).is_err() {
                    return;
                }
            }
        }));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn fetch(&self, request: Request<FetchApprovalRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let who = Gate::caller(&request)?;
        let id = request.into_inner().id;
        let made = self.0.requests.find(&id);
        // Whoever was told to have it signed may have it.
        if made.as_ref().is_none_or(|made| made.by != *who.id()) {
            self.0.gate.may_read(&who, AdminArea::Approvals)?;
        }
        let made = made.ok_or_else(|| {
            let text =
                "this process made no such request lately, and keeps the text of no other; ask for the act again";
            refusal(Reason::NotFound, text)
        })?;
        let (pieces, stream) = mpsc::channel(pipe::WAITING);
        self.0.gate.tasks().spawn(async move {
            for piece in made.text.as_bytes().chunks(PIECE_BYTES) {
                // Whoever asked may have gone.
                if pieces.send(Ok(FetchApprovalResponse { text: piece.to_vec() })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn message(known: Known, now: UnixMillis) -> ApprovalRequest {
    let state = match known.used {
        Some(_) => ApprovalState::Used,
        None if known.expired(now) => ApprovalState::Expired,
        None => ApprovalState::Pending,
    };
    ApprovalRequest {
        id: known.id,
        state: state.into(),
        act: known.asked.act,
        summary: known.asked.summary,
        payload_sha256: known.asked.payload,
        asked_unix_millis: known.at.0,
        asked_by: known.by,
        expires: known.asked.expires,
        given: known.given,
        used_unix_millis: known.used.map(|time| time.0),
        refused: known.refused,
        last_refusal: known.last_refusal,
    }
}

/// The approvers, configured and in force.
async fn status(gate: &approval::Gate) -> Result<Report, Status> {
    let pinned = gate.pinned().await.map_err(|blocked| blocked_status(&blocked))?;
    let configured = gate.configured().map_err(|blocked| blocked_status(&blocked))?;
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
    let document = json!({ "configured": shown(configured.as_ref()), "in_force": shown(pinned.as_ref()) });
    Ok(Report { text, document_json: document.to_string(), exit_code: exit.code().into() })
}

fn shown(policy: Option<&Policy>) -> Value {
    policy.map_or(Value::Null, |policy| {
        let people: Vec<Value> = policy
            .approvers()
            .iter()
            .map(|one| json!({ "name": one.name.to_string(), "key": one.key.to_string() }))
            .collect();
        let acts: Vec<&str> = Act::ALL.into_iter().filter(|act| policy.needs(*act)).map(Act::as_str).collect();
        json!({
            "digest": policy.digest().to_string(), "threshold": policy.threshold().0, "approvers": people, "acts": acts,
            "bulk_exit_above": policy.bulk_exit_above().0, "lifetime_seconds": policy.lifetime().0,
        })
    })
}
