//! What an enclave has the hypervisor attest besides its boot key: what it speaks, and for which chain.
//!
//! Guarantees: one encoding for each value, and nothing else decodes; so whoever compares bytes compares meanings.

use holdfast_domain::GenesisValidatorsRoot;

use crate::error::Malformed;

const LABEL: &[u8; 16] = b"holdfast vault\0\0";

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
