//! One connection, made so that a commit means what the guard needs it to mean: settings are made and read
//! back, and a server that would acknowledge what it may lose is refused with the command that mends it.

use core::fmt;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_secret::{SecretText, SecretUrl};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, raw_sql};

use super::address;
use super::server::{MARK, Mark};
use crate::error::OpenError;
use crate::journal::InstanceId;

/// Oldest server that can be used, as in `server_version_num`.
const OLDEST_SERVER: i32 = 140_000;

/// Time-outs for [`PostgresOptions`] that suit a database in the same region.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
/// How much longer than the server's own time-out the client waits, so that the server's answer comes first.
const CLIENT_GRACE: Duration = Duration::from_millis(500);

/// Reads the database's password once more, as it may have been changed while a signer runs. Prints nothing of it.
#[derive(Clone)]
pub struct PasswordSource(Arc<ReadPassword>);

type ReadPassword = dyn Fn() -> Result<SecretText, Box<dyn Error + Send + Sync>> + Send + Sync;

impl PasswordSource {
    /// It is read by this, for each connection; that must not take long.
    pub fn new<F>(read: F) -> Self
    where
        F: Fn() -> Result<SecretText, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    {
        Self(Arc::new(read))
    }
}

/// Which PostgreSQL database to use, and how long to wait for it. Prints without secrets.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user@host:port/database?sslmode=…&sslrootcert=…`.
    pub url: SecretUrl,
    /// The password, if it is not in the URL.
    pub password: Option<SecretText>,
    /// Where the password is read again for each connection. While that fails, [`Self::password`] is tried, that of the start.
    pub password_again: Option<PasswordSource>,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest wait for an answer, and for a lock.
    pub statement_timeout: Duration,
    /// The anchor of this data directory: tells which instance this is. Without it the instance is new each time.
    pub anchor: Option<PathBuf>,
    /// The name of this machine, for listings.
    pub host: String,
}

impl PostgresOptions {
    /// Options with the defaults.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretUrl::new(url),
            password: None,
            password_again: None,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            statement_timeout: DEFAULT_STATEMENT_TIMEOUT,
            anchor: None,
            host: String::new(),
        }
    }

    /// The address without credentials and parameters.
    pub fn address(&self) -> String {
        let parsed: sqlx::Result<PgConnectOptions> = self.url.expose().parse();
        parsed.map_or_else(|_| "postgres://…".to_owned(), |parsed| address::plain(&parsed))
    }
}

impl PostgresOptions {
    /// Address and password, checked; or what is wrong with the address, without it.
    pub(crate) fn checked(&self) -> Result<PgConnectOptions, String> {
        let parsed = address::read(self.url.expose())?;
        Ok(match &self.password {
            Some(password) => parsed.password(password.expose()),
            None => parsed,
        })
    }
}

/// A connection with settings made and the server examined as for slashing protection, for another program's tables.
///
/// # Errors
/// [`OpenError`] if the address is wrong, the server cannot be reached, or would lose what it acknowledges.
pub async fn connect_examined(options: &PostgresOptions) -> Result<PgConnection, OpenError> {
    Ok(Dial::new(options)?.connect().await?.db)
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// The name of connections; those of an instance have its id behind it.
const PROGRAM: &str = "holdfast";

/// The name of an instance's connections in SQL, given its id in lower-case hexadecimal in SQL.
pub(super) fn application_name(id: &str) -> String {
    format!("'{PROGRAM} ' || {id}")
}

/// Begins a transaction whose commit is waited for whatever the session says: behind a pooler in transaction mode that may be
/// another than the one whose settings were made and read back.
pub(super) const BEGIN: &str = "BEGIN; SET LOCAL synchronous_commit = on";

/// How to connect, checked once.
#[derive(Clone)]
pub(super) struct Dial {
    options: PgConnectOptions,
    password_again: Option<PasswordSource>,
    /// For messages.
    pub(super) address: String,
    /// Whether somebody on the way could answer in the server's place, or listen.
    pub(super) exposed: bool,
    pub(super) connect_timeout: Duration,
    pub(super) statement_timeout: Duration,
}

/// What was learnt about the server when the connection was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Names of synchronous standbys; empty without.
    pub(super) standbys: String,
    pub(super) mark: Mark,
}

/// An open connection and what is known about its server.
pub(super) struct Session {
    pub(super) db: PgConnection,
    pub(super) facts: Facts,
}

impl Dial {
    pub(super) fn new(options: &PostgresOptions) -> Result<Self, OpenError> {
        let parsed = options.checked().map_err(|problem| OpenError::Address { problem })?;
        Ok(Self {
            address: address::plain(&parsed),
            exposed: address::is_exposed(&parsed),
            options: parsed.application_name(PROGRAM).disable_statement_logging(),
            password_again: options.password_again.clone(),
            connect_timeout: options.connect_timeout,
            statement_timeout: options.statement_timeout,
        })
    }

