//! Moving here from another signer: what its configuration and key files say, and what each of it is here.
//!
//! Why it exists: an operator who moves has a configuration that works. Reading it leaves out the copying by hand, in
//! which a forgotten line costs protection or duties.
//!
//! # What is guaranteed
//!
//! - **Pure.** Texts go in, decisions come out; files, the environment and databases are the caller's.
//! - **Nothing is dropped in silence.** Every setting is mapped, or named with what to do; one that is not known, or
//!   that is there twice, is refused. Every key is one that can be taken over, or named with what to do.
//! - **Secrets stay secrets.** Values are [`SecretText`](holdfast_secret::SecretText) from the parser on, and no error
//!   quotes one.

pub mod web3signer;
mod yaml;

pub use yaml::YamlError;
