//! The vault's side: which witnesses it believes, what it asked them, and in which epochs it may sign.
//!
//! Guarantees: an epoch counts as held only if enough different witnesses granted it to this vault, each in answer to
//! a request of this vault that was not answered before; what is held never reaches back over a gap, in which somebody
//! else may have signed: then [`Run::Begun`] says from where, and the vault puts its marks there first.
//!
//! Why more than half: two sets of so many witnesses share one, which grants each epoch once. If up to
//! `2k - n - 1` lie, two sets still share an honest one.

use holdfast_domain::{Epoch, GenesisValidatorsRoot};

use crate::error::{MessageError, PinsError};
use crate::key::{SigningKey, VerifyingKey};
use crate::message::{CheckpointHash, Grant, Group, Handed, Nonce, Request, Wish};

/// Most witnesses of a group.
pub const MAX_WITNESSES: usize = 15;

/// The witnesses a vault believes. They stay for its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins {
    group: Group,
    witnesses: Vec<VerifyingKey>,
    quorum: usize,
}

impl Pins {
    /// Witnesses of which `quorum` have to grant.
    ///
    /// # Errors
    /// [`PinsError`].
    pub fn new(group: Group, witnesses: Vec<VerifyingKey>, quorum: usize) -> Result<Self, PinsError> {
        let count = witnesses.len();
        if count == 0 || count > MAX_WITNESSES {
            return Err(PinsError::Count { found: count, max: MAX_WITNESSES });
        }
        let mut distinct = witnesses.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() < count {
            return Err(PinsError::Twice);
        }
        if quorum > count || quorum.saturating_mul(2) <= count {
            return Err(PinsError::Quorum { quorum, count });
        }
        Ok(Self { group, witnesses, quorum })
    }

    /// The group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The witnesses.
    pub fn witnesses(&self) -> &[VerifyingKey] {
        &self.witnesses
    }

    /// How many have to grant.
    pub fn quorum(&self) -> usize {
        self.quorum
    }
}

/// The epochs after `after` up to `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The epoch before the first.
    pub after: Epoch,
    /// The last.
    pub until: Epoch,
}

impl Span {
    /// Whether this epoch is one of them.
    pub fn covers(&self, epoch: Epoch) -> bool {
        self.after < epoch && epoch <= self.until
    }
}

/// A checkpoint the vault has in its hands and could open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// Its hash.
    pub hash: CheckpointHash,
    /// Its number.
    pub seq: u64,
}

/// What the vault has to do before it signs in a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Nothing: it goes on.
    Continued,
    /// Others may have signed up to and with `after`: its marks have to be above that.
    Begun {
        /// The epoch before its first.
        after: Epoch,
    },
    /// It goes on where an earlier vault stopped: the marks are those of the checkpoint, and for keys that are not in it
    /// above `until`.
    Resumed {
        /// The last epoch of the earlier vault.
        until: Epoch,
    },
}

/// What came of grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adopted {
    /// What is held now, and what has to be done first. `None` if there is no quorum for anything new.
    pub lease: Option<(Span, Run)>,
    /// Grants that were good.
    pub good: usize,
}

/// The requests for all witnesses, in their order.
pub type Asks = Vec<Vec<u8>>;

/// Leases of one vault.
pub struct Holding {
    pins: Pins,
    chain: GenesisValidatorsRoot,
    boot: SigningKey,
    witnesses: Vec<Standing>,
    lease: Option<Span>,
    /// The checkpoint it went on from.
    resumed: Option<Offered>,
    released: bool,
}

/// How things stand with one witness.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// The request that is not answered yet.
    asked: Option<Nonce>,
    /// What it granted last.
    granted: Option<(Span, Option<Handed>)>,
    /// The highest number of a checkpoint heard of.
    seq: u64,
}

impl Holding {
    /// A vault that holds nothing, with a new key.
    ///
    /// # Errors
    /// [`getrandom::Error`] if the system has no randomness.
    pub fn new(pins: Pins, chain: GenesisValidatorsRoot) -> Result<Self, getrandom::Error> {
        let boot = SigningKey::generate()?;
        let witnesses = vec![Standing::default(); pins.witnesses.len()];
        Ok(Self { pins, chain, boot, witnesses, lease: None, resumed: None, released: false })
    }

    /// The witnesses.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The key of this vault.
    pub fn holder(&self) -> VerifyingKey {
        self.boot.public()
    }

    /// What is held.
    pub fn lease(&self) -> Option<Span> {
        if self.released { None } else { self.lease }
    }

    /// Whether a message of this epoch may be signed.
    pub fn covers(&self, epoch: Epoch) -> bool {
        self.lease().is_some_and(|lease| lease.covers(epoch))
    }

    /// The epoch up to which others may have signed, for keys that come in while a lease is held.
    pub fn base(&self) -> Option<Epoch> {
        let handed = self.witnesses.iter().filter_map(|one| one.granted.and_then(|(_, handed)| handed));
        let handed = handed.map(|handed| handed.until).max();
        self.lease.map(|lease| handed.map_or(lease.after, |until| until.max(lease.after)))
    }

    /// Requests for epochs up to `until`, one for each witness. `offered` is a checkpoint it could go on from; `versions` are those of their records, as far as known.
    /// Earlier requests are answered no more.
    ///
    /// # Errors
    /// [`getrandom::Error`] if the system has no randomness.
    pub fn ask(
        &mut self,
        member: &SigningKey,
        until: Epoch,
        offered: Option<Offered>,
        versions: &[u64],
    ) -> Result<Asks, getrandom::Error> {
        let resumes = offered.filter(|_| self.lease.is_none()).map(|offered| offered.hash);
        self.requests(member, Wish::Acquire { until, resumes }, versions)
    }

