//! Attestation data and payload attestation data: asked of all nodes, given out when a quorum agrees.
//!
//! What it guarantees: a client never gets source and target that lack the quorum (unless the operator chose
//! otherwise); all clients get one value per slot while the head stays the same; simultaneous requests share one vote,
//! and its failure where there is no time for another; the winning node's bytes are given as they are where the client
//! takes that form. Nodes that disagree are asked again while there is time, and so are those of a quorum that another
//! node's newer block has overtaken: the first block of an epoch changes the target and reaches one before the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use holdfast_domain::Slot;
use hyper::body::Bytes;
use hyper::{HeaderMap, StatusCode};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::attestation::{AttestationData, Form, PayloadAttestationData};
use super::fan::form_of;
use super::judge::{Bad, nobody, worst_case};
use super::path::query_number;
use super::request::{ClientAnswer, ClientBody, ClientRequest};
use super::table::Endpoint;
use super::vote::{Ballot, Standing, Voter, majority, stand};
use super::{NoQuorum, Switcher};
use crate::decision::{Decision, DecisionKind};
use crate::health::Eligibility;
use crate::upstream::CollectedAnswer;
use crate::{BlockRoot, DutyPoint, NodeView, UpstreamId, Vendor};

/// Attestation data in JSON is under 1 kB.
const MAX_BYTES: usize = 64 * 1024;
/// Votes kept: some slots, heads and committees.
const VOTES_KEPT: usize = 512;

/// What a vote is about: everything on which the value may depend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct VoteKey {
    slot: Slot,
    /// Before Electra the value depends on it; later it is not asked for or 0.
    committee_index: Option<u64>,
    /// The pool's head when asked.
    head: Option<BlockRoot>,
    /// Counts heads and, from Gloas, changes of their payload's status.
    head_changes: u64,
}

/// A value that won.
#[derive(Debug)]
struct Voted {
    data: AttestationData,
    answer: CollectedAnswer,
}

/// Why a vote has no winner, as the client was told.
#[derive(Debug)]
struct Failure {
    ended: Instant,
    headers: HeaderMap,
    body: Option<Bytes>,
}

/// A vote, and how it failed last.
#[derive(Debug, Default)]
struct Vote {
    voted: OnceCell<Voted>,
    failure: Mutex<Option<Failure>>,
}

impl Vote {
    /// Keeps a failure for those who waited. One that may come of how it was asked for is nobody else's.
    fn failed(&self, answer: &ClientAnswer) {
        if let (StatusCode::SERVICE_UNAVAILABLE, ClientBody::Whole(body)) = (answer.status, &answer.body) {
            let failure = Failure { ended: Instant::now(), headers: answer.headers.clone(), body: body.clone() };
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        }
    }

    /// The failure of a vote that has ended since.
    fn failed_since(&self, came: Instant) -> Option<ClientAnswer> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = failure.as_ref().filter(|failure| failure.ended >= came)?;
        let (headers, body) = (failure.headers.clone(), ClientBody::Whole(failure.body.clone()));
        Some(ClientAnswer { status: StatusCode::SERVICE_UNAVAILABLE, headers, body })
    }
}

/// Votes taken or being taken.
#[derive(Debug, Default)]
pub(super) struct VotedAnswers(Mutex<HashMap<VoteKey, Arc<Vote>>>);

impl VotedAnswers {
    fn vote(&self, key: &VoteKey) -> Arc<Vote> {
        let mut votes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if votes.len() >= VOTES_KEPT {
            let newest = votes.keys().map(|key| key.slot).max().unwrap_or(key.slot);
            votes.retain(|key, _| key.slot.0.saturating_add(1) >= newest.0);
            if votes.len() >= VOTES_KEPT {
                votes.clear();
            }
        }
        Arc::clone(votes.entry(key.clone()).or_default())
    }
}

/// What nodes said last, with the answers in which they did, in the same order.
#[derive(Default)]
struct Ballots {
    cast: Vec<Ballot<Vendor>>,
    answers: Vec<CollectedAnswer>,
}

impl Ballots {
    /// Counts what a node says, instead of what it said before.
    fn cast(&mut self, ballot: Ballot<Vendor>, answer: CollectedAnswer) {
        let before = self.cast.iter().position(|cast| cast.voter.upstream == ballot.voter.upstream);
        if let Some((cast, answered)) =
            before.and_then(|place| Some((self.cast.get_mut(place)?, self.answers.get_mut(place)?)))
        {
            (*cast, *answered) = (ballot, answer);
        } else {
            self.cast.push(ballot);
            self.answers.push(answer);
        }
    }

    fn is_empty(&self) -> bool {
        self.cast.is_empty()
    }
}

