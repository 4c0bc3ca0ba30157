//! The EIP-3076 test files against reader, writer and rules, with a map in memory for a store.
//!
//! Proved: a file is imported exactly if it says so; every attempt to sign is judged as the minimal
//! strategy's column says, both ways (`STRICTER` lists the exceptions: there are none); and no attempt is
//! approved against its column when the history is exported and imported elsewhere between the steps.
//!
//! `HOLDFAST_VECTORS` names the folder with the published files; without it `../shared/vectors` beside the
//! workspace is used when it exists. The project's own files in `interchange_own.json` always run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it finds a fault")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use holdfast_domain::message::BeaconBlockHeader;
use holdfast_domain::root::parse_hex;
use holdfast_domain::{
    Epoch, Fork, ForkInfo, ForkName, GenesisValidatorsRoot, Message, Network, PublicKey, SigningIntent, SigningRoot,
    Slashable, Slot, Subject, ValidatorIndex,
};
use holdfast_slashing_db::Watermarks;
use holdfast_slashing_db::interchange::{Interchange, ReadError, read, write};
use holdfast_slashing_db::rules::{Horizon, Verdict, judge};
use serde::Deserialize;

/// Attempts that may be signed under the minimal strategy, but are refused here because our rules are
/// stricter: name of the file, step, and which attempt. Each would need a reason beside it.
const STRICTER: &[(&str, usize, &str)] = &[];

/// The vectors have slots from 0 to 2^64 - 1.
const NO_HORIZON: Horizon = Horizon::At { slot: Slot(u64::MAX), epoch: Epoch(u64::MAX) };

#[derive(Deserialize)]
struct Case {
    name: String,
    genesis_validators_root: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    should_succeed: bool,
    interchange: serde_json::Value,
    blocks: Vec<Block>,
    attestations: Vec<Attestation>,
}

#[derive(Deserialize)]
struct Block {
    pubkey: String,
    slot: String,
    signing_root: String,
    should_succeed: bool,
}

#[derive(Deserialize)]
struct Attestation {
    pubkey: String,
    source_epoch: String,
    target_epoch: String,
    signing_root: String,
    should_succeed: bool,
}

fn shared() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if let Some(named) = std::env::var_os("HOLDFAST_VECTORS") {
        let folder = workspace.join(named);
        assert!(folder.is_dir(), "HOLDFAST_VECTORS names {}, which is no folder", folder.display());
        return Some(folder);
    }
    Some(workspace.join("../shared/vectors")).filter(|folder| folder.is_dir())
}

fn folder_cases(folder: &Path) -> Vec<Case> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().is_some_and(|name| name != "schema.json"));
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect()
}

fn own_cases() -> Vec<Case> {
    serde_json::from_str(include_str!("interchange_own.json")).unwrap()
}

/// All cases there are, own ones first.
fn cases() -> Vec<Case> {
    let mut cases = own_cases();
    if let Some(shared) = shared() {
        for (name, least) in [("eip-3076", 25), ("eip-3076-extra", 29)] {
            let found = folder_cases(&shared.join(name));
            assert!(found.len() >= least, "{name} has {} files, {least} or more were expected", found.len());
            cases.extend(found);
        }
    }
    cases
}

/// A computed signing root that stands for the one in a vector: different roots give different ones.
struct Roots {
    network: Network,
    info: ForkInfo,
}

impl Roots {
    fn new() -> Self {
        let network = Network::builtin("mainnet").unwrap();
        let version = network.fork(ForkName::Phase0).unwrap().version;
        let fork = Fork { previous_version: version, current_version: version, epoch: Epoch(0) };
        let genesis_validators_root = network.genesis_validators_root.unwrap();
        Self { network, info: ForkInfo { fork, genesis_validators_root } }
    }

    fn get(&self, text: &str) -> SigningRoot {
        let header = BeaconBlockHeader {
            slot: Slot(0),
            proposer_index: ValidatorIndex(0),
            parent_root: [0; 32],
            state_root: [0; 32],
            body_root: parse_hex(text).unwrap(),
        };
        let message = Message::Slashable(Slashable::Block(header));
        let key = PublicKey::from_bytes([0; 48]);
        SigningIntent::new(key, &message, Some(self.info), None, &self.network).unwrap().root()
    }
}

/// The simplest store there can be.
struct Store {
    chain: GenesisValidatorsRoot,
    rows: BTreeMap<PublicKey, Watermarks>,
}

impl Store {
    fn import(&mut self, value: &serde_json::Value) -> Result<(), ReadError> {
        for (key, history) in read_both_ways(value, self.chain)?.iter() {
            let report = history.apply(*key, self.rows.get(key).copied());
            self.rows.insert(*key, report.after);
        }
        Ok(())
    }

