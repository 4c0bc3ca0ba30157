//! `holdfast status`: the state of a signer, its database and everybody who shares it, at a glance.
//!
//! Guarantees: looks only. Nothing is locked, made, migrated, signed in to or changed, so it may run beside a running
//! server, and anywhere; what cannot be learnt is said, and the rest is shown all the same.

mod server;
mod sockets;

use std::collections::{BTreeMap, BTreeSet};

use holdfast_domain::{Clock as _, GenesisValidatorsRoot, PublicKey, UnixMillis};
use holdfast_slashing_db::journal::Head;
use holdfast_slashing_db::{
    AnchorRecord, AnchorView, Durability, InstanceView, Label, Overview, RollbackKind, SlashingDb, StoreOptions,
};
use holdfast_wire::admin::v1::Report;
use serde_json::{Value, json};

use self::server::Server;
use crate::ask::Target;
use crate::clock::{SystemClock, lasting, rfc3339};
use crate::config::{Config, Database};
use crate::custody::{self, CustodyError};
use crate::outcome::{Exit, chain};
use crate::policy::kept::{self, Kept};
use crate::policy::{KeptError, KeysOfLabels};
use crate::rollback;

/// What was learnt.
struct Status {
    network: String,
    root: GenesisValidatorsRoot,
    /// The file the configuration was read from.
    configuration: Option<String>,
    data_dir: String,
    /// Where the database is, without credentials.
    place: String,
    kind: &'static str,
    database: Result<Option<Overview>, CustodyError>,
    anchor: Option<AnchorView>,
    server: Server,
    /// Rules that were given through the admin API.
    policy: Result<Option<Kept>, KeptError>,
    now: UnixMillis,
}

/// Whether blocks and attestations are signed.
enum Protection {
    /// They are, or would be by a server started now.
    Serving,
    /// They are not; the lines say why and what to do.
    Frozen { reason: String, lines: Vec<String> },
    /// No server would start, as the database belongs to this other chain.
    OtherChain(GenesisValidatorsRoot),
    /// There is no database to protect anything with, and no server.
    Nothing,
    /// Nobody can say.
    Unknown,
}

/// The metrics listener, or why there is none to ask.
pub(crate) enum Found {
    /// It answers.
    Listener(Target),
    /// Nothing does; perhaps why.
    Nothing(Option<String>),
}

/// How the server of this data directory is asked for its metrics and its status; without one, whoever answers on the
/// configured address.
///
/// # Errors
/// [`CustodyError`] if the data directory cannot be read.
pub(crate) async fn metrics_listener(config: &Config) -> Result<Found, CustodyError> {
    let anchor = AnchorView::read(&config.anchor()).map_err(CustodyError::from)?;
    let (server, target) = server::find(anchor.and_then(|anchor| anchor.holder), config).await;
    Ok(match (target, server) {
        (Some(target), _) => Found::Listener(target),
        (None, Server::Silent { problem, .. } | Server::Absent { problem }) => Found::Nothing(problem),
        (None, Server::Running(_) | Server::Elsewise { .. }) => Found::Nothing(None),
    })
}

/// Looks at everything.
///
/// # Errors
/// [`CustodyError`] if the configuration does not lead to a chain and a database.
pub(crate) async fn report(config: &Config) -> Result<Report, CustodyError> {
    let status = look(config).await?;
    let protection = status.protection();
    Ok(Report {
        text: status.text(&protection),
        document_json: status.json(&protection).to_string(),
        exit_code: status.exit(&protection).code().into(),
    })
}

async fn look(config: &Config) -> Result<Status, CustodyError> {
    let chain = custody::chain(config).await?;
    let target = config.database()?;
    custody::within_reach(config)?;
    // Before the database, which can then not be behind it by rights.
    let anchor = AnchorView::read(&config.anchor()).map_err(CustodyError::from)?;
    let database = overview(&target, config);
    let (server, _) = server::find(anchor.as_ref().and_then(|anchor| anchor.holder), config).await;
    Ok(Status {
        network: chain.network.name,
        root: chain.genesis_validators_root,
        configuration: config.file.as_ref().map(|file| file.display().to_string()),
        data_dir: config.data_dir().display().to_string(),
        place: target.to_string(),
        kind: match &target {
            Database::Sqlite(_) => "sqlite",
            Database::Postgres(_) => "postgresql",
        },
        database,
        anchor,
        server,
        policy: kept::read(&config.policy_file(), KeysOfLabels::new()),
        now: SystemClock.now(),
    })
}

