//! What would be done: every setting, every key, and what stays behind.
//!
//! Guarantees: each file found and each key is in it, once, with what becomes of it and why.

use std::collections::BTreeMap;
use std::path::PathBuf;

use holdfast_domain::PublicKey;
use holdfast_migrate::web3signer::{Becomes, Line, Origin as Place};
use serde_json::json;

use super::super::args::{KeystoresArgs, MoveArgs};
use super::super::keys::{Discovery, Here, Skipped};
use super::super::{Exit, Failure, Output};
use super::past::{Origin, Past};

/// Another signer, as it was found.
pub(super) struct OldSigner {
    /// Its name, as people write it.
    pub(super) title: &'static str,
    /// Its name in the journal.
    pub(super) name: &'static str,
    /// Its settings, and what each of them is here.
    pub(super) settings: Vec<Line>,
    /// Its keys.
    pub(super) found: Discovery,
    /// More keys that cannot come, and what to do.
    pub(super) elsewhere: Vec<String>,
    /// Keys that are switched off there, besides those its protection says.
    pub(super) off: Vec<PublicKey>,
    /// Where its protection is read.
    pub(super) origin: Origin,
    /// Where the passwords of keystores are, if that was said.
    pub(super) passwords: KeystoresArgs,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It comes in.
    Comes,
    /// It is here, switched off.
    HereOff,
    /// It is here, and signs.
    HereOn,
    /// It was deleted here.
    Deleted,
    /// The old signer's protection does not know it.
    NoHistory,
}

impl Fate {
    const fn word(self) -> &'static str {
        match self {
            Self::Comes => "comes",
            Self::HereOff => "here_off",
            Self::HereOn => "here",
            Self::Deleted => "deleted",
            Self::NoHistory => "no_history",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Comes => "comes in",
            Self::HereOff => "is here already, switched off",
            Self::HereOn => "is here already",
            Self::Deleted => {
                "stays behind: it was deleted here; make sure that it signs nowhere else, then `holdfast keys import \
                 --replace-tombstone`"
            }
            Self::NoHistory => {
                "stays behind: the old signer's protection says nothing about it; find out where it signed, or give \
                 --accept-keys-without-history"
            }
        }
    }

    /// Whether the key moves, or did before.
    pub(super) const fn moves(self) -> bool {
        matches!(self, Self::Comes | Self::HereOff | Self::HereOn)
    }
}

/// One key.
pub(super) struct Planned {
    /// Where it was found.
    place: PathBuf,
    /// What becomes of it.
    pub(super) fate: Fate,
    /// Whether it is switched off in the old signer.
    pub(super) off_there: bool,
    /// Whether the old signer's protection knows it.
    pub(super) has_history: bool,
}

/// Said of a keystore without a public key.
const NAMELESS: &str = "stays behind: the keystore does not name its key, so nobody can say what it has signed; bring it with \
     `holdfast keys import`";

/// The plan.
pub(super) struct Plan {
    /// By key.
    pub(super) keys: BTreeMap<PublicKey, Planned>,
    /// What cannot come, and why.
    behind: Vec<Skipped>,
}

impl Plan {
    /// Makes it.
    pub(super) fn new(old: &OldSigner, past: &Past, here: &BTreeMap<PublicKey, Here>, args: &MoveArgs) -> Self {
        let mut keys = BTreeMap::new();
        let mut behind = Vec::new();
        for candidate in &old.found.candidates {
            let Some(key) = candidate.claimed else {
                behind.push(Skipped { path: candidate.path.clone(), reason: NAMELESS.to_owned() });
                continue;
            };
            let has_history = past.interchange.get(&key).is_some();
            let fate = match here.get(&key) {
                Some(Here::On) => Fate::HereOn,
                Some(Here::Deleted) => Fate::Deleted,
                Some(Here::Off) if has_history || args.accept_keys_without_history => Fate::HereOff,
                None if has_history || args.accept_keys_without_history => Fate::Comes,
                Some(Here::Off) | None => Fate::NoHistory,
            };
            let off_there = past.interchange.is_switched_off(&key) || old.off.contains(&key);
            keys.entry(key).or_insert(Planned { place: candidate.path.clone(), fate, off_there, has_history });
        }
        behind.extend(
            old.found
                .skipped
                .iter()
                .map(|one| Skipped { path: one.path.clone(), reason: format!("stays behind: {}", one.reason) }),
        );
        Self { keys, behind }
    }

