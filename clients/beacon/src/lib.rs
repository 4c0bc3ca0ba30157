//! Talks to consensus clients over the Beacon API.
//!
//! Why it exists: a custom network's file does not say which chain it is, and a beacon node knows.
//! What it guarantees: every exchange is bounded in time and in length, and an answer is either
//! understood whole or refused.

mod error;
mod genesis;
mod http;

pub use error::BeaconError;
pub use genesis::{Genesis, fetch_genesis};
