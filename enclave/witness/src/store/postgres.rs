//! A witness's memory in a PostgreSQL database.
//!
//! Guarantees: the server is examined as for slashing protection, so a commit it acknowledges is durable; versions are a
//! primary key, so one of two writers wins; a trigger refuses any change of what was written.

use std::time::Duration;

use holdfast_slashing_db::{PostgresOptions, connect_examined};
use sqlx::postgres::PgConnection;
use sqlx::{Row as _, raw_sql};
use tokio::sync::Mutex;

use super::{Appended, Store, Versioned, group, number, versioned};
use crate::error::StoreError;
use crate::message::Group;

/// Any other query than the ones the server bounds.
const LIMIT: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(hashtext('holdfast_witness'));
    CREATE SCHEMA IF NOT EXISTS holdfast_witness;
    CREATE TABLE IF NOT EXISTS holdfast_witness.record (
        grp TEXT NOT NULL, version BIGINT NOT NULL CHECK (version > 0), content BYTEA NOT NULL,
        PRIMARY KEY (grp, version)
    );
    CREATE OR REPLACE FUNCTION holdfast_witness.stays() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'nothing is ever changed or deleted'; END $$;
    DROP TRIGGER IF EXISTS record_stays ON holdfast_witness.record;
    CREATE TRIGGER record_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON holdfast_witness.record
        FOR EACH STATEMENT EXECUTE FUNCTION holdfast_witness.stays();
    COMMIT;";

/// The database. A lost connection is made anew with the next query.
pub struct PostgresStore {
    options: PostgresOptions,
    db: Mutex<Option<PgConnection>>,
}

impl PostgresStore {
    /// Connects, and makes the schema if it is not there.
    ///
    /// # Errors
    /// [`StoreError`] if the server cannot be reached, would lose what it acknowledges, or refuses.
    pub async fn open(options: PostgresOptions) -> Result<Self, StoreError> {
        let mut db = connect_examined(&options).await.map_err(StoreError::database("use the database"))?;
        raw_sql(SCHEMA).execute(&mut db).await.map_err(StoreError::database("make the schema holdfast_witness"))?;
        Ok(Self { options, db: Mutex::new(Some(db)) })
    }

    /// Runs a query on the connection; after an error it is made anew.
    async fn with<R>(
        &self,
        action: &'static str,
        run: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<R>,
    ) -> Result<R, StoreError> {
        let mut place = self.db.lock().await;
        let mut db = match place.take() {
            Some(db) => db,
            None => connect_examined(&self.options).await.map_err(StoreError::database("use the database"))?,
        };
        let done = tokio::time::timeout(LIMIT, run(&mut db)).await;
        let result = done.map_err(StoreError::database(action))?.map_err(StoreError::database(action))?;
        *place = Some(db);
        Ok(result)
    }
}

impl Store for PostgresStore {
    async fn latest(&self, name: &Group) -> Result<Versioned, StoreError> {
        let sql = "SELECT version, content FROM holdfast_witness.record WHERE grp = $1 ORDER BY version DESC LIMIT 1";
        let row = self
            .with("read a record", async |db| sqlx::query(sql).bind(name.as_str()).fetch_optional(db).await)
            .await?;
        let Some(row) = row else { return Ok(Versioned::default()) };
        let read = StoreError::database("read a record");
        let version = row.try_get::<i64, _>(0).and_then(|version| Ok((version, row.try_get::<Vec<u8>, _>(1)?)));
        let (version, content) = version.map_err(read)?;
        versioned(version, &content)
    }

    async fn append(&self, name: &Group, next: &Versioned) -> Result<Appended, StoreError> {
        let (version, content) = (number(next.version)?, next.record.encode());
        // One statement is one transaction. No gaps: the version before has to be there.
        let sql = "INSERT INTO holdfast_witness.record (grp, version, content)
                   SELECT $1, $2, $3 WHERE $2 = 1 OR EXISTS (
                       SELECT 1 FROM holdfast_witness.record WHERE grp = $1 AND version = $2 - 1)
                   ON CONFLICT DO NOTHING";
        let added = self
            .with("write a record", async |db| {
                sqlx::query(sql).bind(name.as_str()).bind(version).bind(content).execute(db).await
            })
            .await?;
        Ok(if added.rows_affected() == 1 { Appended::Yes } else { Appended::TooLate })
    }

    async fn groups(&self) -> Result<Vec<Group>, StoreError> {
        let sql = "SELECT DISTINCT grp FROM holdfast_witness.record ORDER BY grp";
        let rows = self.with("list groups", async |db| sqlx::query(sql).fetch_all(db).await).await?;
        rows.iter()
            .map(|row| group(&row.try_get::<String, _>(0).map_err(StoreError::database("list groups"))?))
            .collect()
    }
}
