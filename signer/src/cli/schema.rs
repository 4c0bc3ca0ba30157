//! `holdfast slashing migrate`: the schema of the database, ahead of a start.

use std::sync::Arc;

use holdfast_slashing_db::{OpenError, SlashingDb, StoreOptions};
use serde_json::json;

use super::args::MigrateArgs;
use super::{Context, Exit, Failure};
use crate::clock::SystemClock;
use crate::config::Database;
use crate::custody::{self, CustodyError};

/// Brings the schema up to date, or says what that would change.
pub(super) async fn migrate(args: &MigrateArgs, context: &Context) -> Result<Exit, Failure> {
    let pending = pending(context)?;
    let list = pending.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    if pending.is_empty() {
        context
            .output
            .result("the schema is up to date".to_owned(), &json!({ "pending": pending, "applied": false }))?;
        return Ok(Exit::Done);
    }
    if !args.dry_run {
        make_schema(context)?;
        let custody = custody::open_sealed(&context.config, Arc::new(SystemClock)).await?;
        custody.guard.shutdown().await;
    }
    let text = if args.dry_run { "would apply" } else { "applied" };
    context
        .output
        .result(format!("{text} schema version {list}"), &json!({ "pending": pending, "applied": !args.dry_run }))?;
    Ok(Exit::Done)
}

/// Makes the schema on a server, also beside other programs' tables: whoever asks for it by name means it.
#[cfg_attr(
    not(feature = "store-postgres"),
    expect(unused_variables, reason = "only for PostgreSQL is anything configured")
)]
fn make_schema(context: &Context) -> Result<(), CustodyError> {
    #[cfg(feature = "store-postgres")]
    if let Database::Postgres(url) = context.config.database()? {
        SlashingDb::migrate_postgres(&custody::postgres_options(&url, &context.config)?)?;
    }
    Ok(())
}

/// Versions that are missing. Looks only, also beside a running signer; an SQLite file that is not there is made whole.
fn pending(context: &Context) -> Result<Vec<u32>, CustodyError> {
    match context.config.database()? {
        Database::Sqlite(path) if !path.exists() => Ok(vec![1]),
        Database::Sqlite(path) => {
            let seen = SlashingDb::overview(&StoreOptions { path: path.clone() })?;
            if seen.schema > seen.schema_known {
                let (found, supported) = (seen.schema, seen.schema_known);
                return Err(OpenError::NewerSchema { path, found, supported }.into());
            }
            Ok((seen.schema.saturating_add(1)..=seen.schema_known).collect())
        }
        #[cfg(feature = "store-postgres")]
        Database::Postgres(url) => {
            let options = custody::postgres_options(&url, &context.config)?;
            let schema = SlashingDb::examine_postgres(&options)?;
            Ok(schema.pending().collect())
        }
        #[cfg(not(feature = "store-postgres"))]
        Database::Postgres(url) => Err(CustodyError::NothingHere { path: url.to_string().into() }),
    }
}
