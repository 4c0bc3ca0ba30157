//! The server on this data directory: which process, where it listens, and what it says about itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::sockets::listening;
use crate::ask::{Answer, AskError, How, Listener, Target, get};
use crate::config::Config;
use crate::outcome::chain;

/// How long an answer may take: this is a glance.
const PATIENCE: Duration = Duration::from_secs(2);

/// What runs on the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    /// Nothing, as far as can be seen.
    Absent {
        /// Why what is at the configured addresses could not be asked, if anything is.
        problem: Option<String>,
    },
    /// A process that listens nowhere: another command at work, or a server before or after its time.
    Elsewise {
        /// Process id.
        pid: u32,
    },
    /// A server that does not answer.
    Silent {
        /// Process id.
        pid: u32,
        /// Where it listens.
        addresses: Vec<SocketAddr>,
        /// Why it could not be asked, if that is known.
        problem: Option<String>,
    },
    /// A server that answers.
    Running(Running),
}

/// A server that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    /// Process id, if the system tells.
    pub(super) pid: Option<u32>,
    /// The signing API.
    pub(super) http: Option<SocketAddr>,
    /// Metrics and probes.
    pub(super) metrics: SocketAddr,
    /// Whether that is spoken to with TLS.
    pub(super) secure: bool,
    /// Why its numbers could not be read; `None` if they were.
    pub(super) unread: Option<String>,
    /// Why it is not ready; `None` if it is.
    pub(super) unready: Option<String>,
    /// Its version.
    pub(super) version: Option<String>,
    /// Keys loaded, of these switched off, and keys that could not be opened.
    pub(super) keys: [Option<u64>; 3],
    /// Why it froze, in a word; `None` if it did not.
    pub(super) frozen: Option<String>,
}

/// Looks for the server, and for how its metrics listener is asked. `holder` has the data directory's lock; without it,
/// and where it may not be looked into, the configured addresses are tried.
pub(super) async fn find(holder: Option<u32>, config: &Config) -> (Server, Option<Target>) {
    let told = holder.and_then(listening);
    let guessed = told.is_none();
    let addresses = told.unwrap_or_else(|| vec![config.http.listen, config.metrics.listen]);
    let (mut http, mut found) = (None, None);
    let (ways, mut problem) = ways(config);
    for &address in &addresses {
        match ask_any(&ways, address).await {
            Ok((target, Answer { status: 200 | 503, body })) if body.contains("ready") => found = Some((target, body)),
            // The signing API has no such path.
            Ok(_) => http = Some(address),
            Err(error) => {
                let of_metrics = address.port() == config.metrics.listen.port();
                if error.is_of_this_side() && !of_metrics {
                    http.get_or_insert(address);
                }
                if error.tells() && (of_metrics || problem.is_none()) {
                    problem = Some(chain(&error));
                }
            }
        }
    }
    let Some((target, ready)) = found else {
        let server = match holder {
            // Something may be there that cannot be asked.
            None => Server::Absent { problem },
            Some(pid) if addresses.is_empty() || (guessed && problem.is_none()) => Server::Elsewise { pid },
            Some(pid) => Server::Silent { pid, addresses, problem },
        };
        return (server, None);
    };
    let unready = ready.trim().strip_prefix("not ready: ").map(str::to_owned);
    let read = tokio::time::timeout(PATIENCE, target.fetch("/metrics")).await;
    let read = read.unwrap_or(Err(AskError::Late { address: target.address() }));
    let (text, unread) = read.map_or_else(|error| (String::new(), Some(chain(&error))), |text| (text, None));
    let samples = samples(&text);
    let count = |name: &str| samples.get(name).and_then(|value| value.parse().ok());
    let server = Server::Running(Running {
        // Who answers on an address that was guessed may be another.
        pid: holder.filter(|_| !guessed),
        http,
        metrics: target.address(),
        secure: target.is_secure(),
        unread,
        unready,
        version: label(&text, "holdfast_build_info", "version"),
        keys: ["holdfast_keys_loaded", "holdfast_keys_disabled", "holdfast_keys_failed"].map(count),
        frozen: (count("holdfast_slashing_frozen") == Some(1))
            .then(|| label(&text, "holdfast_slashing_frozen_reason", "reason").unwrap_or_else(|| "unknown".to_owned())),
    });
    (server, Some(target))
}

