//! What AWS Nitro enclaves need on both of their sides, without I/O: attestation documents, the envelopes in which KMS
//! sends a key to an enclave, and image files.
//!
//! Why it exists: a host that is not trusted carries all of these. So each is a parser of hostile bytes with one way
//! through, apart from everything that has sockets, credentials or keys in use, and small enough to read in an hour.
//!
//! What it guarantees:
//! - [`attestation`]: a document is accepted only if AWS's root signed for it, in the one shape that real documents
//!   have, recently, for our nonce, by an enclave that nobody can debug. There is no switch for less.
//! - [`cms`]: an envelope is read in the one shape that KMS sends. What comes out is a *candidate* for a key: anybody can
//!   make an envelope, so whatever the key opens has to authenticate itself.
//! - [`eif`]: the same inputs are the same image, byte for byte, so that the measurements can be computed again by
//!   whoever doubts them.
//!
//! The clock is passed in; nothing here reads time, files or the environment.

#[cfg(feature = "attestation")]
pub mod attestation;
#[cfg(feature = "cms")]
pub mod cms;
#[cfg(feature = "eif")]
pub mod eif;
mod pcr;

pub use pcr::{NotAPcr, Pcr};