    /// How many keys are here in the end.
    pub(super) fn moving(&self) -> usize {
        self.keys.values().filter(|one| one.fate.moves()).count()
    }

    /// Keys that come in, with or without a history.
    pub(super) fn coming(&self, has_history: bool) -> impl Iterator<Item = &PublicKey> {
        self.keys
            .iter()
            .filter(move |(_, one)| one.fate == Fate::Comes && one.has_history == has_history)
            .map(|(key, _)| key)
    }

    fn count(&self, fate: Fate) -> usize {
        self.keys.values().filter(|one| one.fate == fate).count()
    }

    /// How many keys, or files that should hold one, stay behind.
    pub(super) fn behind(&self, old: &OldSigner) -> usize {
        let keys = self.keys.values().filter(|one| !one.fate.moves()).count();
        keys.saturating_add(self.behind.len()).saturating_add(old.elsewhere.len())
    }

    /// How a plan ends: well if nothing stays behind.
    pub(super) fn exit(&self, old: &OldSigner) -> Exit {
        if self.behind(old) == 0 { Exit::Done } else { Exit::Refused }
    }

    /// Prints it.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(super) fn say(&self, old: &OldSigner, past: &Past, output: Output) -> Result<(), Failure> {
        old.settings.iter().try_for_each(|line| say_setting(line, output))?;
        for (key, one) in &self.keys {
            let off = match (one.fate, one.off_there) {
                (_, true) => "; switched off there, so it stays switched off here",
                (Fate::HereOff, false) => ", until the checklist is confirmed",
                (_, false) => "",
            };
            let unknown = matches!(one.fate, Fate::Comes | Fate::HereOff) && !one.has_history;
            let none = if unknown { ", without a history" } else { "" };
            let place = one.place.display();
            output.result(
                format!("{key} {}{none}{off} ({place})", one.fate.words()),
                &json!({
                    "pubkey": key.to_string(), "plan": one.fate.word(), "off_there": one.off_there,
                    "has_history": one.has_history, "file": place.to_string(),
                }),
            )?;
        }
        for Skipped { path, reason } in &self.behind {
            let file = path.display().to_string();
            output.result(format!("{file} {reason}"), &json!({ "plan": "behind", "file": file, "reason": reason }))?;
        }
        for reason in &old.elsewhere {
            output.result(format!("stays behind: {reason}"), &json!({ "plan": "behind", "reason": reason }))?;
        }
        self.say_totals(old, past, output)
    }

    fn say_totals(&self, old: &OldSigner, past: &Past, output: Output) -> Result<(), Failure> {
        let (comes, on, off) = (self.count(Fate::Comes), self.count(Fate::HereOn), self.count(Fate::HereOff));
        let (known, behind) = (past.interchange.len(), self.behind(old));
        let protection = if old.origin.is_known() {
            format!("{}'s protection knows {known} keys", old.title)
        } else {
            format!("{} ran without protection", old.title)
        };
        let text = format!(
            "{} keys move: {comes} come in, {} are here already ({off} of them switched off); {behind} stay behind. \
             {protection}.",
            self.moving(),
            on.saturating_add(off)
        );
        let totals = json!({
            "move": self.moving(), "comes": comes, "here": on, "here_off": off, "behind": behind, "known": known,
            "source": past.source, "fenced": past.fenced,
        });
        output.result(text, &json!({ "from": old.name, "totals": totals }))
    }
}

fn say_setting(line: &Line, output: Output) -> Result<(), Failure> {
    let origin = match &line.origin {
        Place::File(number) => format!("line {number}"),
        Place::Environment => "environment".to_owned(),
        Place::Arguments => "command line".to_owned(),
    };
    let (word, text, setting) = match &line.becomes {
        Becomes::Setting { setting, value } => ("setting", format!("becomes {setting} = {value}"), Some(*setting)),
        Becomes::Migration => ("migration", "is used for the move".to_owned(), None),
        Becomes::Nothing(why) => ("nothing", format!("needs nothing: {why}"), None),
        Becomes::ByHand(what) => ("by_hand", format!("by hand: {what}"), None),
    };
    let value = match &line.becomes {
        Becomes::Setting { value, .. } => Some(value),
        _ => None,
    };
    output.result(
        format!("--{} ({origin}) {text}", line.name),
        &json!({
            "option": line.name, "origin": origin, "becomes": word, "setting": setting, "value": value, "text": text,
        }),
    )
}
