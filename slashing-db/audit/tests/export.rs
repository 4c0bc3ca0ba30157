//! Proves: what is exported verifies, whole and selected; what was changed anywhere does not, and the place is named.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unnecessary_wraps,
    unreachable_pub,
    reason = "tests"
)]

mod support;

use std::ops::Range;

use holdfast_audit::Filter;
use holdfast_audit::checkpoint::CheckpointKey;
use holdfast_audit::export::{Progress, export};
use holdfast_audit::verify::{
    Broken, Inconsistent, NotHandedOver, Problem, Trust, Verified, consistent, handed_over, resume_export,
    verify_export, verify_journal,
};
use holdfast_domain::{Epoch, ObservedRoot, Slot, Subject, UnixMillis};
use holdfast_slashing_db::CallerId;
use holdfast_slashing_db::journal::{Batch, Entry, Head, InstanceId, JournalError, Outcome, Record};
use support::{Dice, INSTANCE, batch, chain, exported, trust, trust_and_checkpoint, validator};

fn verify(text: &[u8], trust: &Trust) -> Result<Verified, Broken> {
    verify_export(text, trust)
}

fn at(second: u64) -> Option<String> {
    Some(UnixMillis(1_700_000_000_000 + second * 1_000).rfc3339_millis())
}

#[test]
fn a_whole_export_verifies_and_is_counted() {
    let batches = chain(1, 23);
    let verified = verify(&exported(&batches, &Filter::default()), &trust()).unwrap();
    let records: usize = batches.iter().map(|batch| batch.records.len()).sum();
    assert_eq!((verified.batches, verified.records), (23, records as u64));
    assert_eq!(verified.signed + verified.refused + verified.others, records as u64);
    assert_eq!(verified.checkpoints, 4);
    assert_eq!(verified.signed_to.map(|signed| signed.head), Some(batches[18].header.as_head()));
    assert_eq!(verified.unsigned(), 4);
    let from_batches = batches.iter().cloned().map(Ok::<_, JournalError>);
    assert_eq!(verify_journal(from_batches, INSTANCE, Head::EMPTY, &trust()).unwrap(), verified);
    // Without a key all but the signatures is verified.
    let unsigned = verify(&exported(&batches, &Filter::default()), &Trust::default()).unwrap();
    assert_eq!((unsigned.checkpoints, unsigned.signed_to), (4, None));
}

#[test]
fn an_empty_journal_has_an_export() {
    let verified = verify(&exported(&[], &Filter::default()), &trust()).unwrap();
    assert_eq!((verified.batches, verified.head), (0, Head::EMPTY));
}

#[test]
fn selections_verify_and_show_what_was_asked_for() {
    let batches = chain(2, 40);
    let count = |takes: &dyn Fn(&Record) -> bool| -> u64 {
        batches.iter().flat_map(|batch| &batch.records).filter(|record| takes(record)).count() as u64
    };
    let of_key = |record: &Record| match record {
        Record::Request(entry) => entry.key == validator(3),
        Record::Event(event) => event.kind().as_str() == "audit.checkpoint",
    };
    let filter = Filter { keys: [validator(3).to_string()].into(), ..Filter::default() };
    let text = exported(&batches, &filter);
    let verified = verify(&text, &trust()).unwrap();
    assert_eq!(verified.signed + verified.refused + verified.others, count(&of_key));
    assert_eq!((verified.batches, verified.filter), (40, filter));
    assert!(text.len() < exported(&batches, &Filter::default()).len());

    for filter in [
        Filter { by: ["vc-2".to_owned()].into(), ..Filter::default() },
        Filter { ops: ["block".to_owned(), "switcher.left".to_owned()].into(), ..Filter::default() },
        Filter { results: ["refused".to_owned()].into(), from: at(4), to: at(33), ..Filter::default() },
        Filter { only: Some((7, 0)), from: at(7), to: at(8), ..Filter::default() },
        Filter { keys: [validator(99).to_string()].into(), ..Filter::default() },
    ] {
        let verified = verify(&exported(&batches, &filter), &trust()).unwrap();
        assert_eq!(verified.filter, filter);
    }
}

