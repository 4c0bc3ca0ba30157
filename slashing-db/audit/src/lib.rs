//! The journal for people who do not trust its owner.
//!
//! Why it exists: the journal (`holdfast_slashing_db::journal`) is a chain that a signer writes for itself. Here it
//! becomes evidence: [checkpoints](checkpoint) sign the end of the chain, an [export] is a text file that can
//! be read with common tools and proves itself, whole or with most of it left out, and [verify] believes
//! nothing but a public key.
//!
//! What it guarantees: an export that verifies holds what the journal held, in order, with nothing added, changed or
//! removed between its first and last batch; what is left out of a selection is left out visibly, by its hash. What is
//! signed by a checkpoint cannot be replaced by whoever has the database but not the checkpoint key.
//!
//! What it cannot show: that everything that should have been written was; that the end after the last checkpoint was
//! not cut off, unless a later checkpoint is at hand.

pub mod checkpoint;
pub mod export;
pub mod forms;
mod line;
mod tree;
pub mod verify;

pub use line::{EXPORT_VERSION, Filter};
