//! The record of an export in the journal itself: who took out what.
//!
//! It is made before the export is written. Whoever may read the database's files can copy them without this command,
//! so it is a record and no barrier: where it cannot be made the export goes on, and says so. A running server records
//! the exports that go through it.

use std::sync::Arc;

use holdfast_audit::export::exported_event;
use holdfast_domain::Clock as _;
use holdfast_slashing_db::journal::InstanceId;
use holdfast_wire::admin::v1::AuditFormat;

use super::super::args::AuditSelection;
use super::super::keys::operator;
use super::super::{Context, Exit, Failure};
use crate::admin::audit_selection;
use crate::clock::SystemClock;
use crate::custody::{self, CustodyError};
use crate::journals::Journal;

/// Records that a journal is about to be exported up to its end, if nobody else has the database. Says why it is not
/// recorded; nothing if it is.
pub(super) async fn export(
    named: Option<String>,
    format: AuditFormat,
    selection: &AuditSelection,
    context: &Context,
) -> String {
    match recorded(named, format, selection, context).await {
        Ok(()) => String::new(),
        Err(failure) => failure.text(),
    }
}

async fn recorded(
    named: Option<String>,
    format: AuditFormat,
    selection: &AuditSelection,
    context: &Context,
) -> Result<(), Failure> {
    let form = match format {
        AuditFormat::Jsonl => "jsonl",
        AuditFormat::Csv => "csv",
        AuditFormat::Cef => "cef",
        AuditFormat::Ocsf => "ocsf",
    };
    let filter = audit_selection(super::filter(selection)).map_err(super::failure)?;
    let named = named.and_then(|text| holdfast_domain::root::parse_hex(&text)).map(InstanceId);
    let config = context.config.clone();
    let looking = tokio::task::spawn_blocking(move || {
        Journal::open(&config, named)
            .map(|journal| (journal.instance, (journal.reader.head().seq.saturating_add(1), journal.last)))
    });
    let looked = looking.await.map_err(|error| Failure::new(Exit::Bug, error))?;
    let (instance, range) = looked.map_err(|error| Failure::new(Exit::Refused, error))?;
    let event = exported_event(SystemClock.now(), &operator(), range, form, &filter);
    let custody = match custody::open_sealed(&context.config, Arc::new(SystemClock)).await {
        Ok(custody) => custody,
        Err(CustodyError::InUse { .. }) => {
            return Err(Failure::message(Exit::Refused, "another process has the database to itself"));
        }
        Err(error) => return Err(error.into()),
    };
    // What is exported must be of the signer that records it.
    let recorded = if custody.instance == instance {
        custody.guard.record(event).await.map(|_| ()).map_err(|error| Failure::new(Exit::Refused, error))
    } else {
        Err(Failure::message(Exit::Refused, "it is the journal of another signer"))
    };
    custody.guard.shutdown().await;
    recorded
}
