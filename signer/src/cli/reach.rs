//! Where a command does its work: through the running server, if one answers on the admin socket of the data directory;
//! else with the very same services on the database, which it opens itself. It says which.

use std::sync::Arc;

use holdfast_slashing_db::Guard;
use holdfast_wire::admin::v1::{GetStatusRequest, Report};
use holdfast_wire::admin::{Reason, reason_of};
use serde_json::Value;
use tonic::{Code, Status};

use super::args::StatusArgs;
use super::keys::{open_direct, open_record};
use super::{Context, Exit, Failure, Output};
#[cfg(feature = "backend-enclave")]
use crate::admin::Elsewhere;
use crate::admin::{Admin, ClientError, Desk, Gate, Place, RemoteError, Routes, connect_remote, socket_path};
use crate::callers::Principal;
use crate::clock::SystemClock;
use crate::config::place_of_file;
#[cfg(feature = "backend-enclave")]
use crate::custody::CustodyError;
use crate::drain::Tasks;
use crate::glance;
#[cfg(feature = "backend-enclave")]
use crate::vault::Backend;

/// What is opened if no server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// A database that is there.
    Existing,
    /// A database, made if there is none.
    Make,
    /// Only the journal, read-only: nothing is locked.
    Journal,
    /// Only the configuration, and the rules given in its place.
    Rules,
    /// The rules of the configuration itself, whatever runs.
    ConfiguredRules,
}

/// Services, reached.
pub(super) struct Reached {
    /// They.
    pub(super) admin: Admin,
    /// Where to print; results say who did it.
    pub(super) output: Output,
    /// The database, where it is open here; to be closed at the end.
    own: Option<Guard>,
}

impl Reached {
    /// Closes the database if it is open here.
    pub(super) async fn close(self) {
        if let Some(guard) = &self.own {
            guard.shutdown().await;
        }
    }
}

/// The running server, if one with a signer answers.
async fn server(context: &Context) -> Result<Option<Reached>, Failure> {
    let elsewhere = context.config.remote.server.is_some();
    let admin = match remote(context).await? {
        Some(admin) => admin,
        None => match Admin::connect(&socket_path(&context.config)).await {
            Ok(admin) => admin,
            Err(ClientError::NotRunning { .. }) => return Ok(None),
            Err(error) => return Err(Failure::new(Exit::Unreachable, error)),
        },
    };
    if !admin.has_signer().await.map_err(|error| Failure::new(Exit::Unreachable, error))? {
        // What is here is not what was meant.
        let none = || Failure::message(Exit::Unreachable, "the server of --admin-server runs a switcher and no signer");
        return if elsewhere { Err(none()) } else { Ok(None) };
    }
    if let Place::Server(address) = &admin.place {
        context.output.note(format!("Working through the running server at {address}."));
    }
    let output = Output { through: Some("server"), ..context.output };
    Ok(Some(Reached { admin, output, own: None }))
}

/// Whether a server with a signer answers on the socket of the data directory.
pub(super) async fn is_running(context: &Context) -> bool {
    match Admin::connect(&socket_path(&context.config)).await {
        Ok(admin) => admin.has_signer().await.unwrap_or(true),
        Err(_) => false,
    }
}

/// The server on another machine that this command is for, if it is. It never works on this machine's data instead.
pub(super) async fn remote(context: &Context) -> Result<Option<Admin>, Failure> {
    connect_remote(&context.config.remote).await.map_err(|error| {
        let exit = match &error {
            RemoteError::Files { .. } | RemoteError::Identity { .. } | RemoteError::Setting { .. } => Exit::Usage,
            RemoteError::NoAnswer { .. }
            | RemoteError::Handshake { .. }
            | RemoteError::Refused { .. }
            | RemoteError::Late { .. }
            | RemoteError::Client(_) => Exit::Unreachable,
        };
        Failure::new(exit, error)
    })
}

