//! From key and message to a [`SigningIntent`]: the signing root computed once, the client's only compared.
//!
//! What it guarantees: an intent's root belongs to its key's message under the domain the
//! consensus specification prescribes, and its [`Subject`] is taken from the very message that
//! was hashed. Nothing the client claims ever becomes the root.

pub use crate::error::IntentError;

use crate::fork::{Domain, DomainType, ForkInfo, ForkName, ForkVersion, GenesisValidatorsRoot};
use crate::ids::PublicKey;
use crate::merkle::hash_pair;
use crate::message::{Dating, Message, MessageKind, Slashable, Subject, Unslashable, UnslashableKind, VoluntaryExit};
use crate::network::Network;
use crate::root::{ObjectRoot, ObservedRoot, SigningRoot};
use crate::time::{Epoch, Slot};

/// A request to sign, checked once. Not `Clone`: one intent is authorized at most once.
#[derive(Debug)]
pub struct SigningIntent {
    key: PublicKey,
    root: SigningRoot,
    domain: Domain,
    subject: Subject,
    genesis_validators_root: Option<GenesisValidatorsRoot>,
}

impl SigningIntent {
    /// Computes the signing root of `message` and compares it with the client's claim, if any.
    ///
    /// `fork_info` is ignored for the types that do not use it (deposits, builder registrations
    /// and builder request authentication are valid on every fork).
    ///
    /// # Errors
    /// [`IntentError`]: `fork_info` missing, a value outside the limits of its type, a claimed
    /// root of something else, or a voluntary exit for a fork the network does not have.
    pub fn new(
        key: PublicKey,
        message: &Message,
        fork_info: Option<ForkInfo>,
        claimed: Option<ObservedRoot>,
        network: &Network,
    ) -> Result<Self, IntentError> {
        let plan = Plan::new(message, network);
        let (domains, genesis_validators_root) = match plan.version {
            VersionRule::Epoch(epoch) => {
                let info = required(fork_info, plan.subject.kind())?;
                (Domains::one(plan.domain_type, info.fork.version_at(epoch), &info), Some(info.genesis_validators_root))
            }
            VersionRule::Exit(exit) => {
                let info = required(fork_info, plan.subject.kind())?;
                (exit_domains(&exit, &info, claimed, network)?, Some(info.genesis_validators_root))
            }
            VersionRule::EveryChain(version) => {
                (Domains::only(Domain::compute(plan.domain_type, version, GenesisValidatorsRoot::ZERO)), None)
            }
        };
        let object_root = message.object_root(&network.preset)?;
        let (root, domain) = domains.settle(object_root, claimed)?;
        Ok(Self { key, root, domain, subject: plan.subject, genesis_validators_root })
    }

    /// The key asked for.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
    /// The computed signing root.
    pub fn root(&self) -> SigningRoot {
        self.root
    }
    /// The domain the root was made with.
    pub fn domain(&self) -> Domain {
        self.domain
    }
    /// What is judged and recorded.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }
    /// The chain the client says it signs for; `None` for types without `fork_info`.
    pub fn genesis_validators_root(&self) -> Option<GenesisValidatorsRoot> {
        self.genesis_validators_root
    }
}

fn required(fork_info: Option<ForkInfo>, kind: MessageKind) -> Result<ForkInfo, IntentError> {
    fork_info.ok_or(IntentError::MissingForkInfo(kind))
}

/// Where the fork version of a domain comes from.
enum VersionRule {
    /// `get_domain`: `fork_info` at this epoch.
    Epoch(Epoch),
    /// EIP-7044.
    Exit(VoluntaryExit),
    /// This version with a zero genesis validators root.
    EveryChain(ForkVersion),
}

/// Domain type, version rule and subject of a message: one row of the table of message types.
struct Plan {
    domain_type: DomainType,
    version: VersionRule,
    subject: Subject,
}

