//! The gate as commands use it: what people brought is read from files, and what they must sign goes into one.

use std::path::{Path, PathBuf};

use holdfast_approvals::{Act, MAX_REQUEST_BYTES, Payload, Request};
use holdfast_enclave::durable::{Existing, write_private_file};
use holdfast_wire::admin::v1::FetchApprovalRequest;
use holdfast_wire::admin::{Reason, facts_of, reason_of};
use tonic::Status;

use super::super::args::ApprovalArgs;
use super::super::keys::operator;
use super::super::reach::failure;
use super::super::{Context, Exit, Failure};
use crate::admin::{self, Admin};
use crate::approval::{self, Blocked, Brought, Cleared, Examined, Gate};
use crate::custody::{Custody, admin_exit};

/// Bytes of what was brought in one message.
const PIECE_BYTES: usize = 512 * 1024;

/// An act that was looked at and may happen, once it was paid for.
#[must_use]
pub(in crate::cli) struct Pending {
    gate: Gate,
    examined: Examined,
}

/// Looks whether an act may happen; if it needs approvals and none were given, writes the request.
///
/// # Errors
/// [`Failure`], which says what to do next.
pub(in crate::cli) async fn examine(
    acts: &[Act],
    payload: &Payload,
    args: &ApprovalArgs,
    custody: &Custody,
    context: &Context,
) -> Result<Pending, Failure> {
    let gate = Gate::of(custody, &context.config);
    let brought = read(&args.approval)?;
    match gate.examine(acts, payload, brought.as_ref(), &operator()).await {
        Ok(examined) => Ok(Pending { gate, examined }),
        Err(blocked) => Err(failed(blocked, args, context)),
    }
}

/// The same for so many voluntary exits at once.
///
/// # Errors
/// [`Failure`], which says what to do next.
pub(in crate::cli) async fn examine_exits(
    count: usize,
    payload: &Payload,
    args: &ApprovalArgs,
    custody: &Custody,
    context: &Context,
) -> Result<Pending, Failure> {
    let gate = Gate::of(custody, &context.config);
    let policy = gate.in_force(&operator()).await.map_err(|blocked| failed(blocked, args, context))?;
    let above = policy.is_some_and(|policy| u64::from(policy.bulk_exit_above().0) < count as u64);
    let acts: &[Act] = if above { &[Act::BulkExit] } else { &[] };
    examine(acts, payload, args, custody, context).await
}

impl Pending {
    /// Uses the approval up: the last thing before the act.
    ///
    /// # Errors
    /// [`Failure`]: the act must not happen.
    pub(in crate::cli) async fn spend(self, args: &ApprovalArgs, context: &Context) -> Result<Cleared, Failure> {
        let spent = self.gate.spend(self.examined, &operator()).await;
        spent.map_err(|blocked| failed(blocked, args, context))
    }
}

/// What was brought; `None` if nothing was.
///
/// # Errors
/// [`Failure`] (usage) that names the file.
pub(super) fn read(files: &[PathBuf]) -> Result<Option<Brought>, Failure> {
    if files.is_empty() {
        return Ok(None);
    }
    let texts: Result<Vec<_>, Failure> =
        files.iter().map(|file| Ok((file.display().to_string(), read_text(file)?))).collect();
    Brought::read(&texts?).map(Some).map_err(|error| Failure::new(Exit::Usage, error))
}

/// What was brought, as it goes to services; `None` if nothing was.
///
/// # Errors
/// [`Failure`] (usage) that names the file.
pub(in crate::cli) fn carried(args: &ApprovalArgs) -> Result<Option<String>, Failure> {
    Ok(read(&args.approval)?.map(|brought| brought.to_text()))
}

/// The same in pieces that messages have room for.
pub(in crate::cli) fn pieces(text: &str) -> impl Iterator<Item = Vec<u8>> + '_ {
    text.as_bytes().chunks(PIECE_BYTES).map(<[u8]>::to_vec)
}

