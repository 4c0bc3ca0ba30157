//! From the parts of the process to the document of the status page.

use holdfast_beacon::UpstreamStatus;
use holdfast_beacon::execution::NodeStatus;
use holdfast_slashing_db::GuardHealth;

use super::document::{
    AuditState, DatabaseState, Document, InstanceState, KeysState, KindState, Level, PartState, ProtectionState,
    SCHEMA, SignerState, SigningState, UnsignedState,
};
use super::keys::Reading;
use super::numbers::History;
use super::sections::{ago, grouped, millis};
use super::{Board, SignerParts};
use crate::clock::lasting;
use crate::rollback;

/// Keys in the document itself.
const FIRST_KEYS: usize = 20;
/// Decisions in the document.
const DECISIONS: usize = 20;
/// A database that has been asked for longer than this is not answering.
const SILENT_SECONDS: f64 = 2.0;
/// Commits slower than this, in seconds, are worth a look: a slot has twelve.
const SLOW_COMMIT_SECONDS: f64 = 0.25;

/// A count or a number of a metric, which is a whole number that a float holds exactly.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole and not negative")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

impl Board {
    /// What is shown now.
    pub(super) fn document(&self, history: &History) -> Document {
        let now = self.sources.clock.now();
        let signer = self.sources.signer.as_ref().map(|parts| self.signer_state(parts, history));
        let mut switcher = self.sources.running.as_ref().map(|running| running.pool.status());
        if let Some(switcher) = &mut switcher {
            switcher.decisions.truncate(DECISIONS);
        }
        let execution = self.sources.running.as_ref().and_then(|running| running.execution());
        let execution = execution.map(|pool| {
            let mut status = pool.status();
            status.decisions.truncate(DECISIONS);
            status
        });
        let slot = match &self.sources.signer {
            Some(parts) => parts.slot_clock.slot_at(now).map(|slot| slot.0),
            None => switcher.as_ref().and_then(|status| status.network.as_ref()).map(|network| network.slot),
        };
        let mut states = Vec::new();
        if let (Some(signer), Some(parts)) = (&signer, &self.sources.signer) {
            let running = whole(self.started.seconds());
            states.extend(signer_parts(signer, (now.0, running), parts.checkpoint_minutes));
        }
        if let Some(status) = &switcher {
            states.push(consensus(&status.upstreams, self.unready()));
        }
        if let Some(status) = &execution {
            states.push(execution_nodes(&status.nodes));
        }
        Document {
            schema: SCHEMA,
            at_unix_millis: now.0,
            version: env!("CARGO_PKG_VERSION"),
            network: self.sources.signer.as_ref().map(|parts| parts.signer.network.name.clone()),
            slot,
            uptime_seconds: whole(self.started.seconds()),
            states,
            signer,
            switcher,
            execution,
        }
    }

    /// Why validator clients should use another Beacon API.
    fn unready(&self) -> Option<String> {
        if self.sources.tasks.is_leaving() {
            return Some("shutting down".to_owned());
        }
        self.sources.running.as_ref().and_then(|running| running.unready())
    }

    fn signer_state(&self, parts: &SignerParts, history: &History) -> SignerState {
        let reading = self.reader.as_ref().map(super::KeyReader::reading).unwrap_or_default();
        let waiting = self.reader.as_ref().and_then(super::KeyReader::waiting);
        let plain = |name: &str| history.latest().and_then(|numbers| numbers.plain(name)).map_or(0, whole);
        let unready = if self.sources.tasks.is_leaving() {
            Some("shutting down".to_owned())
        } else if parts.loader.is_loading() {
            Some(parts.loader.sealed().unwrap_or_else(|| "keys are loading".to_owned()))
        } else {
            None
        };
        let (state, message, suspicion) = match parts.signer.guard.health() {
            GuardHealth::Serving => ("serving", None, None),
            GuardHealth::Suspect(suspicion) => {
                ("suspect", Some(suspicion.kind.to_string()), Some(rollback::as_json(&suspicion)))
            }
            GuardHealth::Frozen { reason } => ("frozen", Some(reason.to_string()), None),
        };
        let keys = reading.table.as_ref().map(|table| &table.keys);
        let (providers, providers_usable) = history.latest().map_or((0, 0), |numbers| numbers.providers);
        let checkpoint = plain("holdfast_audit_checkpoint_timestamp_seconds");
        SignerState {
            unready,
            protection: ProtectionState {
                state,
                message,
                suspicion,
                fences: plain("holdfast_slashing_fences_total"),
                failed_commits: plain("holdfast_slashing_failed_commits_total"),
            },
            database: database(&reading, waiting, history),
            signing: signing(history),
            unsigned: unsigned(history),
            keys: KeysState {
                loaded: plain("holdfast_keys_loaded"),
                disabled: plain("holdfast_keys_disabled"),
                failed: plain("holdfast_keys_failed"),
                providers,
                providers_usable,
                total: keys.map(Vec::len),
                need_a_look: keys.map_or(0, |keys| keys.iter().filter(|key| key.needs_a_look()).count()),
                read_unix_millis: reading.at.map(|at| at.0),
                first: keys.map(|keys| keys.iter().take(FIRST_KEYS).cloned().collect()).unwrap_or_default(),
            },
            audit: AuditState {
                records: plain("holdfast_slashing_journal_entries_total"),
                checkpoint_batch: (checkpoint > 0).then(|| plain("holdfast_audit_checkpoint_batch")),
                checkpoint_unix_millis: (checkpoint > 0).then(|| checkpoint.saturating_mul(1_000)),
                failures: plain("holdfast_slashing_archive_failures_total")
                    .saturating_add(plain("holdfast_slashing_anchor_failures_total")),
                checkpoint_failing: plain("holdfast_audit_checkpoint_failing") > 0,
            },
        }
    }
}

