//! Epoch leases: witnesses, requests for them, what they granted, and checkpoints.

use holdfast_domain::Epoch;

use super::{ONLY_LIST, array, at_most, name, unpack};
use crate::error::Malformed;
use crate::frame::Operation;
use crate::limits::{MAX_NAME, MAX_PAGE, MAX_WITNESS_MESSAGE, MAX_WITNESSES};
use crate::message::{Answer, LeaseNews, LeaseReport, Request};
use crate::v1;

/// Where lists are in their messages (vault.proto).
const WITNESSES: u32 = 2;
const ASKED_VERSIONS: u32 = 2;

pub(super) fn pack_witnesses(group: &str, witnesses: &[[u8; 32]], quorum: usize) -> Option<v1::Witnesses> {
    let within = witnesses.len() <= MAX_WITNESSES && group.len() <= MAX_NAME;
    within.then_some(())?;
    let keys = witnesses.iter().map(|key| key.to_vec()).collect();
    Some(v1::Witnesses { group: group.to_owned(), witnesses: keys, quorum: u32::try_from(quorum).ok()? })
}

pub(super) fn versions(versions: &[u64]) -> Option<Vec<u64>> {
    (versions.len() <= MAX_WITNESSES).then(|| versions.to_vec())
}

pub(super) fn messages(messages: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let fits = |message: &Vec<u8>| message.len() <= MAX_WITNESS_MESSAGE;
    (messages.len() <= MAX_WITNESSES && messages.iter().all(fits)).then(|| messages.to_vec())
}

pub(super) fn pack_page(sealed: &[u8]) -> Option<v1::Page> {
    (sealed.len() <= MAX_PAGE).then(|| v1::Page { sealed: sealed.to_vec() })
}

pub(super) fn pack_report(report: LeaseReport) -> v1::Lease {
    let LeaseReport { held, news, good, resumed } = report;
    v1::Lease {
        after: held.map(|(after, _)| after.0),
        until: held.map(|(_, until)| until.0).unwrap_or_default(),
        news: news.code(),
        good,
        resumed,
    }
}

pub(super) fn read_request(operation: Operation, body: &[u8]) -> Result<Request, Malformed> {
    Ok(match operation {
        Operation::Witnesses => {
            at_most("witnesses", MAX_WITNESSES, WITNESSES, body)?;
            let v1::Witnesses { group, witnesses, quorum } = unpack(body)?;
            let witnesses = witnesses.iter().map(|key| array("witness", key)).collect::<Result<_, _>>()?;
            let quorum = usize::try_from(quorum).unwrap_or(usize::MAX);
            Request::Witnesses { group: name("group", group)?, witnesses, quorum }
        }
        Operation::AskLease => {
            few_versions(ASKED_VERSIONS, body)?;
            let v1::AskLease { until, versions } = unpack(body)?;
            Request::AskLease { until: Epoch(until), versions: counted(versions)? }
        }
        Operation::TakeLease => {
            at_most("grants", MAX_WITNESSES, ONLY_LIST, body)?;
            let v1::TakeLease { grants } = unpack(body)?;
            Request::TakeLease(bounded(grants)?)
        }
        Operation::ReleaseLease => {
            few_versions(ONLY_LIST, body)?;
            let v1::ReleaseLease { versions } = unpack(body)?;
            Request::ReleaseLease { versions: counted(versions)? }
        }
        Operation::FetchPage => {
            let v1::FetchPage { index } = unpack(body)?;
            Request::FetchPage(index)
        }
        Operation::OfferPage => Request::OfferPage(page(body)?),
        other => return Err(Malformed::Value { field: "operation", value: other.code().into() }),
    })
}

pub(super) fn read_answer(operation: Operation, body: &[u8]) -> Result<Answer, Malformed> {
    Ok(match operation {
        Operation::TakeLease => {
            let v1::Lease { after, until, news, good, resumed } = unpack(body)?;
            let unknown = Malformed::Value { field: "news", value: news.into() };
            Answer::Lease(LeaseReport {
                held: after.map(|after| (Epoch(after), Epoch(until))),
                news: LeaseNews::from_code(news).ok_or(unknown)?,
                good,
                resumed,
            })
        }
        Operation::FetchPage => Answer::Page(page(body)?),
        operation => {
            at_most("requests", MAX_WITNESSES, ONLY_LIST, body)?;
            let v1::Requests { requests, pages } = unpack(body)?;
            Answer::Requests { operation, requests: bounded(requests)?, pages }
        }
    })
}

/// A version takes at most ten bytes packed, and eleven by itself: the length bounds both.
fn few_versions(list: u32, body: &[u8]) -> Result<(), Malformed> {
    at_most("versions", MAX_WITNESSES, list, body)?;
    let longest = MAX_WITNESSES.saturating_add(2).saturating_mul(12);
    if body.len() > longest { Err(Malformed::TooMany { field: "versions", max: MAX_WITNESSES }) } else { Ok(()) }
}

fn counted(versions: Vec<u64>) -> Result<Vec<u64>, Malformed> {
    if versions.len() > MAX_WITNESSES {
        return Err(Malformed::TooMany { field: "versions", max: MAX_WITNESSES });
    }
    Ok(versions)
}

fn bounded(messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Malformed> {
    match messages.iter().find(|message| message.len() > MAX_WITNESS_MESSAGE) {
        Some(long) => Err(Malformed::Length { field: "message", len: long.len() }),
        None => Ok(messages),
    }
}

fn page(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let v1::Page { sealed } = unpack(body)?;
    if sealed.len() > MAX_PAGE { Err(Malformed::Length { field: "page", len: sealed.len() }) } else { Ok(sealed) }
}
