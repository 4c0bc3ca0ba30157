//! Two moments of a request: when its answer is late, and when nobody waits any longer.
//!
//! Why it exists: an answer that is late still does more good than none, but a node that is late must not be
//! asked first again. What it guarantees: a node is judged by when the answer was due; a client is given up on only
//! when a better answer cannot come any more.

use std::time::Duration;

use tokio::time::Instant;

/// A call that was given less than this before it ran out of time says nothing against the node, where no network
/// says how long a slot is.
const FAIR_WAIT: Duration = Duration::from_millis(500);

/// When an answer is due, and until when it is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// An answer after this is late.
    pub due: Instant,
    /// Nobody waits after this. Not before [`Self::due`].
    pub end: Instant,
    /// A call that was made less than this before [`Self::due`] is not called late.
    pub fair: Duration,
}

impl Deadline {
    /// `due` and `end` from now on.
    pub fn after(due: Duration, end: Duration, fair: Duration) -> Self {
        let now = Instant::now();
        Self { due: now + due, end: now + end.max(due), fair }
    }

    /// The same, but nobody waits for late answers: for calls that are followed by another try elsewhere.
    #[must_use]
    pub fn without_grace(self) -> Self {
        Self { end: self.due, ..self }
    }
}

/// Late is too late.
impl From<Instant> for Deadline {
    fn from(end: Instant) -> Self {
        Self { due: end, end, fair: FAIR_WAIT }
    }
}
