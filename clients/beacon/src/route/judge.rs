//! Whether a node's answer to a read may be given to the client, and what is given when none may.
//!
//! Why it exists: "the node answered" is not "the answer is right". What it guarantees: only a 2xx in one of the
//! Beacon API's media types that is whole (or, streamed, begins as it should) counts as good; of the
//! refusals the client gets the most telling one; a node's own trouble becomes 503, never a wrong answer.

use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header;
use serde::de::IgnoredAny;

use super::attestation::Form;
use super::request::ClientAnswer;
use crate::error::CallError;
use crate::upstream::{CollectedAnswer, UpstreamAnswer, UpstreamRequest};
use crate::{Deadline, NodeView};

/// Longest error body kept.
const MAX_ERROR_BYTES: usize = 256 * 1024;

/// Whether an answer is read whole before it is given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Up to so many bytes, and checked to be JSON if it says so.
    Whole(usize),
    /// Passed on as it comes, once its beginning looks right.
    Streaming,
}

/// A good answer.
#[derive(Debug)]
pub(super) enum Good {
    Whole(CollectedAnswer),
    Streaming(UpstreamAnswer, Option<Bytes>),
}

impl Good {
    pub(super) fn into_answer(self) -> ClientAnswer {
        match self {
            Self::Whole(answer) => ClientAnswer::collected(answer),
            Self::Streaming(answer, first) => ClientAnswer::streamed(answer, first, None),
        }
    }
}

/// An answer that is not given out while another node may have a better one. Ordered: the greater tells
/// the client more.
#[derive(Debug)]
pub(super) enum Bad {
    /// No answer, or one that is broken.
    Broken(String),
    /// The node's own trouble: 5xx, 429, 401, 3xx.
    Trouble(StatusCode),
    /// The node does not know the route or the form: 404 with no message counts as not found.
    Unsupported(Box<CollectedAnswer>),
    /// Not found.
    NotFound(Box<CollectedAnswer>),
    /// The request is wrong, says the node.
    Refused(Box<CollectedAnswer>),
}

impl Bad {
    const fn rank(&self) -> u8 {
        match self {
            Self::Broken(_) => 0,
            Self::Trouble(_) => 1,
            Self::Unsupported(_) => 2,
            Self::NotFound(_) => 3,
            Self::Refused(_) => 4,
        }
    }
}

/// Asks a node and judges.
pub(super) async fn ask(
    node: &Arc<NodeView>,
    request: UpstreamRequest,
    reading: Reading,
    deadline: Deadline,
) -> Result<Good, Bad> {
    let answer = node.upstream.call(request, deadline).await.map_err(|error| broken(&error))?;
    judge(answer, reading, deadline).await
}

fn broken(error: &CallError) -> Bad {
    Bad::Broken(error.to_string())
}

/// Judges an answer.
pub(super) async fn judge(answer: UpstreamAnswer, reading: Reading, deadline: Deadline) -> Result<Good, Bad> {
    let status = answer.status;
    if status == StatusCode::NO_CONTENT {
        return collect(answer, MAX_ERROR_BYTES, deadline).await.map(Good::Whole);
    }
    if !status.is_success() {
        return Err(refusal(answer, deadline).await);
    }
    let form = form_of(&answer);
    match (form, reading) {
        (Err(bad), _) => Err(bad),
        (Ok(form), Reading::Whole(limit)) => {
            let collected = collect(answer, limit, deadline).await?;
            if form == Form::Json && serde_json::from_slice::<IgnoredAny>(&collected.body).is_err() {
                return Err(Bad::Broken("not JSON".to_owned()));
            }
            Ok(Good::Whole(collected))
        }
        (Ok(form), Reading::Streaming) => begin(answer, form, deadline).await,
    }
}

/// The form of a successful answer. A node that says nothing about it has written JSON or nothing.
fn form_of(answer: &UpstreamAnswer) -> Result<Form, Bad> {
    match answer.headers.get(header::CONTENT_TYPE) {
        None => Ok(Form::Json),
        Some(value) => value
            .to_str()
            .ok()
            .and_then(Form::of_content_type)
            .ok_or_else(|| Bad::Broken("neither JSON nor SSZ; is this a beacon node?".to_owned())),
    }
}

