//! What the status page shows, as a document: `GET /status.json`, and what `holdfast top` reads.
//!
//! Guarantees: no secret and no credential is in it. Public keys, labels, addresses of nodes without credentials and
//! the place of the process are. Fields are only ever added.

use holdfast_beacon::StatusDocument;
use holdfast_beacon::execution::ExecutionStatus;
use serde::Serialize;
use serde_json::Value;

use super::keys::KeyView;

/// Name and version of this form of the document.
pub(super) const SCHEMA: &str = "holdfast-status/v1";

/// The document.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Document {
    /// [`SCHEMA`].
    pub(super) schema: &'static str,
    /// When it was made, in milliseconds since 1970.
    pub(super) at_unix_millis: u64,
    /// Version of the program.
    pub(super) version: &'static str,
    /// The network signed for; `None` without a signer.
    pub(super) network: Option<String>,
    /// Slot of now, where genesis is known.
    pub(super) slot: Option<u64>,
    /// Seconds since the process started.
    pub(super) uptime_seconds: u64,
    /// Each part at a glance, in the order of importance.
    pub(super) states: Vec<PartState>,
    /// The signer; `None` where the switcher runs alone.
    pub(super) signer: Option<SignerState>,
    /// The consensus clients, as `holdfast switcher status` shows them; `None` without the switcher.
    pub(super) switcher: Option<StatusDocument>,
    /// The execution clients; `None` without that pool.
    pub(super) execution: Option<ExecutionStatus>,
}

/// How well a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Not switched on.
    Off,
    /// As it should be.
    Ok,
    /// Somebody should look.
    Warn,
    /// Something is not done that should be.
    Bad,
}

impl Level {
    /// Class of its look, and its name for programs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// One part at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct PartState {
    /// Which part.
    pub(super) part: &'static str,
    /// How well it is.
    pub(super) level: Level,
    /// Its state in a few words.
    pub(super) word: String,
    /// What else there is to know.
    pub(super) detail: String,
}

/// The signer.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SignerState {
    /// Why it is not ready; `None` if it is.
    pub(super) unready: Option<String>,
    /// Slashing protection.
    pub(super) protection: ProtectionState,
    /// The database.
    pub(super) database: DatabaseState,
    /// What is signed.
    pub(super) signing: SigningState,
    /// What is not.
    pub(super) unsigned: Vec<UnsignedState>,
    /// The keys.
    pub(super) keys: KeysState,
    /// The journal.
    pub(super) audit: AuditState,
}

/// Slashing protection.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ProtectionState {
    /// `serving`, `suspect` (blocks and attestations are refused) or `frozen` (nothing is signed).
    pub(super) state: &'static str,
    /// What was noticed, for people; `None` while it serves.
    pub(super) message: Option<String>,
    /// What is known of a suspicion, as `holdfast slashing status --json` shows it.
    pub(super) suspicion: Option<Value>,
    /// Fences placed by this process.
    pub(super) fences: u64,
    /// Batches that were not committed.
    pub(super) failed_commits: u64,
}

/// The database.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DatabaseState {
    /// `sqlite` or `postgresql`; `None` before it was read.
    pub(super) kind: Option<&'static str>,
    /// `answering`, `waiting` (asked, no answer for seconds), `failing`, or `unknown` before the first answer.
    pub(super) state: &'static str,
    /// Why reading failed.
    pub(super) error: Option<String>,
    /// How long the last read of every key took, in milliseconds.
    pub(super) read_millis: Option<f64>,
    /// 99th percentile of commits of the last minute, in milliseconds; `None` if there were none.
    pub(super) commit_p99_millis: Option<f64>,
    /// Version of the server.
    pub(super) server: Option<String>,
    /// Standbys that commits wait for.
    pub(super) synchronous_standbys: Option<String>,
    /// The signers that share it.
    pub(super) instances: Vec<InstanceState>,
}

/// A signer that shares the database.
#[derive(Debug, Clone, Serialize)]
pub(super) struct InstanceState {
    /// Which.
    pub(super) id: String,
    /// Its machine.
    pub(super) host: String,
    /// Its version.
    pub(super) version: String,
    /// When it committed last, in milliseconds since 1970.
    pub(super) last_seen_unix_millis: u64,
}

/// What is signed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SigningState {
    /// Signatures per second over the last minute.
    pub(super) per_second: f64,
    /// Requests in progress.
    pub(super) in_flight: u64,
    /// Open connections of the signing API.
    pub(super) connections: u64,
    /// Each type of which something was signed, the most frequent first.
    pub(super) kinds: Vec<KindState>,
    /// Signatures per second of the last five minutes, oldest first: seconds ago and rate.
    pub(super) chart: Vec<(f64, f64)>,
}

/// One type of message.
#[derive(Debug, Clone, Serialize)]
pub(super) struct KindState {
    /// Its name.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Signatures since the start.
    pub(super) signed: u64,
    /// Signatures per second over the last minute.
    pub(super) per_second: f64,
    /// Median of the last minute in milliseconds.
    pub(super) p50_millis: Option<f64>,
    /// 99th percentile of the last minute in milliseconds.
    pub(super) p99_millis: Option<f64>,
}

/// Requests that ended without a signature in one way.
#[derive(Debug, Clone, Serialize)]
pub(super) struct UnsignedState {
    /// Type of the message; `unknown` if it could not be read.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// `refused` by protection, `invalid`, `unavailable` or `failed`.
    pub(super) result: String,
    /// The reason that the client was told.
    pub(super) reason: String,
    /// Since the start.
    pub(super) count: u64,
    /// In the last minute.
    pub(super) recent: u64,
}

/// The keys.
#[derive(Debug, Clone, Serialize)]
pub(super) struct KeysState {
    /// Loaded, those switched off among them.
    pub(super) loaded: u64,
    /// Of these switched off.
    pub(super) disabled: u64,
    /// Not opened.
    pub(super) failed: u64,
    /// Providers of the data key.
    pub(super) providers: usize,
    /// Providers that open it.
    pub(super) providers_usable: usize,
    /// How many there are in the database; `None` before it was read.
    pub(super) total: Option<usize>,
    /// Of these enabled, but not loaded or behind the others.
    pub(super) need_a_look: usize,
    /// When the database was read, in milliseconds since 1970.
    pub(super) read_unix_millis: Option<u64>,
    /// The first of them: those that need a look, then in order of entry. `GET /status/keys.json?page=N` has all.
    pub(super) first: Vec<KeyView>,
}

/// The journal.
#[derive(Debug, Clone, Serialize)]
pub(super) struct AuditState {
    /// Records appended since the start.
    pub(super) records: u64,
    /// The last batch that a checkpoint of this process signs; `None` before the first one.
    pub(super) checkpoint_batch: Option<u64>,
    /// When it was signed, in milliseconds since 1970.
    pub(super) checkpoint_unix_millis: Option<u64>,
    /// Anchors and archives that could not be written.
    pub(super) failures: u64,
    /// Whether the last attempt to sign a checkpoint failed.
    pub(super) checkpoint_failing: bool,
}
