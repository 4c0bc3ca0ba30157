//! The lines a newcomer pastes: an attestation that is signed, and one that is refused because it
//! contradicts the first.
//!
//! Both depend on the epoch alone, so pasting a line twice, or starting again in the same epoch,
//! asks for the same thing and gets the same answer.

use std::net::SocketAddr;

use holdfast_domain::{Epoch, ForkVersion, GenesisValidatorsRoot, Network, PublicKey, Slot};
use serde_json::{Value, json};

/// Which of the two votes for an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vote {
    /// The one that is signed.
    First,
    /// Another block for the same target epoch: a double vote.
    Conflicting,
}

impl Vote {
    /// What it votes for: no block has such a root.
    const fn block(self) -> &'static str {
        match self {
            Self::First => "0x1111111111111111111111111111111111111111111111111111111111111111",
            Self::Conflicting => "0x2222222222222222222222222222222222222222222222222222222222222222",
        }
    }
}

/// The fork versions around an epoch, as `fork_info` names them.
fn fork_around(network: &Network, epoch: Epoch) -> (ForkVersion, ForkVersion, Epoch) {
    let genesis = network.genesis_fork_version();
    let mut fork = (genesis, genesis, Epoch(0));
    for scheduled in network.forks.iter() {
        match scheduled.epoch {
            Some(start) if start <= epoch => fork = (fork.1, scheduled.version, start),
            Some(_) | None => {}
        }
    }
    fork
}

/// The body of a request for a vote at `epoch`.
pub(super) fn attestation(network: &Network, chain: GenesisValidatorsRoot, epoch: Epoch, vote: Vote) -> Value {
    let (previous, current, since) = fork_around(network, epoch);
    let slot = Slot(epoch.0.saturating_mul(network.preset.slots_per_epoch.get()));
    let zero = format!("0x{}", "00".repeat(32));
    json!({
        "type": "ATTESTATION",
        "fork_info": {
            "fork": {
                "previous_version": previous.to_string(),
                "current_version": current.to_string(),
                "epoch": since.to_string(),
            },
            "genesis_validators_root": chain.to_string(),
        },
        "attestation": {
            "slot": slot.to_string(),
            "index": "0",
            "beacon_block_root": vote.block(),
            "source": { "epoch": epoch.saturating_prev().to_string(), "root": zero },
            "target": { "epoch": epoch.to_string(), "root": vote.block() },
        },
    })
}

/// A line for a shell that sends `body`. JSON made here has no single quotes.
pub(super) fn curl(address: SocketAddr, key: &PublicKey, body: &Value) -> String {
    format!(
        "curl -sS http://{address}/api/v1/eth2/sign/{key} -H 'Content-Type: application/json' -H 'Accept: application/json' -d '{body}'"
    )
}

#[cfg(test)]
mod tests {
    //! Proves: the pasted requests are ones the signer reads, differ only in their vote, and name
    //! the fork the network is on.
    use holdfast_domain::{SigningIntent, Subject};
    use holdfast_wire::web3signer::SignRequest;

    use super::*;

    fn intent(network: &Network, epoch: Epoch, vote: Vote) -> SigningIntent {
        let chain = network.genesis_validators_root.expect("built in");
        let body = attestation(network, chain, epoch, vote).to_string();
        assert!(!body.contains('\''), "a shell would end the quotes there");
        let request = SignRequest::parse(body.as_bytes(), network).expect("a request");
        let key = PublicKey::from_bytes([1; 48]);
        SigningIntent::new(key, &request.message, request.fork_info, request.claimed, network).expect("an intent")
    }

    #[test]
    fn the_votes_conflict_and_repeat_exactly() {
        for name in Network::BUILTIN_NAMES {
            let network = Network::builtin(name).expect("built in");
            let epoch = Epoch(300_000);
            let first = intent(&network, epoch, Vote::First);
            let again = intent(&network, epoch, Vote::First);
            let other = intent(&network, epoch, Vote::Conflicting);
            assert_eq!(first.root(), again.root());
            assert_ne!(first.root(), other.root());
            assert_eq!(first.subject(), other.subject());
            let slot = Slot(300_000 * network.preset.slots_per_epoch.get());
            assert_eq!(*first.subject(), Subject::Attestation { slot, source: Epoch(299_999), target: epoch });
        }
    }

    #[test]
    fn the_fork_is_the_one_in_force() {
        let network = Network::builtin("mainnet").expect("built in");
        for scheduled in network.forks.iter() {
            let Some(epoch) = scheduled.epoch else { continue };
            assert_eq!(fork_around(&network, epoch).1, scheduled.version, "{:?}", scheduled.name);
            let before = fork_around(&network, epoch.saturating_prev()).1;
            assert!(epoch == Epoch(0) || before == fork_around(&network, epoch).0);
        }
    }
}
