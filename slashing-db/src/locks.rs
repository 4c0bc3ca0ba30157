//! Who holds the lock on a file, told by the system.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
#[cfg(feature = "sqlite")]
use std::path::Path;

/// The process that holds an `flock` on a file, by `/proc/locks`, where the system tells.
pub(crate) fn holder(file: &Metadata) -> Option<u32> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    holder_in(&locks, file.dev(), file.ino())
}

/// Whether the system tells who holds locks.
#[cfg(feature = "sqlite")]
pub(crate) fn are_shown() -> bool {
    Path::new("/proc/locks").exists()
}

/// Lines look like `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`, device numbers in hexadecimal.
fn holder_in(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let wanted = format!("{:02x}:{:02x}:{inode}", rustix::fs::major(device), rustix::fs::minor(device));
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next()? == "FLOCK").then_some(())?;
        let pid = words.nth(2)?;
        (words.next()? == wanted).then(|| pid.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_device_and_inode() {
        let locks = "1: POSIX  ADVISORY  READ  77 08:01:42 128 128\n\
                     2: FLOCK  ADVISORY  WRITE 4321 08:01:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 08:01:42 0 EOF\n";
        let device = rustix::fs::makedev(8, 1);
        assert_eq!(holder_in(locks, device, 42), Some(4321));
        assert_eq!(holder_in(locks, device, 43), None);
        assert_eq!(holder_in("", device, 42), None);
    }
}