impl Plan {
    fn new(message: &Message, network: &Network) -> Self {
        let epoch = |slot: Slot| slot.epoch(network.preset.slots_per_epoch);
        match message {
            Message::Slashable(Slashable::Block(header)) => Self {
                domain_type: DomainType::BEACON_PROPOSER,
                version: VersionRule::Epoch(epoch(header.slot)),
                subject: Subject::Block { slot: header.slot },
            },
            Message::Slashable(Slashable::Attestation(data)) => Self {
                domain_type: DomainType::BEACON_ATTESTER,
                version: VersionRule::Epoch(data.target.epoch),
                subject: Subject::Attestation { slot: data.slot, source: data.source.epoch, target: data.target.epoch },
            },
            Message::Unslashable(message) => Self::unslashable(message, network),
        }
    }

    fn unslashable(message: &Unslashable, network: &Network) -> Self {
        use UnslashableKind as Kind;
        let by_slot = |kind, domain_type, slot: Slot| Self {
            domain_type,
            version: VersionRule::Epoch(slot.epoch(network.preset.slots_per_epoch)),
            subject: Subject::Unslashable { kind, dating: Dating::Slot(slot) },
        };
        let every_chain = |kind, domain_type, version, dating| Self {
            domain_type,
            version: VersionRule::EveryChain(version),
            subject: Subject::Unslashable { kind, dating },
        };
        match message {
            Unslashable::AggregationSlot(slot) => by_slot(Kind::AggregationSlot, DomainType::SELECTION_PROOF, *slot),
            Unslashable::AggregateAndProof(message) => {
                by_slot(Kind::AggregateAndProof, DomainType::AGGREGATE_AND_PROOF, message.aggregate.data.slot)
            }
            Unslashable::RandaoReveal(epoch) => Self {
                domain_type: DomainType::RANDAO,
                version: VersionRule::Epoch(*epoch),
                subject: Subject::Unslashable { kind: Kind::RandaoReveal, dating: Dating::Epoch(*epoch) },
            },
            Unslashable::VoluntaryExit(exit) => Self {
                domain_type: DomainType::VOLUNTARY_EXIT,
                version: VersionRule::Exit(*exit),
                subject: Subject::Unslashable { kind: Kind::VoluntaryExit, dating: Dating::Epoch(exit.epoch) },
            },
            Unslashable::Deposit(deposit) => {
                every_chain(Kind::Deposit, DomainType::DEPOSIT, deposit.genesis_fork_version, Dating::Undated)
            }
            Unslashable::SyncCommitteeMessage(message) => {
                by_slot(Kind::SyncCommitteeMessage, DomainType::SYNC_COMMITTEE, message.slot)
            }
            Unslashable::SyncCommitteeSelectionProof(data) => {
                by_slot(Kind::SyncCommitteeSelectionProof, DomainType::SYNC_COMMITTEE_SELECTION_PROOF, data.slot)
            }
            Unslashable::SyncCommitteeContributionAndProof(message) => by_slot(
                Kind::SyncCommitteeContributionAndProof,
                DomainType::CONTRIBUTION_AND_PROOF,
                message.contribution.slot,
            ),
            Unslashable::ValidatorRegistration(_) => every_chain(
                Kind::ValidatorRegistration,
                DomainType::APPLICATION_BUILDER,
                network.genesis_fork_version(),
                Dating::Undated,
            ),
            Unslashable::ExecutionPayloadBid(bid) => {
                by_slot(Kind::ExecutionPayloadBid, DomainType::BEACON_BUILDER, bid.slot)
            }
            Unslashable::ExecutionPayloadEnvelope(envelope) => {
                by_slot(Kind::ExecutionPayloadEnvelope, DomainType::BEACON_BUILDER, envelope.payload.slot_number)
            }
            Unslashable::PayloadAttestation(data) => {
                by_slot(Kind::PayloadAttestation, DomainType::PTC_ATTESTER, data.slot)
            }
            Unslashable::ProposerPreferences(preferences) => {
                by_slot(Kind::ProposerPreferences, DomainType::PROPOSER_PREFERENCES, preferences.proposal_slot)
            }
            Unslashable::BuilderRequestAuth(auth) => every_chain(
                Kind::BuilderRequestAuth,
                DomainType::BUILDER_REQUEST_AUTH,
                network.genesis_fork_version(),
                Dating::Slot(auth.slot),
            ),
        }
    }
}

