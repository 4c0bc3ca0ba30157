//! What is ours: configuration, data directory, database, stored keys, and the clock against them.

use std::io::IsTerminal as _;
use std::sync::Arc;

use holdfast_domain::{Clock as _, Network, SlotClock, UnixMillis};
use holdfast_enclave::provider::Checked;
use holdfast_enclave::{durable, seal};
use holdfast_slashing_db::journal::{JournalError, Reader};

use super::super::Output;
use super::Finding;
use crate::anchors::Kept;
use crate::clock::{SystemClock, rfc3339};
use crate::config::{Config, Database, KeyProvider, resolve_network};
use crate::custody::{self, Custody, CustodyError, Terminal};
use crate::glance::{self, Found};
use crate::outcome::chain;

/// Who has the database open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DatabaseUse {
    /// Nobody but this check.
    ByNobody,
    /// Another process, most probably the server.
    ByOther,
}

/// Whether the network is known.
pub(super) async fn network(config: &Config) -> (Finding, Option<Network>) {
    match resolve_network(config).await {
        Ok(network) => {
            let root = network.genesis_validators_root.map_or_else(String::new, |root| root.to_string());
            (Finding::fine("network", format!("{}, genesis validators root {root}", network.name)), Some(network))
        }
        Err(error) => (Finding::fail("network", "the chain is not known", chain(&error)), None),
    }
}

/// Whether the data directory is this user's alone.
pub(super) fn data_dir(config: &Config) -> Finding {
    let dir = config.data_dir();
    if !dir.exists() {
        let evidence = format!("{} is not there yet", dir.display());
        return Finding::warn("data_dir", evidence, "bring keys in: holdfast keys import --from PATH");
    }
    let parts = [dir.to_owned(), config.kek_dir(), config.kek_dir().join("file.key")];
    for path in parts.iter().filter(|path| path.exists()) {
        if let Err(error) = durable::check_private_permissions(path) {
            return Finding::fail(
                "data_dir",
                format!("{} is open to others or not yours", path.display()),
                chain(&error),
            );
        }
    }
    Finding::fine("data_dir", format!("{} belongs to this user alone", dir.display()))
}

/// The database, and what is in it. Makes none.
pub(super) async fn database(
    config: &Config,
    output: Output,
    network: Option<&Network>,
) -> (Vec<Finding>, DatabaseUse) {
    let target = match config.database() {
        Ok(target) => target,
        Err(error) => {
            return (vec![Finding::fail("database", "unusable address", chain(&error))], DatabaseUse::ByNobody);
        }
    };
    if target.file().is_some_and(|path| !path.exists()) || !config.data_dir().exists() {
        let finding = Finding::warn(
            "database",
            format!("{target} is not there yet"),
            "the first import makes it: holdfast keys import --from PATH",
        );
        return (vec![finding], DatabaseUse::ByNobody);
    }
    if network.is_none() {
        let finding =
            Finding::warn("database", "not opened, because the network is not known", "mend the network first");
        return (vec![finding], DatabaseUse::ByNobody);
    }
    let mut findings = Vec::new();
    let mut use_of_it = DatabaseUse::ByNobody;
    let mut instance = None;
    match custody::open_sealed(config, Arc::new(SystemClock)).await {
        Ok(mut custody) => {
            findings.push(Finding::fine("database", format!("{target} opens, instance {}", custody.instance)));
            instance = Some(custody.instance);
            findings.push(watermarks(&custody).await);
            findings.extend(stored_keys(&mut custody, config, output).await);
            custody.guard.shutdown().await;
        }
        Err(CustodyError::InUse { holder, .. }) => {
            use_of_it = DatabaseUse::ByOther;
            let who = holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            findings.push(Finding::fine("database", format!("in use by {who}, which is right while the server runs")));
        }
        Err(error) => {
            findings.push(Finding::fail("database", format!("{target} cannot be used"), chain(&error)));
        }
    }
    let reader = match (&target, instance) {
        (Database::Sqlite(path), _) => Some(Reader::open(path)),
        (Database::Postgres(_), Some(instance)) => custody::open_journal(config, instance).ok(),
        // Which instance this is cannot be told without opening the database.
        (Database::Postgres(_), None) => None,
    };
    findings.extend(reader.map(journal));
    (findings, use_of_it)
}

