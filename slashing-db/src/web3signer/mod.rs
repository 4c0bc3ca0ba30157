//! Web3Signer's slashing protection database (schema version 12, on PostgreSQL) as a source of histories.
//!
//! Why: whoever moves from Web3Signer has years of signed blocks and votes there. Reading them where they lie
//! leaves out a file that may be old, incomplete or of another database, and brings along what EIP-3076 has no
//! words for: which keys are switched off.
//!
//! # What is guaranteed
//!
//! - **Nothing is written.** One transaction, read only and of one snapshot; a role that may only `SELECT` is
//!   enough.
//! - **Nothing is lost.** For each validator the highest slot, source and target, each over its low watermark and
//!   every row, as [`crate::interchange`] reduces a file. A high watermark counts as signed up to the number
//!   before it, for every validator: Web3Signer may sign anything below, so nothing below is signed here.
//! - **The right database.** Its schema version must be 12 and its chain the expected one. A standby is refused,
//!   because it may lack what was signed last.
//! - **All or nothing**, unless asked otherwise: one row that cannot be read fails the whole.
//!
//! # What is not covered
//!
//! A Web3Signer that goes on signing after the snapshot. [`Source::connections`], asked before, names who else is
//! connected.

mod error;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_domain::{Epoch, GenesisValidatorsRoot, Slot};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _, raw_sql};

use crate::PostgresOptions;
use crate::interchange::{Interchange, MAX_VALIDATORS, ValidatorFloor};

pub use error::{Fault, Need, ReadError};

/// The only schema version read.
pub const SCHEMA_VERSION: i32 = 12;

/// The tables that version has, as far as they are read.
const TABLES: [&str; 6] =
    ["database_version", "metadata", "validators", "low_watermarks", "signed_blocks", "signed_attestations"];

/// The longest wait for one answer: the first part of the histories needs all of the rows read.
const ANSWER_LIMIT: Duration = Duration::from_mins(15);

/// What a database may be taken for if some of its validators cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Nothing: one bad validator fails the whole.
    All,
    /// Those that can be read; the others are listed.
    Readable,
}

/// The marks at and above which Web3Signer signs nothing. Set by its operator, for all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HighWatermark {
    /// For blocks.
    pub slot: Option<Slot>,
    /// For both epochs of attestations.
    pub epoch: Option<Epoch>,
}

impl HighWatermark {
    /// What may have been signed below it.
    fn floor(self) -> ValidatorFloor {
        let mut floor = ValidatorFloor::default();
        if let Some(slot) = self.slot.and_then(|slot| slot.0.checked_sub(1)) {
            floor.add_block(Slot(slot));
        }
        if let Some(epoch) = self.epoch.and_then(|epoch| epoch.0.checked_sub(1)) {
            floor.add_attestation(Epoch(epoch), Epoch(epoch));
        }
        floor
    }
}

/// Others connected to the database when it was read, of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connections {
    /// How many.
    pub count: u64,
    /// The role.
    pub role: String,
    /// The name the program gives itself; often empty.
    pub program: String,
    /// The address they come from; empty for a local socket, or if the role may not see it.
    pub from: String,
}

impl Connections {
    /// Whether this looks like Web3Signer: it connects through JDBC, whose driver names itself.
    pub fn look_like_web3signer(&self) -> bool {
        let name = self.program.to_ascii_lowercase();
        name.contains("jdbc") || name.contains("web3signer")
    }
}

/// What the database says.
#[derive(Debug)]
pub struct Contents {
    /// The histories, and which keys are switched off.
    pub interchange: Interchange,
    /// How many keys are switched off.
    pub switched_off: usize,
    /// Validators that could not be read, by the number of their row, and why.
    pub left_out: Vec<(i64, Fault)>,
    /// Its high watermark, if one is set.
    pub high_watermark: Option<HighWatermark>,
}

/// A connection to a database of Web3Signer. Needs a Tokio runtime with time and I/O.
pub struct Source {
    db: PgConnection,
    address: String,
}