/// Finds services.
pub(super) async fn reach(context: &Context, need: Need) -> Result<Reached, Failure> {
    if need == Need::ConfiguredRules && context.config.remote.server.is_some() {
        let text =
            "--configuration looks at the configuration of this machine: leave out --admin-server (remote.server)";
        return Err(Failure::message(Exit::Usage, text));
    }
    if need != Need::ConfiguredRules
        && let Some(reached) = server(context).await?
    {
        return Ok(reached);
    }
    let looks = matches!(need, Need::Rules | Need::ConfiguredRules);
    let through = if looks { "configuration" } else { "database" };
    let output = Output { through: Some(through), ..context.output };
    let database = context.config.database()?.to_string();
    let tasks = Tasks::new();
    let (routes, own) = match need {
        Need::Rules | Need::ConfiguredRules => {
            if need == Need::Rules {
                context.output.note("No server answers; looking at the configuration itself.");
            }
            let gate = Gate::new(None, Arc::new(SystemClock), tasks);
            let place = place_of_file(&context.layers);
            let given = need == Need::Rules;
            (Routes::of_policy(Arc::new(context.config.clone()), (place, given), gate), None)
        }
        Need::Journal => {
            context.output.note(format!("No server answers; reading {database} itself."));
            let gate = Gate::new(None, Arc::new(SystemClock), tasks);
            (Routes::of_journal(Arc::new(context.config.clone()), gate), None)
        }
        Need::Existing | Need::Make => {
            let custody = if need == Need::Make { open_direct(context).await? } else { open_record(context).await? };
            let guard = custody.guard.clone();
            let gate = Gate::new(Some(guard.clone()), Arc::new(SystemClock), tasks);
            // What is wrong with the configured approvers is said before anything is asked of them.
            context.config.approvals.policy()?;
            let desk = Arc::new(Desk::alone(gate, custody, &context.config));
            (Routes::of_desk(&desk), Some(guard))
        }
    };
    Ok(Reached { admin: Admin::here(routes, Principal::operator(), database), output, own })
}

/// Services on the database, whose new keys the vault in the configured enclave seals, under the data key that is named. The
/// vault proved itself to be an expected enclave.
#[cfg(feature = "backend-enclave")]
pub(super) async fn into_enclave(
    context: &Context,
    data_key: holdfast_enclave::DataKeyCommitment,
) -> Result<Reached, Failure> {
    if server(context).await?.is_some() {
        let text = "a signer is running, and it alone talks with the vault: stop it, import, and start it again. The vault \
                    keeps its keys and marks meanwhile";
        return Err(Failure::message(Exit::Refused, text));
    }
    let custody = open_record(context).await?;
    let made = async {
        let backend = Backend::start(&context.config, &custody.network).map_err(CustodyError::Backend)?;
        let vault = backend.process().ok_or(CustodyError::EnclaveNotConfigured)?.clone();
        let sealing = custody.enclave_seal(vault, &context.config, data_key).await?;
        Elsewhere::new(move |secret| sealing.seal(secret))
    };
    let elsewhere = match made.await {
        Ok(elsewhere) => elsewhere,
        Err(error) => {
            custody.guard.shutdown().await;
            return Err(error.into());
        }
    };
    let (database, guard) = (context.config.database()?.to_string(), custody.guard.clone());
    let gate = Gate::new(Some(guard.clone()), Arc::new(SystemClock), Tasks::new());
    context.config.approvals.policy()?;
    let desk = Arc::new(Desk::alone(gate, custody, &context.config).sealing_elsewhere(elsewhere));
    let output = Output { through: Some("database"), ..context.output };
    let admin = Admin::here(Routes::of_desk(&desk), Principal::operator(), database);
    Ok(Reached { admin, output, own: Some(guard) })
}