#[test]
fn a_stretch_goes_on_to_the_checkpoint_that_signs_it() {
    let batches = chain(3, 40);
    let filter = Filter { from: at(12), to: at(17), ..Filter::default() };
    let verified = verify(&exported(&batches, &filter), &trust()).unwrap();
    // 12 to 16 were asked for; batch 15 signs only 14, batch 20 signs 19.
    assert_eq!((verified.after.seq, verified.head.seq), (11, 20));
    assert_eq!(verified.signed_to.map(|signed| signed.head.seq), Some(19));
    // After the last checkpoint there is none to go to.
    let filter = Filter { from: at(38), to: at(40), ..Filter::default() };
    let verified = verify(&exported(&batches[..39], &filter), &trust()).unwrap();
    assert_eq!((verified.after.seq, verified.head.seq, verified.signed_to), (37, 39, None));
}

#[test]
fn one_record_is_shown_with_hashes_alone() {
    let batches = chain(4, 20);
    let filter = Filter { only: Some((11, 0)), from: at(11), to: at(12), ..Filter::default() };
    let text = String::from_utf8(exported(&batches, &filter)).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("{\"i\":")).count(), 2, "it and the checkpoint\n{text}");
    let verified = verify(text.as_bytes(), &trust()).unwrap();
    assert!(verified.signed_to.is_some_and(|signed| signed.head.seq >= 11));
}

#[test]
fn a_history_that_was_written_again_needs_the_key() {
    let original = chain(5, 30);
    // From batch 12 on another history, hashed and linked as it should be.
    let mut forged: Vec<Batch> = original[..11].to_vec();
    for old in &original[11..] {
        let head = forged.last().unwrap().header.as_head();
        let mut records = old.records.clone();
        if old.header.seq == 12 {
            let first = records[0].clone();
            records.push(first);
        }
        forged.push(batch(head, old.header.time, records));
    }
    let text = exported(&forged, &Filter::default());
    let broken = verify(&text, &trust()).unwrap_err();
    assert!(matches!(broken.problem, Problem::Contradicted(checkpoint) if checkpoint.head.seq == 14), "{broken:?}");
    assert_eq!(broken.batch, 15);
    // With checkpoints of its own key it shows that the key is another.
    let other = CheckpointKey::from_seed(&[1; 32], INSTANCE).unwrap();
    let own = Trust { keys: vec![other.verifying_key()], checkpoints: Vec::new() };
    let broken = verify(&exported(&original, &Filter::default()), &own).unwrap_err();
    assert!(matches!(broken.problem, Problem::UnknownKey), "{broken:?}");
    // Without checkpoints in it, one that was kept elsewhere tells.
    let bare: Vec<Batch> = forged.iter().fold(Vec::new(), |mut bare, old| {
        let head = bare.last().map_or(Head::EMPTY, |last: &Batch| last.header.as_head());
        let records = old.records.iter().filter(|record| !matches!(record, Record::Event(_))).cloned().collect();
        bare.push(batch(head, old.header.time, records));
        bare
    });
    let text = exported(&bare, &Filter::default());
    assert!(verify(&text, &trust()).is_ok_and(|verified| verified.signed_to.is_none() && verified.unsigned() == 30));
    let broken = verify(&text, &trust_and_checkpoint(&original[20])).unwrap_err();
    assert!(matches!(broken.problem, Problem::Contradicted(_)), "{broken:?}");
}

#[test]
fn an_end_that_was_cut_off_is_missed_by_a_checkpoint_kept_elsewhere() {
    let batches = chain(6, 30);
    for kept in [21, 25, 30] {
        let trust = trust_and_checkpoint(&batches[kept - 1]);
        assert!(verify(&exported(&batches, &Filter::default()), &trust).is_ok());
        let broken = verify(&exported(&batches[..20], &Filter::default()), &trust).unwrap_err();
        assert!(matches!(broken.problem, Problem::CutOff(_)), "{broken:?}");
        assert_eq!(broken.batch, 21);
    }
    let forged = Trust {
        checkpoints: vec![
            CheckpointKey::from_seed(&[1; 32], INSTANCE).unwrap().sign(batches[3].header.as_head(), UnixMillis(1)),
        ],
        ..trust()
    };
    let broken = verify(&exported(&batches, &Filter::default()), &forged).unwrap_err();
    assert!(matches!(broken.problem, Problem::UnknownKey), "{broken:?}");
}

