//! Attestation documents: proof that an enclave runs a certain image, right now, where its host cannot look.
//!
//! Why it exists: the host that hands a document over may be hostile, and so may be the network. What is in a document
//! counts only once everything was checked; this module is the only place that can make an [`Attested`], and makes it
//! only then.
//!
//! What is checked, all of it always:
//! 1. the one shape that the hypervisor writes (no tag, ES384 and nothing else in the signed header, no other header, shortest
//!    encoding, known fields of known sizes, registers of 48 bytes numbered 0 to 31);
//! 2. the signature, with the key of the document's own certificate;
//! 3. that this certificate leads to the pinned root, at this time;
//! 4. that the document is of now ([`MAX_AGE`], [`MAX_SKEW`]);
//! 5. that the enclave is not in debug mode;
//! 6. that it answers our nonce;
//! 7. the expected registers.
//!
//! There is no switch that leaves one of them out. Certificates are not looked up in revocation lists: nothing here has
//! a network, and they live for hours. ECDSA signatures can be rewritten into another valid one, so the
//! *bytes* of a document identify nothing; its nonce does.

mod error;
mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
pub use error::{AttestationError, ShapeError};
use rustls_pki_types::{CertificateDer, UnixTime};
use shape::Payload;
use webpki::{EndEntityCert, KeyUsage, aws_lc_rs::ECDSA_P384_SHA384};

use crate::Pcr;

/// Root of AWS Nitro enclaves ("G1"), as AWS publishes it at
/// <https://aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip>; SHA-256
/// `641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b`, valid until 2049.
const AWS_ROOT: &[u8] = include_bytes!("aws-nitro-root-g1.der");
/// How old a document may be that was asked for just now.
pub const MAX_AGE: Duration = Duration::from_mins(5);
/// How far ahead of the clock here a document may be.
pub const MAX_SKEW: Duration = Duration::from_secs(30);
/// A public key on P-384 as SubjectPublicKeyInfo, up to its point.
const P384_KEY: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00,
    0x22, 0x03, 0x62, 0x00,
];

/// Number of a register, 0 to 31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PcrIndex(u8);

impl PcrIndex {
    /// PCR0: the whole image.
    pub const IMAGE: Self = Self(0);
    /// PCR1: kernel, its command line and the first ramdisk.
    pub const PLATFORM: Self = Self(1);
    /// PCR2: the other ramdisks.
    pub const PROGRAM: Self = Self(2);
    /// PCR3: the role of the instance.
    pub const ROLE: Self = Self(3);
    /// PCR8: the certificate that signed the image.
    pub const SIGNER: Self = Self(8);

    /// Register `index`, if there is one.
    pub const fn new(index: u8) -> Option<Self> {
        if index < 32 { Some(Self(index)) } else { None }
    }
}

impl fmt::Display for PcrIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A moment, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// What an enclave has to be: for each register that is named, one of its values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PcrPolicy(BTreeMap<PcrIndex, BTreeSet<Pcr>>);

impl PcrPolicy {
    /// No register is expected to hold anything: any enclave will do.
    pub fn any() -> Self {
        Self::default()
    }

    /// With one more value that a register may have. Two values of PCR0 are a roll-out: the old image and the new one.
    #[must_use]
    pub fn allow(mut self, index: PcrIndex, value: Pcr) -> Self {
        self.0.entry(index).or_default().insert(value);
        self
    }

    /// Whether it says which program runs: it names PCR0, or PCR2 with PCR1, or the signer of the image.
    pub fn names_an_image(&self) -> bool {
        let named = |index| self.0.contains_key(&index);
        named(PcrIndex::IMAGE) || named(PcrIndex::SIGNER) || (named(PcrIndex::PLATFORM) && named(PcrIndex::PROGRAM))
    }

    fn check(&self, found: &BTreeMap<PcrIndex, Pcr>) -> Result<(), AttestationError> {
        for (index, allowed) in &self.0 {
            let pcr = found.get(index).ok_or(AttestationError::MissingPcr(*index))?;
            if !allowed.contains(pcr) {
                return Err(AttestationError::OtherPcr { index: *index, found: *pcr });
            }
        }
        Ok(())
    }
}

/// An enclave that is what it should be. Only [`Verifier::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    module: String,
    timestamp: Timestamp,
    pcrs: BTreeMap<PcrIndex, Pcr>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
}

impl Attested {
    /// Identifier of the enclave: its instance and itself.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// When the hypervisor made the document.
    pub const fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// All registers that the document has.
    pub const fn pcrs(&self) -> &BTreeMap<PcrIndex, Pcr> {
        &self.pcrs
    }

    /// The public key that the enclave put into the document.
    pub fn public_key(&self) -> Option<&[u8]> {
        self.public_key.as_deref()
    }

    /// What else the enclave put into it.
    pub fn user_data(&self) -> Option<&[u8]> {
        self.user_data.as_deref()
    }
}

