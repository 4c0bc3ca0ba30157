//! One batch: what is asked for, judged in order against the rows, and answered once it is durable.
//!
//! Guarantees: a permit is made here only, from a request that the rules approve and nobody objects to, after the
//! commit; an objection or an event changes no row; the answer to an event has no room for a permit.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use holdfast_domain::{PublicKey, SigningIntent, Subject, UnslashableKind};
use tokio::sync::oneshot;

use super::{Shared, Suspect};
use crate::error::Refusal;
use crate::guard::{Recorded, release};
use crate::identity::CallerId;
use crate::journal::codec::Encoder;
use crate::journal::merkle::Accumulator;
use crate::journal::{BatchHeader, Entry, Event, Head, InstanceId, Outcome, leaf};
use crate::metrics::Metrics;
use crate::permit::{PermitTimes, SigningPermit};
use crate::registry::KeyState;
use crate::rules::{Approved, Denial, Horizon, Objection, Verdict, judge, judge_chain};
use crate::store::{Committed, Planned, Row};

/// One request for a permit.
pub(crate) struct Request {
    pub(crate) intent: SigningIntent,
    pub(crate) caller: CallerId,
    pub(crate) objection: Option<Objection>,
    pub(crate) reply: oneshot::Sender<Result<SigningPermit, Refusal>>,
    pub(crate) queued: Instant,
}

impl Request {
    /// How long it has waited by `now`.
    fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.queued)
    }
}

/// One event to be written down.
pub(crate) struct Note {
    pub(crate) event: Event,
    pub(crate) reply: oneshot::Sender<Result<Recorded, Refusal>>,
}

/// What goes into a batch.
pub(crate) enum Asked {
    Permit(Request),
    Note(Note),
}

impl Asked {
    /// Whether nobody waits for the answer any more.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Self::Permit(request) => request.reply.is_closed(),
            Self::Note(note) => note.reply.is_closed(),
        }
    }

    fn request(&self) -> Option<&Request> {
        match self {
            Self::Permit(request) => Some(request),
            Self::Note(_) => None,
        }
    }

    fn refuse(self, refusal: Refusal) {
        // Whoever asked may have gone.
        match self {
            Self::Permit(request) => drop(request.reply.send(Err(refusal))),
            Self::Note(note) => drop(note.reply.send(Err(refusal))),
        }
    }
}

/// What one request gets once the commit is through.
pub(super) enum Due {
    Permit(Approved),
    Denial(Denial),
}

/// Measures how long requests have waited.
pub(super) fn observe_waits(metrics: &Metrics, batch: &[Asked], started: Instant) {
    for request in batch.iter().filter_map(Asked::request) {
        metrics.queue_wait.observe(request.waited(started).as_secs_f64());
    }
}

/// The distinct keys of a batch, and for each request the position of its key among them.
pub(super) fn distinct_keys(batch: &[Asked]) -> (Vec<PublicKey>, Vec<usize>) {
    let mut keys = Vec::with_capacity(batch.len());
    let mut seen = HashMap::with_capacity(batch.len());
    let positions = batch
        .iter()
        .filter_map(Asked::request)
        .map(|request| {
            let key = *request.intent.key();
            *seen.entry(key).or_insert_with(|| {
                keys.push(key);
                keys.len().saturating_sub(1)
            })
        })
        .collect();
    (keys, positions)
}

/// Judges a batch in order against the rows, which change as it goes, and plans what to write. `due` gets one answer
/// for each request.
#[expect(clippy::too_many_arguments, reason = "one caller; a struct for it would only rename the fields")]
pub(super) fn plan(
    shared: &Shared,
    instance: InstanceId,
    suspect: Option<Suspect>,
    head: &Head,
    rows: &mut [Option<Row>],
    batch: &[Asked],
    positions: &[usize],
    due: &mut Vec<Due>,
) -> Planned {
    let time = shared.settings.clock.now();
    let horizon = shared.horizon(time);
    let mut encoder = Encoder::new();
    let mut tree = Accumulator::default();
    let mut encoded = Vec::new();
    let mut positions = positions.iter();
    due.clear();
    for asked in batch {
        encoded.clear();
        match asked {
            Asked::Note(note) => {
                encoder.push_event(&note.event);
                leaf::write_event(&note.event, time, &mut encoded);
            }
            Asked::Permit(request) => {
                let row = positions.next().and_then(|position| rows.get_mut(*position)).and_then(Option::as_mut);
                let id = row.as_ref().map(|row| row.id);
                let decided = decide(shared, horizon, suspect, row, request);
                let entry = entry(request, &decided);
                encoder.push(&entry, id);
                leaf::write(&entry, time, &mut encoded);
                due.push(decided);
            }
        }
        tree.push(&encoded);
    }
    let header = BatchHeader::following(head, instance, time, tree.root(), tree.count());
    Planned { header, entries: encoder.finish() }
}