#[test]
fn an_export_goes_on_where_it_was_cut_off() {
    let batches = chain(7, 25);
    let whole = exported(&batches, &Filter::default());
    let first_line = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in (first_line..=whole.len()).step_by(97).chain([whole.len()]) {
        let (progress, kept) = resume_export(&whole[..cut]).unwrap();
        let mut resumed = whole[..usize::try_from(kept).unwrap()].to_vec();
        let rest = batches[usize::try_from(progress.head().seq).unwrap()..].iter().cloned().map(Ok::<_, JournalError>);
        export(rest, progress, &Filter::default(), &mut resumed).unwrap();
        assert!(resumed == whole, "cut at {cut}");
    }
    assert!(resume_export(&whole[..first_line - 1]).is_err());
    let selected = exported(&batches, &Filter { results: ["signed".to_owned()].into(), ..Filter::default() });
    assert!(resume_export(selected.as_slice()).is_err(), "what a selection left out cannot be added");
}

#[test]
fn a_newer_export_holds_the_older_one_or_the_first_difference_is_named() {
    let batches = chain(8, 30);
    let whole = |batches: &[Batch]| exported(batches, &Filter::default());
    let check = |old: &[u8], new: &[u8]| consistent(old, new, &trust());
    let old = whole(&batches[..12]);
    for new in [&batches[..12], &batches[..13], &batches[..]] {
        let both = check(&old, &whole(new)).unwrap();
        assert_eq!((both.old.head.seq, both.new.head.seq), (12, new.len() as u64));
    }
    assert!(check(&whole(&[]), &old).is_ok(), "nothing is in everything");
    assert!(matches!(check(&whole(&batches), &old), Err(Inconsistent::Shorter { first: 13 })));
    assert!(matches!(check(&old, &old[..old.len() - 3]), Err(Inconsistent::New(_))));
    assert!(matches!(check(&old[..old.len() - 3], &old), Err(Inconsistent::Old(_))));
    // A stretch of either.
    let (middle, end) =
        (Filter { from: at(5), to: at(9), ..Filter::default() }, Filter { from: at(8), ..Filter::default() });
    assert!(check(&exported(&batches, &middle), &whole(&batches)).is_ok());
    let late = check(&old, &exported(&batches, &end));
    assert!(matches!(late, Err(Inconsistent::BeginsLater { first: 1, begins: 8 })), "{late:?}");
    let selection = exported(&batches, &Filter { keys: [validator(3).to_string()].into(), ..Filter::default() });
    assert!(check(&selection, &whole(&batches)).is_ok());
    assert!(matches!(check(&old, &selection), Err(Inconsistent::OtherSelection)));
    // Written anew from batch 7 on, without checkpoints that would tell.
    let bare = |from: u64, batches: &[Batch]| {
        batches.iter().fold(Vec::new(), |mut bare: Vec<Batch>, old| {
            let head = bare.last().map_or(Head::EMPTY, |last| last.header.as_head());
            let mut records: Vec<Record> =
                old.records.iter().filter(|record| !matches!(record, Record::Event(_))).cloned().collect();
            if old.header.seq == from {
                records.reverse();
                records.extend(records.first().cloned());
            }
            bare.push(batch(head, old.header.time, records));
            bare
        })
    };
    let (honest, forged) = (bare(0, &batches), bare(7, &batches));
    let rewritten = check(&whole(&honest[..12]), &whole(&forged));
    assert!(matches!(rewritten, Err(Inconsistent::Rewritten { first: 7 })), "{rewritten:?}");
    let before = check(&exported(&honest, &Filter { from: at(8), ..Filter::default() }), &whole(&forged));
    assert!(matches!(before, Err(Inconsistent::Rewritten { first: 7 })), "{before:?}");
}

