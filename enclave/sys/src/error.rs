//! What can fail in this crate. No variant carries secret data.

use std::io;

/// A failed operation of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SysError {
    /// The system refused to map memory for secrets: out of memory, `RLIMIT_AS`, or too many mappings.
    #[error("cannot map memory for secrets: free memory or raise the address space limit")]
    Map(#[source] io::Error),
    /// A private key is zero or not below the order of the BLS12-381 scalar field
    /// (RFC draft bls-signature, section 2.3: 0 < SK < r).
    #[error("the private key is zero or not below the group order: it is not a BLS key, check its source")]
    ScalarOutOfRange,
    /// A secret byte string is longer than [`LockedBytes::MAX_LEN`](crate::LockedBytes::MAX_LEN).
    #[error("the secret is {len} bytes long; at most {max} are kept in locked memory")]
    TooLong {
        /// Length asked for, in bytes.
        len: usize,
        /// Longest length allowed, in bytes.
        max: usize,
    },
    /// There is no secret memory.
    #[error("there is no secret memory (memfd_secret): it needs Linux 6.5, or 5.14 with secretmem.enable=1")]
    SecretMemory(#[source] io::Error),
    /// `signal` failed.
    #[error("cannot ignore the signals that stop a service")]
    Signals(#[source] io::Error),
    /// `close_range` failed.
    #[error(
        "cannot keep open files to this process: it needs Linux 5.11, and a sandbox profile that allows close_range"
    )]
    Files(#[source] io::Error),
    /// `prctl(PR_SET_DUMPABLE, 0)` failed.
    #[error("cannot make the process undumpable: allow prctl in the sandbox profile")]
    Undumpable(#[source] io::Error),
    /// `setrlimit(RLIMIT_CORE, 0)` failed.
    #[error("cannot turn core dumps off: allow setrlimit in the sandbox profile")]
    CoreLimit(#[source] io::Error),
    /// A vsock did not do what it should.
    #[error("cannot {what} over vsock: is this a virtual machine with a vsock device?")]
    Vsock {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The Nitro security module is missing or refused.
    #[error("the Nitro security module (/dev/nsm) does not answer: is this a Nitro enclave with Linux 6.8 or later?")]
    SecurityModule(#[source] io::Error),
}
