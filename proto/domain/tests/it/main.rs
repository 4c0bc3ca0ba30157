//! Roots, domains and networks of this crate against other implementations and published values.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_imports,
    unreachable_pub,
    clippy::cast_possible_truncation,
    reason = "tests may stop at the first surprise"
)]

mod containers;
mod gloas;
mod json;
mod oracle;
mod own;
mod own_vectors;
mod properties;
mod random;
mod vectors;
