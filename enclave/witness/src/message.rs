//! What a vault asks and what a witness grants, as bytes that are signed as they stand.
//!
//! Guarantees: there is one sequence of bytes for each message, of bounded length; what is decoded has been verified:
//! a request by the key of a member of the group and by the key of the vault that asks, a grant by the witness. Layout:
//! four letters, a version, and fields of fixed length in the order of the types below, numbers big-endian; the
//! group's name has its length before it.

use core::fmt;
use core::str::FromStr;

use holdfast_domain::{Epoch, GenesisValidatorsRoot};

use crate::error::MessageError;
use crate::key::{Purpose, SIGNATURE_LEN, SigningKey, VerifyingKey};

/// Longest name of a group, in bytes.
pub const MAX_GROUP: usize = 64;
/// Longest message, in bytes.
pub const MAX_MESSAGE: usize = 512;

const REQUEST: [u8; 5] = *b"HFWQ\x01";
const GRANT: [u8; 5] = *b"HFWG\x01";
const ACQUIRE: u8 = 1;
const RELEASE: u8 = 2;

/// The name of a group of signers of which one at a time signs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(String);

impl Group {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Group {
    type Err = MessageError;

    fn from_str(text: &str) -> Result<Self, MessageError> {
        let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        let good = !text.is_empty() && text.len() <= MAX_GROUP && text.bytes().all(fits);
        if good { Ok(Self(text.to_owned())) } else { Err(MessageError::Group) }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 32 random bytes that a vault uses once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce(pub [u8; 32]);

impl Nonce {
    /// A new one.
    ///
    /// # Errors
    /// [`getrandom::Error`] if the system has no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

/// Hash of a sealed checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckpointHash(pub [u8; 32]);

/// What a vault wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Epochs up to this one.
    Acquire {
        /// The last epoch wanted.
        until: Epoch,
        /// The checkpoint of an earlier vault that this one could go on from.
        resumes: Option<CheckpointHash>,
    },
    /// The holder signs no block and no attestation any more; what it signed is in this checkpoint.
    Release {
        /// Number of the checkpoint within the group; rises.
        seq: u64,
        /// Its hash.
        hash: CheckpointHash,
    },
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The chain.
    pub chain: GenesisValidatorsRoot,
    /// The witness it is for.
    pub witness: VerifyingKey,
    /// The group.
    pub group: Group,
    /// The vault that asks: a key that lives as long as it does.
    pub holder: VerifyingKey,
    /// Version of the record it is based on.
    pub version: u64,
    /// Tells this request from all others.
    pub nonce: Nonce,
    /// What is wanted.
    pub wish: Wish,
    /// The key that says that the vault belongs to the group.
    pub member: VerifyingKey,
}

/// What a holder left behind for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handed {
    /// Number of the checkpoint.
    pub seq: u64,
    /// Hash of the checkpoint.
    pub hash: CheckpointHash,
    /// The last epoch the earlier holder had.
    pub until: Epoch,
}

/// What a witness grants: the holder has the epochs after `after` up to `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The chain.
    pub chain: GenesisValidatorsRoot,
    /// The group.
    pub group: Group,
    /// The vault.
    pub holder: VerifyingKey,
    /// That of the request.
    pub nonce: Nonce,
    /// Version of the record.
    pub version: u64,
    /// The epoch before the first one granted.
    pub after: Epoch,
    /// The last epoch granted.
    pub until: Epoch,
    /// The number of the last checkpoint of the group.
    pub seq: u64,
    /// Where an earlier holder stopped in good order, and this one goes on.
    pub handed: Option<Handed>,
}

impl Request {
    /// Its bytes, signed by the vault and the member.
    pub fn sign(&self, holder: &SigningKey, member: &SigningKey) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_MESSAGE);
        out.extend_from_slice(&REQUEST);
        out.extend_from_slice(&self.chain.0);
        out.extend_from_slice(self.witness.as_bytes());
        put_group(&mut out, &self.group);
        out.extend_from_slice(self.holder.as_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.nonce.0);
        match self.wish {
            Wish::Acquire { until, resumes } => {
                out.push(ACQUIRE);
                out.extend_from_slice(&until.0.to_be_bytes());
                put_hash(&mut out, resumes.as_ref());
            }
            Wish::Release { seq, hash } => {
                out.push(RELEASE);
                out.extend_from_slice(&seq.to_be_bytes());
                out.extend_from_slice(&hash.0);
            }
        }
        out.extend_from_slice(self.member.as_bytes());
        let signatures = [holder.sign(Purpose::Holder, &out), member.sign(Purpose::Member, &out)];
        out.extend_from_slice(signatures.as_flattened());
        out
    }

    /// Reads a request and verifies both signatures.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn verify(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader(bytes);
        reader.expect(REQUEST)?;
        let request = Self {
            chain: GenesisValidatorsRoot(reader.array()?),
            witness: reader.key()?,
            group: reader.group()?,
            holder: reader.key()?,
            version: reader.number()?,
            nonce: Nonce(reader.array()?),
            wish: match reader.array::<1>()? {
                [ACQUIRE] => Wish::Acquire { until: Epoch(reader.number()?), resumes: reader.hash()? },
                [RELEASE] => Wish::Release { seq: reader.number()?, hash: CheckpointHash(reader.array()?) },
                [_] => return Err(MessageError::Malformed),
            },
            member: reader.key()?,
        };
        let signed = bytes.get(..bytes.len().saturating_sub(reader.0.len())).unwrap_or_default();
        let (by_holder, by_member): ([u8; SIGNATURE_LEN], [u8; SIGNATURE_LEN]) = (reader.array()?, reader.array()?);
        reader.end()?;
        request.holder.verify(Purpose::Holder, signed, &by_holder)?;
        request.member.verify(Purpose::Member, signed, &by_member)?;
        Ok(request)
    }
}