    /// Gives everything back, for good: from now on nothing is covered. The requests tell the witnesses.
    ///
    /// # Errors
    /// [`getrandom::Error`] if the system has no randomness.
    pub fn release(
        &mut self,
        member: &SigningKey,
        seq: u64,
        hash: CheckpointHash,
        versions: &[u64],
    ) -> Result<Asks, getrandom::Error> {
        self.released = true;
        self.requests(member, Wish::Release { seq, hash }, versions)
    }

    /// Whether everything was given back.
    pub fn is_released(&self) -> bool {
        self.released
    }

    /// The number for the next checkpoint.
    pub fn next_seq(&self) -> u64 {
        self.witnesses.iter().map(|one| one.seq).max().unwrap_or_default().saturating_add(1)
    }

    fn requests(&mut self, member: &SigningKey, wish: Wish, versions: &[u64]) -> Result<Asks, getrandom::Error> {
        let mut asks = Vec::with_capacity(self.witnesses.len());
        let versions = versions.iter().copied().chain(std::iter::repeat(0));
        for ((witness, standing), version) in self.pins.witnesses.iter().zip(&mut self.witnesses).zip(versions) {
            let nonce = Nonce::generate()?;
            standing.asked = Some(nonce);
            let request = Request {
                chain: self.chain,
                witness: *witness,
                group: self.pins.group.clone(),
                holder: self.boot.public(),
                version,
                nonce,
                wish,
                member: member.public(),
            };
            asks.push(request.sign(&self.boot, member));
        }
        Ok(asks)
    }

    /// Takes grants; what is none, or none for this vault, is left out. With `offered`, a checkpoint that was opened,
    /// it goes on where another vault stopped if enough witnesses say that this was its last.
    pub fn adopt(&mut self, grants: &[&[u8]], offered: Option<Offered>) -> Adopted {
        let good = grants.iter().filter(|bytes| self.take(bytes)).count();
        if self.released {
            return Adopted { lease: None, good };
        }
        let resumed = offered.filter(|offered| self.lease.is_none() && self.confirms(*offered));
        let Some(span) = self.quorum(resumed.or(self.resumed)) else { return Adopted { lease: None, good } };
        let (span, run) = match self.lease {
            Some(held) if span.until <= held.until => return Adopted { lease: None, good },
            Some(held) if span.after <= held.until => (Span { after: held.after, ..span }, Run::Continued),
            Some(_) | None => (span, self.begun(span, resumed)),
        };
        self.lease = Some(span);
        self.resumed = self.resumed.or(resumed);
        Adopted { lease: Some((span, run)), good }
    }

    fn begun(&self, span: Span, resumed: Option<Offered>) -> Run {
        let handed = self.witnesses.iter().filter_map(|one| one.granted.and_then(|(_, handed)| handed));
        match resumed {
            None => Run::Begun { after: span.after },
            Some(_) => Run::Resumed { until: handed.map(|handed| handed.until).max().unwrap_or(span.after) },
        }
    }

    /// Whether it is a grant for this vault that was waited for.
    fn take(&mut self, bytes: &[u8]) -> bool {
        for (witness, standing) in self.pins.witnesses.iter().zip(&mut self.witnesses) {
            let grant = match Grant::verify(bytes, witness) {
                Ok(grant) => grant,
                // Of another witness, perhaps.
                Err(MessageError::Signature) => continue,
                Err(_) => return false,
            };
            let ours = grant.chain == self.chain
                && grant.group == self.pins.group
                && grant.holder == self.boot.public()
                && standing.asked == Some(grant.nonce)
                && grant.after <= grant.until;
            if ours {
                standing.asked = None;
                standing.seq = standing.seq.max(grant.seq);
                standing.granted = Some((Span { after: grant.after, until: grant.until }, grant.handed));
            }
            return ours;
        }
        false
    }

    /// Whether enough witnesses say that this was the last checkpoint of the holder before.
    fn confirms(&self, offered: Offered) -> bool {
        let says = |one: &&Standing| {
            let handed = one.granted.and_then(|(_, handed)| handed);
            handed.is_some_and(|handed| handed.hash == offered.hash && handed.seq == offered.seq)
        };
        self.witnesses.iter().filter(says).count() >= self.pins.quorum
    }

    /// The latest epochs without a gap that enough witnesses granted.
    fn quorum(&self, resumed: Option<Offered>) -> Option<Span> {
        let spans: Vec<Span> = self
            .witnesses
            .iter()
            .filter_map(|one| {
                let (span, handed) = one.granted?;
                // What another vault had and gave back is of use only with its marks.
                let after = match (handed, resumed) {
                    (Some(handed), Some(offered)) if handed.hash == offered.hash => span.after,
                    (Some(handed), _) => span.after.max(handed.until),
                    (None, _) => span.after,
                };
                (after < span.until).then_some(Span { after, ..span })
            })
            .collect();
        let enough = |epoch: Epoch| spans.iter().filter(|span| span.covers(epoch)).count() >= self.pins.quorum;
        // What is covered changes at the ends of spans only.
        let until = spans.iter().map(|span| span.until).filter(|epoch| enough(*epoch)).max()?;
        let gap = |epoch: &Epoch| *epoch < until && !enough(*epoch);
        let after = spans.iter().flat_map(|span| [span.after, span.until]).filter(gap).max()?;
        Some(Span { after, until })
    }
}

#[cfg(test)]
mod tests;
