//! The JSON of the Web3Signer API as clients really send it, and its conversion into domain messages.
//!
//! This crate is the only place that knows both the wire and the domain. What it guarantees: a body
//! becomes a [`holdfast_domain::Message`] or an error that names the member and what was expected
//! there; nothing is guessed, padded or rounded; no input makes it panic, recurse without bound or
//! allocate more than a small multiple of the body. It signs nothing and judges nothing. The admin API's
//! generated code lives here, too.

pub mod admin;
mod error;
mod json;
mod members;
mod response;
mod scalar;
pub mod web3signer;

pub use error::{Excerpt, WireError};
pub use response::{BatchItem, ErrorBody, SignatureResponse};
