//! Dangerous acts that several people approve before they happen.
//!
//! Why it exists: one stolen login, or one person under pressure, must not be able to take keys out or to lower
//! protection. What it guarantees: it is pure; it opens no file, no socket and no clock. A [`Request`] has one form, byte
//! by byte, and says in plain text what is to be done, to which database and until when. An [`Approval`] is a signature
//! over exactly these bytes, in the format of `ssh-keygen -Y sign`. A [`Quorum`] exists only after [`check`] found enough
//! approvals of distinct people for exactly the act at hand.

mod act;
mod key;
mod policy;
mod quorum;
mod request;
mod signature;
mod wire;

pub use act::Act;
pub use key::{ApproverKey, Fingerprint, KeyError, SigningKey};
pub use policy::{Approver, ApproverName, Count, Policy, PolicyDigest, PolicyError, Seconds};
pub use quorum::{CLOCK_TOLERANCE, Demand, Quorum, Refused, Signed, check};
pub use request::{Digest, MAX_REQUEST_BYTES, Malformed, Payload, Request, RequestId, Scope};
pub use signature::{Approval, ApprovalError, BadSignature, NAMESPACE};
