//! What an enclave has the hypervisor attest besides its boot key: what it speaks, and for which chain.
//!
//! Guarantees: one encoding for each value, and nothing else decodes; so whoever compares bytes compares meanings.

use holdfast_domain::GenesisValidatorsRoot;

use crate::error::Malformed;
use crate::message::DataKeyCommitment;

const LABEL: &[u8; 16] = b"holdfast vault\0\0";
const LABEL_OF_KEYS: &[u8; 16] = b"holdfast keys\0\0\0";

/// The user data of an attestation document of a vault.
///
/// `"holdfast vault\0\0" | version, 4 bytes big-endian | the genesis validators root, once a chain is pinned`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Version of the protocol.
    pub version: u32,
    /// The chain, once it is pinned.
    pub chain: Option<GenesisValidatorsRoot>,
}

impl Bound {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let chain = self.chain.as_ref().map_or(&[][..], |root| &root.0);
        [LABEL.as_slice(), &self.version.to_be_bytes(), chain].concat()
    }

    /// From user data of a document.
    ///
    /// # Errors
    /// [`Malformed::Length`] if it is not that of a vault.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let other = || Malformed::Length { field: "user_data", len: bytes.len() };
        let rest = bytes.strip_prefix(LABEL).ok_or_else(other)?;
        let (version, rest) = rest.split_first_chunk().ok_or_else(other)?;
        let chain = match rest {
            [] => None,
            root => Some(GenesisValidatorsRoot(root.try_into().map_err(|_| other())?)),
        };
        Ok(Self { version: u32::from_be_bytes(*version), chain })
    }
}

/// The user data of the document that comes with keys made in an enclave. It is compared, never decoded.
///
/// `"holdfast keys\0\0\0" | version, 4 bytes big-endian | genesis validators root | the data key's commitment | digest`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundKeys {
    /// Version of the protocol.
    pub version: u32,
    /// The chain that they are for.
    pub chain: GenesisValidatorsRoot,
    /// The data key that they are sealed under.
    pub data_key: DataKeyCommitment,
    /// SHA-256 of the answer's keys as a `Generated` message.
    pub digest: [u8; 32],
}

impl BoundKeys {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        [LABEL_OF_KEYS.as_slice(), &self.version.to_be_bytes(), &self.chain.0, &self.data_key.0, &self.digest].concat()
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: both forms come back, and every other length and label is refused.

    use super::*;

    #[test]
    fn both_forms_come_back_and_nothing_else_is_taken() {
        for chain in [None, Some(GenesisValidatorsRoot([7; 32]))] {
            let bound = Bound { version: 1, chain };
            let bytes = bound.encode();
            assert_eq!(Bound::decode(&bytes).unwrap(), bound);
            for len in (0..bytes.len()).filter(|len| *len != 20) {
                assert!(Bound::decode(&bytes[..len]).is_err(), "{len}");
            }
            assert!(Bound::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
            let mut other = bytes.clone();
            other[3] ^= 1;
            assert!(Bound::decode(&other).is_err());
        }
    }
}
