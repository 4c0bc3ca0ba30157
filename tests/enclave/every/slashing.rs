//! All slashing vectors over a backend: what the database permits is signed, and what the vectors say must not be signed is not.
//!
//! The vectors' keys have no known secrets, so each key of each case stands for a new one; signing roots stand for the content
//! of messages. Their slots and epochs lie anywhere, and a vault signs neither the past before it got its keys nor the
//! future, so each number stands for its rank among those of its case, counted from a slot behind the fence: which is
//! higher, lower or equal, and so all that the rules ask for, stays the same. Each case has a database of its own.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_domain::message::{AttestationData, BeaconBlockHeader, Checkpoint};
use holdfast_domain::{Epoch, Message, Slashable, Slot, ValidatorIndex};
use holdfast_enclave::backend::Held;
use holdfast_enclave::{ActiveKey, SecretKey, generate};
use holdfast_slashing_db::interchange::read;
use holdfast_tests::vectors::{json_files, shared};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::suite::{self, Place};
use super::support::{Bench, NETWORK, intent};

fn cases() -> Vec<Value> {
    let mut cases: Vec<Value> =
        serde_json::from_str(include_str!("../../../slashing-db/tests/interchange_own.json")).unwrap();
    assert!(!cases.is_empty());
    if let Some(folder) = shared() {
        for (name, least) in [("eip-3076", 25), ("eip-3076-extra", 29)] {
            let files = json_files(&folder.join(name)).into_iter().map(|(_, case)| case);
            let found: Vec<Value> = files.filter(|case| case["steps"].is_array()).collect();
            assert!(found.len() >= least, "{name} has {} files", found.len());
            cases.extend(found);
        }
    }
    cases
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A key or a root, however it is written.
fn plain(value: &Value) -> String {
    value.as_str().unwrap_or_default().trim_start_matches("0x").to_ascii_lowercase()
}

fn number(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}

/// One case, and who and what stands for its keys and numbers.
struct Cast {
    case: Value,
    keys: BTreeMap<String, usize>,
    slots: BTreeMap<u64, u64>,
    epochs: BTreeMap<u64, u64>,
}

impl Cast {
    /// `first` is the place of its first key among those of all cases.
    fn new(case: Value, first: usize) -> Self {
        let (mut keys, mut slots, mut epochs) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for step in list(&case["steps"]) {
            let data = &step["interchange"]["data"];
            for one in list(data).chain(list(&step["blocks"])).chain(list(&step["attestations"])) {
                keys.insert(plain(&one["pubkey"]));
            }
            let blocks = list(data).flat_map(|one| list(&one["signed_blocks"])).chain(list(&step["blocks"]));
            slots.extend(blocks.filter_map(|block| number(&block["slot"])));
            let votes = list(data).flat_map(|one| list(&one["signed_attestations"])).chain(list(&step["attestations"]));
            epochs.extend(votes.flat_map(|vote| [&vote["source_epoch"], &vote["target_epoch"]]).filter_map(number));
        }
        let ranks = |numbers: BTreeSet<u64>| numbers.into_iter().zip(0..).collect();
        Self { case, keys: keys.into_iter().zip(first..).collect(), slots: ranks(slots), epochs: ranks(epochs) }
    }

    /// The interchange of a step, with what stands for its keys and numbers.
    fn rewritten(&self, interchange: &Value, base: u64, secrets: &[SecretKey]) -> String {
        let mut file = interchange.clone();
        let chain = &mut file["metadata"]["genesis_validators_root"];
        if plain(chain) == plain(&self.case["genesis_validators_root"]) {
            *chain = NETWORK.to_string().into();
        }
        let replace = |value: &mut Value, ranks: &BTreeMap<u64, u64>| {
            if let Some(rank) = number(value).and_then(|number| ranks.get(&number)) {
                *value = (base + rank).to_string().into();
            }
        };
        for one in file["data"].as_array_mut().into_iter().flatten() {
            if let Some(place) = self.keys.get(&plain(&one["pubkey"])) {
                one["pubkey"] = secrets[*place].public_key().to_string().into();
            }
            for block in one["signed_blocks"].as_array_mut().into_iter().flatten() {
                replace(&mut block["slot"], &self.slots);
            }
            for vote in one["signed_attestations"].as_array_mut().into_iter().flatten() {
                replace(&mut vote["source_epoch"], &self.epochs);
                replace(&mut vote["target_epoch"], &self.epochs);
            }
        }
        file.to_string()
    }

    /// The attempts of a step in order: whose, what, and whether it may be signed.
    fn attempts(&self, step: &Value, base: u64) -> Vec<(usize, Message, bool)> {
        let content = |one: &Value| -> [u8; 32] { Sha256::digest(plain(&one["signing_root"])).into() };
        let at = |ranks: &BTreeMap<u64, u64>, value: &Value| base + ranks[&number(value).unwrap()];
        let block = |one: &Value| {
            Message::Slashable(Slashable::Block(BeaconBlockHeader {
                slot: Slot(at(&self.slots, &one["slot"])),
                proposer_index: ValidatorIndex(1),
                parent_root: [4; 32],
                state_root: [5; 32],
                body_root: content(one),
            }))
        };
        let vote = |one: &Value| {
            let epoch = |name: &str| Epoch(at(&self.epochs, &one[name]));
            Message::Slashable(Slashable::Attestation(AttestationData {
                slot: Slot(epoch("target_epoch").0),
                index: 0,
                beacon_block_root: content(one),
                source: Checkpoint { epoch: epoch("source_epoch"), root: [2; 32] },
                target: Checkpoint { epoch: epoch("target_epoch"), root: [3; 32] },
            }))
        };
        let attempt = |one: &Value, message| {
            (self.keys[&plain(&one["pubkey"])], message, one["should_succeed"].as_bool().unwrap())
        };
        let blocks = list(&step["blocks"]).map(|one| attempt(one, block(one)));
        blocks.chain(list(&step["attestations"]).map(|one| attempt(one, vote(one)))).collect()
    }

    /// Runs it; how many attempts were signed and refused.
    async fn run(&self, place: &dyn Place, base: u64, secrets: &[SecretKey], held: &[Held]) -> [usize; 2] {
        let name = &self.case["name"];
        let bench = Bench::new();
        let mut keys = BTreeMap::new();
        for index in self.keys.values() {
            let registration = bench.register(*secrets[*index].public_key()).await;
            keys.insert(*index, ActiveKey::held(registration, held[*index].clone(), place.backend()).unwrap());
        }
        let mut counted = [0, 0];
        for step in list(&self.case["steps"]) {
            let text = self.rewritten(&step["interchange"], base, secrets);
            let imported = match read(text.as_bytes(), NETWORK) {
                Ok(histories) => bench.import(histories).await.is_ok(),
                Err(_) => false,
            };
            assert_eq!(imported, step["should_succeed"].as_bool().unwrap(), "{name}: import of {text}");
            for (index, message, allowed) in self.attempts(step, base) {
                let permit = bench.authorize(intent(secrets[index].public_key(), &message)).await;
                assert_eq!(permit.is_ok(), allowed, "{name}: {message:?}");
                counted[usize::from(!allowed)] += 1;
                let Ok(permit) = permit else { continue };
                let expected = suite::reference(&secrets[index], permit.root().as_bytes());
                let signed =
                    keys[&index].sign(permit).await.unwrap_or_else(|error| panic!("{name}: {message:?}: {error}"));
                assert_eq!(*signed.signature.as_bytes(), expected, "{name}");
            }
        }
        counted
    }
}

pub(super) async fn vectors(place: &dyn Place) {
    let mut casts = Vec::new();
    let mut keys = 0;
    for case in cases() {
        let cast = Cast::new(case, keys);
        keys += cast.keys.len();
        casts.push(cast);
    }
    let secrets: Vec<SecretKey> = (0..keys).map(|_| generate::secret_key().unwrap()).collect();
    let held = suite::hold(place, NETWORK, &secrets);
    let base = place.next();
    let ranks = casts.iter().map(|cast| cast.slots.len().max(cast.epochs.len())).max().unwrap();
    let last = base + u64::try_from(ranks).unwrap();
    while place.next() < last {}
    let mut counted = [0, 0];
    for cast in &casts {
        let [signed, refused] = cast.run(place, base, &secrets, &held).await;
        counted = [counted[0] + signed, counted[1] + refused];
    }
    println!(
        "enclave:   {} slashing files over {}: {} signed, {} refused",
        casts.len(),
        place.backend().name(),
        counted[0],
        counted[1]
    );
    assert!(counted.iter().all(|count| *count > 0));
}
