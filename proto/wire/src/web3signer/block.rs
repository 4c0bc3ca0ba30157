//! Blocks: always turned into the header that is signed.
//!
//! phase0 and Altair blocks come whole and are hashed here; from Bellatrix on clients send the
//! header, which is the same for blinded and unblinded blocks. The version chooses between the two
//! forms and nothing else.

use holdfast_domain::body::BeaconBlock;
use holdfast_domain::message::BeaconBlockHeader;
use holdfast_domain::{ForkName, Network};
use serde_json::value::RawValue;

use crate::error::WireError;
use crate::json;
use crate::members::Members;
use crate::web3signer::fork_name;

/// Body member of BLOCK: a whole phase0 block.
pub(crate) fn phase0(raw: &RawValue, path: &str, network: &Network) -> Result<BeaconBlockHeader, WireError> {
    whole(raw, path, Whole::Phase0, network)
}

/// Body member of BLOCK_V2: `{version, block}` or `{version, block_header}`.
pub(crate) fn versioned(raw: &RawValue, path: &str, network: &Network) -> Result<BeaconBlockHeader, WireError> {
    let members = Members::of_member(raw, path, &["version", "block", "block_header"])?;
    let member = |name: &'static str, expected: &'static str| {
        members
            .get(name)
            .map_err(|error| error.within(path))?
            .ok_or_else(|| WireError::Missing { path: format!("{path}.{name}"), expected: expected.into() })
    };
    let version = member("version", "the fork of the block, e.g. FULU")?;
    let fork = match fork_name(version).map_err(|error| error.within(path))? {
        ForkName::Phase0 => Whole::Phase0,
        ForkName::Altair => Whole::Altair,
        ForkName::Bellatrix
        | ForkName::Capella
        | ForkName::Deneb
        | ForkName::Electra
        | ForkName::Fulu
        | ForkName::Gloas => {
            let header = member("block_header", "the header of the block, as `version` is BELLATRIX or later")?;
            return json::read(header, &format!("{path}.block_header"));
        }
    };
    let block = member("block", "the whole block, as `version` is PHASE0 or ALTAIR")?;
    whole(block, &format!("{path}.block"), fork, network)
}

/// Forks whose blocks come whole.
#[derive(Clone, Copy)]
enum Whole {
    Phase0,
    Altair,
}

fn whole(raw: &RawValue, path: &str, fork: Whole, network: &Network) -> Result<BeaconBlockHeader, WireError> {
    let block: BeaconBlock = json::read(raw, path)?;
    let aggregate = || format!("{path}.body.sync_aggregate");
    match (fork, &block.body.sync_aggregate) {
        (Whole::Phase0, None) | (Whole::Altair, Some(_)) => {}
        // Dropping it would sign another block than the client has.
        (Whole::Phase0, Some(_)) => {
            return Err(WireError::Malformed {
                path: aggregate(),
                expected: "no such member in a phase0 block (send Altair blocks as BLOCK_V2 with version ALTAIR)"
                    .into(),
                found: None,
            });
        }
        (Whole::Altair, None) => {
            return Err(WireError::Missing {
                path: aggregate(),
                expected: "the sync aggregate of an Altair block".into(),
            });
        }
    }
    block.into_header(&network.preset).map_err(|source| WireError::Limits { path: path.to_owned(), source })
}
