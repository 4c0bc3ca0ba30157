//! The data key and what is sealed under it, in PostgreSQL.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _, raw_sql};

use super::change::ENTRY_LOCK;
use super::session::BEGIN;
use crate::guard::{Replaced, Resealed};
use crate::registry::{DataKeyId, DataKeyRecord};

/// See [`Store::replace_data_key`](crate::store::Store::replace_data_key). `millis` bounds each statement.
///
/// No key comes in while this holds the lock under which rows are made, and none is deleted while it holds the table;
/// reading, and signing, which needs neither, go on.
pub(super) async fn replace(
    db: &mut PgConnection,
    old: DataKeyId,
    new: &DataKeyRecord,
    keys: &[Resealed],
    millis: u128,
) -> sqlx::Result<Replaced> {
    let begin = format!(
        "{BEGIN}; SET LOCAL statement_timeout = {millis}; SET LOCAL idle_in_transaction_session_timeout = {millis}; \
         SELECT pg_advisory_xact_lock({ENTRY_LOCK}); LOCK TABLE holdfast.sealed_keys IN SHARE ROW EXCLUSIVE MODE"
    );
    raw_sql(AssertSqlSafe(begin)).execute(&mut *db).await?;
    let replaced = exchange(db, old, new, keys).await?;
    let end = match replaced {
        Replaced::Done => "COMMIT",
        Replaced::Moved => "ROLLBACK",
    };
    raw_sql(end).execute(db).await?;
    Ok(replaced)
}

async fn exchange(
    db: &mut PgConnection,
    old: DataKeyId,
    new: &DataKeyRecord,
    keys: &[Resealed],
) -> sqlx::Result<Replaced> {
    let stored: i64 = sqlx::query("SELECT count(*) FROM holdfast.sealed_keys").fetch_one(&mut *db).await?.try_get(0)?;
    if newest(db).await? != Some(i64::from(old.0)) || usize::try_from(stored).ok() != Some(keys.len()) {
        return Ok(Replaced::Moved);
    }
    let column = |bytes: fn(&Resealed) -> &[u8]| keys.iter().map(|key| bytes(key).to_vec()).collect::<Vec<_>>();
    let sql = "UPDATE holdfast.sealed_keys s SET sealed = u.after \
         FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) AS u (pubkey, before, after) \
         JOIN holdfast.validators v ON v.pubkey = u.pubkey WHERE s.id = v.id AND s.sealed = u.before";
    let exchanged = sqlx::query(sql)
        .bind(column(|key| key.key.as_bytes()))
        .bind(column(|key| key.before.as_bytes()))
        .bind(column(|key| key.after.as_bytes()))
        .execute(&mut *db)
        .await?;
    if usize::try_from(exchanged.rows_affected()).ok() != Some(keys.len()) {
        return Ok(Replaced::Moved);
    }
    sqlx::query("DELETE FROM holdfast.data_keys").execute(&mut *db).await?;
    let sql = "INSERT INTO holdfast.data_keys (id, provider, wrapped, stored_ms) VALUES ($1, $2, $3, $4)";
    let query = sqlx::query(sql).bind(new.id.0.cast_signed()).bind(&new.provider);
    query.bind(&new.wrapped).bind(new.stored.0.cast_signed()).execute(db).await?;
    Ok(Replaced::Done)
}

/// Whether every one of these data keys is the present one. The caller holds the lock under which rows are made.
pub(super) async fn are_present(
    db: &mut PgConnection,
    mut under: impl Iterator<Item = DataKeyId>,
) -> sqlx::Result<bool> {
    let Some(first) = under.next() else { return Ok(true) };
    let newest = newest(db).await?;
    let fits = |id: DataKeyId| newest.is_none_or(|newest| newest == i64::from(id.0));
    Ok(fits(first) && under.all(fits))
}

async fn newest(db: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    sqlx::query("SELECT max(id)::bigint FROM holdfast.data_keys").fetch_one(db).await?.try_get(0)
}