/// What there is in a database, without opening it for signing; `None` if there is none.
pub(crate) fn overview(target: &Database, config: &Config) -> Result<Option<Overview>, CustodyError> {
    match target {
        Database::Sqlite(path) if !path.exists() => Ok(None),
        Database::Sqlite(path) => Ok(Some(SlashingDb::overview(&StoreOptions { path: path.clone() })?)),
        #[cfg(feature = "store-postgres")]
        Database::Postgres(url) => Ok(Some(SlashingDb::overview_postgres(&custody::postgres_options(url, config)?)?)),
        #[cfg(not(feature = "store-postgres"))]
        Database::Postgres(_) => Err(CustodyError::NothingHere { path: config.data_dir().to_owned() }),
    }
}

/// The keys that have each label, without opening the database for signing; `None` if there is none.
///
/// # Errors
/// [`CustodyError`] if it cannot be read.
pub(crate) fn labels(
    target: &Database,
    config: &Config,
) -> Result<Option<BTreeMap<Label, BTreeSet<PublicKey>>>, CustodyError> {
    match target {
        Database::Sqlite(path) if !path.exists() => Ok(None),
        Database::Sqlite(path) => Ok(Some(SlashingDb::labels(&StoreOptions { path: path.clone() })?)),
        #[cfg(feature = "store-postgres")]
        Database::Postgres(url) => Ok(Some(SlashingDb::labels_postgres(&custody::postgres_options(url, config)?)?)),
        #[cfg(not(feature = "store-postgres"))]
        Database::Postgres(_) => Err(CustodyError::NothingHere { path: config.data_dir().to_owned() }),
    }
}

impl Status {
    fn record(&self) -> Option<&AnchorRecord> {
        self.anchor.as_ref()?.record.as_ref()
    }

    fn overview(&self) -> Option<&Overview> {
        self.database.as_ref().ok()?.as_ref()
    }

    /// Whether an instance is this data directory's.
    fn is_own(&self, instance: &InstanceView) -> bool {
        self.record().is_some_and(|record| record.instance == instance.id)
    }

    /// What an instance that suspects the shared database says about it to all of them.
    fn told(&self) -> Option<Vec<String>> {
        let suspecting = self.overview()?.instances.iter().filter_map(|instance| Some((instance.suspects?, instance)));
        let (since, instance) = suspecting.max_by_key(|(since, _)| *since)?;
        let host = instance.host.as_ref().map_or_else(String::new, |host| format!(" on {host}"));
        Some(vec![
            format!("FROZEN since {}: {}", rfc3339(since), RollbackKind::PeerSuspects),
            format!("It is {}{host}; `holdfast status` there says what was noticed.", instance.id),
            "Blocks and attestations are refused, except for keys that were fenced since; all else is signed."
                .to_owned(),
            "When no other signer has these keys, and the newest database is in place: `holdfast slashing fence`."
                .to_owned(),
        ])
    }

    /// The same judgement as at a start, as far as it can be made by looking.
    fn protection(&self) -> Protection {
        let frozen = |reason: &str, lines: Vec<String>| Protection::Frozen { reason: reason.to_owned(), lines };
        if let Some(suspicion) = self.record().and_then(|record| record.suspicion) {
            return frozen(suspicion.kind.as_str(), rollback::explain(&suspicion, &rfc3339(suspicion.since)));
        }
        if let Some(lines) = self.told() {
            return frozen(RollbackKind::PeerSuspects.as_str(), lines);
        }
        if let Server::Running(running) = &self.server
            && let Some(reason) = &running.frozen
        {
            return frozen(reason, vec![format!("FROZEN: {reason}; the log of the server says more")]);
        }
        if self.anchor.as_ref().is_some_and(|anchor| anchor.record.is_none()) {
            let kind = RollbackKind::AnchorUnreadable;
            return frozen(kind.as_str(), vec![format!("FROZEN from the next start on: {kind}")]);
        }
        let Some(overview) = self.overview() else {
            return match (&self.database, &self.server) {
                (Err(_), _) => Protection::Unknown,
                (Ok(_), Server::Running(_)) => Protection::Serving,
                (Ok(_), _) => Protection::Nothing,
            };
        };
        if let Some(pinned) = overview.pinned
            && self.root != pinned
        {
            return Protection::OtherChain(pinned);
        }
        let behind = self.record().and_then(|record| {
            let found = overview.instances.iter().find(|instance| instance.id == record.instance);
            match found {
                None if record.head == Head::EMPTY => None,
                None => Some(RollbackKind::OtherDatabase),
                Some(instance) => (instance.head.seq < record.head.seq).then_some(RollbackKind::JournalShorter),
            }
        });
        match behind {
            Some(kind) => {
                let line = format!("FROZEN from the next start on: {kind}; see `holdfast slashing status`");
                frozen(kind.as_str(), vec![line])
            }
            None => Protection::Serving,
        }
    }