/// Checks documents against one root.
#[derive(Debug, Clone)]
pub struct Verifier {
    root: CertificateDer<'static>,
}

impl Verifier {
    /// The one for real enclaves: AWS's root.
    pub fn aws() -> Self {
        Self { root: CertificateDer::from(AWS_ROOT) }
    }

    /// Another root, a certificate in DER: for test authorities. A product uses [`Self::aws`] only.
    ///
    /// # Errors
    /// If it is no certificate.
    pub fn with_root(der: Vec<u8>) -> Result<Self, AttestationError> {
        let root = CertificateDer::from(der);
        webpki::anchor_from_trusted_cert(&root).map_err(AttestationError::Root)?;
        Ok(Self { root })
    }

    /// Checks everything about a document that was asked for with `nonce`.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(
        &self,
        document: &[u8],
        nonce: &[u8],
        expected: &PcrPolicy,
        now: Timestamp,
    ) -> Result<Attested, AttestationError> {
        let parts = shape::parse(document).map_err(AttestationError::Shape)?;
        let payload = parts.payload;
        // The signature before the chain: a changed document is called that, not expired.
        let leaf = CertificateDer::from(payload.certificate.as_slice());
        let leaf = EndEntityCert::try_from(&leaf).map_err(AttestationError::Chain)?;
        let key = leaf.subject_public_key_info();
        let point = key.strip_prefix(P384_KEY).ok_or(AttestationError::Signature)?;
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
            .verify(&parts.signed, &parts.signature)
            .map_err(|_| AttestationError::Signature)?;
        self.check_chain(&leaf, &payload, now)?;
        check_time(payload.timestamp, now)?;
        if payload.pcrs.get(&PcrIndex::IMAGE).is_none_or(|image| *image == Pcr::ZERO) {
            return Err(AttestationError::DebugMode);
        }
        // An empty nonce would be answered by anything.
        if nonce.is_empty() || payload.nonce.as_deref() != Some(nonce) {
            return Err(AttestationError::Nonce);
        }
        expected.check(&payload.pcrs)?;
        let Payload { module, timestamp, pcrs, public_key, user_data, .. } = payload;
        Ok(Attested { module, timestamp, pcrs, public_key, user_data })
    }

    fn check_chain(&self, leaf: &EndEntityCert<'_>, payload: &Payload, now: Timestamp) -> Result<(), AttestationError> {
        let (root, above) = payload.bundle.split_first().ok_or(AttestationError::OtherRoot)?;
        if root.as_slice() != self.root.as_ref() {
            return Err(AttestationError::OtherRoot);
        }
        let anchor = webpki::anchor_from_trusted_cert(&self.root).map_err(AttestationError::Root)?;
        let above: Vec<_> = above.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        // A clock that is a little behind must not refuse a certificate that was made just now; how little is checked next.
        let time = UnixTime::since_unix_epoch(Duration::from_millis(now.max(within_skew(payload.timestamp, now)).0));
        leaf.verify_for_usage(&[ECDSA_P384_SHA384], &[anchor], &above, time, KeyUsage::client_auth(), None, None)
            .map(|_| ())
            .map_err(|error| match error {
                webpki::Error::CertExpired { .. } => AttestationError::Expired,
                webpki::Error::CertNotValidYet { .. } => AttestationError::NotYetValid,
                error => AttestationError::Chain(error),
            })
    }
}

/// The document's time, if it is ahead by no more than clocks differ.
fn within_skew(document: Timestamp, now: Timestamp) -> Timestamp {
    if document.since(now) <= MAX_SKEW { document } else { now }
}

fn check_time(document: Timestamp, now: Timestamp) -> Result<(), AttestationError> {
    let (age, ahead) = (now.since(document), document.since(now));
    if age > MAX_AGE {
        return Err(AttestationError::Stale(age));
    }
    if ahead > MAX_SKEW {
        return Err(AttestationError::FromTheFuture(ahead));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};

    use super::*;

    #[test]
    fn the_pinned_root_is_the_published_one() {
        let fingerprint = hex::encode(digest(&SHA256, AWS_ROOT));
        assert_eq!(fingerprint, "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b");
        assert!(Verifier::with_root(AWS_ROOT.to_vec()).is_ok());
        assert!(matches!(Verifier::with_root(vec![1]), Err(AttestationError::Root(_))));
    }

    #[test]
    fn a_policy_says_whether_it_names_an_image() {
        let with = |indices: &[PcrIndex]| {
            indices.iter().fold(PcrPolicy::any(), |policy, index| policy.allow(*index, Pcr::ZERO)).names_an_image()
        };
        assert!(
            with(&[PcrIndex::IMAGE]) && with(&[PcrIndex::SIGNER]) && with(&[PcrIndex::PLATFORM, PcrIndex::PROGRAM])
        );
        assert!(!with(&[]) && !with(&[PcrIndex::ROLE]) && !with(&[PcrIndex::PROGRAM]));
        assert_eq!(PcrIndex::new(32), None);
    }
}
