//! Which keys there are, and reading them again from the database.

use std::sync::Arc;

use holdfast_access::{AdminArea, Operation};
use hyper::StatusCode;
use serde_json::{Value, json as value};

use super::Api;
use super::error::ApiError;
use super::reply::{self, Reply, json};
use crate::callers::Principal;
use crate::loader::{Reload, ReloadState};
use crate::pipeline::Rejection;

/// `GET /api/v1/eth2/publicKeys`: every key that is loaded and that the caller may see, in byte order; as in Web3Signer, also
/// those switched off, which answer 412.
///
/// While keys load there is no answer rather than a short one: clients take what they read here
/// for all there is.
pub(super) fn public_keys(api: &Api, principal: &Principal) -> Result<Reply, ApiError> {
    let policy = api.signer.policy.now();
    policy.judge(principal, None, Operation::ListKeys).map_err(Rejection::from)?;
    if api.loader.is_loading() {
        return Err(Rejection::KeysLoading.into());
    }
    let keys = api.signer.keyring.load().public_keys();
    let keys = policy.filter(principal, Operation::ListKeys, keys, |key| key);
    // "0x", 96 digits, quotes and a comma.
    let mut body = String::with_capacity(keys.len().saturating_mul(101).saturating_add(2));
    body.push('[');
    for (index, key) in keys.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str("\"0x");
        body.push_str(&hex::encode(key.as_bytes()));
        body.push('"');
    }
    body.push(']');
    Ok(reply::of(StatusCode::OK, reply::JSON, body))
}

/// `GET /api/v1/eth2/highWatermark`: the slot and epoch from which an operator wants signing to
/// stop. It is not the highest slot signed. Nobody can set one here, so the answer is the one
/// Web3Signer gives while it is unset.
pub(super) fn high_watermark() -> Reply {
    reply::of(StatusCode::OK, reply::JSON, &b"{}"[..])
}

/// `POST /reload`: reads the sealed keys again, in the background.
pub(super) fn reload(api: &Arc<Api>, principal: &Principal) -> Result<Reply, ApiError> {
    let operation = Operation::AdminWrite(AdminArea::Status);
    api.signer.policy.judge(principal, None, operation).map_err(Rejection::from)?;
    match api.loader.reload() {
        Reload::Started => {
            tracing::info!(caller = %principal, "a reload of keys was asked for");
            let body =
                value!({ "code": 202, "status": "accepted", "message": "reload started; GET /reload shows its state" });
            Ok(json(StatusCode::ACCEPTED, &body))
        }
        Reload::AlreadyRunning => Err(ApiError::ReloadRunning),
    }
}

/// `GET /reload`: how the last reload went.
pub(super) fn reload_state(api: &Api, principal: &Principal) -> Result<Reply, ApiError> {
    let operation = Operation::AdminRead(AdminArea::Status);
    api.signer.policy.judge(principal, None, operation).map_err(Rejection::from)?;
    Ok(json(StatusCode::OK, &describe(&api.loader.reload_state())))
}

fn describe(state: &ReloadState) -> Value {
    match state {
        ReloadState::Idle => value!({ "status": "idle" }),
        ReloadState::Running => value!({ "status": "running" }),
        ReloadState::Completed { at } => value!({ "status": "completed", "lastOperationTime": at }),
        ReloadState::CompletedWithErrors { at, error } => {
            value!({ "status": "completed_with_errors", "lastOperationTime": at, "lastError": error })
        }
        ReloadState::Failed { at, error } => {
            value!({ "status": "failed", "lastOperationTime": at, "lastError": error })
        }
    }
}
