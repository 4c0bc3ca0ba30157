//! What a witness remembers of a group, and what it grants: pure, so that every order of events can be tried.
//!
//! Guarantees: the last epoch granted never falls; an epoch granted to one holder is never granted to another, except
//! where the first has given it back, and then to one that can go on from its checkpoint; a request is good for one version of the record, so an
//! old one, however often it is sent, changes nothing; no grant reaches further than [`AHEAD`] epochs beyond the present.
//!
//! The holder may extend its lease at any time. Anybody else waits until it is over, so that a standby does not take
//! over from a signer that is at work.

use holdfast_domain::Epoch;

use crate::error::{Denied, MessageError};
use crate::key::VerifyingKey;
use crate::message::{CheckpointHash, Handed, Nonce, Reader, Request, Wish, put_handed, put_hash};

/// Epochs beyond the present one that are granted at most.
pub const AHEAD: u64 = 2;
/// Keys of members of a group at most.
pub const MAX_MEMBERS: usize = 16;

const RECORD: [u8; 5] = *b"HFWR\x01";

/// What is remembered of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Keys that may ask.
    pub members: Vec<VerifyingKey>,
    /// The lease; `None` before the first.
    pub lease: Option<Lease>,
}

/// The lease of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it.
    pub holder: VerifyingKey,
    /// The epoch before the holder's first.
    pub after: Epoch,
    /// The last epoch granted to anybody.
    pub until: Epoch,
    /// The request that made it so.
    pub nonce: Nonce,
    /// What the holder went on from.
    pub handed: Option<Handed>,
    /// Number of the last checkpoint.
    pub seq: u64,
    /// The checkpoint the holder left when it gave the lease back.
    pub released: Option<CheckpointHash>,
}

impl Record {
    /// The lease after this request; the same if it was carried out before.
    ///
    /// # Errors
    /// [`Denied`]: nothing changes.
    pub fn judge(&self, version: u64, request: &Request, now: Epoch) -> Result<Lease, Denied> {
        if let Some(lease) = &self.lease
            && lease.nonce == request.nonce
            && lease.holder == request.holder
        {
            // Its answer was lost.
            return Ok(lease.clone());
        }
        if request.version != version {
            return Err(Denied::Moved);
        }
        match (request.wish, &self.lease) {
            (Wish::Acquire { until, resumes }, lease) => acquire(lease.as_ref(), request, (until, resumes), now),
            (Wish::Release { seq, hash }, Some(lease)) => release(lease, request, seq, hash),
            (Wish::Release { .. }, None) => Err(Denied::NotHolder),
        }
    }

    /// Its bytes, as stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = RECORD.to_vec();
        let members = self.members.get(..self.members.len().min(MAX_MEMBERS)).unwrap_or_default();
        out.push(u8::try_from(members.len()).unwrap_or_default());
        for member in members {
            out.extend_from_slice(member.as_bytes());
        }
        let Some(lease) = &self.lease else {
            out.push(0);
            return out;
        };
        out.push(1);
        out.extend_from_slice(lease.holder.as_bytes());
        for number in [lease.after.0, lease.until.0, lease.seq] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&lease.nonce.0);
        put_handed(&mut out, lease.handed.as_ref());
        put_hash(&mut out, lease.released.as_ref());
        out
    }

    /// The record with these bytes.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader(bytes);
        reader.expect(RECORD)?;
        let [count] = reader.array()?;
        if usize::from(count) > MAX_MEMBERS {
            return Err(MessageError::Malformed);
        }
        let members = (0..count).map(|_| reader.key()).collect::<Result<_, _>>()?;
        let lease = match reader.array::<1>()? {
            [0] => None,
            [1] => {
                let holder = reader.key()?;
                let (after, until, seq) = (Epoch(reader.number()?), Epoch(reader.number()?), reader.number()?);
                let (nonce, handed) = (Nonce(reader.array()?), reader.handed()?);
                let released = reader.hash()?;
                Some(Lease { holder, after, until, nonce, handed, seq, released })
            }
            [_] => return Err(MessageError::Malformed),
        };
        reader.end()?;
        Ok(Self { members, lease })
    }
}

fn acquire(
    lease: Option<&Lease>,
    request: &Request,
    (wanted, resumes): (Epoch, Option<CheckpointHash>),
    now: Epoch,
) -> Result<Lease, Denied> {
    let wanted = wanted.min(Epoch(now.0.saturating_add(AHEAD)));
    // Epochs that are over are of no use to anybody who begins now.
    let before_now = now.saturating_prev();
    let begun = |after: Epoch, seq: u64| Lease {
        holder: request.holder,
        after,
        until: wanted,
        nonce: request.nonce,
        handed: None,
        seq,
        released: None,
    };
    let useful = |lease: Lease| if lease.after < lease.until { Ok(lease) } else { Err(Denied::Past) };
    let Some(lease) = lease else { return useful(begun(before_now, 0)) };
    // Whoever cannot go on from what was left behind has no use for these epochs: they are taken.
    let handed = lease.released.filter(|hash| resumes == Some(*hash));
    match (lease.holder == request.holder, handed) {
        (true, _) if lease.released.is_some() => Err(Denied::Released),
        (true, _) => Ok(Lease { until: lease.until.max(wanted), nonce: request.nonce, ..lease.clone() }),
        (false, None) if lease.until < now => useful(begun(lease.until.max(before_now), lease.seq)),
        (false, None) => Err(Denied::Held { until: lease.until }),
        (false, Some(hash)) => {
            let handed = Some(Handed { seq: lease.seq, hash, until: lease.until });
            Ok(Lease { until: lease.until.max(wanted), handed, ..begun(lease.after, lease.seq) })
        }
    }
}

fn release(lease: &Lease, request: &Request, seq: u64, hash: CheckpointHash) -> Result<Lease, Denied> {
    if lease.holder != request.holder {
        return Err(Denied::NotHolder);
    }
    if lease.released.is_some() {
        return Err(Denied::Released);
    }
    if seq <= lease.seq {
        return Err(Denied::Backwards);
    }
    Ok(Lease { seq, released: Some(hash), nonce: request.nonce, ..lease.clone() })
}

#[cfg(test)]
mod tests;
