//! `POST /api/v1/eth2/sign/{identifier}` and `POST /api/v1/eth2/sign`: request bodies.
//!
//! `type` selects one member; only that member, `fork_info` and the claimed signing root are read,
//! everything else is skipped. Where clients differ from the published API, both forms are
//! accepted as long as they can mean only one message: letter case of names, numbers as strings or
//! integers, aggregates and Gloas messages with or without `{version, data}`.

mod aggregate;
mod batch;
mod block;
mod gloas;
mod kind;
mod objects;

use holdfast_domain::gloas::{
    BuilderRequestAuth, ExecutionPayloadBid, ExecutionPayloadEnvelope, PayloadAttestationData, ProposerPreferences,
};
use holdfast_domain::{ForkInfo, ForkName, Message, Network, ObservedRoot, Slashable, Unslashable};
use serde_json::value::RawValue;

use crate::error::WireError;
use crate::json;
use crate::members::Members;
use crate::web3signer::kind::{Kind, MEMBERS};
use crate::web3signer::objects::{AggregationSlot, RandaoReveal};

pub use batch::{BadIdentifier, BatchRequest, MAX_BATCH_IDENTIFIERS};

/// A sign request, read but not yet judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignRequest {
    /// What is to be signed.
    pub message: Message,
    /// The chain and fork the client signs for; `None` if absent or if the type does not use it.
    pub fork_info: Option<ForkInfo>,
    /// The signing root the client expects, if it said so.
    pub claimed: Option<ObservedRoot>,
}

impl SignRequest {
    /// Reads the body of a sign request for one key.
    ///
    /// The network decides block limits, and the container of an aggregate that names no version.
    ///
    /// # Errors
    /// [`WireError`] naming the member. A missing `fork_info`, and values that break the limits of
    /// their SSZ type, are found by [`holdfast_domain::SigningIntent::new`].
    pub fn parse(body: &[u8], network: &Network) -> Result<Self, WireError> {
        let members = Members::of_body(body, &MEMBERS)?;
        let kind = Kind::of(&members)?;
        Self::read(kind, &members, network)
    }

    fn read(kind: Kind, members: &Members<'_, { MEMBERS.len() }>, network: &Network) -> Result<Self, WireError> {
        let claimed = claimed(members)?;
        let fork_info = match members.get("fork_info")? {
            Some(raw) if kind.uses_fork_info() => Some(json::read(raw, "fork_info")?),
            Some(_) | None => None,
        };
        let message = message(kind, members, fork_info.as_ref(), network)?;
        Ok(Self { message, fork_info, claimed })
    }
}

/// `signing_root` (Web3Signer's name) or `signingRoot` (the published one).
fn claimed<const N: usize>(members: &Members<'_, N>) -> Result<Option<ObservedRoot>, WireError> {
    let read = |name| members.get(name)?.map(|raw| json::read::<ObservedRoot>(raw, name)).transpose();
    match (read("signing_root")?, read("signingRoot")?) {
        (Some(one), Some(other)) if one != other => Err(WireError::ConflictingRoots),
        (Some(root), _) | (None, Some(root)) => Ok(Some(root)),
        (None, None) => Ok(None),
    }
}

fn message<const N: usize>(
    kind: Kind,
    members: &Members<'_, N>,
    fork_info: Option<&ForkInfo>,
    network: &Network,
) -> Result<Message, WireError> {
    let Carrier { raw, name } = Carrier::of(kind, members)?;
    let unslashable = match kind {
        Kind::Block => return block::phase0(raw, name, network).map(|it| Message::Slashable(Slashable::Block(it))),
        Kind::BlockV2 => {
            return block::versioned(raw, name, network).map(|it| Message::Slashable(Slashable::Block(it)));
        }
        Kind::Attestation => return Ok(Message::Slashable(Slashable::Attestation(json::read(raw, name)?))),
        Kind::AggregationSlot => Unslashable::AggregationSlot(json::read::<AggregationSlot>(raw, name)?.slot),
        Kind::AggregateAndProof | Kind::AggregateAndProofV2 => {
            Unslashable::AggregateAndProof(Box::new(aggregate::read(raw, name, fork_info, network)?))
        }
        Kind::RandaoReveal => Unslashable::RandaoReveal(json::read::<RandaoReveal>(raw, name)?.epoch),
        Kind::VoluntaryExit => Unslashable::VoluntaryExit(json::read(raw, name)?),
        Kind::Deposit => Unslashable::Deposit(json::read(raw, name)?),
        Kind::SyncCommitteeMessage => Unslashable::SyncCommitteeMessage(json::read(raw, name)?),
        Kind::SyncCommitteeSelectionProof => Unslashable::SyncCommitteeSelectionProof(json::read(raw, name)?),
        Kind::SyncCommitteeContributionAndProof => {
            Unslashable::SyncCommitteeContributionAndProof(json::read(raw, name)?)
        }
        Kind::ValidatorRegistration => Unslashable::ValidatorRegistration(json::read(raw, name)?),
        Kind::ExecutionPayloadBid => {
            Unslashable::ExecutionPayloadBid(gloas::read::<Box<ExecutionPayloadBid>>(raw, name)?)
        }
        Kind::ExecutionPayloadEnvelope => {
            Unslashable::ExecutionPayloadEnvelope(gloas::read::<Box<ExecutionPayloadEnvelope>>(raw, name)?)
        }
        Kind::PayloadAttestationMessage => {
            Unslashable::PayloadAttestation(gloas::read::<PayloadAttestationData>(raw, name)?)
        }
        Kind::ProposerPreferences => Unslashable::ProposerPreferences(gloas::read::<ProposerPreferences>(raw, name)?),
        Kind::BuilderRequestAuth => Unslashable::BuilderRequestAuth(gloas::read::<BuilderRequestAuth>(raw, name)?),
    };
    Ok(Message::Unslashable(unslashable))
}

/// The member that carries the message.
struct Carrier<'de> {
    raw: &'de RawValue,
    name: &'static str,
}

impl<'de> Carrier<'de> {
    fn of<const N: usize>(kind: Kind, members: &Members<'de, N>) -> Result<Self, WireError> {
        let (published, others) = kind.carriers();
        let mut carrier = None;
        for name in core::iter::once(published).chain(others.iter().copied()) {
            if let Some(raw) = members.get(name)?
                && carrier.replace(Self { raw, name }).is_some()
            {
                return Err(WireError::Repeated { path: published.to_owned() });
            }
        }
        carrier.ok_or_else(|| WireError::Missing {
            path: published.to_owned(),
            expected: format!("the message to sign, as `type` is {}", kind.as_str()).into(),
        })
    }
}

/// An object as `{version, data}` or bare.
enum Wrapped<'de> {
    Versioned { version: ForkName, data: &'de RawValue },
    Bare,
}

impl<'de> Wrapped<'de> {
    fn of(raw: &'de RawValue, path: &'static str) -> Result<Self, WireError> {
        let members = Members::of_member(raw, path, &["version", "data"])?;
        let within = |error: WireError| error.within(path);
        let Some(version) = members.get("version").map_err(within)? else { return Ok(Self::Bare) };
        let version = fork_name(version).map_err(within)?;
        let data = members.get("data").map_err(within)?;
        let data = data.ok_or_else(|| WireError::Missing {
            path: format!("{path}.data"),
            expected: "the message to sign, as `version` is given".into(),
        })?;
        Ok(Self::Versioned { version, data })
    }
}

/// Reads `version`. The API writes it in upper case; other cases mean the same fork.
fn fork_name(raw: &RawValue) -> Result<ForkName, WireError> {
    json::read(raw, "version")
}