/// Whether the server that has the database open can be asked.
pub(super) async fn server(config: &Config) -> Finding {
    let problem = match glance::metrics_listener(config).await {
        Err(error) => chain(&error),
        Ok(Found::Nothing(problem)) => problem.unwrap_or_else(|| "start it, or give it time to start".to_owned()),
        Ok(Found::Listener(target)) => {
            let Err(error) = target.fetch("/metrics").await else {
                let how = if target.is_secure() { " with TLS" } else { "" };
                return Finding::fine("server", format!("its metrics listener answers at {}{how}", target.address()));
            };
            chain(&error)
        }
    };
    Finding::warn("server", "its metrics listener gives no numbers", problem)
}

/// Whether checkpoints are kept where they should be.
pub(super) fn anchors(config: &Config) -> Vec<Finding> {
    let state = crate::anchors::state(config);
    let audit = &config.audit;
    let configured = [
        ("file", audit.checkpoint_file.is_some()),
        ("s3", audit.s3_bucket.is_some()),
        ("syslog", audit.syslog.is_some()),
        ("webhook", audit.webhook_url.is_some()),
    ];
    let time = |millis: u64| rfc3339(UnixMillis(millis));
    let judge = |(kind, _): (&str, bool)| match state.get(kind) {
        None => Finding::warn("anchors", format!("{kind}: no checkpoint is kept yet"), "start the server"),
        Some(Kept { place, error: Some(error), failing_since, .. }) => {
            let since = failing_since.map_or_else(String::new, |since| format!(" since {}", time(since)));
            Finding::warn(
                "anchors",
                format!("{kind}: {place} keeps no checkpoints{since}: {error}"),
                "mend that; it is tried again by itself",
            )
        }
        Some(Kept { place, batch: 0, .. }) => {
            Finding::warn("anchors", format!("{kind}: {place} keeps no checkpoint yet"), "start the server")
        }
        Some(Kept { place, batch, signed, .. }) => Finding::fine(
            "anchors",
            format!("{kind}: {place} keeps the checkpoint of batch {batch}, {}", time(*signed)),
        ),
    };
    configured.into_iter().filter(|(_, given)| *given).map(judge).collect()
}

/// Whether the journal is whole. Reads beside a running server.
fn journal(opened: Result<Reader, JournalError>) -> Finding {
    let verified = opened.and_then(|mut reader| {
        for batch in reader.by_ref() {
            batch?;
        }
        Ok::<_, JournalError>(reader.head())
    });
    match verified {
        Ok(head) => Finding::fine("journal", format!("{} batches, each verified and in its place", head.seq)),
        Err(error) => Finding::fail(
            "journal",
            chain(&error),
            "do not sign with this database: find out who changed it, restore a copy, and import the keys with --watermark now",
        ),
    }
}

/// Whether the clock has fallen behind what is on record.
async fn watermarks(custody: &Custody) -> Finding {
    let high = match custody.guard.high_watermarks().await {
        Ok(high) => high,
        Err(error) => return Finding::fail("watermarks", "cannot be read", chain(&error)),
    };
    let Some(now) = custody.slot_clock.slot_at(custody.clock.now()) else {
        return Finding::fine("watermarks", "the chain has not begun");
    };
    let target_start = high.target.map_or(0, |epoch| epoch.0.saturating_mul(custody.slot_clock.slots_per_epoch.get()));
    let highest = high.block.map_or(0, |slot| slot.0).max(target_start);
    let epoch = custody.slot_clock.slots_per_epoch.get();
    if highest > now.0.saturating_add(epoch) {
        return Finding::fail(
            "watermarks",
            format!("the record reaches to slot {highest}, but by this machine's clock it is slot {now}"),
            "set the clock right; if it is right, something signed far in the future, and these keys wait until then",
        );
    }
    Finding::fine("watermarks", format!("the record reaches to slot {highest}; it is slot {now}"))
}