    fn attempt(&mut self, key: &str, subject: &Subject, root: &SigningRoot) -> bool {
        let row = self.rows.entry(key.parse().unwrap()).or_default();
        match judge(row, subject, root, NO_HORIZON) {
            Verdict::Approve { approved: _, after } => {
                *row = after;
                true
            }
            Verdict::Deny(_) => false,
        }
    }

    /// Export, then import into an empty store elsewhere: roots are lost, bounds are not.
    fn moved(&self) -> Self {
        let mut file = Vec::new();
        write(&mut file, self.chain, &self.rows).unwrap();
        let interchange = read(file.as_slice(), self.chain).unwrap();
        let rows = interchange.iter().map(|(key, history)| (*key, history.apply(*key, None).after)).collect();
        Self { chain: self.chain, rows }
    }
}

/// Reads a file with `metadata` before and after `data`: the result must be the same.
fn read_both_ways(value: &serde_json::Value, chain: GenesisValidatorsRoot) -> Result<Interchange, ReadError> {
    let (metadata, data) = (&value["metadata"], &value["data"]);
    let first = read(format!(r#"{{"metadata":{metadata},"data":{data}}}"#).as_bytes(), chain);
    let last = read(format!(r#"{{"data":{data},"metadata":{metadata}}}"#).as_bytes(), chain);
    match (&first, &last) {
        (Ok(first), Ok(last)) => assert_eq!(first, last),
        (Err(_), Err(_)) => {}
        (first, last) => panic!("the order of members matters: {first:?}, {last:?}"),
    }
    first
}

/// One attempt as judged: where it stands, what the column says, and whether it was approved.
struct Judged {
    place: (String, usize, String),
    column: bool,
    approved: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Between {
    Nothing,
    Move,
}

fn run(case: &Case, roots: &Roots, between: Between) -> Vec<Judged> {
    let chain = GenesisValidatorsRoot(parse_hex(&case.genesis_validators_root).unwrap());
    let mut store = Store { chain, rows: BTreeMap::new() };
    let mut judged = Vec::new();
    for (number, step) in case.steps.iter().enumerate() {
        let before = store.rows.clone();
        match store.import(&step.interchange) {
            Ok(()) => assert!(step.should_succeed, "{} step {number}: imported, but must be refused", case.name),
            Err(error) => {
                assert!(!step.should_succeed, "{} step {number}: {error}", case.name);
                assert_eq!(store.rows, before, "{} step {number}: a refused import left a trace", case.name);
            }
        }
        if between == Between::Move {
            store = store.moved();
        }
        let mut note = |what: String, column, approved| {
            judged.push(Judged { place: (case.name.clone(), number, what), column, approved });
        };
        for (index, block) in step.blocks.iter().enumerate() {
            let subject = Subject::Block { slot: Slot(block.slot.parse().unwrap()) };
            let approved = store.attempt(&block.pubkey, &subject, &roots.get(&block.signing_root));
            note(format!("block {index}"), block.should_succeed, approved);
        }
        for (index, vote) in step.attestations.iter().enumerate() {
            let source = Epoch(vote.source_epoch.parse().unwrap());
            let target = Epoch(vote.target_epoch.parse().unwrap());
            let subject = Subject::Attestation { slot: Slot(0), source, target };
            let approved = store.attempt(&vote.pubkey, &subject, &roots.get(&vote.signing_root));
            note(format!("attestation {index}"), vote.should_succeed, approved);
        }
        if between == Between::Move {
            store = store.moved();
        }
    }
    judged
}

#[test]
fn every_vector_is_judged_as_its_column_says() {
    let (cases, roots) = (cases(), Roots::new());
    let judged: Vec<Judged> = cases.iter().flat_map(|case| run(case, &roots, Between::Nothing)).collect();
    let accepted: Vec<_> = judged.iter().filter(|one| one.approved && !one.column).map(|one| &one.place).collect();
    assert!(accepted.is_empty(), "approved against the column: {accepted:?}");
    let stricter: Vec<(&str, usize, &str)> = judged
        .iter()
        .filter(|one| !one.approved && one.column)
        .map(|one| (one.place.0.as_str(), one.place.1, one.place.2.as_str()))
        .collect();
    assert_eq!(stricter, STRICTER, "refused against the column");
    println!("{} files, {} attempts, all as their column says", cases.len(), judged.len());
}

#[test]
fn a_history_that_moves_between_the_steps_protects_no_less() {
    let (cases, roots) = (cases(), Roots::new());
    let judged: Vec<Judged> = cases.iter().flat_map(|case| run(case, &roots, Between::Move)).collect();
    let accepted: Vec<_> = judged.iter().filter(|one| one.approved && !one.column).map(|one| &one.place).collect();
    assert!(accepted.is_empty(), "approved against the column after a move: {accepted:?}");
    assert!(judged.iter().any(|one| one.approved), "nothing could be signed after a move");
}
