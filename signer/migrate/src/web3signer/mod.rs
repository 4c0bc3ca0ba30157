//! Web3Signer: its configuration ([`read`]) and what it is here ([`translate()`]), its database's address
//! ([`database_address`]), its key files ([`key_file()`]) and the secret stores it takes keys from ([`StoredSecret`],
//! [`AwsBulk`], [`AzureBulk`], [`GoogleBulk`]).
//!
//! Source of the rules: Web3Signer 26.7 to 26.9. Its command line wins over its environment, that over its file.

mod bulk;
mod database;
mod environment;
mod key_file;
mod secrets;
mod settings;
mod table;
mod translate;

pub use bulk::{AwsBulk, AzureBulk, GoogleBulk};
pub use database::{AddressError, DatabaseAddress, database_address};
pub use environment::{EnvironmentError, environment_file};
pub use key_file::{KeyFileError, KeySource, key_file};
pub use secrets::{AwsStore, AzureLogin, AzureStore, HashicorpLogin, HashicorpStore, StoredSecret};
pub use settings::{Origin, Setting, Settings, SettingsError, Sources, read};
pub use table::{Meaning, known};
pub use translate::{Becomes, Line, Translation, translate};
