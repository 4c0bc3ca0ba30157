//! The record of an export in the journal itself: who took out what.
//!
//! It is made before the export is written. Whoever may read the database's files can copy them without this command,
//! so it is a record and no barrier: where it cannot be made the export goes on, and says so. A running server has the
//! database to itself; exports through its admin interface are recorded by it.

use std::sync::Arc;

use holdfast_audit::Filter;
use holdfast_audit::export::exported_event;
use holdfast_domain::Clock as _;

use super::super::args::AuditFormat;
use super::super::keys::operator;
use super::super::{Context, Exit, Failure, block_on};
use super::read::Journal;
use crate::clock::SystemClock;
use crate::custody::{self, CustodyError};

/// Records that these batches are about to be exported, if nobody else has the database. Whether it is recorded.
pub(super) fn export(journal: &Journal, form: AuditFormat, filter: &Filter, context: &Context) -> bool {
    let form = match form {
        AuditFormat::Jsonl => "jsonl",
        AuditFormat::Csv => "csv",
        AuditFormat::Cef => "cef",
        AuditFormat::Ocsf => "ocsf",
    };
    let range = (journal.reader.head().seq.saturating_add(1), journal.last);
    let event = exported_event(SystemClock.now(), &operator(), range, form, filter);
    let recorded = block_on(async {
        let custody = match custody::open_sealed(&context.config, Arc::new(SystemClock)).await {
            Ok(custody) => custody,
            Err(CustodyError::InUse { .. }) => {
                return Err(Failure::message(Exit::Refused, "the server has the database to itself"));
            }
            Err(error) => return Err(error.into()),
        };
        // What is exported must be of the signer that records it.
        let recorded = if custody.instance == journal.instance {
            custody.guard.record(event).await.map(|_| ()).map_err(|error| Failure::new(Exit::Refused, error))
        } else {
            Err(Failure::message(Exit::Refused, "it is the journal of another signer"))
        };
        custody.guard.shutdown().await;
        recorded
    });
    if let Err(failure) = &recorded {
        context.output.note(format!("This export is not recorded in the journal: {}", failure.text()));
    }
    recorded.is_ok()
}
