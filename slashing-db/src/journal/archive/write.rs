//! Writing a file: temporary name, flush, rename, flush of the folder.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use holdfast_domain::PublicKey;

use super::{PREAMBLE, RECORD_BATCH, RECORD_END, RECORD_KEY, folder_of, name};
use crate::journal::{BatchHeader, Head, InstanceId};
use crate::store::RowId;

/// A file that is being written. Dropped unfinished, it leaves nothing but a temporary file, which the next
/// writer of the same instance removes.
pub(crate) struct ArchiveWriter {
    out: GzEncoder<BufWriter<File>>,
    folder: PathBuf,
    temporary: PathBuf,
    before: Head,
    last: Head,
    keys: HashSet<RowId>,
    bytes: u64,
}

impl ArchiveWriter {
    /// Begins a file of `chain` that follows `before`. `writer` is the instance that writes it.
    pub(crate) fn create(archive: &Path, writer: InstanceId, chain: InstanceId, before: Head) -> io::Result<Self> {
        let folder = folder_of(archive, chain);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        sync_folder(archive)?;
        let temporary = folder.join(format!("{writer}.tmp"));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let mut out = GzEncoder::new(BufWriter::new(file), Compression::default());
        out.write_all(PREAMBLE)?;
        out.write_all(&chain.0)?;
        write_head(&mut out, &before)?;
        Ok(Self { out, folder, temporary, before, last: before, keys: HashSet::new(), bytes: 0 })
    }

    /// The last batch written.
    pub(crate) fn last(&self) -> Head {
        self.last
    }

    /// Bytes written, before compression.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the next batch of the chain and the keys it refers to.
    pub(crate) fn batch(
        &mut self,
        header: &BatchHeader,
        entries: &[u8],
        keys: &[(RowId, PublicKey)],
    ) -> io::Result<()> {
        for (id, key) in keys {
            if self.keys.insert(*id) {
                self.out.write_all(&[RECORD_KEY])?;
                self.out.write_all(&id.0.to_be_bytes())?;
                self.out.write_all(key.as_bytes())?;
                self.bytes = self.bytes.saturating_add(57);
            }
        }
        let length = u32::try_from(entries.len()).map_err(|_| io::Error::other("a batch of more than 4 GiB"))?;
        self.out.write_all(&[RECORD_BATCH])?;
        self.out.write_all(&header.time.0.to_be_bytes())?;
        self.out.write_all(&header.hash.0)?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(entries)?;
        self.bytes = self.bytes.saturating_add(u64::from(length)).saturating_add(45);
        self.last = header.as_head();
        Ok(())
    }

    /// Makes the file durable under its name.
    pub(crate) fn finish(mut self) -> io::Result<PathBuf> {
        self.out.write_all(&[RECORD_END])?;
        write_head(&mut self.out, &self.last)?;
        let file = self.out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let path = self.folder.join(name(self.before.seq.saturating_add(1), &self.last));
        #[expect(clippy::disallowed_methods, reason = "the file was flushed before, and the folder is after")]
        std::fs::rename(&self.temporary, &path)?;
        sync_folder(&self.folder)?;
        Ok(path)
    }
}

fn write_head(out: &mut impl Write, head: &Head) -> io::Result<()> {
    out.write_all(&head.seq.to_be_bytes())?;
    out.write_all(&head.hash.0)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
