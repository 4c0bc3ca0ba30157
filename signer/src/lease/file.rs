//! The file in the data directory that a vault's last checkpoint is kept in. Its content is sealed by the vault, and only
//! witnesses can say whether it is the last; so nothing here has to be trusted.

use std::path::Path;

use holdfast_enclave::DurableError;
use holdfast_enclave::durable::{self, Existing};

const MAGIC: &[u8; 8] = b"HFCKPT1\n";
/// Longest page, as the vault makes them.
const MAX_PAGE: usize = 60 * 1024;

/// Writes pages, all at once.
pub(super) fn write(path: &Path, pages: &[Vec<u8>]) -> Result<(), DurableError> {
    let mut content = MAGIC.to_vec();
    for page in pages {
        content.extend_from_slice(&u32::try_from(page.len()).unwrap_or(u32::MAX).to_be_bytes());
        content.extend_from_slice(page);
    }
    durable::write_private_file(path, &content, Existing::Replace)
}

/// The pages in a file; `None` if it is none.
pub(super) fn read(path: &Path) -> std::io::Result<Option<Vec<Vec<u8>>>> {
    match std::fs::read(path) {
        Ok(content) => Ok(parse(&content)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(content: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = content.strip_prefix(MAGIC)?;
    let mut pages = Vec::new();
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok().filter(|len| *len <= MAX_PAGE)?;
        let (page, after) = after.split_at_checked(len)?;
        pages.push(page.to_vec());
        rest = after;
    }
    Some(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_and_other_files_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        assert_eq!(read(&path).unwrap(), None);
        let pages = vec![vec![1; 100], Vec::new(), vec![2; MAX_PAGE]];
        write(&path, &pages).unwrap();
        assert_eq!(read(&path).unwrap(), Some(pages.clone()));
        write(&path, &pages[..1]).unwrap();
        assert_eq!(read(&path).unwrap(), Some(pages[..1].to_vec()));
        let whole = std::fs::read(&path).unwrap();
        for broken in [&whole[..whole.len() - 1], &whole[1..], b"", b"HFCKPT1\n\xff\xff\xff\xff"] {
            assert_eq!(parse(broken), None);
        }
    }
}
