//! Who asks, and what they may do.
//!
//! Why it exists: every door of the signer (the signing API, the Keymanager API, the admin API) must answer the same
//! question in the same way. What it guarantees: it is pure; it opens no file, no socket and no clock, so that a
//! decision can be computed again from the same inputs, by anybody.

mod caller;
mod explain;
mod lint;
mod operation;
mod operation_set;
mod pattern;
mod policy;
mod rates;
mod rule;

pub use caller::{Builtin, Caller, CallerName, Means, NameError};
pub use explain::{Considered, Explanation};
pub use lint::{Finding, Severity, lint};
pub use operation::{AdminArea, Operation};
pub use operation_set::{OperationSet, UnknownOperation};
pub use pattern::{NamePattern, PatternError};
pub use policy::{Decision, Ground, Policy, PolicyError, RuleId};
pub use rates::Rates;
pub use rule::{Callers, Directory, Effect, KeyNames, Keys, Rate, Rule, RuleName};