impl Grant {
    /// Its bytes, signed by the witness.
    pub fn sign(&self, witness: &SigningKey) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_MESSAGE);
        out.extend_from_slice(&GRANT);
        out.extend_from_slice(&self.chain.0);
        put_group(&mut out, &self.group);
        out.extend_from_slice(self.holder.as_bytes());
        out.extend_from_slice(&self.nonce.0);
        for number in [self.version, self.after.0, self.until.0, self.seq] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        put_handed(&mut out, self.handed.as_ref());
        let signature = witness.sign(Purpose::Grant, &out);
        out.extend_from_slice(&signature);
        out
    }

    /// Reads a grant of this witness.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn verify(bytes: &[u8], witness: &VerifyingKey) -> Result<Self, MessageError> {
        let mut reader = Reader(bytes);
        reader.expect(GRANT)?;
        let grant = Self {
            chain: GenesisValidatorsRoot(reader.array()?),
            group: reader.group()?,
            holder: reader.key()?,
            nonce: Nonce(reader.array()?),
            version: reader.number()?,
            after: Epoch(reader.number()?),
            until: Epoch(reader.number()?),
            seq: reader.number()?,
            handed: reader.handed()?,
        };
        let signed = bytes.get(..bytes.len().saturating_sub(reader.0.len())).unwrap_or_default();
        let signature = reader.array()?;
        reader.end()?;
        witness.verify(Purpose::Grant, signed, &signature)?;
        Ok(grant)
    }
}

pub(crate) fn put_handed(out: &mut Vec<u8>, handed: Option<&Handed>) {
    match handed {
        None => out.push(0),
        Some(Handed { seq, hash, until }) => {
            out.push(1);
            out.extend_from_slice(&seq.to_be_bytes());
            out.extend_from_slice(&hash.0);
            out.extend_from_slice(&until.0.to_be_bytes());
        }
    }
}

pub(crate) fn put_hash(out: &mut Vec<u8>, hash: Option<&CheckpointHash>) {
    match hash {
        None => out.push(0),
        Some(hash) => {
            out.push(1);
            out.extend_from_slice(&hash.0);
        }
    }
}

fn put_group(out: &mut Vec<u8>, group: &Group) {
    // At most 64 bytes.
    out.push(u8::try_from(group.0.len()).unwrap_or_default());
    out.extend_from_slice(group.0.as_bytes());
}

/// Takes bytes from the front.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(MessageError::Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn number(&mut self) -> Result<u64, MessageError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn expect(&mut self, start: [u8; 5]) -> Result<(), MessageError> {
        if self.array()? == start { Ok(()) } else { Err(MessageError::Malformed) }
    }

    pub(crate) fn key(&mut self) -> Result<VerifyingKey, MessageError> {
        VerifyingKey::new(self.array()?)
    }

    pub(crate) fn handed(&mut self) -> Result<Option<Handed>, MessageError> {
        match self.array::<1>()? {
            [0] => Ok(None),
            [1] => {
                let (seq, hash) = (self.number()?, CheckpointHash(self.array()?));
                Ok(Some(Handed { seq, hash, until: Epoch(self.number()?) }))
            }
            [_] => Err(MessageError::Malformed),
        }
    }

    pub(crate) fn hash(&mut self) -> Result<Option<CheckpointHash>, MessageError> {
        match self.array::<1>()? {
            [0] => Ok(None),
            [1] => Ok(Some(CheckpointHash(self.array()?))),
            [_] => Err(MessageError::Malformed),
        }
    }

    fn group(&mut self) -> Result<Group, MessageError> {
        let [len] = self.array()?;
        let (name, rest) = self.0.split_at_checked(usize::from(len)).ok_or(MessageError::Malformed)?;
        self.0 = rest;
        core::str::from_utf8(name).map_err(|_| MessageError::Group)?.parse()
    }

    pub(crate) fn end(&self) -> Result<(), MessageError> {
        if self.0.is_empty() { Ok(()) } else { Err(MessageError::Malformed) }
    }
}

#[cfg(test)]
mod tests;
