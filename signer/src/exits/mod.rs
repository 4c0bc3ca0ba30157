//! Voluntary exits as files: what ejector services and `ethd keys send-exit` read.
//!
//! Guarantees: an exit is signed under the domain that a chain past Deneb takes for ever (EIP-7044); a file is believed only
//! after its signature was verified for this network, this validator and this key.

mod list;

use holdfast_domain::message::VoluntaryExit;
use holdfast_domain::root::parse_hex;
use holdfast_domain::{
    Epoch, Fork, ForkInfo, ForkName, GenesisValidatorsRoot, IntentError, Message, Network, PublicKey, SigningIntent,
    Unslashable, ValidatorIndex,
};
use holdfast_enclave::signature;
use serde::{Deserialize, Serialize};

pub(crate) use list::{Named, read_list};

/// Longest file that is read as an exit, encrypted or not.
pub(crate) const MAX_FILE_BYTES: u64 = 64 * 1024;

/// A validator that is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaver {
    /// Its index.
    pub(crate) index: ValidatorIndex,
    /// Its key.
    pub(crate) key: PublicKey,
}

impl Leaver {
    /// The name of its file: the beginning and the end of the key, as eth-docker has it.
    pub(crate) fn file_name(&self) -> String {
        let key = self.key.to_string();
        let (head, tail) = (key.get(..10).unwrap_or_default(), key.get(90..).unwrap_or_default());
        format!("{head}--{tail}-exit.json")
    }
}

/// A signed exit, as the Beacon API takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignedExit {
    message: WireExit,
    signature: String,
}

/// The exit itself; numbers are texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WireExit {
    epoch: String,
    validator_index: String,
}

/// Why a file is no exit that this network takes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExitFileError {
    /// Something else.
    #[error("not a signed exit: expected {{\"message\":{{\"epoch\",\"validator_index\"}},\"signature\"}}")]
    Json(#[source] serde_json::Error),
    /// A member that is not what it should be.
    #[error("{0} of the exit is malformed")]
    Member(&'static str),
    /// It is of another validator.
    #[error("the exit is of validator {found}, not of {expected}")]
    OtherValidator {
        /// Whose it is.
        found: u64,
        /// Whose it should be.
        expected: u64,
    },
    /// The signature does not hold.
    #[error(
        "the signature is not one of the key {key} for {network}: it was made for another validator, for another network, or under \
         the domain of another fork, which this network refuses (EIP-7044)"
    )]
    Signature {
        /// The key it should be of.
        key: PublicKey,
        /// The network.
        network: String,
    },
    /// The network has no such exits.
    #[error("exits of this network cannot be checked")]
    Network(#[from] IntentError),
}

impl SignedExit {
    /// A signed exit of `index`, valid from `epoch` on.
    pub(crate) fn new(epoch: Epoch, index: ValidatorIndex, signature: &holdfast_enclave::Signature) -> Self {
        Self::signed(epoch, index, signature.to_string())
    }