/// How a command ends because services said no; if people must approve, the request is written into a file.
pub(in crate::cli) async fn refused(status: Status, admin: &Admin, args: &ApprovalArgs, context: &Context) -> Failure {
    if reason_of(&status) != Some(Reason::ApprovalRequired) {
        return failure(status);
    }
    let facts = facts_of(&status);
    let (Some(id), Some(digest)) = (facts.get(admin::REQUEST), facts.get(admin::DIGEST)) else {
        return failure(status);
    };
    match fetch(id, admin).await {
        Ok(request) if request.digest().to_string() == *digest => needed(&request, status.message(), args, context),
        Ok(_) => {
            Failure::message(Exit::Bug, "the request that came is not the one that was made; report this as a bug")
        }
        Err(failure) => failure,
    }
}

/// The request with this number.
///
/// # Errors
/// [`Failure`].
pub(super) async fn fetch(id: &str, admin: &Admin) -> Result<Request, Failure> {
    let mut text = Vec::new();
    let asked = FetchApprovalRequest { id: id.to_owned() };
    let mut pieces = admin.approvals().fetch(asked).await.map_err(failure)?.into_inner();
    while let Some(piece) = pieces.message().await.map_err(failure)? {
        if text.len().saturating_add(piece.text.len()) > MAX_REQUEST_BYTES {
            return Err(Failure::message(Exit::Bug, "the request is longer than one may be; report this as a bug"));
        }
        text.extend(piece.text);
    }
    let malformed = |error| Failure::new(Exit::Bug, anyhow::Error::new(error).context("the request is malformed"));
    let text = String::from_utf8(text).map_err(|error| Failure::new(Exit::Bug, error))?;
    Request::from_text(&text).map_err(malformed)
}

/// A text file, no longer than a request with its approvals.
///
/// # Errors
/// [`Failure`] (usage).
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let limit = u64::try_from(MAX_REQUEST_BYTES).unwrap_or(u64::MAX).saturating_mul(2);
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(|error| {
        let text = format!("cannot read {}; check the path", path.display());
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(text))
    })?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::message(Exit::Usage, format!("{} is malformed: it is no text", path.display())))
}

/// What a command says when it may not go on.
pub(super) fn failed(blocked: Blocked, args: &ApprovalArgs, context: &Context) -> Failure {
    let exit = match &blocked {
        Blocked::Needed { request, .. } => return needed(request, &blocked.to_string(), args, context),
        Blocked::Database(error) => admin_exit(error),
        Blocked::Journal(_) => Exit::Unreachable,
        Blocked::Suspect => Exit::Frozen,
        Blocked::Random(_) => Exit::Bug,
        Blocked::Unfit => Exit::Usage,
        Blocked::Refused(_)
        | Blocked::Used(_)
        | Blocked::Changed { .. }
        | Blocked::Moved
        | Blocked::Unreadable(_)
        | Blocked::Tampered => Exit::Refused,
    };
    Failure::new(exit, blocked)
}

fn needed(request: &Request, blocked: &str, args: &ApprovalArgs, context: &Context) -> Failure {
    let path = args.request_to.clone().unwrap_or_else(|| approval::file_name(request).into());
    if let Err(error) = write_private_file(&path, request.to_text().as_bytes(), Existing::Refuse) {
        return Failure::new(
            Exit::Refused,
            anyhow::Error::new(error).context("cannot write the request for approvals"),
        );
    }
    let place = path.display().to_string();
    let value = serde_json::json!({
        "approval_needed": {
            "request": place, "id": request.id.to_string(), "act": request.act.as_str(),
            "expires": request.expires.rfc3339(), "digest": request.digest().to_string(),
        }
    });
    if context.output.is_json()
        && let Err(failure) = context.output.result("", &value)
    {
        return failure;
    }
    Failure::message(
        Exit::Refused,
        format!(
            "{blocked}; nothing was done. The request is in {place} and expires at {}. Each of them runs `holdfast approve \
             {place} --key THEIR-KEY`, on any machine, or `ssh-keygen -Y sign -n holdfast-approval -f THEIR-KEY {place}`. Then \
             give this command again, exactly as it was, with --approval {place} and the files they made",
            request.expires.rfc3339()
        ),
    )
}
