//! This instance among those that share the database: its identity, and the end of its own journal.

use holdfast_domain::{GenesisValidatorsRoot, UnixMillis};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::session::Session;
use super::values;
use crate::error::OpenError;
use crate::journal::{Hash, Head, InstanceId};

/// A new identity.
pub(super) fn draw() -> Result<InstanceId, OpenError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(OpenError::Random)?;
    Ok(InstanceId(bytes))
}

/// The chain the database belongs to, if that is settled.
pub(super) async fn pinned_root(db: &mut PgConnection) -> sqlx::Result<Option<GenesisValidatorsRoot>> {
    let row = sqlx::query("SELECT genesis_validators_root FROM holdfast.meta WHERE id = 1").fetch_one(db).await?;
    let pinned = row.try_get::<Option<Vec<u8>>, _>(0)?;
    pinned.map(|root| root.try_into().map(GenesisValidatorsRoot).map_err(|_| values::unknown())).transpose()
}

/// Notes that this instance is at work; reads the pinned chain and the end of the instance's chain.
pub(super) async fn sign_in(
    session: &mut Session,
    instance: InstanceId,
    host: &str,
) -> sqlx::Result<(Option<GenesisValidatorsRoot>, Head)> {
    let db = &mut session.db;
    let sql = "INSERT INTO holdfast.instances (id, host, version, started_ms, last_seen_ms) \
         SELECT $1, $2, $3, now.ms, now.ms FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) now \
         ON CONFLICT (id) DO UPDATE SET host = EXCLUDED.host, version = EXCLUDED.version, \
         started_ms = EXCLUDED.started_ms, last_seen_ms = EXCLUDED.last_seen_ms";
    let id = instance.0.to_vec();
    sqlx::query(sql).bind(&id).bind(host).bind(env!("CARGO_PKG_VERSION")).execute(&mut *db).await?;
    let pinned = pinned_root(&mut *db).await?;
    let sql = "SELECT seq, hash FROM holdfast.journal WHERE instance = $1 ORDER BY seq DESC LIMIT 1";
    let head = match sqlx::query(sql).bind(id).fetch_optional(db).await? {
        Some(row) => Head { seq: values::natural(&row, 0)?, hash: Hash(values::bytes(&row, 1)?) },
        None => Head::EMPTY,
    };
    Ok((pinned, head))
}

/// Notes since when this instance suspects the database, for the others, unless a fence of every key ended this very
/// suspicion. `false` if this instance has no row.
pub(super) async fn suspect(db: &mut PgConnection, instance: InstanceId, since: UnixMillis) -> sqlx::Result<bool> {
    let sql = "UPDATE holdfast.instances SET suspect_since_ms = \
         CASE WHEN fenced_since_ms = $2 THEN suspect_since_ms ELSE greatest(suspect_since_ms, $2) END WHERE id = $1";
    let query = sqlx::query(sql).bind(instance.0.to_vec()).bind(since.0.cast_signed());
    Ok(query.execute(db).await?.rows_affected() > 0)
}