fn database(reading: &Reading, waiting: Option<f64>, history: &History) -> DatabaseState {
    let table = reading.table.as_ref();
    let server = table.and_then(|table| table.server.as_ref());
    let state = match (waiting, &reading.error, table) {
        (Some(seconds), _, _) if seconds > SILENT_SECONDS => "waiting",
        (_, Some(_), _) => "failing",
        (_, None, Some(_)) => "answering",
        (_, None, None) => "unknown",
    };
    let instances = table.map_or(&[][..], |table| &table.instances).iter().map(|instance| InstanceState {
        id: instance.id.to_string(),
        host: instance.host.clone(),
        version: instance.version.clone(),
        last_seen_unix_millis: instance.last_seen.0,
    });
    DatabaseState {
        kind: table.map(|table| if table.server.is_some() { "postgresql" } else { "sqlite" }),
        state,
        error: reading.error.clone(),
        read_millis: table.map(|_| reading.seconds * 1_000.0),
        commit_p99_millis: history.slow_commit().map(|seconds| seconds * 1_000.0),
        server: server.map(|server| server.version.clone()),
        synchronous_standbys: server.and_then(|server| server.synchronous_standbys.clone()),
        instances: instances.collect(),
    }
}

fn signing(history: &History) -> SigningState {
    let plain = |name: &str| history.latest().and_then(|numbers| numbers.plain(name)).map_or(0, whole);
    let kinds = history.kinds().into_iter().map(|view| KindState {
        kind: view.kind,
        signed: whole(view.signed),
        per_second: view.rate,
        p50_millis: view.median.map(|seconds| seconds * 1_000.0),
        p99_millis: view.slow.map(|seconds| seconds * 1_000.0),
    });
    SigningState {
        per_second: history.rate(),
        in_flight: plain("holdfast_http_requests_in_flight"),
        connections: plain("holdfast_http_connections"),
        kinds: kinds.collect(),
        chart: history.chart(),
    }
}

fn unsigned(history: &History) -> Vec<UnsignedState> {
    let endings = history.unsigned().into_iter().map(|((kind, result, reason), count, recent)| UnsignedState {
        kind,
        result,
        reason,
        count: whole(count),
        recent: whole(recent),
    });
    endings.collect()
}

/// A part at a glance.
fn part(part: &'static str, level: Level, word: impl Into<String>, detail: impl Into<String>) -> PartState {
    PartState { part, level, word: word.into(), detail: detail.into() }
}

/// `now` in milliseconds since 1970, `running` in seconds since the start.
fn signer_parts(signer: &SignerState, (now, running): (u64, u64), checkpoint_minutes: u32) -> Vec<PartState> {
    let rate = format!("{:.1} signatures per second", signer.signing.per_second);
    let ready = match (&signer.unready, signer.protection.state) {
        (Some(why), _) => part("Signer", Level::Bad, "Not ready", why.clone()),
        (None, "frozen") => part("Signer", Level::Bad, "Signs nothing", "protection is frozen"),
        (None, "suspect") => part("Signer", Level::Bad, "Signs in part", "blocks and attestations are refused"),
        (None, _) => part("Signer", Level::Ok, "Ready", rate),
    };
    let protection = match signer.protection.state {
        "serving" if signer.protection.failed_commits > 0 => part(
            "Protection",
            Level::Warn,
            "Serving",
            format!("{} commits failed since the start", signer.protection.failed_commits),
        ),
        "serving" => part("Protection", Level::Ok, "Serving", fences(signer.protection.fences)),
        _ => part("Protection", Level::Bad, "Frozen", signer.protection.message.clone().unwrap_or_default()),
    };
    let journal = journal_part(&signer.audit, (now, running), checkpoint_minutes);
    vec![ready, protection, database_part(&signer.database), keys_part(&signer.keys), journal]
}

