//! Places where key-encryption keys live in tests: servers written from the API documents of real ones, which count
//! and check every call, and tools that run independent implementations.

pub mod azure;
pub mod gcp;
pub mod google_secrets;
pub mod kms;
pub mod moto;
pub mod recipient;
pub mod server;
pub mod softhsm;
pub mod swtpm;
pub mod transit;
