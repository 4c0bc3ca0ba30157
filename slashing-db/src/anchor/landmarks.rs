//! What an instance remembers of a database that it shares, besides the end of its own journal: enough to
//! notice a server that lacks what *other* instances wrote.

#[cfg(any(test, feature = "postgres"))]
use super::RollbackKind;
use crate::journal::{Head, InstanceId};

/// The present of a shared database, or what is remembered of its past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Landmarks {
    /// The server's line of history: another one after a standby was promoted or a backup recovered.
    pub(crate) timeline: String,
    /// Whether commits waited for a synchronous standby.
    pub(crate) synchronous: bool,
    /// Byte of the server's log up to which it was durable. Comparable only within one line of history.
    pub(crate) wal: u64,
    /// Where the journals of other instances ended, last seen first.
    pub(crate) peers: Vec<Peer>,
}

/// Another instance on the same database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) instance: InstanceId,
    pub(crate) head: Head,
}

impl Landmarks {
    /// Other instances remembered at most: those seen last. More would not fit the anchor.
    pub(crate) const MAX_PEERS: usize = 16;

    /// What shows that a server with `present` lacks what one with these landmarks had; `missing` is how many of
    /// the remembered batches of others it does not hold.
    #[cfg(any(test, feature = "postgres"))]
    pub(crate) fn lacked_by(&self, present: &Self, missing: u64) -> Option<RollbackKind> {
        if missing > 0 {
            Some(RollbackKind::PeerLost)
        } else if self.timeline != present.timeline {
            // A promoted standby has what was acknowledged only if commits waited for it.
            (!self.synchronous).then_some(RollbackKind::Promoted)
        } else {
            (present.wal < self.wal).then_some(RollbackKind::ServerBehind)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_trusted_only_if_it_can_have_everything() {
        let at = |timeline: &str, synchronous, wal| Landmarks {
            timeline: timeline.to_owned(),
            synchronous,
            wal,
            peers: Vec::new(),
        };
        let before = at("1", false, 100);
        assert_eq!(before.lacked_by(&at("1", false, 100), 0), None, "restarted");
        assert_eq!(before.lacked_by(&at("1", true, 200), 0), None, "went on");
        assert_eq!(before.lacked_by(&at("1", false, 99), 0), Some(RollbackKind::ServerBehind));
        assert_eq!(before.lacked_by(&at("1", false, 200), 1), Some(RollbackKind::PeerLost));
        assert_eq!(before.lacked_by(&at("2", true, 200), 0), Some(RollbackKind::Promoted));
        let before = at("1", true, 100);
        // The primary's log may have been ahead of what was acknowledged.
        assert_eq!(before.lacked_by(&at("2", false, 90), 0), None, "the synchronous standby took over");
        assert_eq!(before.lacked_by(&at("2", false, 90), 1), Some(RollbackKind::PeerLost));
        assert_eq!(before.lacked_by(&at("1", true, 90), 0), Some(RollbackKind::ServerBehind));
    }
}
