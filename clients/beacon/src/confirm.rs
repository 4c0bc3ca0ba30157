//! What the pool can tell the signer: whether checkpoints are those of the quorum, and whether keys are
//! seen alive elsewhere.
//!
//! Why it exists: one client implementation that is wrong must not be enough for a wrong vote, and a key
//! that is in use elsewhere must not be used here. What it guarantees: implementations are counted, not nodes;
//! silence confirms nothing; nodes are asked once per slot, however many keys sign.

mod indices;
mod rounds;
mod tally;
mod union;
mod witness;

pub(crate) use rounds::Rounds;
pub use tally::{Confirmation, Why};
pub use union::LivenessUnion;
pub(crate) use witness::{LeftOut, is_healthy, is_needed, refuses_to_tell};
