//! What lies under a database file: which filesystem.

use std::path::Path;

use crate::error::OpenError;

/// What kind of filesystem a file is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A local disk, as far as is known.
    Local,
    /// Local but forgotten at the next restart of the machine or container.
    Forgetful(&'static str),
    /// Locks and syncs cannot be trusted.
    Network(&'static str),
}

/// Names the filesystem by the `f_type` of `statfs(2)`.
fn classify(magic: u64) -> Kind {
    match magic {
        0x6969 => Kind::Network("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Kind::Network("SMB/CIFS"),
        0x6573_5546 => Kind::Network("FUSE"),
        0x0102_1997 => Kind::Network("9P"),
        0x00c3_6400 => Kind::Network("Ceph"),
        0x0116_1970 => Kind::Network("GFS2"),
        0x5346_414f | 0x6b41_4653 => Kind::Network("AFS"),
        0x7375_7245 => Kind::Network("Coda"),
        0x7461_636f => Kind::Network("OCFS2"),
        0x0bd0_0bd0 => Kind::Network("Lustre"),
        0x1983_0326 => Kind::Network("BeeGFS"),
        0x4750_4653 => Kind::Network("GPFS"),
        0x564c => Kind::Network("NCP"),
        0x2003_0528 => Kind::Network("OrangeFS"),
        0x786f_4256 => Kind::Network("VirtualBox shared folder"),
        0xbacb_acbc => Kind::Network("VMware shared folder"),
        0x0102_1994 => Kind::Forgetful("tmpfs"),
        0x8584_58f6 => Kind::Forgetful("ramfs"),
        0x794c_7630 => Kind::Forgetful("overlayfs, a container's own layer"),
        _ => Kind::Local,
    }
}

/// Refuses network filesystems, and warns about those that forget.
///
/// # Errors
/// [`OpenError::NetworkFilesystem`], or [`OpenError::Io`] if the filesystem cannot be examined.
pub fn require_local(path: &Path) -> Result<(), OpenError> {
    // The file may not exist yet; its directory must.
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let place = if path.exists() { path } else { directory };
    let stat = rustix::fs::statfs(place).map_err(|source| OpenError::Io {
        action: "examine the filesystem of",
        path: place.to_owned(),
        source: source.into(),
    })?;
    // The kernel's numbers have 32 bits; the field is wider, and signed on some machines.
    let magic = u64::try_from(i128::from(stat.f_type) & 0xffff_ffff).unwrap_or_default();
    match classify(magic) {
        Kind::Local => Ok(()),
        Kind::Network(kind) => Err(OpenError::NetworkFilesystem { path: path.to_owned(), kind }),
        Kind::Forgetful(kind) => {
            tracing::warn!(
                path = %path.display(), filesystem = kind,
                "the slashing database is on a filesystem that does not outlive a restart; without it, keys must be fenced again"
            );
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_filesystems_are_known() {
        assert_eq!(classify(0x6969), Kind::Network("NFS"));
        assert_eq!(classify(0xff53_4d42), Kind::Network("SMB/CIFS"));
        assert_eq!(classify(0x6573_5546), Kind::Network("FUSE"));
        assert_eq!(classify(0xef53), Kind::Local);
        assert_eq!(classify(0x0102_1994), Kind::Forgetful("tmpfs"));
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("absent").join("holdfast.db");
        assert!(matches!(require_local(&path), Err(OpenError::Io { .. })));
        assert!(require_local(&directory.path().join("holdfast.db")).is_ok());
    }
}