fn entry(request: &Request, decided: &Due) -> Entry {
    Entry {
        caller: request.caller.clone(),
        key: *request.intent.key(),
        subject: *request.intent.subject(),
        root: request.intent.root().into(),
        outcome: match decided {
            Due::Permit(approved) => Outcome::Approved(approved.approval()),
            Due::Denial(denial) => Outcome::Denied(*denial),
        },
    }
}

/// Judges one request and, if it is approved and nobody objects, moves its row on. The rules come first: an objection
/// takes away what they would give, and nothing else.
fn decide(
    shared: &Shared,
    horizon: Horizon,
    suspect: Option<Suspect>,
    row: Option<&mut Row>,
    request: &Request,
) -> Due {
    let (intent, subject) = (&request.intent, request.intent.subject());
    let named = intent.genesis_validators_root();
    if let Err(denial) = judge_chain(subject, named, shared.settings.genesis_validators_root) {
        return Due::Denial(denial);
    }
    let Some(row) = row else { return Due::Denial(Denial::KeyNotRegistered) };
    match row.state {
        KeyState::Enabled => {}
        KeyState::Disabled | KeyState::Tombstoned => return Due::Denial(Denial::KeyDisabled),
    }
    let slashable = match subject {
        Subject::Block { .. } | Subject::Attestation { .. } => true,
        Subject::Unslashable { .. } => false,
    };
    match judge(&row.marks, subject, &intent.root(), horizon) {
        Verdict::Approve { approved: _, after: _ } if slashable && suspect.is_some_and(|s| !s.allows(&row.marks)) => {
            Due::Denial(Denial::ProtectionFrozen)
        }
        Verdict::Approve { approved, after } => {
            if let Some(objection) = held(shared, row, subject).or(request.objection) {
                return Due::Denial(Denial::Objected(objection));
            }
            shared.sign(subject);
            row.changed |= row.marks != after;
            row.marks = after;
            Due::Permit(approved)
        }
        Verdict::Deny(denial) => Due::Denial(denial),
    }
}

/// What speaks against a message of a newly enabled key, where such keys are held back. The row is read under lock, so
/// no key slips through between its being enabled and the first look. Beside slashable messages it is aggregates that
/// are held back: to consensus clients they are signs of life, and would be taken for somebody else's.
fn held(shared: &Shared, row: &Row, subject: &Subject) -> Option<Objection> {
    let shows_life = match subject {
        Subject::Block { .. } | Subject::Attestation { .. } => true,
        Subject::Unslashable { kind, dating: _ } => *kind == UnslashableKind::AggregateAndProof,
    };
    let holds = shows_life && shared.holds_new_keys.load(Ordering::Acquire);
    if holds { row.watch.objection() } else { None }
}

/// When a batch was taken up, and how long it took from there to be durable.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) started: Instant,
    pub(super) took: Duration,
}

pub(super) fn deliver(metrics: &Metrics, batch: &mut Vec<Asked>, due: Vec<Due>, committed: &Committed, span: Span) {
    let mut due = due.into_iter();
    for asked in batch.drain(..) {
        match asked {
            Asked::Note(note) => {
                metrics.journal_events.inc();
                drop(note.reply.send(Ok(Recorded { commit_seq: committed.seq() })));
            }
            Asked::Permit(request) => {
                // There is one for each request; without one the client would hear that its request was lost.
                let Some(due) = due.next() else { continue };
                let answer = answer(metrics, &request, due, committed, span);
                // A client that went after the commit loses its permit; asking again is safe.
                drop(request.reply.send(answer));
            }
        }
    }
}

fn answer(
    metrics: &Metrics,
    request: &Request,
    due: Due,
    committed: &Committed,
    span: Span,
) -> Result<SigningPermit, Refusal> {
    let kind = request.intent.subject().kind();
    match due {
        Due::Permit(approved) => {
            metrics.observe_verdict(kind, Outcome::Approved(approved.approval()));
            let times = PermitTimes { queue: request.waited(span.started), commit: span.took };
            Ok(release(&request.intent, &approved, committed, times))
        }
        Due::Denial(denial) => {
            metrics.observe_verdict(kind, Outcome::Denied(denial));
            Err(Refusal::from(denial))
        }
    }
}

pub(super) fn refuse_all(batch: &mut Vec<Asked>, refusal: &Refusal) {
    for asked in batch.drain(..) {
        asked.refuse(refusal.clone());
    }
}