/// Whether the data key and every stored key open.
async fn stored_keys(custody: &mut Custody, config: &Config, output: Output) -> Vec<Finding> {
    let stored = match custody.guard.active_keys().await {
        Ok(stored) => stored,
        Err(error) => return vec![Finding::fail("keys", "cannot be read", chain(&error))],
    };
    let record = match custody.record().await {
        Ok(record) => record,
        Err(error) => return vec![Finding::fail("provider", "the data key cannot be read", chain(&error))],
    };
    match &record {
        None if stored.is_empty() => {
            return vec![Finding::warn("keys", "none yet", "holdfast keys import --from PATH")];
        }
        None => {
            let error = CustodyError::DataKeyLost { keys: stored.len() };
            return vec![Finding::fail("provider", "no data key", chain(&error))];
        }
        Some(record) => {
            let only_asks =
                record.provider == KeyProvider::Passphrase.as_str() && config.keys.passphrase_file.is_none();
            let nobody_there = output.is_json() || !std::io::stdin().is_terminal();
            if only_asks && nobody_there {
                return vec![Finding::warn(
                    "provider",
                    "a passphrase, which was not asked for",
                    "run this on a terminal, or set keys.passphrase_file",
                )];
            }
            if nobody_there {
                custody.terminal = Terminal::Leave;
            }
        }
    }
    let mut findings = providers(custody, config).await;
    if let Err(error) = custody.open_data_key(config).await {
        findings.push(Finding::fail("provider", "the data key does not open", chain(&error)));
        return findings;
    }
    findings.push(Finding::fine("provider", format!("{} opens", custody.protected_by.clone().unwrap_or_default())));
    let Some(data_key) = &custody.data_key else { return findings };
    let mut failed = Vec::new();
    for key in &stored {
        let opened = seal::open(data_key, key.registration.key(), custody.genesis_validators_root, &key.sealed);
        failed.extend(opened.err().map(|error| chain(&error)));
    }
    findings.push(match failed.first() {
        None if stored.is_empty() => Finding::warn("keys", "none yet", "holdfast keys import --from PATH"),
        None => Finding::fine("keys", format!("{} stored, all open", stored.len())),
        Some(first) => Finding::fail(
            "keys",
            format!("{} of {} stored keys do not open", failed.len(), stored.len()),
            first.clone(),
        ),
    });
    findings
}

/// Whether each of several providers opens the data key.
async fn providers(custody: &Custody, config: &Config) -> Vec<Finding> {
    let checked = match custody.check_providers(config).await {
        Ok(checked) if checked.len() > 1 => checked,
        // The only one is looked at where the keys are opened.
        Ok(_) => return Vec::new(),
        Err(error) => return vec![Finding::fail("provider", "providers cannot be checked", chain(&error))],
    };
    let finding = |member: &Checked| {
        let name =
            format!("{}{}", member.provider, member.key.as_ref().map_or_else(String::new, |key| format!(" key {key}")));
        match &member.result {
            Ok(_) => Finding::fine("provider", format!("{name} opens the data key")),
            Err(error) => Finding::fail("provider", format!("{name} does not open the data key"), chain(error)),
        }
    };
    checked.iter().map(finding).collect()
}

/// Whether the clock makes sense for the network.
pub(super) fn clock(network: Option<&Network>) -> Option<Finding> {
    let clock = network?.slot_clock()?;
    Some(clock_at(&clock, SystemClock.now()))
}

fn clock_at(clock: &SlotClock, now: holdfast_domain::UnixMillis) -> Finding {
    let time = rfc3339(now);
    match clock.slot_at(now) {
        Some(slot) => {
            Finding::fine("clock", format!("{time}, slot {slot}, epoch {}", slot.epoch(clock.slots_per_epoch)))
        }
        None => Finding::warn(
            "clock",
            format!("{time}, before the chain begins at {}", rfc3339(clock.genesis)),
            "check the clock and the network; keys that have signed cannot be imported before genesis",
        ),
    }
}

#[cfg(test)]
mod tests {
    use holdfast_domain::UnixMillis;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_before_genesis_is_noticed() {
        let clock = Network::builtin("mainnet").unwrap().slot_clock().unwrap();
        assert_eq!(clock_at(&clock, UnixMillis(0)).verdict, Verdict::Warn);
        let fine = clock_at(&clock, UnixMillis(1_606_824_023_000 + 12_000 * 33));
        assert_eq!(fine.verdict, Verdict::Fine);
        assert!(fine.evidence.ends_with("slot 33, epoch 1"), "{}", fine.evidence);
    }

    #[test]
    fn a_data_directory_open_to_others_fails_with_the_command() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.data.dir = dir.path().to_owned();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let finding = data_dir(&config);
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.mend.contains("chmod 700"), "{}", finding.mend);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(data_dir(&config).verdict, Verdict::Fine);
    }
}
