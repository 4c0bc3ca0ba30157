//! Talks to consensus clients over the Beacon API: one of them, or whichever of many is healthy.
//!
//! Why it exists: a custom network's file does not say which chain it is, and a beacon node knows; and
//! validators lose money while the one node they talk to is down, slow or on another chain. What it
//! guarantees: every exchange is bounded in time and in length; health is a pure function of observations; a
//! node of another network is asked for nothing. It knows neither keys nor a database.

mod accept;
mod ask;
pub mod balance;
mod chain;
mod class;
mod confirm;
mod deadline;
mod decision;
mod door;
mod error;
pub mod events;
pub mod execution;
mod genesis;
pub mod health;
mod metrics;
mod network;
mod pool;
pub mod prepare;
mod probe;
pub mod route;
pub mod server;
mod signal;
mod status;
mod tasks;
mod upstream;
mod validators;
mod version;

pub use balance::{Balancing, Policy};
pub use chain::{BlockRoot, Checkpoint, HeadRef, PayloadStatus};
pub use class::EndpointClass;
pub use confirm::{Confirmation, LivenessUnion, Why};
pub use deadline::Deadline;
pub use decision::{Decision, DecisionKind, DecisionSink, NoSink, Urgency};
pub use door::{ByteStream, Door, Opening};
pub use error::{BeaconError, CallError, Fault, PoolError, UpstreamConfigError};
pub use genesis::{Genesis, fetch_genesis};
pub use health::{
    Agreement, Compatibility, Difference, Eligibility, GroupId, Health, HealthTier, HysteresisPolicy, Observation,
};
pub use metrics::Metrics;
pub use network::{DutyPoint, ForkRow, PinnedNetwork, SlotTiming, SpecError, SpecMap};
pub use pool::{
    Change, ChangeKind, Environment, ExpectedNetwork, Lineup, NodeView, Pool, PoolConfig, PoolView, Probing, Quorum,
    ReplayGate, StreamState,
};
pub use status::{ClassStatus, DecisionStatus, NetworkStatus, StatusDocument, UpstreamStatus};
pub use tasks::{Stopping, Tasks};
pub use upstream::{
    AnswerBody, Auth, CollectedAnswer, PriorityTier, Resolve, Role, Roles, TlsOptions, Transport, TrustRoots, Upstream,
    UpstreamAnswer, UpstreamConfig, UpstreamId, UpstreamName, UpstreamRequest, UpstreamUrl, Weight,
};
pub use validators::{Validator, ValidatorId, fetch_validators};
pub use version::{NodeVersion, Vendor};
