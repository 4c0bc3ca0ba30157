//! Web3Signer: its configuration ([`read`]) and what it is here ([`translate()`]), its database's address
//! ([`database_address`]) and its key files ([`key_file()`]).
//!
//! Source of the rules: Web3Signer 26.7 to 26.9. Its command line wins over its environment, that over its file.

mod database;
mod environment;
mod key_file;
mod settings;
mod table;
mod translate;

pub use database::{AddressError, DatabaseAddress, database_address};
pub use environment::{EnvironmentError, environment_file};
pub use key_file::{KeyFileError, KeySource, Service, key_file};
pub use settings::{Origin, Setting, Settings, SettingsError, Sources, read};
pub use table::{Meaning, known};
pub use translate::{Becomes, Line, Translation, translate};
