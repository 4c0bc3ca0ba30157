//! The Keymanager API (ethereum/keymanager-APIs): keystores in and out over HTTP.
//!
//! Every route needs the bearer token, and nothing of a request is looked at before it. Passwords are
//! never repeated in an answer or a log line, so errors in a body are named by their place only.

mod bodies;
mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_access::Operation;
use holdfast_domain::PublicKey;
use holdfast_slashing_db::Tombstone;
use holdfast_slashing_db::interchange::{read, write};
use hyper::body::{Body, Bytes};
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json as value};

pub(crate) use error::KeymanagerError;

use super::error::ApiError;
use super::reply::{Reply, json};
use super::{Api, body};
use crate::callers::Principal;
use crate::keymanager::{Access, Deleted, ImportStatus, KeyManager};
use crate::outcome::chain;
use crate::pipeline::Rejection;
use crate::policy::Judging;
use bodies::{DeleteBody, ImportBody, RemoteKeysBody};

/// What a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    /// `/eth/v1/keystores`
    Keystores,
    /// `/eth/v1/remotekeys`
    RemoteKeys,
    /// `/eth/v1/validator/{pubkey}/…`: the business of a validator client.
    Validator,
}

impl Resource {
    /// The resource at a path, if it is of this API.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/eth/v1/keystores" => Some(Self::Keystores),
            "/eth/v1/remotekeys" => Some(Self::RemoteKeys),
            _ => {
                let (_, last) = path.strip_prefix("/eth/v1/validator/")?.split_once('/')?;
                matches!(last, "feerecipient" | "gas_limit" | "graffiti" | "voluntary_exit").then_some(Self::Validator)
            }
        }
    }
}

/// Answers a request of this API.
pub(super) async fn answer<B>(
    api: &Arc<Api>,
    manager: &Arc<KeyManager>,
    resource: Resource,
    request: Request<B>,
) -> Result<Reply, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let header = request.headers().get(AUTHORIZATION).map(hyper::header::HeaderValue::as_bytes);
    let principal = match manager.token().judge(header) {
        Access::Granted => Arc::clone(manager.principal()),
        Access::Missing => return Err(KeymanagerError::TokenMissing.into()),
        Access::Wrong => return Err(KeymanagerError::TokenWrong.into()),
        Access::TooMany => return Err(KeymanagerError::TooManyFailures.into()),
    };
    let method = request.method().clone();
    let operation = if method == Method::GET || method == Method::HEAD {
        Operation::KeymanagerRead
    } else {
        Operation::KeymanagerWrite
    };
    let policy = api.signer.policy.now();
    policy.judge(&principal, None, operation).map_err(Rejection::from)?;
    match resource {
        Resource::Validator => Err(KeymanagerError::NotASigners.into()),
        Resource::Keystores if method == Method::GET || method == Method::HEAD => {
            list(manager, &policy, &principal).await
        }
        Resource::Keystores if method == Method::POST => import(api, manager, &principal, request).await,
        Resource::Keystores if method == Method::DELETE => delete(api, manager, &principal, request).await,
        Resource::RemoteKeys if method == Method::GET || method == Method::HEAD => {
            Ok(json(StatusCode::OK, &value!({ "data": [] })))
        }
        Resource::RemoteKeys if method == Method::POST || method == Method::DELETE => {
            remote_keys(api, &method, request).await
        }
        Resource::Keystores | Resource::RemoteKeys => {
            Err(ApiError::MethodNotAllowed { allow: "GET, HEAD, POST, DELETE" })
        }
    }
}

/// Every key held here that the caller may see, ascending, with the members that Web3Signer always sends.
async fn list(manager: &KeyManager, policy: &Judging<'_>, principal: &Principal) -> Result<Reply, ApiError> {
    let keys = manager.list().await.map_err(KeymanagerError::Database)?;
    let keys = policy.filter(principal, Operation::KeymanagerRead, keys, |key| key);
    let data: Vec<Value> = keys
        .iter()
        .map(|key| value!({ "validating_pubkey": key.to_string(), "derivation_path": "", "readonly": false }))
        .collect();
    Ok(json(StatusCode::OK, &value!({ "data": data })))
}

