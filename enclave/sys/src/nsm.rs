//! The Nitro security module: one ioctl that takes a request and gives a response, both CBOR.
//!
//! Guarantees: the module writes into a buffer of ours of the length it is told, and what it says it wrote is within
//! that. What the bytes mean is the caller's (`enclave/guest`).
//!
//! Source: `include/uapi/linux/nsm.h` and `drivers/misc/nsm.c` of Linux 6.8 and later.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;

use crate::error::SysError;

/// Where the module is.
const DEVICE: &str = "/dev/nsm";
/// Longest request and response, in bytes (`NSM_REQUEST_MAX_SIZE`, `NSM_RESPONSE_MAX_SIZE`).
const REQUEST_MAX: usize = 0x1000;
const RESPONSE_MAX: usize = 0x3000;
/// `_IOWR(0x0A, 0, struct nsm_raw)`.
const RAW: libc::Ioctl = 0xc020_0a00;

/// `struct nsm_iovec`.
#[repr(C)]
struct Part {
    address: u64,
    len: u64,
}

/// `struct nsm_raw`.
#[repr(C)]
struct Raw {
    request: Part,
    response: Part,
}

const _: () = assert!(size_of::<Raw>() == 32, "the number of the ioctl says so");

/// The module of this enclave.
#[derive(Debug)]
pub struct SecurityModule(File);

impl SecurityModule {
    /// Opens it.
    ///
    /// # Errors
    /// [`SysError::SecurityModule`] where there is none: anywhere but in an enclave.
    pub fn open() -> Result<Self, SysError> {
        OpenOptions::new().read(true).write(true).open(DEVICE).map(Self).map_err(SysError::SecurityModule)
    }

    /// Asks it something. Request and response are CBOR.
    ///
    /// # Errors
    /// [`SysError::SecurityModule`] if the request is too long or the module does not answer.
    pub fn ask(&self, request: &[u8]) -> Result<Vec<u8>, SysError> {
        if request.len() > REQUEST_MAX {
            return Err(SysError::SecurityModule(io::ErrorKind::InvalidInput.into()));
        }
        let mut response = vec![0_u8; RESPONSE_MAX];
        let mut raw = Raw {
            request: Part { address: request.as_ptr() as u64, len: request.len() as u64 },
            response: Part { address: response.as_mut_ptr() as u64, len: response.len() as u64 },
        };
        // SAFETY: `raw` is the struct nsm_raw that this number stands for; both of its parts are live buffers of the
        // lengths given, the module reads the first, writes the second and nothing else.
        let rc = unsafe { libc::ioctl(self.0.as_raw_fd(), RAW, &raw mut raw) };
        if rc != 0 {
            return Err(SysError::SecurityModule(io::Error::last_os_error()));
        }
        response.truncate(usize::try_from(raw.response.len).unwrap_or(0));
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: a file that is no security module is an error, and so is a request that none takes.

    use super::*;

    #[test]
    fn another_file_and_a_long_request_are_errors() {
        let other = SecurityModule(File::open("/dev/null").unwrap());
        assert!(matches!(other.ask(&[0xa0]), Err(SysError::SecurityModule(_))));
        assert!(matches!(other.ask(&[0; REQUEST_MAX + 1]), Err(SysError::SecurityModule(_))));
    }
}