    /// The same with a signature that somebody sent: to be verified.
    pub(crate) fn signed(epoch: Epoch, index: ValidatorIndex, signature: String) -> Self {
        let message = WireExit { epoch: epoch.0.to_string(), validator_index: index.0.to_string() };
        Self { message, signature }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ExitFileError`].
    pub(crate) fn read(text: &[u8]) -> Result<Self, ExitFileError> {
        serde_json::from_slice(text).map_err(ExitFileError::Json)
    }

    /// The file.
    pub(crate) fn to_text(&self) -> String {
        // Texts alone: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From when on it is valid.
    ///
    /// # Errors
    /// [`ExitFileError::Member`].
    pub(crate) fn epoch(&self) -> Result<Epoch, ExitFileError> {
        decimal(&self.message.epoch).map(Epoch).ok_or(ExitFileError::Member("the epoch"))
    }

    /// Of whom it is.
    ///
    /// # Errors
    /// [`ExitFileError::Member`].
    pub(crate) fn index(&self) -> Result<ValidatorIndex, ExitFileError> {
        decimal(&self.message.validator_index).map(ValidatorIndex).ok_or(ExitFileError::Member("the validator index"))
    }

    /// Whether it is an exit of this validator that the network takes.
    ///
    /// # Errors
    /// [`ExitFileError`] says why not.
    pub(crate) fn verify(&self, whose: &Leaver, chain: &ExitChain<'_>) -> Result<(), ExitFileError> {
        let (epoch, index) = (self.epoch()?, self.index()?);
        if index != whose.index {
            return Err(ExitFileError::OtherValidator { found: index.0, expected: whose.index.0 });
        }
        let bytes = parse_hex::<96>(&self.signature).ok_or(ExitFileError::Member("the signature"))?;
        let root = chain.intent(whose, epoch)?.root();
        if signature::holds(&whose.key, &root, &bytes) {
            Ok(())
        } else {
            Err(ExitFileError::Signature { key: whose.key, network: chain.network.name.clone() })
        }
    }
}

/// A number in one form: no sign, no leading zero.
fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The chain on which validators leave, at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExitChain<'a> {
    /// The network.
    pub(crate) network: &'a Network,
    /// Its genesis validators root.
    pub(crate) genesis_validators_root: GenesisValidatorsRoot,
    /// The present epoch.
    pub(crate) now: Epoch,
}

impl ExitChain<'_> {
    /// What is to be signed. Past Deneb the domain is Capella's, whatever the epoch of the exit: the rule is in the domain
    /// crate, which reads the fork in force off the fork information.
    ///
    /// # Errors
    /// [`IntentError`] if the network does not say enough.
    pub(crate) fn intent(&self, whose: &Leaver, epoch: Epoch) -> Result<SigningIntent, IntentError> {
        let exit =
            Message::Unslashable(Unslashable::VoluntaryExit(VoluntaryExit { epoch, validator_index: whose.index }));
        SigningIntent::new(whose.key, &exit, Some(self.fork_info()), None, self.network)
    }

    /// The fork in force, and the one before.
    pub(crate) fn fork_info(&self) -> ForkInfo {
        let name = self.network.fork_at(self.now);
        let active = self.network.fork(name);
        let before = ForkName::ALL.into_iter().rev().find(|one| *one < name).and_then(|one| self.network.fork(one));
        let genesis = self.network.genesis_fork_version();
        let current_version = active.map_or(genesis, |fork| fork.version);
        let fork = Fork {
            previous_version: before.map_or(current_version, |fork| fork.version),
            current_version,
            epoch: active.and_then(|fork| fork.epoch).unwrap_or(Epoch(0)),
        };
        ForkInfo { fork, genesis_validators_root: self.genesis_validators_root }
    }
}

#[cfg(test)]
mod tests {
    //! Proves: the domain is Capella's on every built-in network past Deneb, at any epoch of the exit; files are read strictly.
    use super::*;

    fn leaver() -> Leaver {
        Leaver { index: ValidatorIndex(7), key: PublicKey::from_bytes([0xab; 48]) }
    }

    #[test]
    fn the_domain_is_capellas_on_every_network() {
        for name in Network::BUILTIN_NAMES {
            let network = Network::builtin(name).unwrap();
            let genesis_validators_root = network.genesis_validators_root.unwrap();
            let capella = network.fork(ForkName::Capella).unwrap().version;
            let domain = holdfast_domain::Domain::compute(
                holdfast_domain::DomainType::VOLUNTARY_EXIT,
                capella,
                genesis_validators_root,
            );
            let deneb = network.fork(ForkName::Deneb).and_then(|fork| fork.epoch).unwrap();
            for now in [deneb, Epoch(deneb.0 + 1), Epoch(deneb.0 + 1_000_000)] {
                for epoch in [Epoch(0), Epoch(1), now, Epoch(now.0 + 5)] {
                    let chain = ExitChain { network: &network, genesis_validators_root, now };
                    assert_eq!(chain.intent(&leaver(), epoch).unwrap().domain(), domain, "{name} {now:?} {epoch:?}");
                }
            }
        }
    }

    #[test]
    fn files_have_names_and_numbers_of_one_form() {
        assert_eq!(leaver().file_name(), "0xabababab--abababab-exit.json");
        let text = r#"{"message":{"epoch":"5","validator_index":"7"},"signature":"0x00"}"#;
        let read = SignedExit::read(text.as_bytes()).unwrap();
        assert_eq!((read.epoch().unwrap(), read.index().unwrap()), (Epoch(5), ValidatorIndex(7)));
        assert_eq!(read.to_text(), text);
        for bad in ["", "[]", "{}", r#"{"message":{"epoch":5,"validator_index":"7"},"signature":"0x00"}"#] {
            assert!(SignedExit::read(bad.as_bytes()).is_err(), "{bad}");
        }
        for number in ["", "05", "+5", "-1", "5 ", "18446744073709551616"] {
            assert_eq!(decimal(number), None, "{number}");
        }
    }
}
