//! The event stream: many nodes' events as one.
//!
//! Why it exists: validator clients attest on head events, and a stream that silently ended is a known cause
//! of late attestations. What it guarantees: see `hub` (connections), `merge` (what is passed on), `clients`
//! (what clients cost).

mod clients;
mod hub;
pub mod merge;
pub mod sse;
mod topic;
mod upstream;

pub use clients::ClientStream;
pub use hub::{EventHub, SubscribeError};
pub use topic::{Topic, TopicSet};
