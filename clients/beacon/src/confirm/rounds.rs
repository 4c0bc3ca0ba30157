//! Asking the nodes what they would vote for: one round per slot, shared by everyone who signs in it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use holdfast_domain::{Epoch, Slot};
use hyper::http::uri::PathAndQuery;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::tally::{Confirmation, Electorate, Vote, Why, tally};
use crate::chain::Checkpoint;
use crate::class::EndpointClass;
use crate::decision::{Decision, DecisionKind};
use crate::network::PinnedNetwork;
use crate::pool::{NodeView, Pool};
use crate::upstream::UpstreamRequest;

/// Votes older than this are asked for again if they do not confirm: the block may have come since.
const FRESH: Duration = Duration::from_millis(250);
/// Far more than attestation data is.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// Votes as they come in.
#[derive(Debug, Clone, Default)]
struct Votes {
    cast: Vec<Vote>,
    done: bool,
}

#[derive(Debug, Clone)]
struct Round {
    slot: Slot,
    began: Instant,
    electorate: Electorate,
    votes: watch::Receiver<Votes>,
}

/// The newest round.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    newest: Mutex<Option<Round>>,
    reported: Mutex<Option<(Checkpoint, BTreeSet<&'static str>)>>,
}

impl Rounds {
    /// A thousand keys that vote for the same bring one line in the journal for each result.
    fn is_news(&self, target: Checkpoint, result: &'static str) -> bool {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *reported {
            Some((known, results)) if *known == target => results.insert(result),
            other => {
                *other = Some((target, BTreeSet::from([result])));
                true
            }
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    data: AttestationData,
}

#[derive(Deserialize)]
struct AttestationData {
    source: Checkpoint,
    target: Checkpoint,
}

impl Pool {
    /// Whether the quorum of distinct implementations says the same about a source and a target as an
    /// attestation that is about to be signed. Takes at most [`crate::Quorum::within`].
    pub async fn confirm_checkpoints(self: &Arc<Self>, source: Checkpoint, target: Checkpoint) -> Confirmation {
        let result = self.confirmation(source, target).await;
        self.metrics().checked(result.as_str());
        if self.rounds().is_news(target, result.as_str()) {
            let (kind, said) = match result {
                Confirmation::Confirmed { implementations } => {
                    (DecisionKind::CheckpointsConfirmed, format!("{implementations} implementations agree"))
                }
                Confirmation::Disagreed { implementations } => {
                    (DecisionKind::CheckpointsDisagreed, format!("{implementations} implementations say otherwise"))
                }
                Confirmation::Unknown(why) => (DecisionKind::CheckpointsUnknown, format!("not confirmed: {why:?}")),
            };
            let reason = format!("source {source}, target {target}: {said}");
            self.record_decision(Decision::general(kind, reason).for_class(EndpointClass::AttestationData));
        }
        result
    }

    async fn confirmation(self: &Arc<Self>, source: Checkpoint, target: Checkpoint) -> Confirmation {
        let Some(network) = self.network() else { return Confirmation::Unknown(Why::Nobody) };
        let Some(slot) = slot_to_ask(&network, self.slot(), target.epoch) else {
            return Confirmation::Unknown(Why::OtherEpoch);
        };
        let until = Instant::now() + self.config().quorum.within;
        let mut round = self.round(slot, None);
        loop {
            let finished = wait(&mut round, source, target, until).await;
            let stale = round.began.elapsed() >= FRESH && Instant::now() < until;
            match finished {
                Some(result @ Confirmation::Confirmed { .. }) => return result,
                // What was asked earlier may be out of date by now.
                Some(_) | None if stale => round = self.round(slot, Some(round.began)),
                Some(result) => return result,
                None if round.electorate.nodes == 0 => return Confirmation::Unknown(Why::Nobody),
                None => return Confirmation::Unknown(Why::TooFewAnswers),
            }
        }
    }

    /// The round of a slot; a new one if there is none, or none newer than `after`.
    fn round(self: &Arc<Self>, slot: Slot, after: Option<Instant>) -> Round {
        let mut newest = self.rounds().newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(round) = &*newest
            && round.slot == slot
            && after.is_none_or(|after| round.began > after)
        {
            return round.clone();
        }
        let view = self.view();
        let voters = view.everyone(EndpointClass::AttestationData);
        let quorum = self.config().quorum;
        let electorate = Electorate {
            nodes: voters.len(),
            implementations: view.distinct_vendors(),
            wanted: quorum.implementations,
        };
        let (sender, votes) = watch::channel(Votes::default());
        let began = Instant::now();
        self.tasks().spawn(collect(voters, slot, began + quorum.within, sender));
        let round = Round { slot, began, electorate, votes };
        *newest = Some(round.clone());
        round
    }
}

/// The slot nodes are asked about: this one, or the last of the epoch before.
fn slot_to_ask(network: &PinnedNetwork, now: Option<Slot>, epoch: Epoch) -> Option<Slot> {
    let now = now?;
    let slots = network.clock().slots_per_epoch;
    let current = now.epoch(slots);
    if epoch == current {
        return Some(now);
    }
    let begins = current.0.checked_mul(slots.get())?;
    (epoch.0.checked_add(1) == Some(current.0)).then_some(Slot(begins.checked_sub(1)?))
}

/// Waits until the votes are enough, all are in, or time is up; `None` if nothing is decided.
async fn wait(round: &mut Round, source: Checkpoint, target: Checkpoint, until: Instant) -> Option<Confirmation> {
    loop {
        let (result, done) = {
            let votes = round.votes.borrow_and_update();
            (tally(&votes.cast, round.electorate, source, target), votes.done)
        };
        if result.is_some() || done {
            return result;
        }
        match tokio::time::timeout_at(until, round.votes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_ended)) => return tally(&round.votes.borrow().cast, round.electorate, source, target),
            Err(_late) => return None,
        }
    }
}

async fn collect(voters: Vec<Arc<NodeView>>, slot: Slot, deadline: Instant, votes: watch::Sender<Votes>) {
    let mut answers: FuturesUnordered<_> = voters.iter().map(|voter| vote(voter, slot, deadline)).collect();
    while let Some(vote) = answers.next().await {
        if let Some(vote) = vote {
            votes.send_modify(|votes| votes.cast.push(vote));
        }
    }
    votes.send_modify(|votes| votes.done = true);
}

async fn vote(voter: &Arc<NodeView>, slot: Slot, deadline: Instant) -> Option<Vote> {
    let path =
        PathAndQuery::try_from(format!("/eth/v1/validator/attestation_data?slot={slot}&committee_index=0")).ok()?;
    let request = UpstreamRequest::get_json(path, EndpointClass::AttestationData);
    let answer = voter.upstream.call(request, deadline).await.ok()?;
    let status = answer.status;
    let answer = answer.collect(MAX_BODY_BYTES, deadline).await.ok()?;
    if status != hyper::StatusCode::OK {
        return None;
    }
    let data = serde_json::from_slice::<Envelope>(&answer.body).ok()?.data;
    Some(Vote { vendor: voter.vendor(), source: data.source, target: data.target })
}
