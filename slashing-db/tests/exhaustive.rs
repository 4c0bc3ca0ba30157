//! The rules, alone and through SQLite, against a judge that keeps all history, over *every* sequence of
//! messages up to a stated length with small slots, epochs and roots.
//!
//! Two things are shown for each step: what is approved is never slashable together with anything
//! released before, and nothing is refused that EIP-3076's minimal strategy allows. Through a store, each answer
//! and the watermarks at the end are those of the rules alone. The counts are printed, past the capture of output.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "tests may stop at the first surprise, and use different parts of what they share"
)]

#[path = "support/oracle.rs"]
mod oracle;
mod support;

use std::collections::HashMap;
use std::num::NonZeroUsize;

use holdfast_domain::{Epoch, PublicKey, SigningIntent, SigningRoot, Slot, Subject};
use holdfast_slashing_db::rules::{Horizon, Verdict, judge};
use holdfast_slashing_db::{AttestationMark, BlockMark, Class, Watermarks};
use oracle::{Said, minimal_allows, must_not_be_released, slashable};
use support::{Home, Intents, caller, key, register_fresh};

/// Slots and epochs 0 to 3.
const NUMBERS: u64 = 4;
/// Two different contents for everything.
const CONTENTS: u8 = 2;
const HORIZON: Horizon = Horizon::At { slot: Slot(1_000), epoch: Epoch(31) };

/// One message in all its forms.
#[derive(Clone, Copy)]
struct Letter {
    said: Said,
    subject: Subject,
    root: SigningRoot,
    content: u8,
}

impl Letter {
    fn new(intent: &SigningIntent, content: u8) -> Self {
        let (subject, root) = (*intent.subject(), intent.root());
        let said = match subject {
            Subject::Block { slot } => Said::Block { slot: slot.0, root: *root.as_bytes() },
            Subject::Attestation { source, target, .. } => {
                Said::Vote { source: source.0, target: target.0, root: *root.as_bytes() }
            }
            Subject::Unslashable { .. } => panic!("only slashable messages are letters"),
        };
        Self { said, subject, root, content }
    }

    fn intent(&self, intents: &Intents, key: PublicKey) -> SigningIntent {
        match self.said {
            Said::Block { slot, .. } => intents.block(key, slot, self.content),
            Said::Vote { source, target, .. } => intents.vote(key, source, target, self.content),
        }
    }
}

fn blocks(intents: &Intents) -> Vec<Letter> {
    let all = (0..NUMBERS).flat_map(|slot| (0..CONTENTS).map(move |content| (slot, content)));
    all.map(|(slot, content)| Letter::new(&intents.block(key(0), slot, content), content)).collect()
}

fn votes(intents: &Intents, numbers: u64) -> Vec<Letter> {
    let pairs = (0..numbers).flat_map(move |source| (0..numbers).map(move |target| (source, target)));
    pairs
        .flat_map(|(source, target)| (0..CONTENTS).map(move |content| (source, target, content)))
        .map(|(source, target, content)| Letter::new(&intents.vote(key(0), source, target, content), content))
        .collect()
}

/// Walks every sequence of `depth` more letters. Returns how many steps were judged.
fn walk(marks: &Watermarks, history: &mut Vec<Said>, depth: usize, letters: &[Letter]) -> u64 {
    let mut steps = 0;
    for letter in letters {
        steps += 1;
        let verdict = judge(marks, &letter.subject, &letter.root, HORIZON);
        let allowed = minimal_allows(history, &letter.said);
        match verdict {
            Verdict::Approve { after, .. } => {
                assert!(!must_not_be_released(history, &letter.said), "{history:?} then {:?}", letter.said);
                assert!(allowed, "looser than the minimal strategy: {history:?} then {:?}", letter.said);
                history.push(letter.said);
                if depth > 1 {
                    steps += walk(&after, history, depth - 1, letters);
                }
                history.pop();
            }
            Verdict::Deny(denial) => {
                assert!(
                    !allowed,
                    "stricter than the minimal strategy ({denial:?}): {history:?} then {:?}",
                    letter.said
                );
                // A refusal changes nothing, so the sequences behind it are those of this state with one
                // letter less, which are walked anyway.
            }
        }
    }
    steps
}

#[test]
fn the_rules_over_all_sequences() {
    let intents = Intents::new();
    let (blocks, votes) = (blocks(&intents), votes(&intents, NUMBERS));
    let mixed: Vec<Letter> = blocks.iter().chain(&votes).copied().collect();
    // Long enough to climb from nothing to the highest slot and epoch and to repeat every message on the way.
    let mut steps = 0;
    steps += walk(&Watermarks::default(), &mut Vec::new(), 9, &blocks);
    steps += walk(&Watermarks::default(), &mut Vec::new(), 8, &votes);
    steps += walk(&Watermarks::default(), &mut Vec::new(), 5, &mixed);
    say(&format!("rules and oracle agree on {steps} steps ({} blocks, {} votes)", blocks.len(), votes.len()));
    assert!(steps > 1_000_000, "only {steps} steps");
}

