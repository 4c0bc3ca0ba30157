//! From key and message to a [`SigningIntent`]: the signing root computed once, the client's only compared.
//!
//! What it guarantees: an intent's root belongs to its key's message under the domain the
//! consensus specification prescribes, and its [`Subject`] is taken from the very message that
//! was hashed. Nothing the client claims ever becomes the root.

use std::sync::Arc;

pub use crate::error::IntentError;

use crate::fork::{Domain, DomainType, ForkInfo, ForkName, ForkVersion, GenesisValidatorsRoot};
use crate::ids::PublicKey;
use crate::merkle::hash_pair;
use crate::message::{Dating, Message, MessageKind, Subject, UnslashableKind, VoluntaryExit};
use crate::network::Network;
use crate::root::{ObjectRoot, ObservedRoot, SigningRoot};
use crate::statement::{Hashed, Stated, Statement};
use crate::time::{Epoch, Slot};

/// A request to sign, checked once. Not `Clone`: one intent is authorized at most once.
#[derive(Debug)]
pub struct SigningIntent {
    key: PublicKey,
    root: SigningRoot,
    domain: Domain,
    subject: Subject,
    genesis_validators_root: Option<GenesisValidatorsRoot>,
    statement: Arc<Statement>,
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
        let object_root = message.object_root(&network.preset)?;
        let statement = Statement { stated: Stated::of(message, object_root), fork_info };
        let plan = Plan::new(&statement.stated, network);
        let subject = plan.subject;
        let (domains, genesis_validators_root) = plan.domains(fork_info, claimed, network)?;
        let (root, domain) = domains.settle(object_root, claimed)?;
        Ok(Self { key, root, domain, subject, genesis_validators_root, statement: Arc::new(statement) })
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
    /// What is signed, for whoever computes the root again.
    pub fn statement(&self) -> &Arc<Statement> {
        &self.statement
    }
}

/// What a [`Statement`] comes to: the root computed a second time, and what is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restated {
    /// The signing root.
    pub root: SigningRoot,
    /// What is judged.
    pub subject: Subject,
    /// The chain named; `None` for types without `fork_info`.
    pub genesis_validators_root: Option<GenesisValidatorsRoot>,
}

