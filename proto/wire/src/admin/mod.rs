//! The admin API: gRPC messages and services, generated from `proto/wire/admin/`.
//!
//! Why it exists: commands change a running server through its Unix socket, and other programs may, too. The
//! generated code is checked in, so that building needs no compiler for protocol buffers; a test of this
//! crate generates it again and compares.

mod reason;

pub use reason::{Reason, facts_of, reason_of, refusal, refusal_about};

/// The definitions as reflection serves them: a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTION: &[u8] = include_bytes!("generated/holdfast.admin.v1.bin");

/// Version 1.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "generated"
)]
pub mod v1 {
    include!("generated/holdfast.admin.v1.rs");
}