    /// The same for an instance, whose connections bear its id: then everybody can see which instances are connected.
    pub(super) fn named(mut self, instance: InstanceId) -> Self {
        self.options = self.options.application_name(&format!("{PROGRAM} {instance}"));
        self
    }

    /// The same, for work that reads or writes many rows.
    pub(super) fn patient(&self, statement_timeout: Duration) -> Self {
        Self { statement_timeout: self.statement_timeout.max(statement_timeout), ..self.clone() }
    }

    /// How long to wait for an answer.
    pub(super) fn deadline(&self) -> Duration {
        self.statement_timeout.saturating_add(CLIENT_GRACE)
    }

    /// Connects, sets the session up, and examines the server. Bounded by the connect time-out.
    pub(super) async fn connect(&self) -> Result<Session, OpenError> {
        let connected = async {
            let mut db = self.current().connect().await?;
            raw_sql(AssertSqlSafe(self.settings())).execute(&mut db).await?;
            let row = sqlx::query(AssertSqlSafe(format!("SELECT {FACTS}, {MARK}"))).fetch_one(&mut db).await?;
            Ok::<_, sqlx::Error>((db, row))
        };
        match tokio::time::timeout(self.connect_timeout, connected).await {
            Ok(Ok((db, row))) => Ok(Session { db, facts: self.examine(&row)? }),
            Ok(Err(error)) => Err(self.unreachable(error)),
            Err(_) => Err(OpenError::Unreachable {
                address: self.address.clone(),
                advice: "check that it runs, and that nothing on the way drops connections",
                source: format!("no answer within {} ms", self.connect_timeout.as_millis()).into(),
            }),
        }
    }

    /// How to connect now.
    fn current(&self) -> PgConnectOptions {
        let options = self.options.clone();
        match self.password_again.as_ref().map(|source| (source.0)()) {
            None => options,
            Some(Ok(password)) => options.password(password.expose()),
            Some(Err(error)) => {
                tracing::warn!(%error, "the database's password cannot be read again; trying that of the start");
                options
            }
        }
    }

    fn unreachable(&self, source: sqlx::Error) -> OpenError {
        let advice = address::advice(&source);
        OpenError::Unreachable { address: self.address.clone(), advice, source: Box::new(source) }
    }

    /// A transaction left open by a lost connection must not keep its locks: the server ends it by itself.
    fn settings(&self) -> String {
        let millis = self.statement_timeout.as_millis();
        format!(
            "SET synchronous_commit = on; SET standard_conforming_strings = on; SET bytea_output = hex; \
             SET statement_timeout = {millis}; SET lock_timeout = {millis}; \
             SET idle_in_transaction_session_timeout = {millis}; \
             SET default_transaction_isolation = 'read committed'"
        )
    }

    fn examine(&self, row: &PgRow) -> Result<Facts, OpenError> {
        let broken = |source: sqlx::Error| self.unreachable(source);
        let text = |column: usize| row.try_get::<String, _>(column).map_err(broken);
        let version: i32 = row.try_get(0).map_err(broken)?;
        if version < OLDEST_SERVER {
            return Err(OpenError::ServerTooOld { address: self.address.clone(), found: version / 10_000 });
        }
        if row.try_get::<bool, _>(1).map_err(broken)? || text(2)? == "on" {
            return Err(OpenError::ReadOnlyServer { address: self.address.clone() });
        }
        let settings = [
            (3, "fsync", "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()"),
            (4, "full_page_writes", "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf()"),
            (5, "synchronous_commit", "ALTER ROLE CURRENT_USER SET synchronous_commit = on"),
        ];
        for (column, name, remedy) in settings {
            let found = text(column)?;
            if found != "on" {
                return Err(OpenError::ServerSetting { address: self.address.clone(), name, found, remedy });
            }
        }
        Ok(Facts { standbys: text(6)?, mark: Mark::read(row, 7).map_err(broken)? })
    }
}

/// What is examined, in the order [`Dial::examine`] reads it.
const FACTS: &str = "current_setting('server_version_num')::int, pg_is_in_recovery(), \
     current_setting('transaction_read_only'), current_setting('fsync'), current_setting('full_page_writes'), \
     current_setting('synchronous_commit'), current_setting('synchronous_standby_names')";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_without_secrets() {
        let options = PostgresOptions::new("postgres://signer:hunter2@db.example:5433/holdfast?sslmode=require");
        assert_eq!(options.address(), "postgres://db.example:5433/holdfast");
        assert!(!format!("{options:?}").contains("hunter2"));
        assert!(Dial::new(&PostgresOptions::new("postgres://u:hunter2@h:port/db")).is_err_and(|error| {
            let text = error.to_string();
            !text.contains("hunter2")
        }));
    }
}
