//! `POST /api/v1/eth2/sign`: one message for many keys (remote-signing-api pull request 29).
//!
//! Policy may refuse batches as such. Each key is a request of its own: judged, recorded and answered
//! separately, in the order asked. The whole answer is 200; what failed says so in its item.

use std::sync::Arc;

use holdfast_access::Operation;
use holdfast_domain::PublicKey;
use holdfast_wire::BatchItem;
use holdfast_wire::web3signer::BatchRequest;
use hyper::body::{Body, Bytes};
use hyper::{Request, StatusCode};
use tokio::task::JoinSet;

use super::error::ApiError;
use super::reply::{Reply, json};
use super::{Api, body};
use crate::callers::Principal;
use crate::pipeline::Rejection;
use crate::traces::Course;

/// Keys of one batch that are in progress at once, so that one batch cannot fill the queues alone.
const MAX_IN_PROGRESS: usize = 4_096;

/// Signs one message with every key named.
pub(super) async fn sign<B>(
    api: &Arc<Api>,
    principal: &Arc<Principal>,
    request: Request<B>,
    course: &Course,
) -> Result<Reply, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    api.signer.policy.judge(principal, None, Operation::Batch).map_err(Rejection::from)?;
    let step = course.step("read");
    let (head, incoming) = request.into_parts();
    let body = body::read(&head.headers, incoming, api.body_bounds).await?;
    let batch = BatchRequest::parse(&body, &api.signer.network)?;
    drop((body, step));
    Ok(json(StatusCode::OK, &sign_all(api, principal, batch, course).await))
}

/// An item of the answer while its request is in progress.
enum Slot {
    Pending(PublicKey),
    Done(BatchItem),
}

/// Starts every key's request, a bounded number at a time. Dropping the returned future, as when
/// the client leaves, drops all of them.
async fn sign_all(api: &Arc<Api>, principal: &Arc<Principal>, batch: BatchRequest, course: &Course) -> Vec<BatchItem> {
    let request = Arc::new(batch.request);
    let mut slots = Vec::with_capacity(batch.identifiers.len());
    let mut running = JoinSet::new();
    for (index, identifier) in batch.identifiers.into_iter().enumerate() {
        let key = match identifier {
            Ok(key) => key,
            Err(bad) => {
                slots.push(Slot::Done(failed(bad.0.to_string(), &ApiError::NotAKey(bad))));
                continue;
            }
        };
        slots.push(Slot::Pending(key));
        if running.len() >= MAX_IN_PROGRESS {
            finish_one(&mut running, &mut slots).await;
        }
        let (api, principal, request) = (Arc::clone(api), Arc::clone(principal), Arc::clone(&request));
        let course = course.step("sign");
        running.spawn(async move {
            let item = match api.signer.sign(&principal, key, &request, course).await {
                Ok(signature) => BatchItem::Signed { identifier: key, signature: *signature.as_bytes() },
                Err(rejection) => failed(key.to_string(), &rejection.into()),
            };
            (index, item)
        });
    }
    while !running.is_empty() {
        finish_one(&mut running, &mut slots).await;
    }
    slots
        .into_iter()
        .map(|slot| match slot {
            Slot::Done(item) => item,
            // Its task panicked; the others are not concerned.
            Slot::Pending(key) => failed(key.to_string(), &ApiError::Internal),
        })
        .collect()
}

async fn finish_one(running: &mut JoinSet<(usize, BatchItem)>, slots: &mut [Slot]) {
    if let Some(Ok((index, item))) = running.join_next().await
        && let Some(slot) = slots.get_mut(index)
    {
        *slot = Slot::Done(item);
    }
}

fn failed(identifier: String, error: &ApiError) -> BatchItem {
    BatchItem::Failed { identifier, error: error.body() }
}
