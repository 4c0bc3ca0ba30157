//! A witness at work: from the bytes of a request to those of a grant, without a transport.
//!
//! Guarantees: nothing is granted to whom the rules deny it, and nothing before the record of it is durable. Whatever
//! the network does to requests and answers, the rules hold; at worst a lease is not extended.

use std::sync::Arc;

use holdfast_domain::{Clock, GenesisValidatorsRoot, SlotClock};

use crate::error::{Denied, MessageError, ServiceError};
use crate::key::{SigningKey, VerifyingKey};
use crate::message::{Grant, Group, Request};
use crate::rules::{MAX_MEMBERS, Record};
use crate::store::{Appended, Store, Versioned};

/// How often a record is read again when others change it.
const ATTEMPTS: usize = 8;

/// Whether a group that nobody knows may be founded by its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Founding {
    /// Yes: whoever gets this far is trusted so much.
    Open,
    /// No: members are enrolled beforehand.
    Closed,
}

/// A witness.
pub struct Witness<S> {
    key: SigningKey,
    chain: GenesisValidatorsRoot,
    slots: SlotClock,
    clock: Arc<dyn Clock>,
    store: S,
    founding: Founding,
}

/// What enrolling did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolled {
    /// The member is new.
    Added,
    /// It was there.
    Already,
    /// There are too many.
    Full,
}

impl<S: Store> Witness<S> {
    /// A witness of one chain.
    pub fn new(
        key: SigningKey,
        chain: (GenesisValidatorsRoot, SlotClock),
        clock: Arc<dyn Clock>,
        store: S,
        founding: Founding,
    ) -> Self {
        let (chain, slots) = chain;
        Self { key, chain, slots, clock, store, founding }
    }

    /// Its public key.
    pub fn public(&self) -> VerifyingKey {
        self.key.public()
    }

    /// Its memory.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`ServiceError`]; nothing was granted.
    pub async fn answer(&self, bytes: &[u8]) -> Result<Vec<u8>, ServiceError> {
        let request = Request::verify(bytes)?;
        if request.witness != self.public() {
            return Err(ServiceError::OtherWitness { asked: request.witness, this: self.public() });
        }
        if request.chain != self.chain {
            return Err(ServiceError::OtherChain);
        }
        let now = self.slots.epoch_at(self.clock.now()).ok_or(ServiceError::BeforeGenesis)?;
        for _ in 0..ATTEMPTS {
            let Versioned { version, mut record } = self.store.latest(&request.group).await?;
            self.admit(&mut record, &request)?;
            let lease =
                record.judge(version, &request, now).map_err(|denied| ServiceError::Denied { denied, version })?;
            if record.lease.as_ref() == Some(&lease) {
                return Ok(self.grant(&request.group, version, &record));
            }
            record.lease = Some(lease);
            let next = Versioned { version: version.saturating_add(1), record };
            match self.store.append(&request.group, &next).await? {
                Appended::Yes => return Ok(self.grant(&request.group, next.version, &next.record)),
                Appended::TooLate => {}
            }
        }
        Err(ServiceError::Busy)
    }

    /// Lets members in, and the first of a new group where that is allowed.
    fn admit(&self, record: &mut Record, request: &Request) -> Result<(), ServiceError> {
        if record.members.contains(&request.member) {
            return Ok(());
        }
        if record.members.is_empty() && self.founding == Founding::Open {
            record.members.push(request.member);
            return Ok(());
        }
        Err(ServiceError::NotEnrolled { member: request.member, group: request.group.clone() })
    }

    fn grant(&self, group: &Group, version: u64, record: &Record) -> Vec<u8> {
        // A record that was granted from has a lease.
        record.lease.as_ref().map_or_else(Vec::new, |lease| {
            Grant {
                chain: self.chain,
                group: group.clone(),
                holder: lease.holder,
                nonce: lease.nonce,
                version,
                after: lease.after,
                until: lease.until,
                seq: lease.seq,
                handed: lease.handed,
            }
            .sign(&self.key)
        })
    }
}

/// Makes a key a member of a group.
///
/// # Errors
/// [`ServiceError`] if the store fails.
pub async fn enroll<S: Store>(store: &S, group: &Group, member: VerifyingKey) -> Result<Enrolled, ServiceError> {
    for _ in 0..ATTEMPTS {
        let Versioned { version, mut record } = store.latest(group).await?;
        if record.members.contains(&member) {
            return Ok(Enrolled::Already);
        }
        if record.members.len() >= MAX_MEMBERS {
            return Ok(Enrolled::Full);
        }
        record.members.push(member);
        let next = Versioned { version: version.saturating_add(1), record };
        if store.append(group, &next).await? == Appended::Yes {
            return Ok(Enrolled::Added);
        }
    }
    Err(ServiceError::Busy)
}

impl ServiceError {
    /// Whether the one who asked is at fault, rather than this witness.
    pub const fn is_callers(&self) -> bool {
        !matches!(self, Self::Store(_) | Self::Busy | Self::BeforeGenesis)
    }

    /// The version a next request should name, where this says it.
    pub const fn version(&self) -> Option<u64> {
        match self {
            Self::Denied { version, .. } => Some(*version),
            _ => None,
        }
    }

    /// Whether the record has only moved on, so that asking again at once helps.
    pub const fn is_moved(&self) -> bool {
        matches!(self, Self::Denied { denied: Denied::Moved, .. })
    }

    /// Whether the bytes were no request.
    pub const fn is_malformed(&self) -> bool {
        matches!(self, Self::Message(MessageError::Malformed | MessageError::Group | MessageError::Key))
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests;
