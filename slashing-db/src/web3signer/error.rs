//! What can be wrong with a database of Web3Signer, and what to do about it.

use holdfast_domain::GenesisValidatorsRoot;

use super::SCHEMA_VERSION;
use crate::error::BoxError;
use crate::interchange::MAX_VALIDATORS;

/// What was being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Who else is connected.
    Connections,
    /// The beginning of the snapshot.
    Begin,
    /// Tables and their version.
    Schema,
    /// The chain and the high watermark.
    Metadata,
    /// Validators, watermarks, signed blocks and attestations.
    Histories,
}

impl Need {
    const fn words(self) -> &'static str {
        match self {
            Self::Connections => "see who else is connected",
            Self::Begin => "begin a snapshot",
            Self::Schema => "examine the tables",
            Self::Metadata => "read the table metadata",
            Self::Histories => "read the histories",
        }
    }
}

/// What is wrong with a stored value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A number below zero, above 64 bits, or none at all.
    #[error("{name} is {found}, which is no slot or epoch (0 to 18446744073709551615)")]
    Number {
        /// The column.
        name: &'static str,
        /// What it holds.
        found: String,
    },
    /// A public key or root of another length.
    #[error("a value of {expected} bytes has another length")]
    Length {
        /// The right length in bytes.
        expected: usize,
    },
}

/// Why a database gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Not an address.
    #[error("the address cannot be used: {problem}; expected postgres://user@host:port/database?sslmode=…")]
    Address {
        /// What is wrong, without the address.
        problem: String,
    },
    /// The server does not let us in, does not answer, or went away.
    #[error("cannot read {address}; check that the server runs, and the user, password, database and TLS settings")]
    Unreachable {
        /// The address without credentials.
        address: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// A standby.
    #[error("{address} is a standby, which may lack what was signed last; give the primary's address, or promote it")]
    Standby {
        /// The address without credentials.
        address: String,
    },
    /// Another program's database.
    #[error(
        "{address} is not a slashing protection database of Web3Signer: there is no table {missing}; check the name \
         of the database, and its search_path if the tables are in a schema of their own"
    )]
    Foreign {
        /// The address without credentials.
        address: String,
        /// The tables that are not there.
        missing: String,
    },
    /// Another schema.
    #[error(
        "{address} has version {found} of Web3Signer's schema, and only version {SCHEMA_VERSION} can be read; \
         bring it there with Web3Signer's migrations, or take the way by a file: `web3signer eth2 export`, then \
         `holdfast slashing import --from FILE`"
    )]
    Version {
        /// The address without credentials.
        address: String,
        /// The version found; 0 if the table of versions is empty.
        found: i32,
    },
    /// For another chain.
    #[error(
        "{address} is for the chain with genesis validators root {found}, but this signer is set up for {expected}; \
         choose the database or the network to match"
    )]
    OtherChain {
        /// The address without credentials.
        address: String,
        /// The root in the database.
        found: GenesisValidatorsRoot,
        /// The root of this signer.
        expected: GenesisValidatorsRoot,
    },
    /// Histories without a chain.
    #[error(
        "{address} holds histories but does not say of which chain (the table metadata is empty); find out, and \
         take the way by a file: `web3signer eth2 export`"
    )]
    NoChain {
        /// The address without credentials.
        address: String,
    },
    /// The role may not read.
    #[error(
        "the role may not {} in {address}; let it: GRANT SELECT ON ALL TABLES IN SCHEMA public TO role", need.words()
    )]
    Denied {
        /// The address without credentials.
        address: String,
        /// What was being read.
        need: Need,
        /// What the server says.
        #[source]
        source: BoxError,
    },
    /// A statement failed.
    #[error("cannot {} in {address}", need.words())]
    Database {
        /// The address without credentials.
        address: String,
        /// What was being read.
        need: Need,
        /// What the server or the driver says.
        #[source]
        source: BoxError,
    },
    /// The table metadata cannot be understood.
    #[error("the table metadata of {address} is damaged: {fault}; restore the database from a backup")]
    Metadata {
        /// The address without credentials.
        address: String,
        /// What is wrong.
        fault: Fault,
    },
    /// One validator cannot be understood.
    #[error(
        "the validator with id {row} in {address} cannot be read: {fault}; mend it there, or leave out such validators \
         with --allow-partial, which leaves them without this protection"
    )]
    Validator {
        /// The address without credentials.
        address: String,
        /// The number of its row in the table validators.
        row: i64,
        /// What is wrong.
        fault: Fault,
    },
    /// More than there can be.
    #[error("{address} lists more than {MAX_VALIDATORS} validators; check that it is the right database")]
    TooManyValidators {
        /// The address without credentials.
        address: String,
    },
}

impl ReadError {
    /// A failed statement: the server's refusal, or a connection that broke.
    pub(super) fn of(need: Need, address: &str, source: sqlx::Error) -> Self {
        let address = address.to_owned();
        let code = source.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
        match (code.as_deref(), &source) {
            (Some("42501"), _) => Self::Denied { address, need, source: Box::new(source) },
            // 57P: the server is being stopped, or the session was ended.
            (Some(code), _) if code.starts_with("57P") || code.starts_with("08") => {
                Self::Unreachable { address, source: Box::new(source) }
            }
            (None, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_)) => {
                Self::Unreachable { address, source: Box::new(source) }
            }
            (Some(_) | None, _) => Self::Database { address, need, source: Box::new(source) },
        }
    }
}
