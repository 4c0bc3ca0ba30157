//! What became of each keystore: printed as it happens, counted, and turned into an exit code.

use std::path::Path;

use holdfast_domain::PublicKey;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::super::{Exit, Failure, Output};

/// What became of one keystore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Now in custody.
    Imported,
    /// In custody already, unchanged.
    Duplicate,
    /// Refused: deleted here before.
    Tombstoned,
    /// Not imported.
    Error,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::Duplicate => "duplicate",
            Self::Tombstoned => "tombstoned",
            Self::Error => "error",
        }
    }
}

/// Prints and counts.
pub(super) struct Report {
    output: Output,
    bar: Option<ProgressBar>,
    imported: u64,
    duplicate: u64,
    tombstoned: u64,
    failed: u64,
}

impl Report {
    /// A report on `total` keystores.
    pub(super) fn new(output: Output, total: usize) -> Self {
        let bar = output.has_bar().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} keys  {per_sec}  {eta} left  {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX)).with_style(style)
        });
        Self { output, bar, imported: 0, duplicate: 0, tombstoned: 0, failed: 0 }
    }

    /// One keystore is done.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(super) fn key(
        &mut self,
        status: Status,
        key: Option<&PublicKey>,
        keystore: Option<&Path>,
        reason: Option<&str>,
    ) -> Result<(), Failure> {
        let count = match status {
            Status::Imported => &mut self.imported,
            Status::Duplicate => &mut self.duplicate,
            Status::Tombstoned => &mut self.tombstoned,
            Status::Error => &mut self.failed,
        };
        *count = count.saturating_add(1);
        let failed = self.failed.saturating_add(self.tombstoned);
        let place = keystore.map(|path| path.display().to_string());
        let subject = [key.map(ToString::to_string), place.clone()].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let text = format!(
            "{:<10} {subject}{}",
            status.as_str(),
            reason.map_or_else(String::new, |reason| format!(": {reason}"))
        );
        let value = json!({
            "pubkey": key.map(ToString::to_string),
            "status": status.as_str(),
            "reason": reason,
            "keystore": place,
        });
        match &self.bar {
            Some(bar) => {
                bar.inc(1);
                if failed > 0 {
                    bar.set_message(format!("{failed} failed"));
                }
                bar.suspend(|| self.output.result(text, &value))
            }
            None => self.output.result(text, &value),
        }
    }

    /// Says the totals, and how the command ends.
    pub(super) fn finish(self) -> Exit {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.output.note(format!(
            "{} imported, {} held already, {} refused because deleted before, {} failed.",
            self.imported, self.duplicate, self.tombstoned, self.failed
        ));
        if self.imported > 0 {
            self.output.note("From now on these keys must sign nowhere else: two signers with two databases cannot protect each other.");
        }
        let failed = self.failed > 0 || self.tombstoned > 0;
        if failed { Exit::Refused } else { Exit::Done }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Format, Talk};
    use super::*;

    fn report() -> Report {
        Report::new(Output { format: Format::Text, talk: Talk::Quiet, through: None }, 3)
    }

    #[test]
    fn a_duplicate_is_no_failure_and_a_tombstone_is_one() {
        let mut good = report();
        good.key(Status::Imported, None, None, None).unwrap();
        good.key(Status::Duplicate, None, None, None).unwrap();
        assert_eq!(good.finish(), Exit::Done);
        let mut bad = report();
        bad.key(Status::Tombstoned, None, None, Some("deleted")).unwrap();
        assert_eq!(bad.finish(), Exit::Refused);
    }
}
