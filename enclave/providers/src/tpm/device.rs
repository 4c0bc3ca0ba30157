//! One command out, one answer back: over the kernel's device, or the socket of a TPM in software.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use holdfast_enclave::provider::{ServiceError, ServiceFailure};
use zeroize::Zeroizing;

use super::wire::In;

/// Longest answer (`TPM_BUFFER_MAX` of the kernel).
const MAX_ANSWER: usize = 4096;
/// Bytes of the header of an answer: tag, size, code.
pub(super) const HEADER: usize = 10;

/// A connection to a chip.
pub(super) enum Device {
    /// The kernel's device: an answer comes in one read.
    Kernel(File),
    /// A socket: an answer comes in pieces.
    Socket(UnixStream),
}

impl Device {
    /// # Errors
    /// [`ServiceError`] that says why the chip cannot be had.
    pub(super) fn open(path: &Path, limit: Duration) -> Result<Self, ServiceError> {
        let failed = |error: io::Error| unavailable(path, &error);
        let kind = std::fs::metadata(path).map_err(failed)?.file_type();
        if kind.is_socket() {
            let stream = UnixStream::connect(path).map_err(failed)?;
            stream.set_read_timeout(Some(limit)).map_err(failed)?;
            stream.set_write_timeout(Some(limit)).map_err(failed)?;
            return Ok(Self::Socket(stream));
        }
        if !kind.is_char_device() {
            let text = format!("{} is neither the device of a TPM nor a socket", path.display());
            return Err(ServiceError::new(ServiceFailure::Unusable, text));
        }
        Ok(Self::Kernel(OpenOptions::new().read(true).write(true).open(path).map_err(failed)?))
    }

    /// Sends a command and takes its answer, whole.
    ///
    /// # Errors
    /// [`ServiceError`] if the chip or the way to it fails.
    pub(super) fn exchange(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
        let broken = |error: io::Error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => ServiceError::new(ServiceFailure::TimedOut, error),
            _ => ServiceError::new(ServiceFailure::Unreachable, error),
        };
        // Never grows, so that no secret is left behind.
        let mut answer = Zeroizing::new(vec![0; MAX_ANSWER]);
        let length = match self {
            Self::Kernel(file) => {
                file.write_all(command).map_err(broken)?;
                file.read(&mut answer).map_err(broken)?
            }
            Self::Socket(stream) => {
                stream.write_all(command).map_err(broken)?;
                read_answer(stream, &mut answer).map_err(broken)?
            }
        };
        answer.truncate(length);
        let says = In(&answer).size()?;
        if usize::try_from(says).ok() == Some(length) {
            Ok(answer)
        } else {
            let text = format!("an answer of the TPM has {length} bytes and says {says}");
            Err(ServiceError::new(ServiceFailure::Protocol, text))
        }
    }
}

impl In<'_> {
    /// The size in the header of an answer.
    fn size(mut self) -> Result<u32, ServiceError> {
        let _tag = self.u16()?;
        self.u32()
    }
}

/// Reads as much as the header says, and at least a header.
fn read_answer(stream: &mut UnixStream, answer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    loop {
        let so_far = answer.get(..length).unwrap_or_default();
        let whole = if length < HEADER { None } else { In(so_far).size().ok() };
        let whole = whole.and_then(|size| usize::try_from(size).ok());
        if whole.is_some_and(|whole| length >= whole) {
            return Ok(length);
        }
        let Some(free) = answer.get_mut(length..).filter(|free| !free.is_empty()) else { return Ok(length) };
        match stream.read(free)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            more => length = length.saturating_add(more),
        }
    }
}

fn unavailable(path: &Path, error: &io::Error) -> ServiceError {
    let path = path.display();
    let (failure, advice) = match error.kind() {
        ErrorKind::PermissionDenied => {
            (ServiceFailure::Denied, "let this user open it: the group of the device is usually `tss`")
        }
        ErrorKind::NotFound => (
            ServiceFailure::Unreachable,
            "there is no TPM, it is switched off in the firmware, or its driver is not loaded; tpm.device names it",
        ),
        ErrorKind::ResourceBusy => {
            (ServiceFailure::Busy, "another program has it; use the device with a resource manager, /dev/tpmrm0")
        }
        _ => (ServiceFailure::Unreachable, "is it running?"),
    };
    ServiceError::new(failure, format!("cannot open {path}: {error}; {advice}"))
}
