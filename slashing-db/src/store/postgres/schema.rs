//! Migrations, which run by themselves under a lock, so that of several signers started together one migrates
//! and the others wait.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row, raw_sql};

/// Migrations in order; the position is the version minus one. Never change one that was released, and only
/// ever add: the program before must go on working.
const MIGRATIONS: [&str; 7] = [
    include_str!("../../../migrations/postgres/0001_initial.sql"),
    include_str!("../../../migrations/postgres/0002_key_changes.sql"),
    include_str!("../../../migrations/postgres/0003_journal_base.sql"),
    include_str!("../../../migrations/postgres/0004_newly_enabled.sql"),
    include_str!("../../../migrations/postgres/0005_approvals.sql"),
    include_str!("../../../migrations/postgres/0006_labels.sql"),
    include_str!("../../../migrations/postgres/0007_suspicion.sql"),
];

/// Number of the advisory lock: "Hold" in ASCII.
const LOCK: i64 = 0x486f_6c64;

/// The schema as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersion {
    /// Version in the database; 0 if there is none yet.
    pub found: u32,
    /// The oldest program, by the schema version it knows, that works with it.
    pub oldest_program: u32,
    /// Newest version known here.
    pub supported: u32,
}

impl SchemaVersion {
    /// Whether this program must not touch the database.
    pub fn too_new(&self) -> bool {
        self.oldest_program > self.supported
    }

    /// Versions that a start would bring in.
    pub fn pending(&self) -> impl Iterator<Item = u32> {
        self.found.saturating_add(1)..=self.supported
    }
}

pub(super) async fn version(db: &mut PgConnection) -> sqlx::Result<SchemaVersion> {
    let supported = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    // Asked of the catalogue's tables: what a lookup by name remembers may be older than the lock.
    let present = "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'holdfast' AND c.relname = 'schema_version')";
    let present = sqlx::query(present).fetch_one(&mut *db).await?;
    if !present.try_get::<bool, _>(0)? {
        return Ok(SchemaVersion { found: 0, oldest_program: 0, supported });
    }
    let newest = "SELECT version, oldest_program FROM holdfast.schema_version ORDER BY version DESC LIMIT 1";
    let row = sqlx::query(newest).fetch_one(db).await?;
    let number = |column: usize| {
        let number: i32 = row.try_get(column)?;
        u32::try_from(number).map_err(|error| sqlx::Error::Decode(Box::new(error)))
    };
    Ok(SchemaVersion { found: number(0)?, oldest_program: number(1)?, supported })
}

/// The first few tables of other programs, if this program never used the database.
pub(super) async fn strangers(db: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND NOT starts_with(n.nspname, 'pg_') \
         AND NOT EXISTS (SELECT 1 FROM pg_depend d \
         WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
         AND NOT EXISTS (SELECT 1 FROM pg_class o JOIN pg_namespace s ON s.oid = o.relnamespace \
         WHERE s.nspname = 'holdfast' AND o.relname = 'schema_version') ORDER BY 1 LIMIT 3";
    sqlx::query(sql).fetch_all(db).await?.iter().map(|row| row.try_get(0)).collect()
}

/// Brings the schema up to date unless it is too new. Returns what was found before.
pub(super) async fn migrate(db: &mut PgConnection) -> sqlx::Result<SchemaVersion> {
    let before = version(db).await?;
    if before.pending().next().is_none() || before.too_new() {
        return Ok(before);
    }
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock({LOCK})"
    );
    raw_sql(AssertSqlSafe(begin)).execute(&mut *db).await?;
    // Again, as another signer may have been faster.
    let found = version(db).await?;
    for number in found.pending() {
        let Some(migration) = usize::try_from(number).ok().and_then(|n| MIGRATIONS.get(n.checked_sub(1)?)) else {
            continue;
        };
        raw_sql(*migration).execute(&mut *db).await?;
        tracing::info!(version = number, "the database schema was brought up to date");
    }
    raw_sql("COMMIT").execute(db).await?;
    Ok(found)
}
