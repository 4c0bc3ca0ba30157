//! Frames: a length, an operation, a number, and a body.
//!
//! Guarantees: a length is judged before a byte of the frame is read, into a buffer that never grows; a frame that is
//! cut short is an error, an end between two frames is [`FrameError::Closed`]; the buffer is wiped when the next
//! frame is read and when it is dropped, as a data key may have been in it.

use std::io::{self, Read, Write};

use zeroize::{Zeroize, Zeroizing};

use crate::error::FrameError;
use crate::limits::MAX_FRAME;

/// Bytes of operation and number.
const HEADER: usize = 9;

/// What is asked, or answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the messages in vault.proto")]
pub enum Operation {
    Hello,
    Pin,
    Provision,
    Forget,
    Sign,
    List,
    Health,
    Shutdown,
    Attest,
    ProvisionAttested,
    ImportAttested,
    Generate,
    GenerateAttested,
    Witnesses,
    AskLease,
    TakeLease,
    ReleaseLease,
    FetchPage,
    OfferPage,
    /// An answer only: the request was not carried out.
    Failed,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 20] = [
        Self::Hello,
        Self::Pin,
        Self::Provision,
        Self::Forget,
        Self::Sign,
        Self::List,
        Self::Health,
        Self::Shutdown,
        Self::Attest,
        Self::ProvisionAttested,
        Self::ImportAttested,
        Self::Generate,
        Self::GenerateAttested,
        Self::Witnesses,
        Self::AskLease,
        Self::TakeLease,
        Self::ReleaseLease,
        Self::FetchPage,
        Self::OfferPage,
        Self::Failed,
    ];

    /// Its code in a frame.
    pub const fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Pin => 2,
            Self::Provision => 3,
            Self::Forget => 4,
            Self::Sign => 5,
            Self::List => 6,
            Self::Health => 7,
            Self::Shutdown => 8,
            Self::Attest => 9,
            Self::ProvisionAttested => 10,
            Self::ImportAttested => 11,
            Self::Generate => 12,
            Self::GenerateAttested => 13,
            Self::Witnesses => 30,
            Self::AskLease => 31,
            Self::TakeLease => 32,
            Self::ReleaseLease => 33,
            Self::FetchPage => 34,
            Self::OfferPage => 35,
            Self::Failed => 255,
        }
    }

    fn of(code: u8) -> Result<Self, FrameError> {
        Self::ALL.into_iter().find(|operation| operation.code() == code).ok_or(FrameError::Operation { code })
    }
}

/// What stands before the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub operation: Operation,
    /// Number of the request.
    pub number: u64,
}

/// A frame ready to be sent: length, header and body. Wiped when dropped.
#[must_use]
pub struct Frame(Zeroizing<Vec<u8>>);

