//! An export as it comes from the services: written where it was asked for, complete or said not to be.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use holdfast_audit::export::Progress;
use holdfast_audit::verify::resume_export;
use holdfast_enclave::DurableError;
use holdfast_enclave::durable::{Existing, stream_private_file};
use holdfast_slashing_db::journal::InstanceId;
use holdfast_wire::admin::v1::export_audit_response::Part;
use holdfast_wire::admin::v1::{AuditProgress, ExportAuditResponse, ExportedAudit};
use tonic::Streaming;

use super::super::reach::failure;
use super::super::{Exit, Failure};
use crate::admin::pipe::PieceReader;

/// An export that has begun: whatever can be refused was not.
pub(super) struct Taken {
    first: Option<Part>,
    stream: Streaming<ExportAuditResponse>,
}

impl Taken {
    /// Waits for the first piece, so that nothing is written for what is refused.
    pub(super) async fn first(mut stream: Streaming<ExportAuditResponse>) -> Result<Self, Failure> {
        let first = stream.message().await.map_err(failure)?.and_then(|message| message.part);
        Ok(Self { first, stream })
    }

    async fn next(&mut self) -> Result<Part, Failure> {
        let part = match self.first.take() {
            Some(part) => Some(part),
            None => self.stream.message().await.map_err(failure)?.and_then(|message| message.part),
        };
        part.ok_or_else(|| {
            Failure::message(Exit::Unreachable, "the export was cut off; what was written is not complete")
        })
    }

    /// Writes it.
    pub(super) async fn write(mut self, mut out: impl Write) -> Result<ExportedAudit, Failure> {
        let failed = |error: io::Error| {
            Failure::new(Exit::Unreachable, anyhow::Error::new(error).context("the export cannot be written"))
        };
        loop {
            match self.next().await? {
                Part::File(piece) => out.write_all(&piece).map_err(failed)?,
                Part::Exported(exported) => {
                    out.flush().map_err(failed)?;
                    return Ok(exported);
                }
            }
        }
    }

    /// Writes it into a file, durably.
    pub(super) async fn write_synced(self, file: &File, path: &Path) -> Result<ExportedAudit, Failure> {
        let exported = self.write(BufWriter::new(file)).await?;
        file.sync_all().map_err(|error| unwritable(path, error))?;
        Ok(exported)
    }

    /// Writes it into a file that appears when it is complete.
    pub(super) async fn write_whole(mut self, path: PathBuf) -> Result<ExportedAudit, Failure> {
        let (sender, mut reader) = PieceReader::new();
        let writing = tokio::task::spawn_blocking(move || -> Result<(), DurableError> {
            stream_private_file(&path, Existing::Replace, |file| io::copy(&mut reader, file).map(drop))
        });
        let sent = loop {
            match self.next().await {
                // A writer that gave up says why.
                Ok(Part::File(piece)) => {
                    if !piece.is_empty() {
                        drop(sender.send(piece).await);
                    }
                }
                Ok(Part::Exported(exported)) => {
                    drop(sender.send(Vec::new()).await);
                    break Ok(exported);
                }
                Err(failure) => break Err(failure),
            }
        };
        drop(sender);
        let written = writing.await.map_err(|error| Failure::new(Exit::Bug, error))?;
        let exported = sent?;
        written.map_err(|error| Failure::new(Exit::Usage, error))?;
        Ok(exported)
    }
}

fn unwritable(path: &Path, error: io::Error) -> Failure {
    let text = format!("cannot write {}", path.display());
    Failure::new(Exit::Usage, anyhow::Error::new(error).context(text))
}

/// An export that was left, finished or not, to be gone on with.
pub(super) struct Left {
    file: File,
    progress: Progress,
    /// Bytes of it that stay.
    kept: u64,
}

impl Left {
    /// Reads how far it came.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| unwritable(path, error))?;
        let (progress, kept) = resume_export(BufReader::new(&file)).map_err(|broken| {
            let text = format!("{} cannot be gone on with; write a new file", path.display());
            Failure::new(Exit::Refused, anyhow::Error::new(broken).context(text))
        })?;
        Ok(Self { file, progress, kept })
    }

    /// Whose journal it is of.
    pub(super) fn instance(&self) -> InstanceId {
        self.progress.instance()
    }

    /// How far it came; `None` if not even its first line is there.
    pub(super) fn as_message(&self) -> Option<AuditProgress> {
        let (first, written) = self.progress.so_far();
        Some(AuditProgress {
            first: first?.0.to_vec(),
            batch: written.head.seq,
            hash: written.head.hash.0.to_vec(),
            batches: written.batches,
            records: written.records,
            shown: written.shown,
        })
    }

    /// Writes the rest.
    pub(super) async fn go_on(mut self, rest: Taken, path: &Path) -> Result<ExportedAudit, Failure> {
        let place = self.file.set_len(self.kept).and_then(|()| self.file.seek(SeekFrom::Start(self.kept)));
        place.map_err(|error| unwritable(path, error))?;
        rest.write_synced(&self.file, path).await
    }
}
