//! Who asks, and what they may do.
//!
//! Why it exists: every door of the signer (the signing API, the Keymanager API, the admin API) must answer the same
//! question in the same way. What it guarantees: it is pure; it opens no file, no socket and no clock, so that a
//! decision can be computed again from the same inputs, by anybody.

mod caller;
mod operation;

pub use caller::{Builtin, Caller, CallerName, Means, NameError};
pub use operation::{AdminArea, Operation};