impl Frame {
    /// Joins a header and what `body` appends. `None` if it is longer than [`MAX_FRAME`].
    pub(crate) fn new(header: Header, body_len: usize, body: impl FnOnce(&mut Vec<u8>)) -> Option<Self> {
        let len = HEADER.checked_add(body_len)?;
        if len > MAX_FRAME {
            return None;
        }
        // Room for all of it from the start: a growing vector would leave copies of a data key behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(len.checked_add(4)?));
        bytes.extend_from_slice(&u32::try_from(len).ok()?.to_be_bytes());
        bytes.push(header.operation.code());
        bytes.extend_from_slice(&header.number.to_be_bytes());
        body(&mut bytes);
        Some(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The body alone, as files have it that are measured with an enclave.
    pub fn body(&self) -> &[u8] {
        // Every frame begins with a length and a header.
        self.0.get(HEADER.saturating_add(4)..).unwrap_or_default()
    }

    /// Sends it.
    ///
    /// # Errors
    /// [`FrameError::Io`].
    pub fn write(&self, to: &mut impl Write) -> Result<(), FrameError> {
        to.write_all(&self.0).and_then(|()| to.flush()).map_err(FrameError::Io)
    }
}

/// Reads frames one after another into one buffer.
pub struct FrameReader<R> {
    from: R,
    buffer: Zeroizing<Vec<u8>>,
    /// How much of the buffer the last frame took.
    used: usize,
}

impl<R: Read> FrameReader<R> {
    /// A reader with a buffer for the longest frame.
    pub fn new(from: R) -> Self {
        Self { from, buffer: Zeroizing::new(vec![0; MAX_FRAME]), used: 0 }
    }

    /// The next frame. Blocks until it is there.
    ///
    /// # Errors
    /// [`FrameError`]; the connection is then of no more use.
    pub fn read(&mut self) -> Result<(Header, &[u8]), FrameError> {
        self.wipe();
        let mut length = [0; 4];
        read_start(&mut self.from, &mut length)?;
        let len = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let out_of_bounds = FrameError::Length { len, max: MAX_FRAME };
        if len < HEADER {
            return Err(out_of_bounds);
        }
        let Some(frame) = self.buffer.get_mut(..len) else { return Err(out_of_bounds) };
        self.used = len;
        self.from.read_exact(frame).map_err(FrameError::Io)?;
        parse(frame)
    }

    /// Wipes the frame read last.
    pub fn wipe(&mut self) {
        self.buffer.get_mut(..self.used).unwrap_or_default().zeroize();
        self.used = 0;
    }
}

/// Reads the length field; an end before its first byte is the end of the connection.
fn read_start(from: &mut impl Read, length: &mut [u8; 4]) -> Result<(), FrameError> {
    let mut filled = 0;
    while let Some(rest) = length.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) if filled == 0 => return Err(FrameError::Closed),
            Ok(0) => return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    Ok(())
}

/// Takes a frame without its length field apart.
fn parse(frame: &[u8]) -> Result<(Header, &[u8]), FrameError> {
    let short = || FrameError::Length { len: frame.len(), max: MAX_FRAME };
    let (code, rest) = frame.split_first().ok_or_else(short)?;
    let (number, body) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    Ok((Header { operation: Operation::of(*code)?, number: u64::from_be_bytes(*number) }, body))
}

#[cfg(test)]
mod tests {
    //! Proved here: frames round trip; lengths are judged before anything is read; an end is told from a cut.

    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let header = Header { operation: Operation::Sign, number: 7 };
        Frame::new(header, body.len(), |out| out.extend_from_slice(body)).unwrap().as_bytes().to_vec()
    }

    #[test]
    fn frames_follow_one_another() {
        let bytes = [frame(b"one"), frame(b""), frame(&vec![9; MAX_FRAME - HEADER])].concat();
        let mut reader = FrameReader::new(bytes.as_slice());
        for len in [3, 0, MAX_FRAME - HEADER] {
            let (header, body) = reader.read().unwrap();
            assert_eq!((header, body.len()), (Header { operation: Operation::Sign, number: 7 }, len));
        }
        assert!(matches!(reader.read(), Err(FrameError::Closed)));
    }

    #[test]
    fn no_frame_is_longer_than_the_limit() {
        let header = Header { operation: Operation::Sign, number: 1 };
        assert!(Frame::new(header, MAX_FRAME - HEADER + 1, |_| ()).is_none());
        for len in [0, 8, u32::try_from(MAX_FRAME).unwrap() + 1, u32::MAX] {
            // Nothing follows: the length alone decides.
            let bytes = len.to_be_bytes();
            let mut reader = FrameReader::new(bytes.as_slice());
            assert!(matches!(reader.read(), Err(FrameError::Length { .. })), "{len}");
        }
    }

    #[test]
    fn a_frame_cut_short_is_no_end() {
        let whole = frame(b"content");
        for len in 1..whole.len() {
            let mut reader = FrameReader::new(&whole[..len]);
            assert!(matches!(reader.read(), Err(FrameError::Io(_))), "{len}");
        }
    }

    #[test]
    fn codes_are_distinct_and_others_are_refused() {
        for operation in Operation::ALL {
            assert_eq!(Operation::of(operation.code()).unwrap(), operation);
        }
        let known = (0..=u8::MAX).filter(|code| Operation::of(*code).is_ok()).count();
        assert_eq!(known, Operation::ALL.len());
    }
}
