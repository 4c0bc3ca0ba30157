//! `holdfast audit` and its options.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use holdfast_domain::{PublicKey, UnixMillis};
use holdfast_slashing_db::journal::InstanceId;

/// `holdfast audit`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Write the journal, or a selection of it, to a file that proves itself
    Export(AuditExportArgs),
    /// Verify an export, a proof or a database, believing nothing but the public key of its checkpoints
    Verify(AuditVerifyArgs),
    /// Verify two exports, and that the newer one goes on where the older one ended, with nothing in it changed
    Consistency(AuditConsistencyArgs),
    /// Write the proof of one record: a file that shows it and hashes of all else
    Prove(AuditProveArgs),
    /// Print the last records of the journal, and with -f those to come
    Tail(AuditTailArgs),
    /// Print the last checkpoint of the journal, for somebody else to keep
    Checkpoint(AuditJournalArgs),
    /// Print the public key of this signer's checkpoints, for auditors
    Key,
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum AuditFormat {
    /// A JSON object a line; the only form that proves itself
    #[default]
    Jsonl,
    /// A table
    Csv,
    /// ArcSight Common Event Format
    Cef,
    /// Open Cybersecurity Schema Framework
    Ocsf,
}

/// Which journal is read.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AuditJournalArgs {
    /// The journal of this signer, where several share a database
    #[arg(long, value_name = "ID", value_parser = instance)]
    pub(crate) instance: Option<InstanceId>,
}

/// Which records are meant.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AuditSelection {
    /// Records from this time on: 2026-07-01, 2026-07-01T12:00:00Z, or 90m, 36h, 7d before now
    #[arg(long, visible_alias = "from", value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<Moment>,
    /// Records before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<Moment>,
    /// Records about this key; may be given several times
    #[arg(long = "key", value_name = "PUBKEY")]
    pub(crate) keys: Vec<PublicKey>,
    /// Records of this caller; may be given several times
    #[arg(long = "caller", visible_alias = "client", value_name = "NAME")]
    pub(crate) callers: Vec<String>,
    /// Records of this kind, such as block, attestation or audit.checkpoint; may be given several times
    #[arg(long = "operation", visible_alias = "kind", value_name = "KIND")]
    pub(crate) operations: Vec<String>,
    /// Requests with this result: signed, refused or fenced; may be given several times
    #[arg(long = "result", visible_alias = "decision", value_name = "RESULT", value_parser = ["signed", "refused", "fenced"])]
    pub(crate) results: Vec<String>,
}

/// `holdfast audit export`
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditExportArgs {
    /// File to write; - for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// Form of the file
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: AuditFormat,
    /// Go on with a file that an earlier export of everything wrote, finished or not
    #[arg(long, conflicts_with_all = ["since", "until", "keys", "callers", "operations", "results"])]
    pub(crate) resume: bool,
    /// Which records
    #[command(flatten)]
    pub(crate) selection: AuditSelection,
    /// Whose journal
    #[command(flatten)]
    pub(crate) journal: AuditJournalArgs,
}

/// `holdfast audit verify`
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditVerifyArgs {
    /// An export, a proof, a copy of an SQLite database, or postgres://user@host:port/database [default: the configured database]
    #[arg(value_name = "FILE|DATABASE")]
    pub(crate) what: Option<String>,
    /// File with the public key of checkpoints, as `holdfast audit key` prints it; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint_key: Vec<PathBuf>,
    /// File with checkpoints that were kept elsewhere: the journal must reach them; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Vec<PathBuf>,
    /// Place where checkpoints were kept: s3://BUCKET/PREFIX, a file, or a folder of files with them (also of a log collector); may be given several times
    #[arg(long, value_name = "PLACE")]
    pub(crate) anchor: Vec<String>,
    /// Leave out checkpoints of --checkpoint and --anchor that were signed later: for an export made before them
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) as_of: Option<Moment>,
    /// Folder with archived batches of the database; may be given several times
    #[arg(long, value_name = "DIR")]
    pub(crate) archive: Vec<PathBuf>,
}

/// `holdfast audit consistency`
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditConsistencyArgs {
    /// The older export
    pub(crate) old: PathBuf,
    /// The newer export
    pub(crate) new: PathBuf,
    /// File with the public key of checkpoints, as `holdfast audit key` prints it; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint_key: Vec<PathBuf>,
}

/// `holdfast audit prove`
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditProveArgs {
    /// Number of the batch with the record
    #[arg(long, value_name = "NUMBER")]
    pub(crate) batch: u64,
    /// Place of the record in its batch, from 0
    #[arg(long, value_name = "NUMBER")]
    pub(crate) index: u64,
    /// File to write; - for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// Whose journal
    #[command(flatten)]
    pub(crate) journal: AuditJournalArgs,
}

/// `holdfast audit tail`
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditTailArgs {
    /// How many records
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 20)]
    pub(crate) lines: usize,
    /// Go on with records as they are written
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Which records
    #[command(flatten)]
    pub(crate) selection: AuditSelection,
    /// Whose journal
    #[command(flatten)]
    pub(crate) journal: AuditJournalArgs,
}

/// A time, or how long before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// That time.
    At(UnixMillis),
    /// So many milliseconds before now.
    Ago(u64),
}

impl Moment {
    /// The time it means now.
    pub(crate) fn time(self, now: UnixMillis) -> UnixMillis {
        match self {
            Self::At(time) => time,
            Self::Ago(millis) => UnixMillis(now.0.saturating_sub(millis)),
        }
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Some(time) = UnixMillis::from_rfc3339(text) {
        return Ok(Moment::At(time));
    }
    let unit = |last| match last {
        'm' => Some(60_000_u64),
        'h' => Some(3_600_000),
        'd' => Some(86_400_000),
        _ => None,
    };
    let ago = text.char_indices().next_back().and_then(|(place, last)| {
        let count: u64 = text.get(..place)?.parse().ok()?;
        count.checked_mul(unit(last)?)
    });
    ago.map(Moment::Ago).ok_or_else(|| "give 2026-07-01, 2026-07-01T12:00:00Z in UTC, or 90m, 36h, 7d".to_owned())
}

fn instance(text: &str) -> Result<InstanceId, String> {
    holdfast_domain::root::parse_hex(text)
        .map(InstanceId)
        .ok_or_else(|| "an instance has 32 hexadecimal digits; `holdfast slashing status` lists them".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_or_spans() {
        let now = UnixMillis(1_000_000_000_000);
        let time = |text: &str| moment(text).map(|moment| moment.time(now).0);
        assert_eq!(time("1970-01-02"), Ok(86_400_000));
        assert_eq!(time("90m"), Ok(now.0 - 5_400_000));
        assert_eq!(time("7d"), Ok(now.0 - 604_800_000));
        for text in ["", "7", "d", "-7d", "7w", "yesterday", "99999999999999999999d", "18446744073709551615d"] {
            assert!(time(text).is_err(), "{text:?}");
        }
    }
}
