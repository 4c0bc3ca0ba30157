//! Ramdisks whose bytes depend on nothing but what is in them: a "newc" archive without times, owners or inode numbers of
//! the machine that wrote it, compressed by gzip without a name or a time.
//!
//! The compressed bytes are measured, so they also depend on the version of the compressor, which the lock file pins.

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::{Compression, GzBuilder};

use super::EifError;

/// A directory anybody may enter.
const DIRECTORY: u32 = 0o040_755;
/// A file anybody may run.
const PROGRAM: u32 = 0o100_755;
/// Name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// What a ramdisk holds, by path without a leading slash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ramdisk(BTreeMap<String, Option<Vec<u8>>>);

impl Ramdisk {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a directory. Its parents have to be there too.
    #[must_use]
    pub fn directory(mut self, path: &str) -> Self {
        self.0.insert(path.to_owned(), None);
        self
    }

    /// With a program, mode 0755.
    #[must_use]
    pub fn program(mut self, path: &str, content: Vec<u8>) -> Self {
        self.0.insert(path.to_owned(), Some(content));
        self
    }

    /// The archive, not compressed.
    ///
    /// # Errors
    /// If a file is larger than the format can say (4 GiB), or there are as many.
    pub fn to_cpio(&self) -> Result<Vec<u8>, EifError> {
        let mut archive = Vec::new();
        for (number, (path, content)) in (1..).zip(&self.0) {
            match content {
                None => entry(&mut archive, number, path, DIRECTORY, 2, &[])?,
                Some(content) => entry(&mut archive, number, path, PROGRAM, 1, content)?,
            }
        }
        entry(&mut archive, 0, TRAILER, 0, 1, &[])?;
        Ok(archive)
    }

    /// The archive as it goes into an image: compressed.
    ///
    /// # Errors
    /// As [`Self::to_cpio`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, EifError> {
        // 255: no operating system is named.
        let mut encoder = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
        encoder.write_all(&self.to_cpio()?).map_err(EifError::Compress)?;
        encoder.finish().map_err(EifError::Compress)
    }
}

/// One entry: thirteen numbers of eight hexadecimal digits, name and content, each padded to four bytes.
fn entry(
    archive: &mut Vec<u8>,
    number: u32,
    name: &str,
    mode: u32,
    links: u32,
    content: &[u8],
) -> Result<(), EifError> {
    let size = u32::try_from(content.len()).map_err(|_| EifError::TooLarge)?;
    let name_size = u32::try_from(name.len()).ok().and_then(|size| size.checked_add(1)).ok_or(EifError::TooLarge)?;
    // Number, mode, user, group, links, time, size, four device numbers, size of the name with its zero byte, no check sum.
    let fields = [number, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(content);
    pad(archive);
    Ok(())
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_format_says() {
        let archive = Ramdisk::new().program("init", b"hello".to_vec()).directory("dev").to_cpio().unwrap();
        let text = String::from_utf8(archive).unwrap();
        let expected = concat!(
            "07070100000001000041ED000000000000000000000002000000000000000000000000000000000000000000000000",
            "0000000400000000dev\0\0\0",
            "07070100000002000081ED000000000000000000000001000000000000000500000000000000000000000000000000",
            "0000000500000000init\0\0hello\0\0\0",
            "07070100000000000000000000000000000000000000010000000000000000000000000000000000000000000000000000000B00000000",
            "TRAILER!!!\0\0\0\0",
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn the_order_of_adding_does_not_matter() {
        let one = Ramdisk::new().directory("dev").program("init", vec![1]).to_bytes().unwrap();
        let other = Ramdisk::new().program("init", vec![1]).directory("dev").to_bytes().unwrap();
        assert_eq!(one, other);
        assert_eq!(one[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255], "no name, no time, no system");
    }
}
