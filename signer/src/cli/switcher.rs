//! `holdfast switcher`: live control, through the admin socket of the process that runs with the data directory.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use holdfast_wire::admin::v1::switcher_client::SwitcherClient;
use holdfast_wire::admin::v1::{
    AddExecutionRequest, AddRequest, BasicAuth, PreferRequest, Role, StatusRequest, UpstreamRequest,
};
use serde_json::{Value, json};

use super::args::{AddArgs, RoleArg, SwitcherCommand};
use super::reach::{failure, remote};
use super::{Context, Failure};
use crate::admin::{Admin, Channel, ClientError, socket_path};
use crate::clock::rfc3339;
use crate::outcome::Exit;
use crate::switcher::without_line_break;
use holdfast_domain::UnixMillis;

/// Decisions shown by `status` on a terminal; `--json` has all that are kept.
const SHOWN_DECISIONS: usize = 10;

/// Runs one command.
pub(super) async fn run(command: &SwitcherCommand, context: &Context) -> Result<Exit, Failure> {
    let admin = match remote(context).await? {
        Some(admin) => admin,
        None => Admin::connect(&socket_path(&context.config)).await.map_err(unreachable)?,
    };
    let mut client = admin.switcher();
    let named = |name: &str| UpstreamRequest { name: name.to_owned() };
    let done = match command {
        SwitcherCommand::Status => return status(client, context).await,
        SwitcherCommand::Add(args) if args.execution => {
            let node = Some(add_request(args)?);
            let request = AddExecutionRequest { node, websocket_url: args.websocket_url.clone() };
            client.add_execution(request).await
        }
        SwitcherCommand::Add(args) => {
            let request = add_request(args)?;
            client.add(request).await
        }
        SwitcherCommand::Remove(args) => {
            let request = named(&args.name);
            if args.execution { client.remove_execution(request).await } else { client.remove(request).await }
        }
        SwitcherCommand::Drain(args) => {
            let request = named(&args.name);
            if args.execution { client.drain_execution(request).await } else { client.drain(request).await }
        }
        SwitcherCommand::Undrain(args) => {
            let request = named(&args.name);
            if args.execution { client.undrain_execution(request).await } else { client.undrain(request).await }
        }
        SwitcherCommand::Prefer(args) => {
            let request = PreferRequest { name: args.name.clone() };
            if args.execution { client.prefer_execution(request).await } else { client.prefer(request).await }
        }
    };
    let message = done.map_err(failure)?.into_inner().message;
    context.output.result(&message, &json!({ "done": message }))?;
    Ok(Exit::Done)
}

fn unreachable(error: ClientError) -> Failure {
    Failure::new(Exit::Unreachable, error)
}

fn add_request(args: &AddArgs) -> Result<AddRequest, Failure> {
    let role = |role: &RoleArg| match role {
        RoleArg::Attestation => Role::Attestation,
        RoleArg::Proposal => Role::Proposal,
        RoleArg::Sync => Role::Sync,
        RoleArg::Submit => Role::Submit,
        RoleArg::Builder => Role::Builder,
    };
    // The files are this command's to read: the process that runs may not even see them.
    let read = |path: &Option<PathBuf>| path.as_deref().map(file_text).transpose();
    let secret = |path| read(path).map(|text| text.map(|text| without_line_break(&text).to_owned()));
    let basic_auth = match (&args.username, secret(&args.password_file)?) {
        (Some(user), Some(password)) => Some(BasicAuth { user: user.clone(), password }),
        _ => None,
    };
    Ok(AddRequest {
        url: args.url.clone(),
        name: args.name.clone(),
        weight: args.weight,
        tier: args.tier,
        roles: args.roles.iter().map(|name| role(name).into()).collect(),
        basic_auth,
        bearer_token: secret(&args.token_file)?,
        ca_pem: read(&args.ca_file)?,
        each_address: args.each_address,
    })
}

fn file_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::Usage, anyhow::Error::new(error).context(format!("cannot read {}", path.display())))
    })
}

