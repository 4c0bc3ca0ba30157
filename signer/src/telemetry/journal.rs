//! Standard error as a stream of systemd's journal: each line says how serious it is.
//!
//! Why it exists: the journal gives all lines of a stream one priority, so `journalctl --priority warning` would find
//! none of ours. A number in front of a line says it (sd-daemon(3)), and the journal takes that off again. Nothing is put
//! in front where standard error is anything but that stream, as `JOURNAL_STREAM` names it (systemd.exec(5)).

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Writes lines to standard error.
pub(super) struct Lines {
    journal: bool,
}

impl Lines {
    /// Looks at the environment and at standard error.
    pub(super) fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "systemd says it there; it is no setting")]
        let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        Self { journal: !named.is_empty() && stream().is_ok_and(|stream| stream == named) }
    }
}

/// Standard error as the journal names its streams: device and inode.
fn stream() -> io::Result<String> {
    let file = std::fs::File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let metadata = file.metadata()?;
    Ok(format!("{}:{}", metadata.dev(), metadata.ino()))
}

/// What stands in front of a line: the levels of syslog(3) that mean the same.
const fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { prefix: "" }
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> Line {
        Line { prefix: if self.journal { prefix(*metadata.level()) } else { "" } }
    }
}

/// Writes one line, which comes in one piece.
pub(super) struct Line {
    prefix: &'static str,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        if self.prefix.is_empty() {
            stderr.write_all(line)?;
        } else {
            // In one piece: other threads and the vault process write to the same stream.
            stderr.write_all(&[self.prefix.as_bytes(), line].concat())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
