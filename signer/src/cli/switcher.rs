//! `holdfast switcher`: live control, through the admin socket of the process that runs with the data directory.

use std::fmt::Write as _;

use holdfast_wire::admin::v1::{AddRequest, PreferRequest, Role, StatusRequest, UpstreamRequest};
use serde_json::{Value, json};

use super::args::{AddArgs, RoleArg, SwitcherCommand};
use super::{Context, Failure};
use crate::admin::{AdminClient, ClientError, socket_path};
use crate::clock::rfc3339;
use crate::outcome::Exit;
use holdfast_domain::UnixMillis;

/// Decisions shown by `status` on a terminal; `--json` has all that are kept.
const SHOWN_DECISIONS: usize = 10;

/// Runs one command.
pub(super) async fn run(command: &SwitcherCommand, context: &Context) -> Result<Exit, Failure> {
    let path = socket_path(&context.config);
    let named = |name: &str| UpstreamRequest { name: name.to_owned() };
    let done = match command {
        SwitcherCommand::Status => return status(context).await,
        SwitcherCommand::Add(args) => {
            let request = add_request(args);
            AdminClient::run(&path, async |mut client| client.switcher.add(request).await).await
        }
        SwitcherCommand::Remove(args) => {
            let request = named(&args.name);
            AdminClient::run(&path, async |mut client| client.switcher.remove(request).await).await
        }
        SwitcherCommand::Drain(args) => {
            let request = named(&args.name);
            AdminClient::run(&path, async |mut client| client.switcher.drain(request).await).await
        }
        SwitcherCommand::Undrain(args) => {
            let request = named(&args.name);
            AdminClient::run(&path, async |mut client| client.switcher.undrain(request).await).await
        }
        SwitcherCommand::Prefer(args) => {
            let request = PreferRequest { name: args.name.clone() };
            AdminClient::run(&path, async |mut client| client.switcher.prefer(request).await).await
        }
    };
    let message = done.map_err(failure)?.message;
    context.output.result(&message, &json!({ "done": message }))?;
    Ok(Exit::Done)
}

fn failure(error: ClientError) -> Failure {
    let exit = match &error {
        ClientError::NotRunning { .. } | ClientError::Broken(_) | ClientError::Late => Exit::Unreachable,
        ClientError::Refused(_) => Exit::Refused,
    };
    Failure::new(exit, error)
}

fn add_request(args: &AddArgs) -> AddRequest {
    let role = |role: &RoleArg| match role {
        RoleArg::Attestation => Role::Attestation,
        RoleArg::Proposal => Role::Proposal,
        RoleArg::Sync => Role::Sync,
        RoleArg::Submit => Role::Submit,
        RoleArg::Builder => Role::Builder,
    };
    AddRequest {
        url: args.url.clone(),
        name: args.name.clone(),
        weight: args.weight,
        tier: args.tier,
        roles: args.roles.iter().map(|name| role(name).into()).collect(),
    }
}

async fn status(context: &Context) -> Result<Exit, Failure> {
    let path = socket_path(&context.config);
    let ask = AdminClient::run(&path, async |mut client| client.switcher.status(StatusRequest {}).await);
    let answer = ask.await.map_err(failure)?;
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
        let mark = |member: &str, shown: &'static str| if node[member] == true { shown } else { "" };
        let marks = [mark("drained", ", drained"), mark("preferred", ", preferred")].concat();
        let _ = writeln!(
            text,
            "{}  {}{marks}, head {}, {}",
            word(&node["name"]),
            word(&node["health"]),
            word(&node["head_slot"]),
            word(&node["client"])
        );
        for member in ["because", "waiting_for", "last_error"] {
            let why = word(&node[member]);
            if !why.is_empty() && why != "-" {
                let _ = writeln!(text, "    {}: {why}", member.replace('_', " "));
            }
        }
    }
    for node in document.pointer("/execution/nodes").and_then(Value::as_array).into_iter().flatten() {
        let _ = writeln!(
            text,
            "{}  execution, {}, block {}",
            word(&node["name"]),
            word(&node["health"]),
            word(&node["head_block"])
        );
    }
    for decision in switcher["decisions"].as_array().into_iter().flatten().take(SHOWN_DECISIONS) {
        let _ = writeln!(
            text,
            "{}  {} {}: {}",
            decision["at_unix_millis"].as_u64().map_or_else(String::new, |at| rfc3339(UnixMillis(at))),
            word(&decision["kind"]),
            word(&decision["upstream"]),
            word(&decision["reason"])
        );
    }
    text.truncate(text.trim_end().len());
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
            "execution": { "nodes": [{ "name": "e", "health": "healthy", "head_block": 5, "latency_ms": 1 }] },
        });
        let text = told(&document);
        for part in [
            "slot 12 (epoch 1), head -",
            "a  down, drained, head 7, lodestar",
            "because: no connection",
            "last error: refused",
            "e  execution, healthy, block 5",
            "1970-01-01T00:00:00",
            "left a: no connection",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("waiting for"), "{text}");
        assert!(told(&json!({ "switcher": { "network": null } })).contains("no node has told"));
    }
}