/// Whether somebody of another opinion has seen a newer block than the winner: then those who agree with the winner may only
/// be late. An epoch's first block changes the target, and most nodes do not have it yet when the first one tells of it.
fn is_overtaken(ballots: &[Ballot<Vendor>], winner: usize, slot_of: impl Fn(&BlockRoot) -> Option<Slot>) -> bool {
    let Some(winner) = ballots.get(winner).map(|ballot| &ballot.data) else { return false };
    let seen = slot_of(&winner.beacon_block_root);
    ballots.iter().map(|ballot| &ballot.data).any(|other| {
        (other.source, other.target) != (winner.source, winner.target) && slot_of(&other.beacon_block_root) > seen
    })
}

fn voter(node: &NodeView) -> Voter<Vendor> {
    let vendor = Some(node.vendor()).filter(|vendor| *vendor != Vendor::Other);
    Voter { upstream: node.id(), vendor }
}

impl Switcher {
    pub(super) async fn vote_attestation(&self, endpoint: Endpoint, request: &ClientRequest) -> ClientAnswer {
        let Ok(Some(slot)) = query_number(request.query(), "slot") else {
            return ClientAnswer::error(StatusCode::BAD_REQUEST, "slot: give a number in the query");
        };
        let Ok(committee_index) = query_number(request.query(), "committee_index") else {
            return ClientAnswer::error(StatusCode::BAD_REQUEST, "committee_index: not a number");
        };
        let key = VoteKey {
            slot: Slot(slot),
            committee_index,
            head: self.pool.view().best_head().and_then(|head| head.root),
            head_changes: self.events.head_changes(),
        };
        let vote = self.voted.vote(&key);
        let vote: &Vote = &vote;
        let waits = (Instant::now(), self.pool.deadline(endpoint.class()).due);
        // Whoever comes first votes; if its client leaves, the next one waiting takes over.
        match vote.voted.get_or_try_init(|| self.hold_or_share(endpoint, request, Slot(slot), vote, waits)).await {
            Ok(voted) => in_accepted_form(request, voted),
            Err(answer) => *answer,
        }
    }

    /// Holds a vote, unless one has failed while this client waited and its own answer is due before nodes would be asked
    /// again: clients that wait would otherwise hold it again one after the other, each for a quarter of a slot.
    async fn hold_or_share(
        &self,
        endpoint: Endpoint,
        request: &ClientRequest,
        slot: Slot,
        vote: &Vote,
        (came, due): (Instant, Instant),
    ) -> Result<Voted, Box<ClientAnswer>> {
        if due <= Instant::now() + self.slot_length() / 40
            && let Some(failure) = vote.failed_since(came)
        {
            return Err(Box::new(failure));
        }
        let held = self.hold_vote(endpoint, request, slot).await;
        if let Err(answer) = &held {
            vote.failed(answer);
        }
        held
    }

