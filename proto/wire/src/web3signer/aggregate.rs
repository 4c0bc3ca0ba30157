//! AGGREGATE_AND_PROOF and AGGREGATE_AND_PROOF_V2, in the bare and in the `{version, data}` form.
//!
//! Clients use either name with either form. The attestation's container decides the root, so:
//! a version decides it; without one, no `committee_bits` means phase0, and `committee_bits` means
//! Electra, or Gloas if the aggregate's slot is in Gloas. A slot is in Gloas if the network's
//! schedule says so, or if the fork version its domain is made with (`fork_info` at the slot's
//! epoch) is the network's Gloas version: the client may know of a fork the configuration does not
//! date yet, and its last aggregates before a fork are still those of the fork before.

use holdfast_domain::message::{
    AggregateAndProof, Attestation, AttestationData, AttestationShape, BitlistBytes, SignatureBytes,
};
use holdfast_domain::{ForkInfo, ForkName, Network, Slot, ValidatorIndex};
use serde_json::value::RawValue;

use crate::error::WireError;
use crate::json::{self, wire_object};
use crate::web3signer::Wrapped;

/// AggregateAndProof before its container is known.
struct Unshaped {
    aggregator_index: ValidatorIndex,
    aggregate: UnshapedAttestation,
    selection_proof: SignatureBytes,
}

struct UnshapedAttestation {
    aggregation_bits: BitlistBytes,
    data: AttestationData,
    signature: SignatureBytes,
    committee_bits: Option<Vec<u8>>,
}

wire_object! {
    Unshaped { aggregator_index, aggregate, selection_proof }
    UnshapedAttestation { aggregation_bits, data, signature, committee_bits }
}

/// The three containers an attestation has had.
#[derive(Clone, Copy)]
enum Container {
    Phase0,
    Electra,
    Gloas,
}

/// Reads the body member of both types.
pub(crate) fn read(
    raw: &RawValue,
    path: &'static str,
    fork_info: Option<&ForkInfo>,
    network: &Network,
) -> Result<AggregateAndProof, WireError> {
    match Wrapped::of(raw, path)? {
        Wrapped::Versioned { version, data } => {
            let container = match version {
                ForkName::Phase0 | ForkName::Altair | ForkName::Bellatrix | ForkName::Capella | ForkName::Deneb => {
                    Container::Phase0
                }
                ForkName::Electra | ForkName::Fulu => Container::Electra,
                ForkName::Gloas => Container::Gloas,
            };
            let path = format!("{path}.data");
            shaped(json::read(data, &path)?, container, &path)
        }
        Wrapped::Bare => {
            let unshaped: Unshaped = json::read(raw, path)?;
            let container = if unshaped.aggregate.committee_bits.is_none() {
                Container::Phase0
            } else if in_gloas(unshaped.aggregate.data.slot, fork_info, network) {
                Container::Gloas
            } else {
                Container::Electra
            };
            shaped(unshaped, container, path)
        }
    }
}

fn in_gloas(slot: Slot, fork_info: Option<&ForkInfo>, network: &Network) -> bool {
    let epoch = slot.epoch(network.preset.slots_per_epoch);
    let named = fork_info.and_then(|info| network.fork_named_by(info.fork.version_at(epoch)));
    network.fork_at(epoch) == ForkName::Gloas || named == Some(ForkName::Gloas)
}

fn shaped(unshaped: Unshaped, container: Container, path: &str) -> Result<AggregateAndProof, WireError> {
    let Unshaped { aggregator_index, aggregate, selection_proof } = unshaped;
    let UnshapedAttestation { aggregation_bits, data, signature, committee_bits } = aggregate;
    let shape = match (container, committee_bits) {
        (Container::Phase0, None) => AttestationShape::Phase0,
        (Container::Electra, Some(bits)) => AttestationShape::Electra(bits),
        (Container::Gloas, Some(bits)) => AttestationShape::Gloas(bits),
        (Container::Phase0, Some(_)) => {
            return Err(WireError::Malformed {
                path: format!("{path}.aggregate.committee_bits"),
                expected: "no such member, as `version` is before ELECTRA".into(),
                found: None,
            });
        }
        (Container::Electra | Container::Gloas, None) => {
            return Err(WireError::Missing {
                path: format!("{path}.aggregate.committee_bits"),
                expected: "the committee bits, as `version` is ELECTRA or later".into(),
            });
        }
    };
    let aggregate = Attestation { aggregation_bits, data, signature, shape };
    Ok(AggregateAndProof { aggregator_index, aggregate, selection_proof })
}
