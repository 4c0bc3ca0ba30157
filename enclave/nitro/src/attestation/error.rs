//! Why a document is refused: one reason for each check, so that an operator knows whether to look at the clock, the
//! image or the host.

use std::time::Duration;

use super::PcrIndex;
use crate::Pcr;

/// A document has not the one shape that the hypervisor writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Longer than any real one.
    #[error("it is longer than any attestation document")]
    TooLong,
    /// No untagged COSE_Sign1.
    #[error("it is no COSE_Sign1 structure")]
    NotCose,
    /// Signed with something else than ES384, or not at all.
    #[error(
        "it is not signed with ES384, as the Nitro hypervisor signs. An emulated device, such as QEMU's, signs nothing: its documents prove nothing"
    )]
    Algorithm,
    /// The signed header says more than the algorithm.
    #[error("its protected header holds more than the algorithm")]
    ProtectedHeader,
    /// There is a header that nobody signed.
    #[error("it has an unprotected header")]
    UnprotectedHeader,
    /// Another encoding of the same content.
    #[error("it is not encoded in the shortest form")]
    NotCanonical,
    /// No 96 bytes.
    #[error("its signature has the wrong length")]
    SignatureLength,
    /// Nothing in it, or no map of texts.
    #[error("its payload is no map of named fields")]
    Payload,
    /// A field that nobody knows, so nobody knows what it means.
    #[error("its payload has a field that is not known")]
    UnknownField,
    /// The same field twice.
    #[error("its payload has the field \"{0}\" twice")]
    Twice(&'static str),
    /// A field that every document has.
    #[error("its payload has no field \"{0}\"")]
    Missing(&'static str),
    /// A field of the wrong type or size.
    #[error("its field \"{0}\" has a type or size that no document has")]
    Field(&'static str),
    /// Registers of another hash than SHA-384.
    #[error("its registers are not SHA-384")]
    Digest,
}

/// Why a document proves nothing to us.
#[derive(Debug, thiserror::Error)]
pub enum AttestationError {
    /// It is no document of the hypervisor.
    #[error("this is no attestation document of a Nitro enclave")]
    Shape(#[source] ShapeError),
    /// Its chain begins with another authority.
    #[error("the document's certificates begin with another root than the pinned one of AWS Nitro enclaves")]
    OtherRoot,
    /// Content and signature do not belong together.
    #[error("the document's signature is wrong: it was changed on its way, or is not genuine")]
    Signature,
    /// A certificate of it has expired: documents are valid for three hours at most.
    #[error("a certificate of the document has expired: it is an old document, or the clock here is ahead")]
    Expired,
    /// A certificate of it is not valid yet.
    #[error("a certificate of the document is not valid yet: the clock here is behind")]
    NotYetValid,
    /// The certificates do not lead to the root for another reason.
    #[error("the document's certificates do not lead to the pinned root")]
    Chain(#[source] webpki::Error),
    /// It is older than a document that was asked for just now can be.
    #[error("the document is {} s old: ask for a new one, and compare the clocks", .0.as_secs())]
    Stale(Duration),
    /// It is from later than now.
    #[error("the document is from {} s ahead of the clock here: compare the clocks", .0.as_secs())]
    FromTheFuture(Duration),
    /// It is the answer to another question, or to none.
    #[error("the document does not answer this nonce: it was made for somebody else, or replayed")]
    Nonce,
    /// Whoever runs the host can read the enclave's console and memory.
    #[error("the enclave runs in debug mode (PCR0 is zero): the host can look into it")]
    DebugMode,
    /// It is another enclave.
    #[error(
        "PCR{index} is {found}, which is not among the expected values: another image, role or signer than expected"
    )]
    OtherPcr {
        /// Which register.
        index: PcrIndex,
        /// What it holds.
        found: Pcr,
    },
    /// The register was never set.
    #[error("the document has no PCR{0}, and a value of it is expected")]
    MissingPcr(PcrIndex),
    /// The root that was given is no certificate.
    #[error("the trust root is no certificate")]
    Root(#[source] webpki::Error),
}