/// Waits for the first bytes of a body.
async fn begin(mut answer: UpstreamAnswer, form: Form, deadline: Deadline) -> Result<Good, Bad> {
    let first = match tokio::time::timeout_at(deadline.end, answer.body.frame()).await {
        Err(_late) => return Err(Bad::Broken("the body did not begin in time".to_owned())),
        Ok(None) => None,
        Ok(Some(Err(error))) => return Err(broken(&error)),
        Ok(Some(Ok(frame))) => frame.into_data().ok(),
    };
    let begins = first.as_ref().and_then(|bytes| bytes.iter().find(|byte| !byte.is_ascii_whitespace()));
    match (form, begins) {
        (Form::Json, Some(b'{' | b'[')) | (Form::Ssz, Some(_)) => Ok(Good::Streaming(answer, first)),
        // Compressed bodies do not begin like JSON.
        (Form::Json, Some(_)) if answer.headers.contains_key(header::CONTENT_ENCODING) => {
            Ok(Good::Streaming(answer, first))
        }
        (Form::Json, Some(_)) => Err(Bad::Broken("not JSON".to_owned())),
        (Form::Json | Form::Ssz, None) => Err(Bad::Broken("nothing in it".to_owned())),
    }
}

pub(super) async fn collect(answer: UpstreamAnswer, limit: usize, deadline: Deadline) -> Result<CollectedAnswer, Bad> {
    answer.collect(limit, deadline).await.map_err(|error| broken(&error))
}

/// Reads a refusal.
pub(super) async fn refusal(answer: UpstreamAnswer, deadline: Deadline) -> Bad {
    let status = answer.status;
    let kind: fn(Box<CollectedAnswer>) -> Bad = match status.as_u16() {
        404 => Bad::NotFound,
        405 | 406 | 415 | 501 => Bad::Unsupported,
        400 | 403 | 409..=414 | 416..=424 => Bad::Refused,
        _ => return Bad::Trouble(status),
    };
    match collect(answer, MAX_ERROR_BYTES, deadline).await {
        Ok(answer) => kind(Box::new(answer)),
        Err(_) => Bad::Trouble(status),
    }
}

/// What the client is told when no node gave a good answer.
pub(super) fn worst_case(bad: Vec<(String, Bad)>) -> ClientAnswer {
    let reasons: Vec<String> = bad
        .iter()
        .map(|(name, bad)| match bad {
            Bad::Broken(reason) => format!("{name}: {reason}"),
            Bad::Trouble(status) => format!("{name}: {status}"),
            Bad::Unsupported(answer) | Bad::NotFound(answer) | Bad::Refused(answer) => {
                format!("{name}: {}", answer.status)
            }
        })
        .collect();
    let telling = bad.into_iter().map(|(_, bad)| bad).max_by_key(Bad::rank);
    match telling {
        Some(Bad::Refused(answer) | Bad::NotFound(answer) | Bad::Unsupported(answer)) => error_as_json(*answer),
        Some(Bad::Trouble(_) | Bad::Broken(_)) => {
            let message = format!("no consensus client could answer; try again. {}", reasons.join("; "));
            ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message)
        }
        None => nobody(),
    }
}

/// There is no node to ask.
pub(super) fn nobody() -> ClientAnswer {
    let message = "no consensus client is fit to answer this; see `holdfast switcher status`";
    ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// A node's error, as it is if it is JSON; errors stay JSON whatever was asked for.
fn error_as_json(answer: CollectedAnswer) -> ClientAnswer {
    if serde_json::from_slice::<IgnoredAny>(&answer.body).is_ok() {
        return ClientAnswer::with_body(answer.status, Form::Json, answer.body);
    }
    let text: String = String::from_utf8_lossy(&answer.body).chars().filter(|c| !c.is_control()).take(300).collect();
    let message = if text.is_empty() { format!("the consensus client answered {}", answer.status) } else { text };
    ClientAnswer::error(answer.status, message)
}