#[test]
fn a_floor_protects_against_everything_below_it() {
    let intents = Intents::new();
    let letters: Vec<Letter> = blocks(&intents).into_iter().chain(votes(&intents, 3)).collect();
    let mut steps = 0u64;
    for (slot, source, target) in [(0, 0, 0), (1, 0, 1), (2, 1, 1), (1, 1, 2), (3, 2, 2), (2, 0, 2)] {
        let floor = Watermarks {
            block: Some(BlockMark { slot: Slot(slot), root: None }),
            attestation: Some(AttestationMark { source: Epoch(source), target: Epoch(target), root: None }),
        };
        // Everything another signer may have signed at or below the floor, with roots nobody here knows.
        let elsewhere = (0..=slot).map(|slot| Said::Block { slot, root: [0xee; 32] });
        let pairs = (0..=source).flat_map(|source| (source..=target).map(move |target| (source, target)));
        let elsewhere: Vec<Said> =
            elsewhere.chain(pairs.map(|(source, target)| Said::Vote { source, target, root: [0xee; 32] })).collect();
        // Zero, one or two messages first; they may conflict with what was signed elsewhere, but what
        // comes after the floor may not, unless it is one of them again.
        let mut starts: Vec<(Watermarks, Vec<Said>)> = vec![(Watermarks::default(), Vec::new())];
        for _ in 0..2 {
            for (marks, said) in starts.clone() {
                for letter in &letters {
                    if let Verdict::Approve { after, .. } = judge(&marks, &letter.subject, &letter.root, HORIZON) {
                        starts.push((after, [said.clone(), vec![letter.said]].concat()));
                    }
                }
            }
        }
        for (marks, before) in starts {
            steps += walk_above(&marks.raised_to(&floor), &before, &elsewhere, &mut Vec::new(), 2, &letters);
        }
    }
    say(&format!("rules and oracle agree on {steps} steps above floors"));
    assert!(steps > 100_000, "only {steps} steps");
}

fn walk_above(
    marks: &Watermarks,
    before: &[Said],
    elsewhere: &[Said],
    since: &mut Vec<Said>,
    depth: usize,
    letters: &[Letter],
) -> u64 {
    let mut steps = 0;
    for letter in letters {
        steps += 1;
        if let Verdict::Approve { after, .. } = judge(marks, &letter.subject, &letter.root, HORIZON) {
            let again = before.contains(&letter.said);
            let known = before.iter().chain(since.iter());
            assert!(!known.clone().any(|old| slashable(old, &letter.said)), "{before:?} {since:?} {:?}", letter.said);
            assert!(
                again || !elsewhere.iter().any(|old| slashable(old, &letter.said)),
                "{before:?} {since:?} {:?} conflicts below the floor",
                letter.said
            );
            if depth > 1 {
                since.push(letter.said);
                steps += walk_above(&after, before, elsewhere, since, depth - 1, letters);
                since.pop();
            }
        }
    }
    steps
}

/// All sequences of `length` letters.
fn sequences(letters: &[Letter], length: u32) -> Vec<Vec<Letter>> {
    (0..letters.len().pow(length))
        .map(|mut number| {
            (0..length)
                .map(|_| {
                    let letter = letters[number % letters.len()];
                    number /= letters.len();
                    letter
                })
                .collect()
        })
        .collect()
}

/// How the requests of one key reach the database.
#[derive(Clone, Copy)]
enum Arrival {
    /// Each after the answer to the one before.
    InTurn,
    /// All at once, so that many are judged within one batch.
    AtOnce,
}

/// Histories and requests that went through a store.
#[derive(Default)]
struct Counts {
    histories: usize,
    requests: usize,
}

impl core::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.histories += other.histories;
        self.requests += other.requests;
    }
}

/// Prints a line that shows although the test passes.
fn say(line: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "exhaustive: {line}").unwrap();
}

