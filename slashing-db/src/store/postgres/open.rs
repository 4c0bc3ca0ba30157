//! Opening a database: the server is examined before anything is written, the schema is brought up to date, and only
//! then this instance signs in.

use std::sync::Arc;
use std::time::Duration;

use holdfast_domain::GenesisValidatorsRoot;

use super::engine::{Engine, Trouble};
use super::instance::{draw, sign_in};
use super::link::Link;
use super::schema::SchemaVersion;
use super::server::{self, Known};
use super::session::{Dial, PostgresOptions};
use super::{PostgresStore, schema};
use crate::anchor::{self, Landmarks};
use crate::error::OpenError;
use crate::journal::InstanceId;

/// The longest wait for a migration, which may itself wait for another signer's.
const MIGRATION: Duration = Duration::from_mins(10);

impl PostgresStore {
    /// Connects, examines the server, migrates, and signs this instance in.
    pub(crate) fn open(options: &PostgresOptions) -> Result<Self, OpenError> {
        let (known, blind) = match options.anchor.as_deref().map(anchor::instance_of).transpose()?.flatten() {
            Some(anchor::Named::Instance(instance)) => (Some(instance), false),
            Some(anchor::Named::Unreadable) => (None, true),
            None => (None, false),
        };
        let instance = if let Some(instance) = known { instance } else { draw()? };
        let dial = Dial::new(options)?.named(instance);
        let engine = Arc::new(Engine::new()?);
        let mut session = engine.wait(dial.connect())?;
        let failed = |action: &'static str| {
            let path = dial.address.clone().into();
            move |trouble: Trouble| OpenError::Database { action, path, source: trouble.into_source() }
        };
        let tables = engine.within(dial.deadline(), schema::strangers(&mut session.db));
        let tables = tables.map_err(failed("see whether other programs use it"))?;
        if !tables.is_empty() {
            return Err(OpenError::OthersTables { address: dial.address, tables: tables.join(", ") });
        }
        let found = engine.within(MIGRATION, schema::migrate(&mut session.db));
        refuse_newer(found.map_err(failed("bring the schema up to date"))?, &dial)?;
        let signed_in = engine.within(dial.deadline(), sign_in(&mut session, instance, &options.host));
        let (pinned, head) = signed_in.map_err(failed("sign this instance in"))?;
        let sql = server::observe_sql(instance, &Landmarks::default());
        let observed = engine.within(dial.deadline(), server::observe(&mut session.db, instance, &sql));
        let observed = observed.map_err(failed("look at its server"))?;
        let (suspected, known) = (observed.suspected, Known::accept(observed));
        if dial.exposed {
            tracing::warn!(
                address = %dial.address,
                "the database's certificate is not checked, so whoever can redirect the connection can read the password \
                 and forge answers; add sslmode=verify-full&sslrootcert=FILE to database.url"
            );
        }
        if session.facts.standbys.is_empty() {
            tracing::info!(address = %dial.address, "PostgreSQL commits on this server alone; a fail-over may lose commits");
        } else {
            let standbys = &session.facts.standbys;
            tracing::info!(address = %dial.address, %standbys, "PostgreSQL commits on a synchronous standby as well");
        }
        let (link, host) = (Link::new(engine, dial, session), options.host.clone());
        Ok(Self { link, instance, pinned, head, doubt: Vec::new(), host, blind, known, noticed: None, suspected })
    }

    /// Brings the schema up to date, also beside other programs' tables: whoever asks for it by name means it.
    pub(crate) fn migrate(options: &PostgresOptions) -> Result<(), OpenError> {
        let dial = Dial::new(options)?;
        let engine = Engine::new()?;
        let mut session = engine.wait(dial.connect())?;
        let found = engine.within(MIGRATION, schema::migrate(&mut session.db));
        let found = found.map_err(|trouble| OpenError::Database {
            action: "bring the schema up to date",
            path: dial.address.clone().into(),
            source: trouble.into_source(),
        })?;
        refuse_newer(found, &dial)
    }

    /// What a start would do to the schema. Changes nothing.
    pub(crate) fn examine(options: &PostgresOptions) -> Result<SchemaVersion, OpenError> {
        let dial = Dial::new(options)?;
        let engine = Engine::new()?;
        let mut session = engine.wait(dial.connect())?;
        let found = engine.within(dial.deadline(), schema::version(&mut session.db));
        let found = found.map_err(|trouble| OpenError::Database {
            action: "read the schema version",
            path: dial.address.clone().into(),
            source: trouble.into_source(),
        })?;
        refuse_newer(found, &dial)?;
        Ok(found)
    }

    pub(crate) fn address(&self) -> &str {
        &self.link.dial.address
    }

    pub(crate) fn pinned(&self) -> Option<GenesisValidatorsRoot> {
        self.pinned
    }

    pub(crate) fn instance(&self) -> InstanceId {
        self.instance
    }
}

fn refuse_newer(schema: SchemaVersion, dial: &Dial) -> Result<(), OpenError> {
    if schema.too_new() {
        let path = dial.address.clone().into();
        return Err(OpenError::NewerSchema { path, found: schema.found, supported: schema.supported });
    }
    Ok(())
}
