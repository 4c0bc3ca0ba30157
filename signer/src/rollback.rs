//! What a running signer does about a database that may have lost acknowledged writes: nothing by
//! itself, or the fence, as configured. The refusal of slashable messages does not depend on this.

use std::time::Duration;

use holdfast_slashing_db::{CallerId, Guard, GuardHealth, Suspicion};
use serde_json::{Value, json};
use tracing::{error, info, warn};

use crate::config::OnRollback;
use crate::drain::Stopping;
use crate::outcome::chain;

/// How long to wait after a fence that failed, before the next attempt.
const RETRY: Duration = Duration::from_secs(5);

/// Watches the guard until the process stops, and fences all keys if that is configured.
pub(crate) async fn watch(guard: Guard, policy: OnRollback, mut stopping: Stopping) {
    tokio::select! {
        () = stopping.begun() => {}
        () = heal(&guard, policy) => {}
    }
}

async fn heal(guard: &Guard, policy: OnRollback) {
    loop {
        let suspicion = guard.suspected().await;
        match policy {
            OnRollback::Freeze => {
                error!(
                    kind = suspicion.kind.as_str(),
                    "slashable messages are refused; see `holdfast slashing status`, then `holdfast slashing fence`"
                );
                return;
            }
            OnRollback::Fence => {
                warn!(kind = suspicion.kind.as_str(), "fencing all keys, because slashing.on_rollback is \"fence\"");
                match guard.fence(None, &CallerId::new("on_rollback")).await {
                    Ok(keys) => {
                        info!(keys, "fenced; signing goes on above the fence");
                        if self::suspicion(guard).is_some() {
                            // Another signer's, since a moment that this clock has not reached yet.
                            tokio::time::sleep(RETRY).await;
                        }
                    }
                    Err(failure) => {
                        error!("the keys could not be fenced: {}", chain(&failure));
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }
}

/// The suspicion a guard is under.
pub(crate) fn suspicion(guard: &Guard) -> Option<Suspicion> {
    match guard.health() {
        GuardHealth::Suspect(suspicion) => Some(suspicion),
        GuardHealth::Serving | GuardHealth::Frozen { .. } => None,
    }
}

/// What an operator should know about a suspicion, line by line.
pub(crate) fn explain(suspicion: &Suspicion, since: &str) -> Vec<String> {
    let head = |seq: u64, hash: &dyn std::fmt::Display| format!("batch {seq}, hash {hash}");
    let expected =
        suspicion.expected.map_or_else(|| "unknown".to_owned(), |expected| head(expected.seq, &expected.hash));
    let mut lines = vec![
        format!("FROZEN since {since}: {}", suspicion.kind),
        "Blocks and attestations are refused, except for keys that were fenced since; all else is signed.".to_owned(),
        format!("journal end expected     {expected}"),
        format!("journal end found        {}", head(suspicion.found.seq, &suspicion.found.hash)),
    ];
    if suspicion.expected == Some(suspicion.found) {
        lines.push("This signer's own journal is whole.".to_owned());
    }
    lines.extend([
        "What to do:".to_owned(),
        "  1. Make sure that no other signer uses these keys: stop it, and keep it stopped.".to_owned(),
        "  2. If the newest database exists elsewhere, put it here now, before the next step.".to_owned(),
        "  3. Run `holdfast slashing fence`, with the signer running or stopped. Keys then sign only above the \
         present, which costs at most about one epoch of attestations. Of several signers on one database, each that \
         noticed something itself needs its own; for those that were only told of it, one is enough."
            .to_owned(),
    ]);
    lines
}

/// The same for programs.
pub(crate) fn as_json(suspicion: &Suspicion) -> Value {
    let head = |seq: u64, hash: &dyn std::fmt::Display| json!({ "seq": seq, "hash": hash.to_string() });
    json!({
        "reason": suspicion.kind.as_str(),
        "message": suspicion.kind.to_string(),
        "since_ms": suspicion.since.0,
        "expected": suspicion.expected.map(|expected| head(expected.seq, &expected.hash)),
        "found": head(suspicion.found.seq, &suspicion.found.hash),
        "remedy": "holdfast slashing fence",
    })
}
