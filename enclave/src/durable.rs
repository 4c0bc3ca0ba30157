//! Private files that survive a power cut: the one home of rename and of directory syncing.
//!
//! Guarantees: when [`write_private_file`] returns, the content and the name are on disk, complete, and
//! readable by their owner only; at no moment does the name show a part of the content or is the
//! content readable by others. [`check_private_permissions`] refuses what others may read, and says
//! which command mends it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{DurableError, PermissionError};

/// What to do if the file is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Leave it and fail: for keys, which must never be overwritten.
    Refuse,
    /// Put the new content in its place, all at once.
    Replace,
}

/// Creates a directory, and its missing parents, with mode 0700. One that exists is checked instead.
///
/// # Errors
///
/// [`DurableError::Permissions`] if it exists and is open to others; [`DurableError::CreateDir`] or
/// [`DurableError::Sync`] if the system refuses.
pub fn create_private_dir(path: &Path) -> Result<(), DurableError> {
    if path.is_dir() {
        return Ok(check_private_permissions(path)?);
    }
    // Each missing parent is synced into the one above it, so that the whole path survives.
    let missing: Vec<&Path> = path.ancestors().take_while(|dir| !is_present(dir)).collect();
    for dir in missing.into_iter().rev() {
        let created = DirBuilder::new().mode(0o700).create(dir);
        match created {
            Ok(()) => sync_dir(parent(dir))?,
            // Somebody else made it between the look and the call.
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(DurableError::CreateDir { path: dir.to_owned(), source }),
        }
    }
    Ok(check_private_permissions(path)?)
}

fn is_present(dir: &Path) -> bool {
    // The empty path is the parent of a relative name: the working directory.
    dir.as_os_str().is_empty() || dir.exists()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) | None => Path::new("."),
    }
}

/// Writes a file with mode 0600: to a temporary name in the same directory, synced, given its name,
/// and the directory synced.
///
/// # Errors
///
/// [`DurableError::Exists`] if it is there and must not be replaced; [`DurableError::Write`] or
/// [`DurableError::Sync`] if the system refuses. After an error from [`DurableError::Sync`] the file may
/// be there, but may not survive a power cut.
pub fn write_private_file(path: &Path, content: &[u8], existing: Existing) -> Result<(), DurableError> {
    stream_private_file(path, existing, |file| file.write_all(content))
}

/// The same for content that `write` produces piece by piece, so that all of it is never in memory.
///
/// # Errors
///
/// As [`write_private_file`]; what `write` complains of is a [`DurableError::Write`], and leaves no file.
pub fn stream_private_file(
    path: &Path,
    existing: Existing,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), DurableError> {
    let failed = |source| DurableError::Write { path: path.to_owned(), source };
    let temporary = temporary_name(path).map_err(failed)?;
    let result = write_new(&temporary, write).map_err(failed).and_then(|()| give_name(&temporary, path, existing));
    if result.is_err() {
        // The first error is the one to report; a left-over temporary file is private and harmless.
        let _ = fs::remove_file(&temporary);
    }
    result?;
    sync_dir(parent(path))
}

/// Syncs a directory that is complete, gives it its name, all at once, and syncs the directory it is in. A name that
/// is taken is left alone. Both names must be in the same directory.
///
/// # Errors
///
/// [`DurableError::Exists`] if the name is taken; [`DurableError::Write`] or [`DurableError::Sync`] if the system refuses.
pub fn publish_dir(complete: &Path, name: &Path) -> Result<(), DurableError> {
    sync_dir(complete)?;
    let taken = || DurableError::Exists { path: name.to_owned() };
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(rustix::fs::CWD, complete, rustix::fs::CWD, name, flags) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Err(taken()),
        // Some filesystems cannot promise that; a directory in the way is seen first, then.
        Err(rustix::io::Errno::INVAL) if name.exists() => return Err(taken()),
        Err(rustix::io::Errno::INVAL) => rename_dir(complete, name)?,
        Err(error) => return Err(DurableError::Write { path: name.to_owned(), source: error.into() }),
    }
    sync_dir(parent(name))
}

