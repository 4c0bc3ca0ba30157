//! Makes the project's own signing vectors: random messages from fixed seeds, every expected
//! value computed by the second implementation.

use holdfast_domain::message::{Message, Unslashable};
use holdfast_domain::{ForkInfo, ForkName, Network};
use serde_json::{Value, json};

use crate::json::{Json, Signable, write_request};
use crate::oracle;
use crate::random::{Random, Sample};

const NETWORKS: [&str; 3] = ["mainnet", "gnosis", "minimal"];
/// The built-in networks have no minimal preset.
const MINIMAL: &str = "PRESET_BASE: minimal\nCONFIG_NAME: minimal\nGENESIS_FORK_VERSION: 0x0a000001\n\
    ALTAIR_FORK_VERSION: 0x0b000001\nALTAIR_FORK_EPOCH: 1\nBELLATRIX_FORK_VERSION: 0x0c000001\n\
    BELLATRIX_FORK_EPOCH: 2\nCAPELLA_FORK_VERSION: 0x0d000001\nCAPELLA_FORK_EPOCH: 3\n\
    DENEB_FORK_VERSION: 0x0e000001\nDENEB_FORK_EPOCH: 4\nELECTRA_FORK_VERSION: 0x0f000001\n\
    ELECTRA_FORK_EPOCH: 5\nSLOT_DURATION_MS: 6000\n";

pub fn network(name: &str) -> Network {
    Network::builtin(name).unwrap_or_else(|| {
        assert_eq!(name, "minimal");
        Network::from_config_yaml(MINIMAL).unwrap()
    })
}

pub fn generate() -> Value {
    let mut cases = Vec::new();
    for (which, name) in NETWORKS.iter().enumerate() {
        let network = network(name);
        for (number, sample) in Sample::ALL.into_iter().enumerate() {
            for round in 0..3 {
                // One empty, one small and one larger value of each type.
                let seed = u64::try_from(which * 1000 + number * 10 + round).unwrap();
                let mut random = Random::new(seed, [0, 2, 5][round]);
                cases.push(case(name, &network, sample, round, &mut random));
            }
        }
    }
    Value::Array(cases)
}

fn case(name: &str, network: &Network, sample: Sample, round: usize, random: &mut Random) -> Value {
    let signable = random.sample(sample, &network.preset);
    let mut info = random.fork_info();
    let (mut carries_fork_info, mut exit) = (true, false);
    if let Signable::Message(Message::Unslashable(message)) = &signable {
        carries_fork_info = !matches!(message, Unslashable::Deposit(_) | Unslashable::ValidatorRegistration(_));
        exit = matches!(message, Unslashable::VoluntaryExit(_));
    }
    if exit {
        // Exits depend on the fork the chain is at: one after Deneb.
        info = at_electra(network, info);
    }
    let object_root = oracle::object_root(&signable, &network.preset);
    let domain = oracle::domain(&signable, &info, network);
    json!({
        "name": format!("{name}/{sample:?}/{round}"),
        "network": name,
        "request": write_request(&signable, carries_fork_info.then_some(&info)),
        "object_root": object_root.to(),
        "domain": domain.to(),
        "signing_root": oracle::signing_root(object_root, domain).to(),
    })
}

fn at_electra(network: &Network, mut info: ForkInfo) -> ForkInfo {
    let electra = network.fork(ForkName::Electra).unwrap();
    info.fork.previous_version = network.fork(ForkName::Deneb).unwrap().version;
    info.fork.current_version = electra.version;
    info.fork.epoch = electra.epoch.unwrap();
    info
}
