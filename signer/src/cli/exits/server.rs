//! Exits signed by a running server, through its signing API: the road of every other signature, with its policy, its guard and
//! its vault or enclave.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use holdfast_domain::{Epoch, PublicKey};
use serde_json::{Value, json};

use super::super::{Exit, Failure};
use crate::ask::{self, Listener, Target};
use crate::config::Config;
use crate::exits::{ExitChain, Leaver, SignedExit};
use crate::outcome::chain;

/// The signing API at this address, with TLS and as a caller where the configuration says so.
///
/// # Errors
/// [`Failure`] if files or settings do not fit.
pub(super) fn target(server: SocketAddr, config: &Config) -> Result<Target, Failure> {
    Target::of(Listener::Http, server, config).map_err(|error| Failure::new(error.exit(), error))
}

/// The keys that sign there.
///
/// # Errors
/// [`Failure`] if it does not answer.
pub(super) async fn keys(server: &Target) -> Result<BTreeSet<PublicKey>, Failure> {
    let body = server.fetch("/api/v1/eth2/publicKeys").await.map_err(|error| unreachable(server, error.into()))?;
    let keys: Vec<String> = serde_json::from_str(&body).map_err(|error| unreachable(server, error.into()))?;
    Ok(keys.iter().filter_map(|key| key.parse().ok()).collect())
}

fn unreachable(server: &Target, error: anyhow::Error) -> Failure {
    let text = format!("--server: no signing API answers at {} as expected", server.address());
    Failure::new(Exit::Unreachable, error.context(text))
}

/// Has one exit signed, and verifies it.
///
/// # Errors
/// Why there is none, for people.
pub(super) async fn sign(
    server: &Target,
    leaver: &Leaver,
    chain_: &ExitChain<'_>,
    epoch: Epoch,
) -> Result<SignedExit, String> {
    let info = chain_.fork_info();
    let request = json!({
        "type": "VOLUNTARY_EXIT",
        "fork_info": {
            "fork": {
                "previous_version": info.fork.previous_version.to_string(),
                "current_version": info.fork.current_version.to_string(),
                "epoch": info.fork.epoch.0.to_string(),
            },
            "genesis_validators_root": info.genesis_validators_root.to_string(),
        },
        "voluntary_exit": { "epoch": epoch.0.to_string(), "validator_index": leaver.index.0.to_string() },
    });
    let path = format!("/api/v1/eth2/sign/{}", leaver.key);
    let answer = ask::post(server, &path, &request.to_string()).await;
    let answer = answer.map_err(|error| format!("the server gave no answer: {}", chain(&error)))?;
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    if answer.status != 200 {
        let message = body.get("message").and_then(Value::as_str).unwrap_or(&answer.body);
        return Err(format!("the server refused with {}: {}", answer.status, message.trim()));
    }
    let signature = body.get("signature").and_then(Value::as_str).unwrap_or_default();
    let exit = SignedExit::signed(epoch, leaver.index, signature.to_owned());
    exit.verify(leaver, chain_).map_err(|error| chain(&error))?;
    Ok(exit)
}
