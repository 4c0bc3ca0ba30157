//! What is to be signed, and what became of it.

use holdfast_domain::message::{AttestationData, BeaconBlockHeader, Checkpoint, VoluntaryExit};
use holdfast_domain::{
    Epoch, Fork, ForkInfo, ForkVersion, GenesisValidatorsRoot, Hashed, MessageKind, ObservedRoot, Slot, Stated,
    Statement, UnslashableKind, ValidatorIndex,
};

use super::{array, pack_marks, public_key, refusal};
use crate::error::Malformed;
use crate::message::{Refusal, SignItem};
use crate::v1;
use crate::v1::sign_item::Stated as Wire;
use crate::v1::sign_outcome::Outcome;

pub(super) fn pack_item(item: &SignItem) -> v1::SignItem {
    v1::SignItem {
        public_key: item.public_key.as_bytes().to_vec(),
        root: item.root.as_bytes().to_vec(),
        commit_seq: item.commit_seq,
        fork_info: item.statement.fork_info.as_ref().map(pack_fork_info),
        stated: Some(pack_stated(&item.statement.stated)),
    }
}

pub(super) fn unpack_item(item: v1::SignItem) -> Result<SignItem, Malformed> {
    let stated = item.stated.ok_or(Malformed::Missing { field: "stated" })?;
    Ok(SignItem {
        public_key: public_key(&item.public_key)?,
        root: ObservedRoot::new(array("root", &item.root)?),
        commit_seq: item.commit_seq,
        statement: Statement {
            stated: unpack_stated(stated)?,
            fork_info: item.fork_info.as_ref().map(unpack_fork_info).transpose()?,
        },
    })
}

fn pack_fork_info(info: &ForkInfo) -> v1::ForkInfo {
    v1::ForkInfo {
        previous_version: info.fork.previous_version.0.to_vec(),
        current_version: info.fork.current_version.0.to_vec(),
        epoch: info.fork.epoch.0,
        genesis_validators_root: info.genesis_validators_root.0.to_vec(),
    }
}

fn unpack_fork_info(info: &v1::ForkInfo) -> Result<ForkInfo, Malformed> {
    let fork = Fork {
        previous_version: ForkVersion(array("previous_version", &info.previous_version)?),
        current_version: ForkVersion(array("current_version", &info.current_version)?),
        epoch: Epoch(info.epoch),
    };
    let root = array("genesis_validators_root", &info.genesis_validators_root)?;
    Ok(ForkInfo { fork, genesis_validators_root: GenesisValidatorsRoot(root) })
}

fn pack_stated(stated: &Stated) -> Wire {
    match stated {
        Stated::Block(header) => Wire::Block(v1::Block {
            slot: header.slot.0,
            proposer_index: header.proposer_index.0,
            parent_root: header.parent_root.to_vec(),
            state_root: header.state_root.to_vec(),
            body_root: header.body_root.to_vec(),
        }),
        Stated::Attestation(data) => Wire::Attestation(v1::Attestation {
            slot: data.slot.0,
            index: data.index,
            beacon_block_root: data.beacon_block_root.to_vec(),
            source_epoch: data.source.epoch.0,
            source_root: data.source.root.to_vec(),
            target_epoch: data.target.epoch.0,
            target_root: data.target.root.to_vec(),
        }),
        Stated::VoluntaryExit(exit) => {
            Wire::VoluntaryExit(v1::VoluntaryExit { epoch: exit.epoch.0, validator_index: exit.validator_index.0 })
        }
        Stated::Deposit { root, genesis_fork_version } => {
            Wire::Deposit(v1::Deposit { root: root.to_vec(), genesis_fork_version: genesis_fork_version.0.to_vec() })
        }
        Stated::Hashed { what, root } => Wire::Hashed(v1::Hashed {
            kind: u32::from(MessageKind::Unslashable(what.kind()).code()),
            date: what.date(),
            root: root.to_vec(),
        }),
    }
}

fn unpack_stated(stated: Wire) -> Result<Stated, Malformed> {
    Ok(match stated {
        Wire::Block(block) => Stated::Block(BeaconBlockHeader {
            slot: Slot(block.slot),
            proposer_index: ValidatorIndex(block.proposer_index),
            parent_root: array("parent_root", &block.parent_root)?,
            state_root: array("state_root", &block.state_root)?,
            body_root: array("body_root", &block.body_root)?,
        }),
        Wire::Attestation(data) => Stated::Attestation(AttestationData {
            slot: Slot(data.slot),
            index: data.index,
            beacon_block_root: array("beacon_block_root", &data.beacon_block_root)?,
            source: Checkpoint { epoch: Epoch(data.source_epoch), root: array("source_root", &data.source_root)? },
            target: Checkpoint { epoch: Epoch(data.target_epoch), root: array("target_root", &data.target_root)? },
        }),
        Wire::VoluntaryExit(exit) => Stated::VoluntaryExit(VoluntaryExit {
            epoch: Epoch(exit.epoch),
            validator_index: ValidatorIndex(exit.validator_index),
        }),
        Wire::Deposit(deposit) => Stated::Deposit {
            root: array("root", &deposit.root)?,
            genesis_fork_version: ForkVersion(array("genesis_fork_version", &deposit.genesis_fork_version)?),
        },
        Wire::Hashed(hashed) => {
            let unknown = || Malformed::Value { field: "kind", value: hashed.kind.into() };
            let kind = unslashable(hashed.kind).ok_or_else(unknown)?;
            let what = Hashed::new(kind, hashed.date).ok_or_else(unknown)?;
            Stated::Hashed { what, root: array("root", &hashed.root)? }
        }
    })
}

/// The kind with this code; blocks and attestations never come this way.
fn unslashable(code: u32) -> Option<UnslashableKind> {
    MessageKind::ALL.into_iter().find_map(|kind| match kind {
        MessageKind::Unslashable(unslashable) if u32::from(kind.code()) == code => Some(unslashable),
        MessageKind::Unslashable(_) | MessageKind::Slashable(_) => None,
    })
}

pub(super) fn pack_outcomes(outcomes: &[Result<[u8; 96], Refusal>]) -> v1::Signed {
    let pack = |outcome: &Result<[u8; 96], Refusal>| {
        let outcome = match outcome {
            Ok(signature) => Outcome::Signature(signature.to_vec()),
            Err(Refusal { reason, marks }) => {
                Outcome::Refused(v1::Refused { reason: reason.code(), marks: Some(pack_marks(marks)) })
            }
        };
        v1::SignOutcome { outcome: Some(outcome) }
    };
    v1::Signed { outcomes: outcomes.iter().map(pack).collect() }
}

pub(super) fn unpack_outcomes(signed: v1::Signed) -> Result<Vec<Result<[u8; 96], Refusal>>, Malformed> {
    let unpack = |outcome: v1::SignOutcome| {
        Ok(match outcome.outcome.ok_or(Malformed::Missing { field: "outcome" })? {
            Outcome::Signature(signature) => Ok(array("signature", &signature)?),
            Outcome::Refused(refused) => Err(refusal(refused)?),
        })
    };
    signed.outcomes.into_iter().map(unpack).collect()
}