    fn exit(&self, protection: &Protection) -> Exit {
        let unreachable = matches!(self.server, Server::Silent { .. });
        match (protection, &self.database) {
            (Protection::Frozen { .. }, _) => Exit::Frozen,
            (Protection::OtherChain(_), _) => Exit::Usage,
            (_, Err(error)) => error.exit(),
            (_, Ok(_)) if unreachable => Exit::Unreachable,
            (_, Ok(_)) => Exit::Done,
        }
    }

    fn text(&self, protection: &Protection) -> String {
        let mut lines = Vec::new();
        section(&mut lines, "holdfast", [format!("{}, network {}", env!("CARGO_PKG_VERSION"), self.network)]);
        let configuration =
            self.configuration.clone().unwrap_or_else(|| "no file: defaults, environment and flags".to_owned());
        section(&mut lines, "configuration", [configuration]);
        section(&mut lines, "data directory", [self.data_dir.clone()]);
        section(&mut lines, "server", self.server.lines());
        section(&mut lines, "database", self.database_lines());
        section(&mut lines, "policy", self.policy_line());
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let mut protected = match protection {
            Protection::Serving => vec!["ok: nothing shows that the database lost writes".to_owned()],
            Protection::Frozen { lines, .. } => lines.clone(),
            Protection::OtherChain(root) => vec![format!(
                "no server would start: the database belongs to the chain with genesis validators root {root}, not to \
                 this network; give --network (or network.name), or another --data-dir"
            )],
            Protection::Nothing => vec![
                "nothing is here to be protected. If a signer runs on this machine, name its configuration (--config FILE) \
                 or its data directory (--data-dir DIR)"
                    .to_owned(),
            ],
            Protection::Unknown => vec!["unknown, as the database cannot be looked at".to_owned()],
        };
        if let Some(overview) = self.overview() {
            let high = &overview.highest;
            protected.push(format!(
                "highest signed or fenced: block slot {}, source {}, target {}",
                number(high.block.map(|slot| slot.0)),
                number(high.source.map(|epoch| epoch.0)),
                number(high.target.map(|epoch| epoch.0))
            ));
        }
        section(&mut lines, "protection", protected);
        if let Some(overview) = self.overview() {
            let keys = overview.keys;
            let counts = format!("{} enabled, {} disabled, {} deleted", keys.enabled, keys.disabled, keys.tombstoned);
            section(&mut lines, "keys", [counts]);
            let protected_by = overview.data_key.as_ref().map_or_else(
                || "no data key yet".to_owned(),
                |record| format!("provider {}, since {}", record.provider, rfc3339(record.stored)),
            );
            section(&mut lines, "sealed by", [protected_by]);
            section(&mut lines, "instances", overview.instances.iter().map(|instance| self.instance_line(instance)));
        }
        lines.join("\n")
    }

    /// Said only where the configuration does not say who may do what.
    fn policy_line(&self) -> Option<String> {
        match &self.policy {
            Ok(None) => None,
            Ok(Some(Kept { given, written, .. })) => Some(format!(
                "{} rules (SHA-256 {}) given through the admin API by {} at {}, in place of those of the configuration",
                written.count(),
                written.digest,
                given.by,
                given.since.rfc3339()
            )),
            Err(error) => Some(format!("NO SERVER STARTS: {}", chain(error))),
        }
    }

    fn policy_json(&self) -> Value {
        match &self.policy {
            Ok(None) => json!({ "origin": "configuration" }),
            Ok(Some(Kept { given, written, .. })) => json!({
                "origin": "given", "rules": written.count(), "sha256": written.digest.to_string(), "by": given.by,
                "since": given.since.rfc3339(),
            }),
            Err(error) => json!({ "origin": "given", "error": chain(error) }),
        }
    }

    fn database_lines(&self) -> Vec<String> {
        match &self.database {
            Err(error) => {
                vec![format!("{} {}", self.kind, self.place), format!("CANNOT BE LOOKED AT: {}", chain(error))]
            }
            Ok(None) => vec![format!("{} {}", self.kind, self.place), "not made yet".to_owned()],
            Ok(Some(overview)) => {
                let durability = match &overview.durability {
                    Durability::File => "commits are synced to this file".to_owned(),
                    Durability::OneServer { version } => {
                        format!("PostgreSQL {version}; commits are on this server alone, so a fail-over may lose some")
                    }
                    Durability::Standby { version, names } => {
                        format!("PostgreSQL {version}; commits are on a synchronous standby as well ({names})")
                    }
                };
                let schema = match overview.schema {
                    0 => "nothing was made in it yet".to_owned(),
                    found => format!("schema {found}, this program knows {}", overview.schema_known),
                };
                vec![format!("{} {}", self.kind, self.place), schema, durability]
            }
        }
    }

