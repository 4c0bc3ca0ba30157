//! Two exports of one journal: whether the newer one goes on where the older one ended.
//!
//! Guarantees: [`Consistent`] means that both verify and that every batch of the older one is in the newer one,
//! unchanged; otherwise the first batch that is not is named. Of the older export 32 bytes a batch are kept in memory.

use std::io::BufRead;

use holdfast_slashing_db::journal::{BatchHeader, Hash, InstanceId};

use super::export::verify_seen;
use super::{Broken, Trust, Verified};

/// What was found of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistent {
    /// Of the older one.
    pub old: Verified,
    /// Of the newer one.
    pub new: Verified,
}

/// Why the newer export does not go on where the older one ended.
#[derive(Debug, thiserror::Error)]
pub enum Inconsistent {
    /// The older one is not in order by itself.
    #[error("the older export is not in order")]
    Old(#[source] Broken),
    /// The newer one is not in order by itself.
    #[error("the newer export is not in order")]
    New(#[source] Broken),
    /// They are of different signers.
    #[error("they are of different journals: the older one of instance {old}, the newer one of {new}")]
    OtherJournal {
        /// Whose the older one is.
        old: InstanceId,
        /// Whose the newer one is.
        new: InstanceId,
    },
    /// The beginning is missing.
    #[error("batch {first} of the older export is not in the newer one, which begins with batch {begins}")]
    BeginsLater {
        /// The first batch of the older one.
        first: u64,
        /// The first batch of the newer one.
        begins: u64,
    },
    /// The end is missing.
    #[error(
        "batch {first} and all after it are missing in the newer export: the journal was cut off or brought back from a backup, or the two were swapped"
    )]
    Shorter {
        /// The first batch that is missing.
        first: u64,
    },
    /// History was written anew.
    #[error("batch {first} is another one in the newer export: the journal was rewritten from there on")]
    Rewritten {
        /// The first batch that differs.
        first: u64,
    },
    /// The newer one need not show what the older one shows.
    #[error("the newer export is a selection of other records; compare with an export of everything")]
    OtherSelection,
}

/// Verifies both, and that `new` holds all that `old` holds.
///
/// # Errors
/// [`Inconsistent`].
pub fn consistent(old: impl BufRead, new: impl BufRead, trust: &Trust) -> Result<Consistent, Inconsistent> {
    let mut hashes: Vec<Hash> = Vec::new();
    let old = verify_seen(old, trust, |header| hashes.push(header.hash), |_, _| {}).map_err(Inconsistent::Old)?;
    let first = old.after.seq.saturating_add(1);
    let mut differs = None;
    let compare = |header: &BatchHeader| {
        let place = header.seq.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        let before = place.and_then(|place| hashes.get(place));
        if before.is_some_and(|hash| *hash != header.hash) {
            differs.get_or_insert(header.seq);
        }
        // Also the one before the first of the older export, of which that knows the hash.
        if header.seq == old.after.seq && header.hash != old.after.hash {
            differs.get_or_insert(header.seq);
        }
    };
    let new = verify_seen(new, trust, compare, |_, _| {}).map_err(Inconsistent::New)?;
    if new.instance != old.instance {
        return Err(Inconsistent::OtherJournal { old: old.instance, new: new.instance });
    }
    if new.after.seq > old.after.seq && old.batches > 0 {
        return Err(Inconsistent::BeginsLater { first, begins: new.after.seq.saturating_add(1) });
    }
    if new.after.seq == old.after.seq && new.after.hash != old.after.hash {
        return Err(Inconsistent::Rewritten { first: old.after.seq });
    }
    if let Some(first) = differs {
        return Err(Inconsistent::Rewritten { first });
    }
    if new.head.seq < old.head.seq {
        return Err(Inconsistent::Shorter { first: new.head.seq.saturating_add(1) });
    }
    if !new.filter.is_empty() && new.filter != old.filter {
        return Err(Inconsistent::OtherSelection);
    }
    Ok(Consistent { old, new })
}
