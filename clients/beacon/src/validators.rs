//! `GET /eth/v1/beacon/states/head/validators` (Beacon API): which index a key has, and whether it is still in the set.

use std::time::Duration;

use holdfast_domain::root::parse_hex;
use holdfast_domain::{PublicKey, ValidatorIndex};
use hyper::StatusCode;
use hyper::http::uri::PathAndQuery;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use tokio::time::Instant;

use crate::BeaconError;
use crate::chain::decimal;
use crate::class::EndpointClass;
use crate::upstream::{Upstream, UpstreamConfig, UpstreamRequest};

const PATH: &str = "/eth/v1/beacon/states/head/validators";
/// Validators in one question: with public keys an address of some 6 kB.
const CHUNK: usize = 60;
/// From sending a question to the last byte of its answer; some nodes read a state from disk for it.
const TIMEOUT: Duration = Duration::from_secs(30);
/// An entry has some 600 bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// How a validator is named in a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidatorId {
    /// By its index.
    Index(ValidatorIndex),
    /// By its key.
    Key(PublicKey),
}

/// A validator of the beacon state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validator {
    /// Its index.
    pub index: ValidatorIndex,
    /// Its key.
    pub key: PublicKey,
    /// Its status, in the words of the Beacon API: `active_ongoing`, `active_exiting`, …
    pub status: String,
}

impl Validator {
    /// Whether it left already, or is on its way out.
    pub fn leaves(&self) -> bool {
        ["active_exiting", "active_slashed", "exited", "withdrawal"].iter().any(|word| self.status.starts_with(word))
    }
}

/// Asks the beacon node at `url` for validators. Those it does not know are missing in the answer.
///
/// # Errors
/// [`BeaconError`] if the address is unusable, the node does not answer in time, or the answer is something else. Asking
/// again is safe.
pub async fn fetch_validators(url: &str, ids: &[ValidatorId]) -> Result<Vec<Validator>, BeaconError> {
    let config = UpstreamConfig::from_url(url).map_err(BeaconError::Config)?;
    let upstream = Upstream::standalone(config).map_err(BeaconError::Config)?;
    let call = |source| BeaconError::Call { path: PATH, source };
    let mut found = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        let deadline = Instant::now() + TIMEOUT;
        let words: Vec<String> = chunk
            .iter()
            .map(|id| match id {
                ValidatorId::Index(index) => format!("id={index}", index = index.0),
                ValidatorId::Key(key) => format!("id={key}"),
            })
            .collect();
        // One parameter each, as the standard says: not every client splits a list.
        let path = PathAndQuery::try_from(format!("{PATH}?{}", words.join("&")));
        let path = path.map_err(|_| call(crate::CallError::Request))?;
        let request = UpstreamRequest::get_json(path, EndpointClass::NodeInfo);
        let answer = upstream.probe(request, deadline).await.map_err(call)?;
        let status = answer.status;
        let answer = answer.collect(MAX_BODY_BYTES, deadline).await.map_err(call)?;
        if status != StatusCode::OK {
            return Err(BeaconError::Status { status: status.as_u16(), path: PATH });
        }
        let read: Answer =
            serde_json::from_slice(&answer.body).map_err(|source| BeaconError::Content { path: PATH, source })?;
        found.extend(read.data.into_iter().map(|entry| Validator {
            index: ValidatorIndex(entry.index),
            key: entry.validator.pubkey,
            status: entry.status,
        }));
    }
    Ok(found)
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(deserialize_with = "decimal")]
    index: u64,
    status: String,
    validator: Keyed,
}

#[derive(Deserialize)]
struct Keyed {
    #[serde(deserialize_with = "key")]
    pubkey: PublicKey,
}

fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PublicKey, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes =
        parse_hex::<48>(&text).ok_or_else(|| D::Error::custom("pubkey: expected 0x and 96 hexadecimal digits"))?;
    Ok(PublicKey::from_bytes(bytes))
}