/// Runs each sequence on a key of its own.
async fn through(home: Home, sequences: &[Vec<Letter>], arrival: Arrival) -> Counts {
    let intents = Intents::new();
    let requests: usize = sequences.iter().map(Vec::len).sum();
    // A batch size that divides nothing: sequences straddle batches.
    let guard = home.open_with(|options| {
        options.max_batch = NonZeroUsize::new(997).unwrap();
        options.queue_capacity = NonZeroUsize::new(requests.max(1)).unwrap();
    });
    let keys: Vec<PublicKey> = (0..u32::try_from(sequences.len()).unwrap()).map(key).collect();
    register_fresh(&guard, keys.iter().copied()).await;
    let length = sequences.first().map_or(0, Vec::len);
    let rounds: Vec<std::ops::Range<usize>> = match arrival {
        Arrival::InTurn => (0..length).map(|step| step..step + 1).collect(),
        Arrival::AtOnce => std::iter::once(0..length).collect(),
    };
    let mut released: Vec<Vec<Said>> = vec![Vec::new(); sequences.len()];
    let mut marks: HashMap<PublicKey, Watermarks> = keys.iter().map(|key| (*key, Watermarks::default())).collect();
    for round in rounds {
        let mut answers = Vec::with_capacity(sequences.len() * round.len());
        for (number, sequence) in sequences.iter().enumerate() {
            for letter in &sequence[round.clone()] {
                let answer = guard.authorize(letter.intent(&intents, keys[number]), caller());
                answers.push((number, letter, answer));
            }
        }
        for (number, letter, answer) in answers {
            let history = &mut released[number];
            let allowed = minimal_allows(history, &letter.said);
            let marks = marks.get_mut(&keys[number]).unwrap();
            let verdict = judge(marks, &letter.subject, &letter.root, HORIZON);
            match answer.await {
                Ok(permit) => {
                    let Verdict::Approve { approved, after } = verdict else {
                        panic!("the rules refuse {:?}", letter.said)
                    };
                    assert_eq!(permit.approval(), approved.approval());
                    *marks = after;
                    assert_eq!((permit.key(), permit.root()), (&keys[number], letter.root));
                    assert!(!must_not_be_released(history, &letter.said), "{history:?} then {:?}", letter.said);
                    assert!(allowed, "looser than the minimal strategy: {history:?} then {:?}", letter.said);
                    history.push(letter.said);
                }
                Err(refusal) => {
                    assert_eq!(refusal.class(), Class::Refused, "{refusal}");
                    let Verdict::Deny(denial) = verdict else { panic!("the rules allow {:?}", letter.said) };
                    assert_eq!(refusal.reason(), denial.as_str());
                    assert!(!allowed, "stricter than the minimal strategy: {history:?} then {:?}", letter.said);
                }
            }
        }
    }
    for info in guard.list().await.unwrap() {
        assert_eq!(info.watermarks, marks[&info.key], "{} is stored otherwise than judged", info.key);
    }
    guard.shutdown().await;
    Counts { histories: sequences.len(), requests }
}

async fn all_sequences_in_turn(store: &str, home: fn() -> Home) {
    let intents = Intents::new();
    let mut counts = through(home(), &sequences(&blocks(&intents), 4), Arrival::InTurn).await;
    counts += through(home(), &sequences(&votes(&intents, 3), 3), Arrival::InTurn).await;
    let Counts { histories, requests } = counts;
    say(&format!("{store}, rules and oracle agree on {histories} histories, {requests} requests one by one"));
    assert_eq!(requests, 8usize.pow(4) * 4 + 18usize.pow(3) * 3);
}

async fn all_sequences_at_once(store: &str, home: fn() -> Home) {
    let intents = Intents::new();
    let mut counts = through(home(), &sequences(&blocks(&intents), 4), Arrival::AtOnce).await;
    counts += through(home(), &sequences(&votes(&intents, NUMBERS), 3), Arrival::AtOnce).await;
    let Counts { histories, requests } = counts;
    say(&format!("{store}, rules and oracle agree on {histories} histories, {requests} requests within batches"));
    assert_eq!(requests, 8usize.pow(4) * 4 + 32usize.pow(3) * 3);
}

#[tokio::test]
async fn sqlite_over_all_sequences_in_turn() {
    all_sequences_in_turn("SQLite", || Home::at_slot(1_000)).await;
}

#[tokio::test]
async fn sqlite_over_all_sequences_at_once() {
    all_sequences_at_once("SQLite", || Home::at_slot(1_000)).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn postgres_over_all_sequences_in_turn() {
    all_sequences_in_turn("PostgreSQL", || Home::on_postgres(1_000)).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn postgres_over_all_sequences_at_once() {
    all_sequences_at_once("PostgreSQL", || Home::on_postgres(1_000)).await;
}

#[test]
fn the_oracle_knows_the_slashable_pairs() {
    let vote = |source, target, root| Said::Vote { source, target, root: [root; 32] };
    let block = |slot, root| Said::Block { slot, root: [root; 32] };
    assert!(slashable(&block(1, 1), &block(1, 2)));
    assert!(!slashable(&block(1, 1), &block(1, 1)));
    assert!(!slashable(&block(1, 1), &block(2, 1)));
    assert!(slashable(&vote(0, 1, 1), &vote(0, 1, 2)));
    assert!(slashable(&vote(0, 3, 1), &vote(1, 2, 2)));
    assert!(slashable(&vote(1, 2, 2), &vote(0, 3, 1)));
    assert!(!slashable(&vote(0, 2, 1), &vote(0, 3, 1)));
    assert!(!slashable(&vote(1, 2, 1), &vote(2, 3, 1)));
    assert!(must_not_be_released(&[], &vote(3, 2, 1)));
}