/// How a command ends because of a reason.
fn exit_of(reason: Reason) -> Exit {
    match reason {
        Reason::Frozen | Reason::Suspect => Exit::Frozen,
        Reason::Unavailable | Reason::NotJournaled => Exit::Unreachable,
        Reason::InvalidArgument | Reason::MessageOrder | Reason::WrongChain | Reason::Configuration => Exit::Usage,
        Reason::Internal => Exit::Bug,
        Reason::Denied
        | Reason::ApprovalRequired
        | Reason::UnknownKey
        | Reason::KeyDeleted
        | Reason::KeyWithoutSecret
        | Reason::NotFound
        | Reason::Stale
        | Reason::Refused => Exit::Refused,
    }
}

/// The same for a reason as it stands in a result.
pub(super) fn exit_of_word(word: &str) -> Exit {
    Reason::ALL.into_iter().find(|reason| reason.as_str() == word).map_or(Exit::Refused, exit_of)
}

/// How a command ends because services said no.
#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
pub(super) fn failure(status: Status) -> Failure {
    match (reason_of(&status), status.code()) {
        (Some(reason), _) => Failure::message(exit_of(reason), status.message()),
        (None, Code::Unimplemented) => {
            let text = format!("the running server is of another version and cannot do this: {}", status.message());
            Failure::message(Exit::Refused, text)
        }
        (None, _) => {
            let text = format!("the connection to the running server broke: {}", status.message());
            Failure::message(Exit::Unreachable, text)
        }
    }
}

/// Prints a report, and ends as it says.
pub(super) fn say(report: &Report, output: Output) -> Result<Exit, Failure> {
    let document: Value =
        serde_json::from_str(&report.document_json).map_err(|error| Failure::new(Exit::Unreachable, error))?;
    output.result(&report.text, &document)?;
    let all = [Exit::Done, Exit::Refused, Exit::Usage, Exit::Unreachable, Exit::Frozen, Exit::Bug];
    Ok(all.into_iter().find(|exit| u32::from(exit.code()) == report.exit_code).unwrap_or(Exit::Refused))
}

/// `holdfast status`: shown by the server, if it answers; else by looking. Nothing is opened, locked or changed for it.
pub(super) async fn status(args: &StatusArgs, context: &Context) -> Result<Exit, Failure> {
    if context.config.remote.server.is_some() {
        let Some(reached) = server(context).await? else { return Err(Failure::message(Exit::Bug, "no server")) };
        let report = reached.admin.status().get(GetStatusRequest {}).await.map_err(failure)?;
        return show(args, &report.into_inner(), reached.output);
    }
    // A server that is in trouble must not keep anybody from seeing that. It asks its own listeners as its own
    // configuration says, not as this command was told.
    if !args.ask.any()
        && let Ok(Some(reached)) = server(context).await
        && let Ok(report) = reached.admin.status().get(GetStatusRequest {}).await
    {
        return show(args, &report.into_inner(), reached.output);
    }
    let output = Output { through: Some("database"), ..context.output };
    show(args, &glance::report(&context.config).await?, output)
}

/// Prints the status; on request only a server that is ready is good.
fn show(args: &StatusArgs, report: &Report, output: Output) -> Result<Exit, Failure> {
    let document: Value =
        serde_json::from_str(&report.document_json).map_err(|error| Failure::new(Exit::Unreachable, error))?;
    let ready = document.pointer("/server/state").and_then(Value::as_str) == Some("ready");
    Ok(match say(report, output)? {
        Exit::Done if args.ready && !ready => Exit::Unreachable,
        exit => exit,
    })
}

#[cfg(test)]
mod tests {
    //! Proves: a refusal ends a command as the same refusal did without a server.
    use holdfast_wire::admin::refusal;

    use super::*;

    #[test]
    fn refusals_end_commands_as_documented() {
        for (reason, code) in
            [(Reason::Frozen, 4), (Reason::UnknownKey, 1), (Reason::WrongChain, 2), (Reason::NotJournaled, 3)]
        {
            let failure = failure(refusal(reason, "why"));
            assert_eq!((failure.exit().code(), failure.text().as_str()), (code, "why"));
        }
        assert_eq!(exit_of_word("suspect"), Exit::Frozen);
        assert_eq!(failure(Status::unavailable("x")).exit(), Exit::Unreachable);
    }
}
