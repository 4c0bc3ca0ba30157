//! All signing vectors over a backend: the shared ones as they are, with the signatures they state, and this project's own,
//! moved to the chain of these tests, with those that blst makes in one go.

use std::collections::BTreeMap;
use std::path::Path;

use holdfast_domain::{GenesisValidatorsRoot, MessageKind, Network, SigningIntent};
use holdfast_enclave::{ActiveKey, SecretKey};
use holdfast_tests::keys::TestKey;
use holdfast_tests::vectors::{json_files, shared};
use holdfast_wire::web3signer::SignRequest;
use serde_json::Value;

use super::places::network;
use super::suite::{self, Place};
use super::support::Bench;

/// What becomes of blocks and votes that lie in the past.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    /// They are signed, each by a vault of its own: they do not follow from one another.
    Signed,
    /// They are refused: the key came in behind a fence at the present. Their roots were compared before that.
    Refused,
}

struct Case {
    id: String,
    secret: [u8; 32],
    request: Value,
    /// As stated, or as blst makes it of the root.
    signature: Option<[u8; 96]>,
}

impl Case {
    fn secret(&self) -> SecretKey {
        SecretKey::from_be_bytes(&mut self.secret.clone()).unwrap()
    }

    fn intent(&self, network: &Network) -> SigningIntent {
        let request = SignRequest::parse(self.request.to_string().as_bytes(), network).unwrap();
        let key = *self.secret().public_key();
        SigningIntent::new(key, &request.message, request.fork_info, None, network).unwrap()
    }
}

fn bytes<const LEN: usize>(value: &Value) -> [u8; LEN] {
    hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap().try_into().unwrap()
}

/// The network of a vector, with a genesis validators root.
fn named(folder: &Path, name: &str, case: &Value) -> Network {
    let read = || std::fs::read_to_string(folder.join(format!("networks/{name}.yaml"))).unwrap();
    let mut network = Network::builtin(name).unwrap_or_else(|| Network::from_config_yaml(&read()).unwrap());
    let root = &case["request"]["fork_info"]["genesis_validators_root"];
    if network.genesis_validators_root.is_none() && root.is_string() {
        network.genesis_validators_root = Some(GenesisValidatorsRoot(bytes(root)));
    }
    network
}

/// The vectors by their chains.
fn cases() -> Vec<(Network, Vec<Case>)> {
    let mut chains = vec![(network(), own())];
    let Some(folder) = shared() else { return chains };
    let mut by_name: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (_, file) in json_files(&folder.join("signing")) {
        for case in file.as_array().unwrap() {
            by_name.entry(case["network"].as_str().unwrap().to_owned()).or_default().push(case.clone());
        }
    }
    let mut count = 0;
    for (name, found) in by_name {
        let chain = found.iter().map(|case| named(&folder, &name, case));
        let chain = chain.into_iter().find(|chain| chain.genesis_validators_root.is_some()).unwrap();
        let case = |case: &Value| Case {
            id: case["id"].as_str().unwrap().to_owned(),
            secret: bytes(&case["secret_key"]),
            request: case["request"].clone(),
            signature: Some(bytes(&case["expected"]["signature"])),
        };
        let cases: Vec<Case> = found.iter().map(case).collect();
        count += cases.len();
        chains.push((chain, cases));
    }
    assert!(count >= 204, "only {count} signing vectors");
    chains
}

fn own() -> Vec<Case> {
    let text = include_str!("../../../proto/domain/tests/own_vectors.json");
    let all: Vec<Value> = serde_json::from_str(text).unwrap();
    let (chain, secret) = (network(), TestKey::interop(0).secret.to_bytes());
    // The others have another preset.
    let cases: Vec<Case> = all
        .into_iter()
        .filter(|case| case["network"] == "mainnet")
        .map(|mut case| {
            if let Some(info) = case["request"].get_mut("fork_info") {
                info["genesis_validators_root"] = chain.genesis_validators_root.unwrap().to_string().into();
            }
            let (id, request) = (case["name"].as_str().unwrap().to_owned(), case["request"].take());
            Case { id, secret, request, signature: None }
        })
        // Theirs have random slots and epochs, which lie beyond every clock.
        .filter(|case| !matches!(case.intent(&chain).subject().kind(), MessageKind::Slashable(_)))
        .collect();
    assert!(cases.len() >= 30, "only {} own vectors", cases.len());
    cases
}

async fn sign(place: &dyn Place, network: &Network, case: &Case) -> Result<(), String> {
    let chain = network.genesis_validators_root.unwrap();
    let bench = Bench::of(chain);
    let secret = case.secret();
    let registration = bench.register(*secret.public_key()).await;
    let held = suite::hold(place, chain, std::slice::from_ref(&secret)).remove(0);
    let key = ActiveKey::held(registration, held, place.backend()).unwrap();
    let permit = bench.authorize(case.intent(network)).await.map_err(|refusal| refusal.to_string())?;
    let expected = case.signature.unwrap_or_else(|| suite::reference(&secret, permit.root().as_bytes()));
    let signed = key.sign(permit).await.map_err(|error| error.reason().to_owned())?;
    assert_eq!(*signed.signature.as_bytes(), expected, "{}", case.id);
    Ok(())
}

/// `make` makes a place for a chain where no key is behind a fence that is among the first so many; where there are fences
/// anyway, for a chain.
pub(super) async fn vectors(past: Past, make: impl Fn(&Network, usize) -> Box<dyn Place>) {
    let mut counted = [0, 0];
    let mut name = "";
    for (network, cases) in cases() {
        let place = make(&network, cases.len());
        name = place.backend().name();
        for case in &cases {
            let slashable = matches!(case.intent(&network).subject().kind(), MessageKind::Slashable(_));
            match past {
                Past::Signed if slashable => {
                    let alone = make(&network, 1);
                    assert_eq!(sign(alone.as_ref(), &network, case).await, Ok(()), "{}", case.id);
                }
                Past::Refused if slashable => {
                    let reason = sign(place.as_ref(), &network, case).await.unwrap_err();
                    let fenced = reason.ends_with("_below_watermark") || reason.ends_with("_in_future");
                    assert!(fenced, "{}: {reason}", case.id);
                    counted[1] += 1;
                    continue;
                }
                Past::Signed | Past::Refused => {
                    assert_eq!(sign(place.as_ref(), &network, case).await, Ok(()), "{}", case.id);
                }
            }
            counted[0] += 1;
        }
    }
    println!("enclave:   signing vectors over {name}: {} signed, {} behind the fence", counted[0], counted[1]);
    assert!(counted[0] > 0 && (counted[1] > 0) == (past == Past::Refused));
}