    async fn hold_vote(
        &self,
        endpoint: Endpoint,
        request: &ClientRequest,
        slot: Slot,
    ) -> Result<Voted, Box<ClientAnswer>> {
        let class = endpoint.class();
        let view = self.pool.view();
        let best_head = view.best_head().and_then(|head| head.root);
        let nodes = fit_for_vote(&view.everyone(class), class);
        if nodes.is_empty() {
            return Err(Box::new(nobody()));
        }
        let (now, slot_length) = (Instant::now(), self.slot_length());
        let pause = slot_length / 40;
        // From the cap on, nodes that have not answered are not waited for; if nothing is decided then,
        // the first decision until the deadline is taken.
        let deadline = self.pool.deadline(class);
        let cap = (now + slot_length / 12).min(deadline.due);
        // Until then nodes that disagree are asked again. Whoever takes any node's word rather than none is not kept waiting.
        let patience = if self.config.no_quorum == NoQuorum::Refuse { deadline.due } else { cap };
        // Until then nodes that are behind are, if that may change the answer: until votes are made, or for a moment after.
        let moment = now + slot_length / 6;
        let catching_up = self.time_of_vote(slot).map_or(moment, |due| due.max(moment)).min(deadline.due);
        let ask = |node: &Arc<NodeView>| self.ask_one(endpoint, request, Arc::clone(node), MAX_BYTES, deadline);
        let mut asked: FuturesUnordered<_> = nodes.iter().map(ask).collect();
        // Who has not answered yet: at all, so that it counts, and what it was asked last.
        let mut outstanding: Vec<Voter<Vendor>> = nodes.iter().map(|node| voter(node)).collect();
        let mut waiting: Vec<UpstreamId> = nodes.iter().map(|node| node.id()).collect();
        let mut ballots = Ballots::default();
        let mut bad: Vec<(String, Bad)> = Vec::new();
        let (mut until, mut again) = (cap, None);
        let mut won = None;
        loop {
            let wake = again.map_or(until, |again| until.min(again));
            tokio::select! {
                biased;
                Some((node, told)) = asked.next() => {
                    outstanding.retain(|voter| voter.upstream != node.id());
                    waiting.retain(|id| *id != node.id());
                    match told.and_then(|answer| self.ballot(&answer, slot).map(|data| (data, answer))) {
                        Ok((data, answer)) => ballots.cast(Ballot { voter: voter(&node), data }, answer),
                        Err(reason) => bad.push((node.upstream.name().to_string(), reason)),
                    }
                }
                () = tokio::time::sleep_until(wake) => {
                    if again.take().is_some_and(|again| again < until) {
                        for node in &nodes {
                            if !waiting.contains(&node.id()) {
                                waiting.push(node.id());
                                asked.push(ask(node));
                            }
                        }
                        continue;
                    }
                    // Who has answers that disagree says so when they are due; only with none is it worth more.
                    let last = if ballots.is_empty() { deadline.end } else { deadline.due };
                    if won.is_some() || until >= last {
                        break;
                    }
                    outstanding.clear();
                    until = last;
                }
            }
            let next = Instant::now() + pause;
            won = None;
            match stand(self.config.vote, &ballots.cast, &outstanding, |root| self.events.slot_of(root)) {
                Standing::Won(position) => {
                    won = Some(position);
                    let head = ballots.cast.get(position).map(|ballot| ballot.data.beacon_block_root);
                    if next < catching_up && is_overtaken(&ballots.cast, position, |root| self.events.slot_of(root)) {
                        again.get_or_insert(next);
                        until = catching_up;
                    } else if outstanding.is_empty() || (head.is_some() && head == best_head) {
                        break;
                    } else {
                        // A moment for a fresher head.
                        until = until.min(Instant::now() + slot_length / 80);
                    }
                }
                Standing::Open | Standing::Lost if ballots.is_empty() => {}
                Standing::Open | Standing::Lost if outstanding.is_empty() && next < patience => {
                    again.get_or_insert(next);
                    until = patience;
                }
                // What is still to come may be what a quorum lacks, but answers that are there do not wait past their time.
                Standing::Open | Standing::Lost => until = until.min(deadline.due),
            }
            if waiting.is_empty() && again.is_none() {
                break;
            }
        }
        drop(asked);
        let position = match won {
            Some(position) => position,
            None if ballots.is_empty() => return Err(Box::new(no_ballots(bad, now.elapsed()))),
            None => match stand(self.config.vote, &ballots.cast, &[], |root| self.events.slot_of(root)) {
                Standing::Won(position) => position,
                Standing::Open | Standing::Lost => self.without_quorum(slot, &nodes, &ballots.cast)?,
            },
        };
        match (ballots.cast.get(position), ballots.answers.into_iter().nth(position)) {
            (Some(ballot), Some(answer)) => {
                let (head, target) = (ballot.data.beacon_block_root, ballot.data.target);
                let (voters, elapsed) = (ballots.cast.len(), now.elapsed().as_millis());
                tracing::debug!(slot = slot.0, %head, %target, voters, elapsed, "attestation data given out");
                Ok(Voted { data: ballot.data, answer })
            }
            _ => Err(Box::new(nobody())),
        }
    }

    /// When the specification has attestations of this slot made.
    fn time_of_vote(&self, slot: Slot) -> Option<Instant> {
        let due = self.pool.network()?.due(DutyPoint::Attestation, slot);
        Some(Instant::now() + Duration::from_millis(due.0.saturating_sub(self.pool.now().0)))
    }

    /// Reads and checks one answer.
    fn ballot(&self, answer: &CollectedAnswer, slot: Slot) -> Result<AttestationData, Bad> {
        let wrong = |what: &str| Err(Bad::Broken(what.to_owned()));
        let Some(data) = AttestationData::decode(form_of(answer), &answer.body) else {
            return wrong("not attestation data");
        };
        if data.slot != slot {
            return wrong("attestation data of another slot");
        }
        if let Some(network) = self.pool.network()
            && data.target.epoch != slot.epoch(network.clock().slots_per_epoch)
        {
            return wrong("attestation data with a target of another epoch");
        }
        if data.source.epoch > data.target.epoch {
            return wrong("attestation data whose source is after its target");
        }
        Ok(data)
    }