    fn instance_line(&self, instance: &InstanceView) -> String {
        let own = if self.is_own(instance) { " (this data directory)" } else { "" };
        let host = instance.host.as_ref().map_or_else(String::new, |host| format!(" on {host}"));
        let version = instance.version.as_ref().map_or_else(String::new, |version| format!(", {version}"));
        let batch = match instance.last_batch {
            Some(time) => format!("batch {} {}", instance.head.seq, ago(self.now, time)),
            None => "no batch yet".to_owned(),
        };
        let started = instance.started.map_or_else(String::new, |time| format!(", started {}", rfc3339(time)));
        let suspects = instance.suspects.map(|since| format!(", suspects the database since {}", rfc3339(since)));
        let suspects = suspects.unwrap_or_default();
        format!("{}{own}{host}{version}: {}, {batch}{started}{suspects}", instance.id, instance.presence.as_str())
    }

    fn json(&self, protection: &Protection) -> Value {
        let overview = self.overview();
        let (durability, version, standbys) = match overview.map(|overview| &overview.durability) {
            None => (None, None, None),
            Some(Durability::File) => (Some("file"), None, None),
            Some(Durability::OneServer { version }) => (Some("one_server"), Some(version), None),
            Some(Durability::Standby { version, names }) => (Some("standby"), Some(version), Some(names)),
        };
        let (state, reason) = match protection {
            Protection::Serving => ("serving", None),
            Protection::Frozen { reason, .. } => ("frozen", Some(reason)),
            Protection::OtherChain(_) => ("other_network", None),
            Protection::Nothing => ("nothing", None),
            Protection::Unknown => ("unknown", None),
        };
        let highest = overview.map(|overview| &overview.highest);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "network": self.network,
            "genesis_validators_root": self.root.to_string(),
            "configuration": self.configuration,
            "data_dir": self.data_dir,
            "server": self.server.json(),
            "policy": self.policy_json(),
            "database": {
                "kind": self.kind,
                "place": self.place,
                "schema": overview.map(|overview| overview.schema),
                "schema_known": overview.map(|overview| overview.schema_known),
                "durability": durability,
                "server_version": version,
                "synchronous_standbys": standbys,
                "error": self.database.as_ref().err().map(|error| chain(error)),
            },
            "protection": {
                "state": state,
                "reason": reason,
                "frozen": self.record().and_then(|record| record.suspicion.as_ref()).map(rollback::as_json),
                "highest": highest.map(|high| json!({
                    "block_slot": high.block.map(|slot| slot.0),
                    "source_epoch": high.source.map(|epoch| epoch.0),
                    "target_epoch": high.target.map(|epoch| epoch.0),
                })),
            },
            "keys": overview.map(|overview| json!({
                "enabled": overview.keys.enabled,
                "disabled": overview.keys.disabled,
                "tombstoned": overview.keys.tombstoned,
            })),
            "data_key": overview.and_then(|overview| overview.data_key.as_ref()).map(|record| json!({
                "provider": record.provider, "since": rfc3339(record.stored),
            })),
            "instance": self.record().map(|record| record.instance.to_string()),
            "instances": overview.map(|overview| {
                overview.instances.iter().map(|instance| self.instance_json(instance)).collect::<Vec<_>>()
            }),
        })
    }

    fn instance_json(&self, instance: &InstanceView) -> Value {
        json!({
            "id": instance.id.to_string(),
            "own": self.is_own(instance),
            "host": instance.host,
            "version": instance.version,
            "started": instance.started.map(rfc3339),
            "presence": instance.presence.as_str(),
            "batch": instance.head.seq,
            "hash": instance.head.hash.to_string(),
            "last_batch": instance.last_batch.map(rfc3339),
            "suspects_since": instance.suspects.map(rfc3339),
        })
    }
}

/// Adds lines below a heading.
fn section(lines: &mut Vec<String>, heading: &str, content: impl IntoIterator<Item = String>) {
    for (index, line) in content.into_iter().enumerate() {
        let heading = if index == 0 { heading } else { "" };
        lines.push(format!("{heading:<15} {line}"));
    }
}

/// How long ago, for people; a clock that differs a little is no reason for a strange answer.
fn ago(now: UnixMillis, then: UnixMillis) -> String {
    let seconds = now.0.saturating_sub(then.0) / 1_000;
    match seconds {
        0..=7_199 => format!("{} ago", lasting(seconds)),
        _ => format!("at {}", rfc3339(then)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_while_they_are_near() {
        let then = UnixMillis(1_600_000_000_000);
        let at = |seconds: u64| ago(UnixMillis(then.0 + seconds * 1_000), then);
        assert_eq!([at(0), at(119), at(120), at(7_199)], ["0 s ago", "119 s ago", "2 min ago", "119 min ago"]);
        assert_eq!(at(7_200), "at 2020-09-13T12:26:40Z");
        assert_eq!(ago(UnixMillis(0), then), "0 s ago");
    }
}