impl Statement {
    /// Computes the signing root once more, from the statement alone; it must be the one `claimed`.
    ///
    /// # Errors
    /// [`IntentError`], as [`SigningIntent::new`].
    pub fn restate(&self, claimed: ObservedRoot, network: &Network) -> Result<Restated, IntentError> {
        let plan = Plan::new(&self.stated, network);
        let subject = plan.subject;
        let (domains, genesis_validators_root) = plan.domains(self.fork_info, Some(claimed), network)?;
        let (root, _) = domains.settle(self.stated.object_root(), Some(claimed))?;
        Ok(Restated { root, subject, genesis_validators_root })
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
    fn new(stated: &Stated, network: &Network) -> Self {
        let epoch = |slot: Slot| slot.epoch(network.preset.slots_per_epoch);
        match stated {
            Stated::Block(header) => Self {
                domain_type: DomainType::BEACON_PROPOSER,
                version: VersionRule::Epoch(epoch(header.slot)),
                subject: Subject::Block { slot: header.slot },
            },
            Stated::Attestation(data) => Self {
                domain_type: DomainType::BEACON_ATTESTER,
                version: VersionRule::Epoch(data.target.epoch),
                subject: Subject::Attestation { slot: data.slot, source: data.source.epoch, target: data.target.epoch },
            },
            Stated::VoluntaryExit(exit) => Self {
                domain_type: DomainType::VOLUNTARY_EXIT,
                version: VersionRule::Exit(*exit),
                subject: Subject::Unslashable {
                    kind: UnslashableKind::VoluntaryExit,
                    dating: Dating::Epoch(exit.epoch),
                },
            },
            Stated::Deposit { genesis_fork_version, root: _ } => Self {
                domain_type: DomainType::DEPOSIT,
                version: VersionRule::EveryChain(*genesis_fork_version),
                subject: Subject::Unslashable { kind: UnslashableKind::Deposit, dating: Dating::Undated },
            },
            Stated::Hashed { what, root: _ } => Self::hashed(*what, network),
        }
    }

    fn hashed(what: Hashed, network: &Network) -> Self {
        use UnslashableKind as Kind;
        let by_slot = |kind, domain_type, slot: Slot| Self {
            domain_type,
            version: VersionRule::Epoch(slot.epoch(network.preset.slots_per_epoch)),
            subject: Subject::Unslashable { kind, dating: Dating::Slot(slot) },
        };
        let every_chain = |kind, domain_type, dating| Self {
            domain_type,
            version: VersionRule::EveryChain(network.genesis_fork_version()),
            subject: Subject::Unslashable { kind, dating },
        };
        match what {
            Hashed::AggregationSlot(slot) => by_slot(Kind::AggregationSlot, DomainType::SELECTION_PROOF, slot),
            Hashed::AggregateAndProof(slot) => by_slot(Kind::AggregateAndProof, DomainType::AGGREGATE_AND_PROOF, slot),
            Hashed::RandaoReveal(epoch) => Self {
                domain_type: DomainType::RANDAO,
                version: VersionRule::Epoch(epoch),
                subject: Subject::Unslashable { kind: Kind::RandaoReveal, dating: Dating::Epoch(epoch) },
            },
            Hashed::SyncCommitteeMessage(slot) => by_slot(Kind::SyncCommitteeMessage, DomainType::SYNC_COMMITTEE, slot),
            Hashed::SyncCommitteeSelectionProof(slot) => {
                by_slot(Kind::SyncCommitteeSelectionProof, DomainType::SYNC_COMMITTEE_SELECTION_PROOF, slot)
            }
            Hashed::SyncCommitteeContributionAndProof(slot) => {
                by_slot(Kind::SyncCommitteeContributionAndProof, DomainType::CONTRIBUTION_AND_PROOF, slot)
            }
            Hashed::ValidatorRegistration => {
                every_chain(Kind::ValidatorRegistration, DomainType::APPLICATION_BUILDER, Dating::Undated)
            }
            Hashed::ExecutionPayloadBid(slot) => by_slot(Kind::ExecutionPayloadBid, DomainType::BEACON_BUILDER, slot),
            Hashed::ExecutionPayloadEnvelope(slot) => {
                by_slot(Kind::ExecutionPayloadEnvelope, DomainType::BEACON_BUILDER, slot)
            }
            Hashed::PayloadAttestation(slot) => by_slot(Kind::PayloadAttestation, DomainType::PTC_ATTESTER, slot),
            Hashed::ProposerPreferences(slot) => {
                by_slot(Kind::ProposerPreferences, DomainType::PROPOSER_PREFERENCES, slot)
            }
            Hashed::BuilderRequestAuth(slot) => {
                every_chain(Kind::BuilderRequestAuth, DomainType::BUILDER_REQUEST_AUTH, Dating::Slot(slot))
            }
        }
    }

    /// The domains of this plan, and the chain named.
    fn domains(
        &self,
        fork_info: Option<ForkInfo>,
        claimed: Option<ObservedRoot>,
        network: &Network,
    ) -> Result<(Domains, Option<GenesisValidatorsRoot>), IntentError> {
        Ok(match self.version {
            VersionRule::Epoch(epoch) => {
                let info = required(fork_info, self.subject.kind())?;
                (Domains::one(self.domain_type, info.fork.version_at(epoch), &info), Some(info.genesis_validators_root))
            }
            VersionRule::Exit(exit) => {
                let info = required(fork_info, self.subject.kind())?;
                (exit_domains(&exit, &info, claimed, network)?, Some(info.genesis_validators_root))
            }
            VersionRule::EveryChain(version) => {
                (Domains::only(Domain::compute(self.domain_type, version, GenesisValidatorsRoot::ZERO)), None)
            }
        })
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