    /// What the policy says about disagreement: the position of a ballot, or a refusal.
    fn without_quorum(
        &self,
        slot: Slot,
        nodes: &[Arc<NodeView>],
        ballots: &[Ballot<Vendor>],
    ) -> Result<usize, Box<ClientAnswer>> {
        let views: Vec<String> = ballots
            .iter()
            .map(|ballot| {
                let name =
                    nodes.iter().find(|node| node.id() == ballot.voter.upstream).map(|node| node.upstream.name());
                let name = name.map_or_else(String::new, ToString::to_string);
                format!("{name}: source {}, target {}", ballot.data.source, ballot.data.target)
            })
            .collect();
        let reason = format!("no quorum on attestation data of slot {slot}: {}", views.join("; "));
        let decision = Decision::general(DecisionKind::NoQuorum, reason).for_class(Endpoint::AttestationData.class());
        self.pool.record_decision(decision);
        match self.config.no_quorum {
            NoQuorum::Refuse => {
                let message = format!(
                    "consensus clients do not agree on source and target for slot {slot}; not attesting is cheaper than a wrong target"
                );
                Err(Box::new(ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message)))
            }
            NoQuorum::BestNode => {
                let best =
                    nodes.iter().find_map(|node| ballots.iter().position(|ballot| ballot.voter.upstream == node.id()));
                best.ok_or_else(|| Box::new(nobody()))
            }
        }
    }

    pub(super) async fn vote_payload(&self, endpoint: Endpoint, request: &ClientRequest) -> ClientAnswer {
        let Ok(Some(slot)) = query_number(request.query(), "slot") else {
            return ClientAnswer::error(StatusCode::BAD_REQUEST, "slot: give a number in the query");
        };
        let class = endpoint.class();
        let nodes = fit_for_vote(&self.pool.view().everyone(class), class);
        if nodes.is_empty() {
            return nobody();
        }
        let deadline = self.pool.deadline(class);
        let (now, cap) = (Instant::now(), (Instant::now() + self.slot_length() / 12).min(deadline.due));
        let mut asked = self.ask_all(endpoint, request, &nodes, MAX_BYTES, deadline);
        let mut ballots: Vec<Option<PayloadAttestationData>> = Vec::new();
        let mut answers: Vec<CollectedAnswer> = Vec::new();
        let mut bad: Vec<(String, Bad)> = Vec::new();
        let mut outstanding = nodes.len();
        loop {
            let until = if ballots.is_empty() { deadline.end } else { cap };
            let Ok(Some((node, told))) = tokio::time::timeout_at(until, asked.next()).await else { break };
            outstanding = outstanding.saturating_sub(1);
            match told.and_then(|answer| payload_ballot(&answer, Slot(slot)).map(|data| (data, answer))) {
                Ok((data, answer)) => {
                    ballots.push(data);
                    answers.push(answer);
                }
                Err(reason) => bad.push((node.upstream.name().to_string(), reason)),
            }
            if majority(&ballots, ballots.len().saturating_add(outstanding)).is_some() {
                break;
            }
        }
        drop(asked);
        // Nodes that did not answer neither agree nor disagree.
        match majority(&ballots, ballots.len()).and_then(|position| answers.into_iter().nth(position)) {
            Some(answer) => ClientAnswer::collected(answer),
            None if ballots.is_empty() => no_ballots(bad, now.elapsed()),
            None => {
                let message = format!("consensus clients do not agree on the payload of slot {slot}");
                self.pool.record_decision(Decision::general(DecisionKind::NoQuorum, message.as_str()).for_class(class));
                ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message)
            }
        }
    }
}

fn no_ballots(bad: Vec<(String, Bad)>, waited: Duration) -> ClientAnswer {
    if bad.is_empty() {
        let message = format!("no consensus client answered within {} ms; try again", waited.as_millis());
        return ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message);
    }
    worst_case(bad)
}

/// 204 is a vote for "nothing seen".
fn payload_ballot(answer: &CollectedAnswer, slot: Slot) -> Result<Option<PayloadAttestationData>, Bad> {
    if answer.status == StatusCode::NO_CONTENT {
        return Ok(None);
    }
    match PayloadAttestationData::decode(form_of(answer), &answer.body) {
        Some(data) if data.slot == slot => Ok(Some(data)),
        Some(_) => Err(Bad::Broken("payload attestation data of another slot".to_owned())),
        None => Err(Bad::Broken("not payload attestation data".to_owned())),
    }
}

/// Nodes of last resort vote only when there is nobody else.
fn fit_for_vote(nodes: &[Arc<NodeView>], class: crate::EndpointClass) -> Vec<Arc<NodeView>> {
    let fit: Vec<_> = nodes.iter().filter(|node| node.eligibility(class) == Eligibility::Yes).cloned().collect();
    if fit.is_empty() { nodes.to_vec() } else { fit }
}

/// The winner's bytes, or the same value in the form the client takes.
fn in_accepted_form(request: &ClientRequest, voted: &Voted) -> ClientAnswer {
    let form = form_of(&voted.answer);
    if request.accepts(form) > 0 {
        return ClientAnswer::collected(voted.answer.clone());
    }
    let other = match form {
        Form::Json => Form::Ssz,
        Form::Ssz => Form::Json,
    };
    ClientAnswer::with_body(StatusCode::OK, other, voted.data.encode(other))
}