/// The domain of a message, and a second one where two are right and only the claim can tell.
struct Domains {
    preferred: Domain,
    other: Option<Domain>,
}

impl Domains {
    fn only(preferred: Domain) -> Self {
        Self { preferred, other: None }
    }

    fn one(domain_type: DomainType, version: ForkVersion, info: &ForkInfo) -> Self {
        Self::only(Domain::compute(domain_type, version, info.genesis_validators_root))
    }

    /// Computes the signing root; a claim must equal it.
    fn settle(
        self,
        object_root: ObjectRoot,
        claimed: Option<ObservedRoot>,
    ) -> Result<(SigningRoot, Domain), IntentError> {
        let root = |domain: &Domain| SigningRoot(hash_pair(&object_root.0, &domain.0));
        let computed = root(&self.preferred);
        let Some(claimed) = claimed else { return Ok((computed, self.preferred)) };
        if claimed.matches(&computed) {
            return Ok((computed, self.preferred));
        }
        match self.other.map(|domain| (root(&domain), domain)) {
            Some((other, domain)) if claimed.matches(&other) => Ok((other, domain)),
            Some(_) | None => Err(IntentError::SigningRootMismatch { claimed, computed }),
        }
    }
}

/// EIP-7044: once Deneb is active every exit is signed with the Capella version, whatever its epoch.
///
/// Which fork is active is read off `fork_info.fork.current_version`. Clients that pin `fork_info`
/// to Capella (so that signers that know nothing of EIP-7044 get it right) look like a chain at
/// Capella; on a network that has Deneb in its schedule that form means the pinned one, and an
/// exit dated before Capella still gets the Capella version. A client of a chain that really is at
/// Capella can have the ordinary rule by claiming its root.
fn exit_domains(
    exit: &VoluntaryExit,
    info: &ForkInfo,
    claimed: Option<ObservedRoot>,
    network: &Network,
) -> Result<Domains, IntentError> {
    let domain = |version| Domain::compute(DomainType::VOLUNTARY_EXIT, version, info.genesis_validators_root);
    let ordinary = info.fork.version_at(exit.epoch);
    let capella = network.fork(ForkName::Capella).map(|fork| fork.version);
    match network.fork_named_by(info.fork.current_version) {
        Some(ForkName::Phase0 | ForkName::Altair | ForkName::Bellatrix) => Ok(Domains::only(domain(ordinary))),
        Some(ForkName::Capella) => {
            let deneb_scheduled = network.fork(ForkName::Deneb).is_some_and(|fork| fork.epoch.is_some());
            let current = info.fork.current_version;
            Ok(if deneb_scheduled && ordinary != current {
                Domains { preferred: domain(current), other: Some(domain(ordinary)) }
            } else {
                Domains::only(domain(ordinary))
            })
        }
        Some(ForkName::Deneb | ForkName::Electra | ForkName::Fulu | ForkName::Gloas) => {
            let version = capella.ok_or_else(|| IntentError::NoCapellaVersion { network: network.name.clone() })?;
            Ok(Domains::only(domain(version)))
        }
        // A fork younger than this signer, or another network: only a claim can say which rule holds.
        None if claimed.is_some() => Ok(match capella {
            Some(version) => Domains { preferred: domain(version), other: Some(domain(ordinary)) },
            None => Domains::only(domain(ordinary)),
        }),
        None => {
            Err(IntentError::UnknownForkVersion { version: info.fork.current_version, network: network.name.clone() })
        }
    }
}

#[cfg(test)]
mod tests;