/// How the listeners of this configuration are spoken to, each way once, and what is wrong with one of them.
fn ways(config: &Config) -> (Vec<How>, Option<String>) {
    let alike = config.http.tls == config.metrics.tls;
    let listeners = if alike { &[Listener::Metrics][..] } else { &[Listener::Metrics, Listener::Http] };
    let (mut ways, mut problem) = (Vec::new(), None);
    for listener in listeners {
        match How::of(*listener, config) {
            Ok(how) => ways.push(how),
            Err(error) => problem = problem.or_else(|| Some(chain(&error))),
        }
    }
    (ways, problem)
}

/// Asks for readiness in one way after the other, until one is answered.
async fn ask_any(ways: &[How], address: SocketAddr) -> Result<(Target, Answer), AskError> {
    let mut last = AskError::Late { address };
    for how in ways {
        let target = how.at(address);
        let answered = tokio::time::timeout(PATIENCE, get(&target, "/readyz")).await;
        match answered.unwrap_or(Err(AskError::Late { address })) {
            Ok(answer) => return Ok((target, answer)),
            // What tells most is kept.
            Err(error) if error.tells() || !last.tells() => last = error,
            Err(_) => {}
        }
    }
    Err(last)
}

/// Samples without labels.
fn samples(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.contains('{'))
        .filter_map(|line| line.split_once(' '))
        .collect()
}

/// The value of a label of the first sample of a metric.
fn label(text: &str, metric: &str, name: &str) -> Option<String> {
    let sample = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix('{'))?;
    let (_, rest) = sample.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

impl Server {
    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let running = match self {
            Self::Absent { problem } => {
                let mut lines = vec!["not running on this data directory".to_owned()];
                lines.extend(problem.iter().map(|problem| format!("at the configured address: {problem}")));
                return lines;
            }
            Self::Elsewise { pid } => {
                return vec![format!(
                    "process {pid} has the data directory open and listens nowhere that is known: another command, or a server on its way"
                )];
            }
            Self::Silent { pid, addresses, problem } => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                let why = problem.as_ref().map_or_else(String::new, |problem| format!(": {problem}"));
                return vec![format!("process {pid} listens on {} and does not answer{why}", addresses.join(", "))];
            }
            Self::Running(running) => running,
        };
        let process = running.pid.map_or_else(
            || "found on the configured address, perhaps of another data directory".to_owned(),
            |pid| format!("process {pid}"),
        );
        let state = running.unready.as_ref().map_or_else(|| "ready".to_owned(), |why| format!("NOT READY: {why}"));
        let version = running.version.as_deref().unwrap_or("of unknown version");
        let mut lines = vec![format!("{state}; {process}, {version}")];
        let http = running.http.map_or_else(|| "not found".to_owned(), |address| address.to_string());
        lines.push(format!(
            "signing API {http}, metrics {address}, status page {scheme}://{address}/",
            address = running.metrics,
            scheme = if running.secure { "https" } else { "http" }
        ));
        let [loaded, disabled, failed] =
            running.keys.map(|count| count.map_or_else(|| "?".to_owned(), |count| count.to_string()));
        lines.push(format!("keys loaded {loaded}, of these disabled {disabled}; not opened {failed}"));
        lines.extend(running.unread.iter().map(|why| format!("its numbers cannot be read: {why}")));
        lines
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Absent { .. } => Value::Null,
            Self::Elsewise { pid } => json!({ "state": "no_server", "pid": pid }),
            Self::Silent { pid, addresses, problem } => json!({
                "state": "silent", "pid": pid, "problem": problem, "listens": addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            }),
            Self::Running(running) => {
                let [loaded, disabled, failed] = running.keys;
                json!({
                    "state": if running.unready.is_none() { "ready" } else { "not_ready" },
                    "reason": running.unready,
                    "pid": running.pid,
                    "version": running.version,
                    "http": running.http.map(|address| address.to_string()),
                    "metrics": running.metrics.to_string(),
                    "keys": { "loaded": loaded, "disabled": disabled, "failed": failed },
                    "frozen": running.frozen,
                    "unread": running.unread,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read() {
        let text = "# HELP holdfast_build x\nholdfast_build_info{version=\"1.2.3\"} 1\nholdfast_keys_loaded 7\n\
             holdfast_slashing_frozen_reason{reason=\"journal_shorter\"} 1\n";
        assert_eq!(samples(text).get("holdfast_keys_loaded"), Some(&"7"));
        assert_eq!(label(text, "holdfast_build_info", "version").as_deref(), Some("1.2.3"));
        assert_eq!(label(text, "holdfast_slashing_frozen_reason", "reason").as_deref(), Some("journal_shorter"));
        assert_eq!(label(text, "holdfast_slashing_frozen", "reason"), None);
    }
}
