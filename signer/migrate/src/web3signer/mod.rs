//! Web3Signer: its configuration ([`read`]), its database's address ([`database_address`]) and its key files
//! ([`key_file()`]).
//!
//! Source of the rules: Web3Signer 26.7 to 26.9. Its command line wins over its environment, that over its file.

mod database;
mod key_file;
mod settings;
mod table;

pub use database::{AddressError, DatabaseAddress, database_address};
pub use key_file::{KeyFileError, KeySource, Service, key_file};
pub use settings::{Origin, Setting, Settings, SettingsError, Sources, read};
pub use table::{Meaning, known};