#[expect(clippy::disallowed_methods, reason = "the home of rename: both directories are synced around it")]
fn rename_dir(from: &Path, to: &Path) -> Result<(), DurableError> {
    fs::rename(from, to).map_err(|source| DurableError::Write { path: to.to_owned(), source })
}

fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let name =
        path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{:016x}.tmp", u64::from_ne_bytes(random)));
    Ok(path.with_file_name(temporary))
}

fn write_new(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    write(&mut file)?;
    file.sync_all()
}

#[expect(clippy::disallowed_methods, reason = "the home of rename: the content is synced, the directory follows")]
fn give_name(temporary: &Path, path: &Path, existing: Existing) -> Result<(), DurableError> {
    let failed = |source| DurableError::Write { path: path.to_owned(), source };
    match existing {
        Existing::Replace => fs::rename(temporary, path).map_err(failed),
        // A hard link fails if the name is taken, where a rename would replace it.
        Existing::Refuse => {
            fs::hard_link(temporary, path).map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => DurableError::Exists { path: path.to_owned() },
                _ => failed(source),
            })?;
            fs::remove_file(temporary).map_err(failed)
        }
    }
}

fn sync_dir(path: &Path) -> Result<(), DurableError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| DurableError::Sync { path: path.to_owned(), source })
}

/// Refuses a file or directory that anyone but its owner may use, or that belongs to another user
/// (root's is accepted). A symbolic link is judged by what it points to.
///
/// A file of root's that a group may read, and only that, is accepted by any other user: so the system hands over
/// secrets, as a credential of systemd (mode 0440, the group being the mask of an access control list) or a mounted
/// secret of Kubernetes (mode 0440, the pod's group). Who is in that group was root's decision.
///
/// # Errors
///
/// [`PermissionError`], whose text ends with the command that mends it.
pub fn check_private_permissions(path: &Path) -> Result<(), PermissionError> {
    let metadata =
        fs::metadata(path).map_err(|source| PermissionError::Unreadable { path: path.to_owned(), source })?;
    let mode = metadata.mode() & 0o7777;
    let user = rustix::process::geteuid().as_raw();
    if mode & 0o077 != 0 && !(metadata.is_file() && handed_over_by_root(mode, metadata.uid(), user)) {
        let wanted = if metadata.is_dir() { "700" } else { "600" };
        let fix = format!("chmod {wanted} {}", quoted(path));
        return Err(PermissionError::TooOpen { path: path.to_owned(), mode, fix });
    }
    let owner = metadata.uid();
    if owner != user && owner != 0 {
        let (path, fix) = (path.to_owned(), format!("chown {user} {}", quoted(path)));
        return Err(if metadata.is_dir() {
            PermissionError::OthersDirectory { path, owner, fix }
        } else {
            PermissionError::OtherOwner { path, owner, fix }
        });
    }
    Ok(())
}