async fn import<B>(
    api: &Api,
    manager: &Arc<KeyManager>,
    principal: &Arc<Principal>,
    request: Request<B>,
) -> Result<Reply, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (head, incoming) = request.into_parts();
    // An extension: whoever asks for this has made sure that the deleted key signs nowhere else.
    let tombstone = match head.uri.query() {
        Some("replace_tombstone=true") => Tombstone::Replace,
        Some(_) | None => Tombstone::Refuse,
    };
    let bytes = body::read(&head.headers, incoming, api.body_bounds).await?;
    let ImportBody { wanted, slashing_protection } = ImportBody::parse(&bytes)?;
    drop(bytes);
    let histories = match slashing_protection {
        None => None,
        Some(text) => {
            let interchange = read(text.as_bytes(), manager.network()).map_err(KeymanagerError::SlashingProtection)?;
            Some(interchange)
        }
    };
    let statuses = manager.import(wanted, histories, tombstone, principal).await.map_err(KeymanagerError::Database)?;
    let data: Vec<Value> = statuses
        .into_iter()
        .map(|status| match status {
            ImportStatus::Imported => value!({ "status": "imported" }),
            ImportStatus::Duplicate(message) => value!({ "status": "duplicate", "message": message }),
            ImportStatus::Error(message) => value!({ "status": "error", "message": message }),
        })
        .collect();
    Ok(json(StatusCode::OK, &value!({ "data": data })))
}

async fn delete<B>(
    api: &Api,
    manager: &Arc<KeyManager>,
    principal: &Arc<Principal>,
    request: Request<B>,
) -> Result<Reply, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (head, incoming) = request.into_parts();
    let bytes = body::read(&head.headers, incoming, api.body_bounds).await?;
    let keys = DeleteBody::parse(&bytes)?;
    // Each key is judged once, however often it is named, and all by the same policy.
    let policy = api.signer.policy.now();
    let mut refused: BTreeMap<PublicKey, String> = BTreeMap::new();
    for key in keys.iter().collect::<BTreeSet<_>>() {
        if let Err(refusal) = policy.judge(principal, Some(key), Operation::KeymanagerWrite) {
            refused.insert(*key, refusal.to_string());
        }
    }
    let allowed: Vec<PublicKey> = keys.iter().filter(|key| !refused.contains_key(*key)).copied().collect();
    let (data, histories) = match manager.delete(allowed, principal).await {
        Ok(deleted) => {
            let histories = deleted.known.iter().map(|(key, one)| (*key, one.watermarks)).collect();
            (statuses(&keys, deleted, &refused), histories)
        }
        Err(error) => {
            let message = chain(&error);
            let failed = keys.iter().map(|_| value!({ "status": "error", "message": message })).collect();
            (failed, BTreeMap::new())
        }
    };
    let mut text = Vec::new();
    write(&mut text, manager.network(), &histories).map_err(|_| ApiError::Internal)?;
    let text = String::from_utf8(text).map_err(|_| ApiError::Internal)?;
    Ok(json(StatusCode::OK, &value!({ "data": data, "slashing_protection": text })))
}

/// The status of each key asked for: of a repeated one, only the first was there to be deleted.
fn statuses(keys: &[PublicKey], mut deleted: Deleted, refused: &BTreeMap<PublicKey, String>) -> Vec<Value> {
    keys.iter()
        .map(|key| match deleted.known.get_mut(key) {
            None => match refused.get(key) {
                Some(message) => value!({ "status": "error", "message": message }),
                None => value!({ "status": "not_found" }),
            },
            Some(known) if known.had_secret => {
                known.had_secret = false;
                value!({ "status": "deleted" })
            }
            Some(_) => value!({ "status": "not_active", "message": "the key is not held here, its history is" }),
        })
        .collect()
}

async fn remote_keys<B>(api: &Api, method: &Method, request: Request<B>) -> Result<Reply, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (head, incoming) = request.into_parts();
    let bytes = body::read(&head.headers, incoming, api.body_bounds).await?;
    let count = RemoteKeysBody::count(&bytes, method)?;
    let message = "this is a signer: it holds keys itself and asks no other signer for signatures; \
         import the keystore instead (POST /eth/v1/keystores)";
    let status = if *method == Method::POST { "error" } else { "not_found" };
    let data = vec![value!({ "status": status, "message": message }); count];
    Ok(json(StatusCode::OK, &value!({ "data": data })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let table = [
            ("/eth/v1/keystores", Some(Resource::Keystores)),
            ("/eth/v1/remotekeys", Some(Resource::RemoteKeys)),
            ("/eth/v1/validator/0xab/feerecipient", Some(Resource::Validator)),
            ("/eth/v1/validator/0xab/gas_limit", Some(Resource::Validator)),
            ("/eth/v1/validator/0xab/graffiti", Some(Resource::Validator)),
            ("/eth/v1/validator/0xab/voluntary_exit", Some(Resource::Validator)),
            ("/eth/v1/validator/0xab/other", None),
            ("/eth/v1/validator/0xab", None),
            ("/eth/v1/keystores/", None),
            ("/eth/v2/keystores", None),
        ];
        for (path, resource) in table {
            assert_eq!(Resource::at(path), resource, "{path}");
        }
    }
}
