//! What a signer needs besides signing, in numbers: when it was last backed up, and the space that is left where it writes.
//! Read when scraped; what the system does not tell is left out.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use holdfast_domain::UnixMillis;
use holdfast_enclave::DurableError;
use holdfast_enclave::durable::{Existing, write_private_file};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::clock::rfc3339;

/// In the data directory: when the last backup was made, and the SHA-256 of its manifest.
const LAST_BACKUP: &str = "last-backup";

/// Adds the numbers about a data directory to a registry.
pub(crate) fn register(registry: &mut Registry, data_dir: &Path) {
    registry.register_collector(Box::new(Upkeep { data_dir: data_dir.to_owned() }));
}

/// Notes that a backup is complete, where a running server sees it. Whoever makes backups may be another user than the
/// server's, so all may read it who come into the directory: it holds no secret.
///
/// # Errors
/// [`DurableError`]: the backup is as good, but no number tells of it.
pub(crate) fn backed_up(data_dir: &Path, now: UnixMillis, manifest: &str) -> Result<(), DurableError> {
    let path = data_dir.join(LAST_BACKUP);
    write_private_file(&path, format!("{} {manifest}\n", rfc3339(now)).as_bytes(), Existing::Replace)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
        .map_err(|source| DurableError::Write { path, source })
}

/// When the last backup was made; `None` if none is noted.
fn last_backup(data_dir: &Path) -> Option<UnixMillis> {
    let text = std::fs::read_to_string(data_dir.join(LAST_BACKUP)).ok()?;
    UnixMillis::from_rfc3339(text.split_whitespace().next()?)
}

/// Reads when asked.
#[derive(Debug)]
struct Upkeep {
    data_dir: PathBuf,
}

impl Collector for Upkeep {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let last = last_backup(&self.data_dir).map_or(0, |time| time.0 / 1_000);
        let help = "When the last backup of this data directory was made, Unix time; 0: none is known";
        gauge(&mut encoder, "holdfast_backup_last_timestamp_seconds", help, last)?;
        let Ok(filesystem) = rustix::fs::statvfs(&self.data_dir) else { return Ok(()) };
        let free = filesystem.f_bavail.saturating_mul(filesystem.f_frsize);
        let help = "Space that is left for this user where the data directory is";
        gauge(&mut encoder, "holdfast_data_dir_free_bytes", help, free)?;
        let size = filesystem.f_blocks.saturating_mul(filesystem.f_frsize);
        gauge(&mut encoder, "holdfast_data_dir_size_bytes", "Size of the filesystem the data directory is on", size)
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), std::fmt::Error> {
    let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

#[cfg(test)]
mod tests {
    //! Proves: what is noted is told, what is damaged counts as none.
    use super::*;

    fn told(dir: &Path) -> String {
        let mut registry = Registry::default();
        register(&mut registry, dir);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn the_last_backup_and_the_space_are_told() {
        let dir = tempfile::tempdir().unwrap();
        assert!(told(dir.path()).contains("\nholdfast_backup_last_timestamp_seconds 0\n"));
        backed_up(dir.path(), UnixMillis(1_700_000_000_999), "ab").unwrap();
        backed_up(dir.path(), UnixMillis(1_800_000_000_999), "cd").unwrap();
        let path = dir.path().join(LAST_BACKUP);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        let text = told(dir.path());
        assert!(text.contains("\nholdfast_backup_last_timestamp_seconds 1800000000\n"), "{text}");
        let number = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
        };
        assert!((1..=number("holdfast_data_dir_size_bytes")).contains(&number("holdfast_data_dir_free_bytes")));
        write_private_file(&path, b"yesterday", Existing::Replace).unwrap();
        assert!(told(dir.path()).contains("\nholdfast_backup_last_timestamp_seconds 0\n"));
    }
}