fn fences(count: u64) -> String {
    match count {
        0 => "no lost writes, no fence since the start".to_owned(),
        1 => "one fence was placed since the start".to_owned(),
        count => format!("{count} fences were placed since the start"),
    }
}

fn database_part(database: &DatabaseState) -> PartState {
    let kind = match database.kind {
        Some("postgresql") => "PostgreSQL",
        Some(_) => "SQLite",
        None => "database",
    };
    let commits = database.commit_p99_millis.map(|time| format!("commits {} (p99)", millis(time)));
    let detail = commits.map_or_else(|| kind.to_owned(), |commits| format!("{kind}, {commits}"));
    let slow = database.commit_p99_millis.is_some_and(|time| time > SLOW_COMMIT_SECONDS * 1_000.0);
    match database.state {
        "waiting" => part("Database", Level::Bad, "No answer", format!("{kind} was asked and says nothing")),
        "failing" => part("Database", Level::Bad, "Failing", database.error.clone().unwrap_or_default()),
        "answering" if slow => part("Database", Level::Warn, "Slow", detail),
        "answering" => part("Database", Level::Ok, "Answering", detail),
        _ => part("Database", Level::Warn, "Not read yet", "its first answer is waited for"),
    }
}

fn keys_part(keys: &KeysState) -> PartState {
    let signing = keys.loaded.saturating_sub(keys.disabled);
    let mut notes = Vec::new();
    let mut level = Level::Ok;
    for (count, what, worse) in [
        (keys.failed, "not opened", Level::Bad),
        (u64::try_from(keys.need_a_look).unwrap_or(u64::MAX), "behind or not loaded", Level::Warn),
        (keys.disabled, "switched off", Level::Ok),
    ] {
        if count > 0 {
            notes.push(format!("{count} {what}"));
            level = level.max(worse);
        }
    }
    if keys.providers_usable < keys.providers {
        notes.push(format!("{} of {} providers open the data key", keys.providers_usable, keys.providers));
        level = level.max(if keys.providers_usable == 0 { Level::Bad } else { Level::Warn });
    }
    if notes.is_empty() {
        notes.push("none switched off, none failed".to_owned());
    }
    if signing == 0 {
        level = level.max(Level::Warn);
    }
    part("Keys", level, format!("{signing} loaded"), notes.join(", "))
}

fn journal_part(audit: &AuditState, (now, running): (u64, u64), checkpoint_minutes: u32) -> PartState {
    if audit.failures > 0 {
        let detail = format!("{} times its end or an archive could not be written", audit.failures);
        return part("Journal", Level::Warn, "Look at the log", detail);
    }
    if checkpoint_minutes == 0 {
        return part("Journal", Level::Off, "Not signed", "checkpoints are switched off");
    }
    let records = format!("{} records since the start", grouped(audit.records));
    // Twice, as what is new just after the schedule's turn waits for the next.
    let late = running > u64::from(checkpoint_minutes).saturating_mul(2 * 60);
    match audit.checkpoint_unix_millis {
        _ if audit.checkpoint_failing => {
            let last = audit.checkpoint_unix_millis.map_or_else(
                || "none since the start".to_owned(),
                |at| format!("the last one was signed {}", ago(now, at)),
            );
            let detail = format!("{last}; the log says why (no checkpoint of the journal)");
            part("Journal", Level::Warn, "Checkpoints fail", detail)
        }
        None if late && audit.records > 0 => {
            let detail = format!("no checkpoint in the {} since the start, {records}", lasting(running));
            part("Journal", Level::Warn, "Not signed", detail)
        }
        None => part("Journal", Level::Ok, "Not signed yet", records),
        // Without news there is nothing to sign, so its age alone is no alarm.
        Some(at) => part("Journal", Level::Ok, "Signed", format!("checkpoint {}, {records}", ago(now, at))),
    }
}

fn consensus(nodes: &[UpstreamStatus], unready: Option<String>) -> PartState {
    let used = nodes.iter().filter(|node| !node.drained);
    let good = used.clone().filter(|node| matches!(node.health, "good" | "impaired")).count();
    let all = used.count();
    let word = format!("{good} of {all} good");
    match unready {
        Some(why) => part("Consensus clients", Level::Bad, word, why),
        None if good == all => part("Consensus clients", Level::Ok, word, "every class of request is served"),
        None => part("Consensus clients", Level::Warn, word, "every class of request is served"),
    }
}