async fn status(mut client: SwitcherClient<Channel>, context: &Context) -> Result<Exit, Failure> {
    let answer = client.status(StatusRequest {}).await.map_err(failure)?.into_inner();
    let document: Value = serde_json::from_str(&answer.document_json)
        .map_err(|error| Failure::new(Exit::Bug, anyhow::Error::new(error).context("the status is not JSON")))?;
    context.output.result(told(&document), &document)?;
    Ok(Exit::Done)
}

/// The status for people: a line per node, what is wrong with it below, then what was decided last.
fn told(document: &Value) -> String {
    let switcher = &document["switcher"];
    let mut text = String::new();
    match switcher.get("network").filter(|network| !network.is_null()) {
        Some(network) => {
            let _ = writeln!(
                text,
                "slot {} (epoch {}), head {}",
                word(&network["slot"]),
                word(&network["epoch"]),
                word(&network["head_slot"])
            );
        }
        None => text.push_str("no node has told its network yet\n"),
    }
    for node in switcher["upstreams"].as_array().into_iter().flatten() {
        let marks = marks(node);
        let _ = writeln!(
            text,
            "{}  {}{marks}, head {}, {}",
            word(&node["name"]),
            word(&node["health"]),
            word(&node["head_slot"]),
            word(&node["client"])
        );
        text.push_str(&reasons(node, &["because", "waiting_for", "last_error"]));
    }
    for node in document.pointer("/execution/nodes").and_then(Value::as_array).into_iter().flatten() {
        let _ = writeln!(
            text,
            "{}  execution, {}{}, block {}",
            word(&node["name"]),
            word(&node["health"]),
            marks(node),
            word(&node["head_block"])
        );
        text.push_str(&reasons(node, &["last_error", "websocket_error"]));
    }
    for pool in ["/switcher/decisions", "/execution/decisions"] {
        let decisions = document.pointer(pool).and_then(Value::as_array);
        for decision in decisions.into_iter().flatten().take(SHOWN_DECISIONS) {
            let _ = writeln!(
                text,
                "{}  {} {}: {}",
                decision["at_unix_millis"].as_u64().map_or_else(String::new, |at| rfc3339(UnixMillis(at))),
                word(&decision["kind"]),
                word(&decision["upstream"]),
                word(&decision["reason"])
            );
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// What the operator said of a node.
fn marks(node: &Value) -> String {
    let mark = |member: &str, shown: &'static str| if node[member] == true { shown } else { "" };
    [mark("drained", ", drained"), mark("preferred", ", preferred")].concat()
}

/// What is wrong with a node, a line each.
fn reasons(node: &Value, members: &[&str]) -> String {
    let mut text = String::new();
    for member in members {
        let why = word(&node[*member]);
        if !why.is_empty() && why != "-" {
            let _ = writeln!(text, "    {}: {why}", member.replace('_', " "));
        }
    }
    text
}

/// A value as a word; a dash for what is not known.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_what_is_wrong_and_what_was_decided() {
        let document = json!({
            "switcher": {
                "network": { "slot": 12, "epoch": 1, "head_slot": null },
                "upstreams": [{
                    "name": "a", "health": "down", "drained": true, "preferred": false, "head_slot": 7,
                    "client": "lodestar", "because": "no connection", "waiting_for": null, "last_error": "refused",
                }],
                "decisions": [{ "at_unix_millis": 0, "kind": "left", "upstream": "a", "reason": "no connection" }],
            },
            "execution": {
                "nodes": [
                    { "name": "e", "health": "healthy", "head_block": 5, "latency_ms": 1, "drained": true },
                    { "name": "f", "health": "down", "head_block": null, "websocket_error": "no such certificate" },
                ],
                "decisions": [{ "at_unix_millis": 0, "kind": "drained", "upstream": "e", "reason": "operator" }],
            },
        });
        let text = told(&document);
        for part in [
            "slot 12 (epoch 1), head -",
            "a  down, drained, head 7, lodestar",
            "because: no connection",
            "last error: refused",
            "e  execution, healthy, drained, block 5",
            "f  execution, down, block -",
            "websocket error: no such certificate",
            "drained e: operator",
            "1970-01-01T00:00:00",
            "left a: no connection",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("waiting for"), "{text}");
        assert!(told(&json!({ "switcher": { "network": null } })).contains("no node has told"));
    }
}
