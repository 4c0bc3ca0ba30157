//! What is kept of a sealed guard: the object as the chip gave it out, and what a refusal is explained with. Nothing in it
//! is secret; all of it is authenticated by the envelope that it becomes part of.
//!
//! ```text
//! version 1 | name of the primary key (length 2) | PIN 0 or 1 | PCR bitmap 3 | SHA-256 of each PCR 32
//!   | private part (length 2) | public part (length 2)
//! ```

use holdfast_enclave::provider::{ServiceError, ServiceFailure};

use super::command::{PCR_LEN, Pcrs};
use super::wire::{In, Out};

const VERSION: u8 = 1;

/// A sealed guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    /// The name of the primary key: another one means another chip, or one that was cleared.
    pub(super) primary: Vec<u8>,
    /// The registers it is bound to.
    pub(super) pcrs: Pcrs,
    /// Whether the chip asks for a PIN.
    pub(super) pin: bool,
    /// The registers as they were.
    pub(super) values: Vec<[u8; PCR_LEN]>,
    /// The object, encrypted by the chip.
    pub(super) private: Vec<u8>,
    /// Its public area.
    pub(super) public: Vec<u8>,
}

impl Blob {
    pub(super) fn encode(&self) -> Result<Vec<u8>, ServiceError> {
        let out = Out::new().u8(VERSION).sized(&self.primary).u8(self.pin.into()).bytes(&self.pcrs.bitmap());
        let out = self.values.iter().fold(out, |out, value| out.bytes(value));
        let encoded = out.sized(&self.private).sized(&self.public).as_slice().to_vec();
        // Lengths that do not fit would be found here, not at the next start.
        if Self::decode(&encoded)? == *self { Ok(encoded) } else { Err(malformed()) }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ServiceError> {
        let mut read = In(bytes);
        let decoded = Self::read(&mut read).map_err(|_| malformed())?;
        if read.is_empty() { Ok(decoded) } else { Err(malformed()) }
    }

    fn read(read: &mut In<'_>) -> Result<Self, ServiceError> {
        if read.u8()? != VERSION {
            return Err(malformed());
        }
        let primary = read.sized()?.to_vec();
        let pin = match read.u8()? {
            0 => false,
            1 => true,
            _ => return Err(malformed()),
        };
        let pcrs = Pcrs::from_bitmap([read.u8()?, read.u8()?, read.u8()?]);
        let mut values = Vec::new();
        for _ in pcrs.indices() {
            values.push(read.bytes(PCR_LEN)?.try_into().map_err(|_| malformed())?);
        }
        Ok(Self { primary, pcrs, pin, values, private: read.sized()?.to_vec(), public: read.sized()?.to_vec() })
    }
}

fn malformed() -> ServiceError {
    ServiceError::new(ServiceFailure::Rejected, "it is no object sealed by a TPM")
}

#[cfg(test)]
mod tests {
    //! Proved here: a round trip for every choice of registers tried, and a cut or lengthened blob is an error.

    use super::*;

    fn blob(pcrs: &[u8], pin: bool) -> Blob {
        let pcrs = Pcrs::new(pcrs).unwrap();
        let values = pcrs.indices().into_iter().map(|index| [index; PCR_LEN]).collect();
        Blob { primary: vec![0, 11, 5], pcrs, pin, values, private: vec![1; 200], public: vec![2; 80] }
    }

    #[test]
    fn what_was_encoded_comes_back_whole_or_not_at_all() {
        for (pcrs, pin) in [([].as_slice(), false), (&[7], true), (&[0, 7, 23], false)] {
            let blob = blob(pcrs, pin);
            let bytes = blob.encode().unwrap();
            assert_eq!(Blob::decode(&bytes).unwrap(), blob);
            for cut in 0..bytes.len() {
                assert_eq!(Blob::decode(&bytes[..cut]).unwrap_err().failure, ServiceFailure::Rejected, "{cut}");
            }
            assert!(Blob::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
        }
        let long = Blob { private: vec![1; 70_000], ..blob(&[], false) };
        assert!(long.encode().is_err());
    }
}