fn execution_nodes(nodes: &[NodeStatus]) -> PartState {
    let used = nodes.iter().filter(|node| !node.drained);
    let healthy = used.clone().filter(|node| node.health == "healthy").count();
    let all = used.count();
    let level = match healthy {
        0 => Level::Bad,
        _ if healthy < all => Level::Warn,
        _ => Level::Ok,
    };
    part("Execution clients", level, format!("{healthy} of {all} healthy"), "behind one JSON-RPC address")
}

#[cfg(test)]
mod tests {
    //! Proves: what is wrong is said in words, and the worst of it decides.
    use super::*;

    fn keys() -> KeysState {
        KeysState {
            loaded: 10,
            disabled: 0,
            failed: 0,
            providers: 1,
            providers_usable: 1,
            total: Some(10),
            need_a_look: 0,
            read_unix_millis: None,
            first: Vec::new(),
        }
    }

    #[test]
    fn keys_at_a_glance() {
        assert_eq!(keys_part(&keys()).level, Level::Ok);
        let some = keys_part(&KeysState { disabled: 3, ..keys() });
        assert_eq!((some.level, some.word.as_str()), (Level::Ok, "7 loaded"));
        assert_eq!(keys_part(&KeysState { need_a_look: 1, ..keys() }).level, Level::Warn);
        let bad = keys_part(&KeysState { failed: 2, disabled: 1, providers_usable: 0, ..keys() });
        assert_eq!(bad.level, Level::Bad);
        assert_eq!(bad.detail, "2 not opened, 1 switched off, 0 of 1 providers open the data key");
        assert_eq!(keys_part(&KeysState { loaded: 0, ..keys() }).level, Level::Warn);
    }

    #[test]
    fn a_journal_that_is_not_signed_is_said_to_be() {
        let fresh = || AuditState {
            records: 0,
            checkpoint_batch: None,
            checkpoint_unix_millis: None,
            failures: 0,
            checkpoint_failing: false,
        };
        let hour = 3_600;
        let at = |audit: &AuditState, running: u64| journal_part(audit, (hour * 1_000, running), 10);
        let some = AuditState { records: 7, ..fresh() };
        assert_eq!((at(&some, 20 * 60).level, at(&some, 20 * 60).word.as_str()), (Level::Ok, "Not signed yet"));
        assert_eq!(at(&fresh(), 9 * hour).level, Level::Ok, "there is nothing to sign");
        let never = at(&some, 3 * hour);
        assert_eq!((never.level, never.word.as_str()), (Level::Warn, "Not signed"));
        assert_eq!(never.detail, "no checkpoint in the 3 h since the start, 7 records since the start");
        assert_eq!(journal_part(&some, (0, 3 * hour), 0).level, Level::Off);
        let failing = AuditState { checkpoint_failing: true, ..some };
        assert_eq!(at(&failing, 1).level, Level::Warn, "also before it is late");
        let signed = AuditState { checkpoint_unix_millis: Some(0), checkpoint_batch: Some(3), ..failing };
        let part = at(&signed, hour);
        assert_eq!((part.level, part.word.as_str()), (Level::Warn, "Checkpoints fail"));
        assert!(part.detail.starts_with("the last one was signed 60 min ago; "), "{}", part.detail);
        let well = AuditState { checkpoint_failing: false, ..signed };
        assert_eq!(at(&well, hour).level, Level::Ok, "without news there is nothing to sign");
    }

    #[test]
    fn a_database_that_does_not_answer_is_said_to() {
        let history = History::default();
        let reading = Reading::default();
        assert_eq!(database(&reading, None, &history).state, "unknown");
        assert_eq!(database(&reading, Some(0.1), &history).state, "unknown");
        let silent = database(&reading, Some(2.5), &history);
        assert_eq!((silent.state, database_part(&silent).level), ("waiting", Level::Bad));
        let failing = Reading { error: Some("gone".to_owned()), ..Reading::default() };
        let failing = database(&failing, None, &history);
        assert_eq!((failing.state, database_part(&failing).detail.as_str()), ("failing", "gone"));
        let answering = DatabaseState { state: "answering", ..failing };
        assert_eq!(database_part(&answering).level, Level::Ok);
        let slow = DatabaseState { commit_p99_millis: Some(900.0), ..answering };
        assert_eq!(database_part(&slow).word, "Slow");
    }
}