/// The export of a journal of one request a batch.
fn signing(instance: u8, entries: &[(u8, Subject, u8, bool)], filter: &Filter) -> Vec<u8> {
    let (instance, mut head, mut batches) = (InstanceId([instance; 16]), Head::EMPTY, Vec::new());
    for (key, subject, root, approved) in entries {
        let outcome = (0..=u8::MAX).filter_map(Outcome::from_code);
        let outcome = outcome.into_iter().find(|one| matches!(one, Outcome::Approved(_)) == *approved).unwrap();
        let (key, root) = (validator(*key), ObservedRoot::new([*root; 32]));
        let entry = Entry { caller: CallerId::new("vc"), key, subject: *subject, root, outcome };
        let mut next = batch(head, UnixMillis(1_700_000_000_000), vec![Record::Request(entry)]);
        next.header.instance = instance;
        next.header.hash = next.header.compute_hash();
        head = next.header.as_head();
        batches.push(Ok::<_, JournalError>(next));
    }
    let mut out = Vec::new();
    export(batches.into_iter(), Progress::begin(instance, Head::EMPTY), filter, &mut out).unwrap();
    out
}

#[test]
fn whoever_takes_over_goes_on_above_what_was_signed() {
    let block = |slot| Subject::Block { slot: Slot(slot) };
    let vote =
        |source, target| Subject::Attestation { slot: Slot(target * 32), source: Epoch(source), target: Epoch(target) };
    let all = Filter::default();
    let old = [(1, block(5), 1, true), (1, vote(3, 4), 2, true), (2, vote(6, 7), 3, true), (2, vote(7, 9), 4, false)];
    let check = |new: &[(u8, Subject, u8, bool)]| {
        handed_over(signing(1, &old, &all).as_slice(), signing(2, new, &all).as_slice(), &Trust::default())
    };
    // Above, with another key, the very same message, and what was refused by either.
    let fine = [(1, block(6), 9, true), (1, vote(3, 5), 9, true), (3, vote(0, 1), 9, true)];
    let handed = check(&fine).unwrap();
    assert_eq!((handed.keys, handed.taken), (2, 1));
    assert!(check(&[(1, block(5), 1, true), (2, vote(6, 7), 3, true), (2, vote(7, 8), 5, true)]).is_ok());
    assert!(check(&[(1, block(4), 9, false), (2, vote(7, 8), 5, true)]).is_ok(), "what was refused was not signed");
    // Each way to sign below, at its place: what came before it was in order.
    for (subject, key, before) in [
        (block(5), 1, "a block of slot 5"),
        (block(4), 1, "a block of slot 5"),
        (vote(3, 4), 1, "a vote from epoch 3 to 4"),
        (vote(2, 9), 1, "a vote from epoch 3 to 4"),
        (vote(7, 7), 2, "a vote from epoch 6 to 7"),
    ] {
        match check(&[(1, block(6), 9, true), (key, subject, 9, true)]) {
            Err(NotHandedOver::Below(below)) => {
                assert_eq!((below.key, below.batch, below.before.as_str()), (validator(key), 2, before));
            }
            other => panic!("{subject:?}: {other:?}"),
        }
    }
    // What cannot be told.
    let (old, new) = (signing(1, &old, &all), signing(2, &fine, &all));
    let trust = Trust::default();
    assert!(matches!(handed_over(old.as_slice(), old.as_slice(), &trust), Err(NotHandedOver::SameJournal(_))));
    let some = signing(2, &fine, &Filter { keys: [validator(1).to_string()].into(), ..Filter::default() });
    assert!(matches!(handed_over(old.as_slice(), some.as_slice(), &trust), Err(NotHandedOver::Selection)));
    assert!(matches!(handed_over(old.as_slice(), &new[..new.len() - 3], &trust), Err(NotHandedOver::New(_))));
    assert!(matches!(handed_over(&old[..old.len() - 3], new.as_slice(), &trust), Err(NotHandedOver::Old(_))));
    assert!(matches!(consistent(old.as_slice(), new.as_slice(), &trust), Err(Inconsistent::OtherJournal { .. })));
}