impl Source {
    /// Connects. Of the options, address, password and connect time-out count.
    ///
    /// # Errors
    /// [`ReadError::Address`], [`ReadError::Unreachable`].
    pub async fn connect(options: &PostgresOptions) -> Result<Self, ReadError> {
        let parsed = options.checked().map_err(|problem| ReadError::Address { problem })?;
        let parsed = parsed.application_name(PROGRAM).disable_statement_logging();
        let address = options.address();
        let connected = tokio::time::timeout(options.connect_timeout, parsed.connect()).await;
        match connected {
            Ok(Ok(db)) => Ok(Self { db, address }),
            Ok(Err(error)) => Err(ReadError::Unreachable { address, source: Box::new(error) }),
            Err(_) => {
                let waited = format!("no answer within {} ms", options.connect_timeout.as_millis());
                Err(ReadError::Unreachable { address, source: waited.into() })
            }
        }
    }

    /// Runs a statement to its end.
    async fn ask(&mut self, need: Need, sql: &str) -> Result<Vec<sqlx::postgres::PgRow>, ReadError> {
        let answer = raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.db);
        match tokio::time::timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(ReadError::of(need, &self.address, error)),
            Err(_) => {
                let waited = format!("no answer within {} s", ANSWER_LIMIT.as_secs());
                Err(ReadError::Unreachable { address: self.address.clone(), source: waited.into() })
            }
        }
    }

    /// Who else is connected to this database; signers of this program are not counted.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn connections(&mut self) -> Result<Vec<Connections>, ReadError> {
        let rows = self.ask(Need::Connections, CONNECTIONS).await?;
        rows.iter()
            .map(|row| {
                let text = |column: usize| row.try_get::<String, _>(column);
                let count = u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
                Ok(Connections { count, role: text(1)?, program: text(2)?, from: text(3)? })
            })
            .collect::<sqlx::Result<_>>()
            .map_err(|error| ReadError::of(Need::Connections, &self.address, error))
    }

    /// Where it is, without credentials.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Reads everything from one snapshot, for the chain `expected`. Holds one floor for each validator, and never
    /// more than a few thousand rows.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was changed anywhere.
    pub async fn read(&mut self, expected: GenesisValidatorsRoot, demand: Demand) -> Result<Contents, ReadError> {
        let millis = ANSWER_LIMIT.as_millis();
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {millis}; \
             SET LOCAL standard_conforming_strings = on; SET LOCAL bytea_output = hex; \
             SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL cursor_tuple_fraction = 1"
        );
        self.ask(Need::Begin, &begin).await?;
        self.examine().await?;
        let (chain, high_watermark) = self.metadata().await?;
        if let Some(found) = chain
            && found != expected
        {
            return Err(ReadError::OtherChain { address: self.address.clone(), found, expected });
        }
        let below_high = high_watermark.map(HighWatermark::floor).unwrap_or_default();
        let (mut validators, mut off, mut left_out) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        self.ask(Need::Histories, rows::DECLARE).await?;
        loop {
            let part = self.ask(Need::Histories, rows::FETCH).await?;
            if part.is_empty() {
                break;
            }
            for row in &part {
                let stored = rows::stored(row).map_err(|error| ReadError::of(Need::Histories, &self.address, error))?;
                match stored.history() {
                    Err(fault) if demand == Demand::Readable => left_out.push((stored.id, fault)),
                    Err(fault) => {
                        return Err(ReadError::Validator { address: self.address.clone(), row: stored.id, fault });
                    }
                    Ok((key, mut history)) => {
                        if chain.is_none() && history.floor != ValidatorFloor::default() {
                            return Err(ReadError::NoChain { address: self.address.clone() });
                        }
                        history.floor.merge(&below_high);
                        if !stored.enabled {
                            off.insert(key);
                        }
                        validators.insert(key, history);
                    }
                }
            }
            if validators.len() > MAX_VALIDATORS {
                return Err(ReadError::TooManyValidators { address: self.address.clone() });
            }
        }
        self.ask(Need::Histories, "COMMIT").await?;
        let switched_off = off.len();
        let interchange = Interchange::new(expected, validators).with_switched_off(off);
        Ok(Contents { interchange, switched_off, left_out, high_watermark })
    }

    /// Refuses what is not the primary of a database of Web3Signer of the one version.
    async fn examine(&mut self) -> Result<(), ReadError> {
        let names = TABLES.map(|table| format!("to_regclass('{table}') IS NOT NULL")).join(", ");
        let found = self.ask(Need::Schema, &format!("SELECT pg_is_in_recovery(), {names}")).await?;
        let broken = |error| ReadError::of(Need::Schema, &self.address, error);
        let row = found.first().ok_or_else(|| broken(sqlx::Error::RowNotFound))?;
        if row.try_get::<bool, _>(0).map_err(broken)? {
            return Err(ReadError::Standby { address: self.address.clone() });
        }
        let mut missing = Vec::new();
        for (table, column) in TABLES.into_iter().zip(1usize..) {
            if !row.try_get::<bool, _>(column).map_err(broken)? {
                missing.push(table);
            }
        }
        // Without the first of them nothing says which version the others should be of.
        if !missing.is_empty() && (missing.contains(&TABLES[0]) || self.version().await? == Some(SCHEMA_VERSION)) {
            return Err(ReadError::Foreign { address: self.address.clone(), missing: missing.join(", ") });
        }
        match self.version().await? {
            Some(SCHEMA_VERSION) => Ok(()),
            found => Err(ReadError::Version { address: self.address.clone(), found: found.unwrap_or(0) }),
        }
    }

    async fn version(&mut self) -> Result<Option<i32>, ReadError> {
        let rows = self.ask(Need::Schema, "SELECT version FROM database_version WHERE id = 1").await?;
        let version = rows.first().map(|row| row.try_get(0)).transpose();
        version.map_err(|error| ReadError::of(Need::Schema, &self.address, error))
    }

    async fn metadata(&mut self) -> Result<(Option<GenesisValidatorsRoot>, Option<HighWatermark>), ReadError> {
        let sql = "SELECT genesis_validators_root, high_watermark_slot::text, high_watermark_epoch::text \
             FROM metadata WHERE id = 1";
        let rows = self.ask(Need::Metadata, sql).await?;
        let Some(row) = rows.first() else { return Ok((None, None)) };
        let broken = |error| ReadError::of(Need::Metadata, &self.address, error);
        let bytes: Vec<u8> = row.try_get(0).map_err(broken)?;
        let wrong = |fault| ReadError::Metadata { address: self.address.clone(), fault };
        let root = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| wrong(Fault::Length { expected: 32 }))?;
        let number = |column: usize, name| -> Result<Option<u64>, ReadError> {
            let text: Option<String> = row.try_get(column).map_err(broken)?;
            text.map(|text| rows::number(name, &text)).transpose().map_err(wrong)
        };
        let slot = number(1, "high_watermark_slot")?.map(Slot);
        let epoch = number(2, "high_watermark_epoch")?.map(Epoch);
        let high = (slot.is_some() || epoch.is_some()).then_some(HighWatermark { slot, epoch });
        Ok((Some(GenesisValidatorsRoot(root)), high))
    }
}

