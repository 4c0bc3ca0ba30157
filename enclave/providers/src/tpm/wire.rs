//! TPM 2.0 structures as bytes (TPM 2.0 Library, Part 2), as far as they are needed here: big-endian integers, and fields
//! behind a length of two bytes.

use holdfast_enclave::provider::{ServiceError, ServiceFailure};
use zeroize::Zeroizing;

/// Room for every command sent here, so that no secret is left behind in memory that grew.
const CAPACITY: usize = 2 * 1024;

/// Bytes to send, wiped when dropped.
pub(super) struct Out(Zeroizing<Vec<u8>>);

impl Out {
    pub(super) fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(CAPACITY)))
    }

    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A field behind its length (`TPM2B`). Everything sent is far shorter than what two bytes can count.
    pub(super) fn sized(self, bytes: &[u8]) -> Self {
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).bytes(bytes)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The length, as commands count it.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}

/// Bytes received, read from the front.
pub(super) struct In<'a>(pub(super) &'a [u8]);

impl<'a> In<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ServiceError> {
        let (array, rest) = self.0.split_first_chunk().ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, ServiceError> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, ServiceError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ServiceError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], ServiceError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A field behind its length (`TPM2B`).
    pub(super) fn sized(&mut self) -> Result<&'a [u8], ServiceError> {
        let count = self.u16()?;
        self.bytes(usize::from(count))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn cut_short() -> ServiceError {
    ServiceError::new(ServiceFailure::Protocol, "an answer of the TPM is cut short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_no_byte_beyond() {
        let out = Out::new().u8(7).u16(0x8001).u32(0x0102_0304).sized(b"abc").bytes(&[9, 9]);
        assert_eq!(out.len(), 14);
        let mut read = In(out.as_slice());
        assert_eq!((read.u8().unwrap(), read.u16().unwrap(), read.u32().unwrap()), (7, 0x8001, 0x0102_0304));
        assert_eq!(read.sized().unwrap(), b"abc");
        assert_eq!(read.bytes(2).unwrap(), [9, 9]);
        assert!(read.is_empty());
        for cut in 0..out.as_slice().len() {
            let mut read = In(&out.as_slice()[..cut]);
            let all = read.u8().and_then(|_| read.u16()).and_then(|_| read.u32());
            let all = all.and_then(|_| read.sized().map(drop)).and_then(|()| read.bytes(2).map(drop));
            assert_eq!(all.unwrap_err().failure, ServiceFailure::Protocol, "{cut}");
        }
    }
}