/// Where each line lies, with its line break.
fn lines_of(text: &[u8]) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut lines = Vec::new();
    for (place, byte) in text.iter().enumerate() {
        if *byte == b'\n' {
            lines.push(start..place + 1);
            start = place + 1;
        }
    }
    lines
}

/// Does one thing to an export; says at which line it first differs, or nothing if it does not.
fn tamper(text: &[u8], dice: &mut Dice) -> Option<(Vec<u8>, usize, &'static str)> {
    let lines = lines_of(text);
    let pick = |dice: &mut Dice| dice.place(lines.len());
    let mut changed = text.to_vec();
    let what = match dice.below(7) {
        0 | 1 => {
            let place = dice.place(text.len());
            changed[place] ^= 1 << dice.below(8);
            "a bit"
        }
        2 => {
            changed.drain(lines[pick(dice)].clone());
            "a line removed"
        }
        3 => {
            let (one, other) = (lines[pick(dice)].clone(), lines[pick(dice)].clone());
            changed.splice(other.start..other.start, text[one].iter().copied());
            "a line copied"
        }
        4 => {
            let (one, other) = (pick(dice), pick(dice));
            let (one, other) = (lines[one.min(other)].clone(), lines[one.max(other)].clone());
            changed = [&text[..one.start], &text[other.clone()], &text[one.end..other.start.max(one.end)]].concat();
            changed.extend_from_slice(if one == other { b"" } else { &text[one] });
            changed.extend_from_slice(&text[other.end..]);
            "two lines swapped"
        }
        5 => {
            changed.truncate(dice.place(text.len()));
            "cut off"
        }
        _ => {
            let place = dice.place(text.len());
            changed.insert(place, u8::try_from(dice.below(256)).unwrap());
            "a byte inserted"
        }
    };
    let differs = changed.iter().zip(text).position(|(one, other)| one != other);
    let differs = differs.or((changed.len() != text.len()).then(|| changed.len().min(text.len())))?;
    let line = lines.iter().position(|line| differs < line.end).unwrap_or(lines.len() - 1);
    Some((changed, line + 1, what))
}

/// The last line of the batch that a line belongs to, or the line itself.
fn end_of_batch(text: &[u8], line: usize) -> usize {
    let lines = lines_of(text);
    let ends = |place: &usize| {
        let content = &text[lines[*place].clone()];
        content.starts_with(b"{\"batch\"") || content.starts_with(b"{\"end\"")
    };
    (line..lines.len()).find(ends).unwrap_or(lines.len())
}

#[test]
fn every_tampering_is_noticed_and_its_place_is_named() {
    let selections = [
        Filter::default(),
        Filter { keys: [validator(2).to_string()].into(), ..Filter::default() },
        Filter { from: at(6), to: at(13), ..Filter::default() },
    ];
    let mut tried = 0;
    for seed in 0..30_u64 {
        let batches = chain(100 + seed, 18);
        for filter in &selections {
            let text = exported(&batches, filter);
            verify(&text, &trust()).unwrap();
            let mut dice = Dice(seed);
            for _ in 0..180 {
                let Some((changed, line, what)) = tamper(&text, &mut dice) else { continue };
                tried += 1;
                let case = || format!("seed {seed}, {what}, line {line}");
                let broken = match verify(&changed, &trust()) {
                    Ok(verified) => panic!("accepted {verified:?}: {}", case()),
                    Err(broken) => broken,
                };
                let named = usize::try_from(broken.line.unwrap_or_else(|| panic!("{broken:?}: {}", case()))).unwrap();
                // Either of the two may have been changed: the message names both.
                let pair = match broken.problem {
                    Problem::OtherStart => named == 1,
                    Problem::OtherSelection => line == 1,
                    _ => false,
                };
                // A batch that lost its last line is named by the one before.
                let last = end_of_batch(&text, line);
                assert!(pair || (line - 1..=last + 1).contains(&named), "{broken:?}, not {line}..={last}: {}", case());
            }
        }
    }
    assert!(tried >= 10_000, "{tried} tamperings");
    println!("{tried} tamperings of exports, all noticed");
}