/// How this program names itself to the server.
const PROGRAM: &str = "holdfast";

/// Client connections of others to this database. Columns a role may not see are null.
const CONNECTIONS: &str = "SELECT count(*), coalesce(usename, '')::text, coalesce(application_name, '')::text, \
     coalesce(host(client_addr), '') FROM pg_stat_activity \
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL \
     AND coalesce(backend_type, 'client backend') = 'client backend' AND NOT starts_with(coalesce(application_name, ''), 'holdfast') \
     GROUP BY 2, 3, 4 ORDER BY 2, 3, 4";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_a_high_watermark_everything_counts_as_signed_and_at_zero_nothing() {
        let floor = HighWatermark { slot: Some(Slot(100)), epoch: Some(Epoch(7)) }.floor();
        let epochs = floor.attestation.map(|own| (own.source, own.target));
        assert_eq!((floor.block, epochs), (Some(Slot(99)), Some((Epoch(6), Epoch(6)))));
        assert_eq!(HighWatermark { slot: Some(Slot(0)), epoch: None }.floor(), ValidatorFloor::default());
        assert_eq!(HighWatermark { slot: None, epoch: Some(Epoch(0)) }.floor(), ValidatorFloor::default());
    }

    #[test]
    fn web3signer_is_known_by_its_driver() {
        let named = |program: &str| Connections {
            count: 1,
            role: "signer".to_owned(),
            program: program.to_owned(),
            from: String::new(),
        };
        assert!(named("PostgreSQL JDBC Driver").look_like_web3signer());
        assert!(named("web3signer-1").look_like_web3signer());
        assert!(!named("psql").look_like_web3signer() && !named("").look_like_web3signer());
    }
}