/// Whether a file's mode is that of a secret which root hands to another user by a group.
fn handed_over_by_root(mode: u32, owner: u32, user: u32) -> bool {
    owner == 0 && user != 0 && mode & 0o7037 == 0
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: modes, refusal to overwrite, replacement, no left-overs, and the command in the error.

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_secret_that_root_hands_over_by_a_group_is_accepted() {
        assert!(handed_over_by_root(0o440, 0, 1000));
        assert!(handed_over_by_root(0o640, 0, 1000));
        assert!(!handed_over_by_root(0o660, 0, 1000), "the group may write");
        assert!(!handed_over_by_root(0o444, 0, 1000), "everybody may read");
        assert!(!handed_over_by_root(0o4440, 0, 1000));
        assert!(!handed_over_by_root(0o440, 0, 0), "root needs nobody to hand it anything");
        assert!(!handed_over_by_root(0o440, 1000, 1000), "not root's");
    }

    #[test]
    fn files_are_private_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.key");
        write_private_file(&path, b"one", Existing::Refuse).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"one".to_vec(), 0o600));
        let refused = write_private_file(&path, b"two", Existing::Refuse);
        assert!(matches!(refused, Err(DurableError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        set_mode(&path, 0o644);
        write_private_file(&path, b"three", Existing::Replace).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"three".to_vec(), 0o600));
        assert_eq!(names(dir.path()), ["file.key"], "no temporary file is left");
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("taken");
        fs::create_dir(&taken).unwrap();
        let failed = write_private_file(&taken, b"one", Existing::Replace);
        assert!(matches!(failed, Err(DurableError::Write { .. })));
        assert_eq!(names(dir.path()), ["taken"]);
        let half = |file: &mut fs::File| file.write_all(b"half").and_then(|()| Err(io::Error::other("no more")));
        let failed = stream_private_file(&dir.path().join("half"), Existing::Replace, half);
        assert!(matches!(failed, Err(DurableError::Write { .. })));
        assert_eq!(names(dir.path()), ["taken"]);
        let failed = write_private_file(&dir.path().join("no/such/dir"), b"one", Existing::Refuse);
        assert!(matches!(failed, Err(DurableError::Write { .. })));
    }

    #[test]
    fn directories_are_private_all_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        create_private_dir(&deep).unwrap();
        assert_eq!((mode(&dir.path().join("a")), mode(&deep)), (0o700, 0o700));
        create_private_dir(&deep).unwrap();
        set_mode(&deep, 0o750);
        assert!(matches!(create_private_dir(&deep), Err(DurableError::Permissions(_))));
        fs::File::create(dir.path().join("file")).unwrap();
        let blocked = create_private_dir(&dir.path().join("file/below"));
        assert!(matches!(blocked, Err(DurableError::CreateDir { .. })));
    }

    #[test]
    fn a_directory_gets_its_name_at_once_and_takes_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let (made, name) = (dir.path().join("made"), dir.path().join("name"));
        create_private_dir(&made).unwrap();
        write_private_file(&made.join("file"), b"one", Existing::Refuse).unwrap();
        create_private_dir(&name).unwrap();
        assert!(matches!(publish_dir(&made, &name), Err(DurableError::Exists { .. })), "not even an empty one");
        fs::remove_dir(&name).unwrap();
        publish_dir(&made, &name).unwrap();
        assert_eq!(
            (names(dir.path()), fs::read(name.join("file")).unwrap()),
            (vec!["name".to_owned()], b"one".to_vec())
        );
        assert!(matches!(publish_dir(&made, &name), Err(DurableError::Sync { .. })));
    }

    #[test]
    fn every_wider_mode_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it's a key");
        fs::File::create(&path).unwrap();
        for bit in [0o001, 0o002, 0o004, 0o010, 0o020, 0o040] {
            set_mode(&path, 0o600 | bit);
            let error = check_private_permissions(&path).unwrap_err();
            let fix = format!("chmod 600 '{}'", path.display().to_string().replace('\'', r"'\''"));
            assert!(error.to_string().ends_with(&fix), "{error}");
            assert!(error.to_string().contains(&format!("{:04o}", 0o600 | bit)), "{error}");
            // The command is real: the shell runs it and the check passes.
            assert!(std::process::Command::new("sh").args(["-c", &fix]).status().unwrap().success());
            check_private_permissions(&path).unwrap();
        }
        set_mode(dir.path(), 0o755);
        let error = check_private_permissions(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with(&format!("chmod 700 {}", dir.path().display())), "{error}");
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let missing = check_private_permissions(Path::new("/no/such/file"));
        assert!(matches!(missing, Err(PermissionError::Unreadable { .. })));
    }
}
