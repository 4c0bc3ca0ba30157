//! From public keys to validator indices, which is what nodes know validators by.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_domain::{PublicKey, ValidatorIndex};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::uri::PathAndQuery;
use serde::Deserialize;

use crate::chain::decimal;
use crate::class::EndpointClass;
use crate::deadline::Deadline;
use crate::pool::{NodeView, Pool};
use crate::upstream::UpstreamRequest;

const PATH: &str = "/eth/v1/beacon/states/head/validators";
/// Keys asked about at once: a body of 100 kB.
const AT_ONCE: usize = 1_000;
/// A validator in an answer is about 500 bytes.
const BYTES_PER_KEY: usize = 2_048;
const BYTES_AROUND: usize = 4_096;

#[derive(Deserialize)]
struct Envelope {
    data: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(deserialize_with = "decimal")]
    index: u64,
    validator: Validator,
}

#[derive(Deserialize)]
struct Validator {
    pubkey: String,
}

impl Pool {
    /// The indices of these keys' validators at the head. A key that is not in the answer has none: its deposit is not
    /// there yet. `None` if no node answers for all of them in time.
    pub async fn validator_indices(&self, keys: &[PublicKey]) -> Option<BTreeMap<PublicKey, ValidatorIndex>> {
        let mut found = BTreeMap::new();
        for chunk in keys.chunks(AT_ONCE) {
            found.extend(self.chunk(chunk).await?);
        }
        Some(found)
    }

    /// As the best node that answers has it. One that may serve no duties is not asked: it may be behind the deposit.
    async fn chunk(&self, keys: &[PublicKey]) -> Option<BTreeMap<PublicKey, ValidatorIndex>> {
        let ids: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let body = serde_json::to_vec(&serde_json::json!({ "ids": ids })).map(Bytes::from).ok()?;
        let wanted: BTreeSet<PublicKey> = keys.iter().copied().collect();
        for node in self.view().candidates(EndpointClass::Duty) {
            let deadline = self.deadline(EndpointClass::BigRead);
            if let Some(found) = ask(&node, body.clone(), &wanted, deadline).await {
                return Some(found);
            }
        }
        None
    }
}

/// `None` if the node fails, or answers with what was not asked for.
async fn ask(
    node: &NodeView,
    body: Bytes,
    wanted: &BTreeSet<PublicKey>,
    deadline: Deadline,
) -> Option<BTreeMap<PublicKey, ValidatorIndex>> {
    let mut request = UpstreamRequest::get_json(PathAndQuery::from_static(PATH), EndpointClass::BigRead);
    request.method = hyper::Method::POST;
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.body = body;
    let answer = node.upstream.call(request, deadline).await.ok()?;
    let status = answer.status;
    let limit = wanted.len().saturating_mul(BYTES_PER_KEY).saturating_add(BYTES_AROUND);
    let answer = answer.collect(limit, deadline).await.ok()?;
    if status != hyper::StatusCode::OK {
        return None;
    }
    let lines = serde_json::from_slice::<Envelope>(&answer.body).ok()?.data;
    let found = lines.into_iter().map(|line| {
        let key: PublicKey = line.validator.pubkey.parse().ok()?;
        wanted.contains(&key).then_some((key, ValidatorIndex(line.index)))
    });
    found.collect()
}
