//! One signer on SQLite, in a file system of its own, and at times a second one on a copy of its data directory.
//!
//! The failing disk is the shim's; the full one is a small tmpfs that really is full.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use holdfast_slashing_db::journal::Reader;
use holdfast_tests::postgres::as_root;
use holdfast_tests::shim::DiskFault;
use rand::RngExt;

use crate::instance::copy_folder;
use crate::plan::{Kind, Policy};
use crate::stage::{Cast, Stage};

const LOG: &str = "holdfast.db-wal";
/// Number of the door of the signer on the copy.
const COPY: usize = 1;
/// New signatures that must be lost by a rollback, at least.
const SIGNED_BEFORE_A_ROLLBACK: u64 = 10;

/// A file system of its own, in memory.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts on an existing folder; needs root, or sudo without a password.
    pub(crate) fn new(folder: &Path) -> Self {
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let options = format!("size=192m,mode=0755,uid={user},gid={group}");
        let output = as_root("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder)
            .output()
            .expect("mount is installed");
        assert!(
            output.status.success(),
            "the fault suite mounts a small file system to fill it, which needs root: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self(folder.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = as_root("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// The stage.
pub(crate) struct OnSqlite<'a> {
    pub(crate) cast: Cast<'a>,
    /// The signer on a copied data directory, described but not running.
    pub(crate) copy: crate::instance::Instance,
    /// The root of the small file system.
    pub(crate) disk: PathBuf,
}

impl OnSqlite<'_> {
    fn data(&self) -> PathBuf {
        self.cast.instances[0].data_dir.clone()
    }

    fn backup(&self) -> PathBuf {
        self.disk.join("backup")
    }

    fn journal(&self) -> Result<Vec<(String, Reader)>, String> {
        journal_in("sqlite", &self.data())
    }

    fn policy(&mut self) {
        self.cast.instances[0].policy = if self.cast.rng.random_bool(0.3) { Policy::Fence } else { Policy::Freeze };
    }

    /// Ends the signer: half of the time in good order.
    fn down(&mut self) -> Result<(), String> {
        if self.cast.rng.random_bool(0.5) {
            return self.cast.instances[0].stop();
        }
        self.cast.instances[0].kill();
        Ok(())
    }

    /// Takes a backup of the whole data directory with the signer down, and lets the signer go on from there.
    fn backup_and_go_on(&mut self) -> Result<(), String> {
        self.down()?;
        let _ = fs::remove_dir_all(self.backup());
        copy_folder(&self.data(), &self.backup());
        self.cast.recover(|| ())?;
        self.cast.traffic.progress(self.cast.plan.requests_between / 4, SIGNED_BEFORE_A_ROLLBACK)
    }

    /// Puts files of the backup in place; those the backup lacks are removed.
    fn put_back(&mut self, names: &[&str]) {
        let in_place = self.cast.rng.random_bool(0.5);
        for name in names {
            let (from, to) = (self.backup().join(name), self.data().join(name));
            match fs::read(&from) {
                Ok(content) if in_place && to.exists() => overwrite(&to, &content),
                Ok(_) => {
                    let _ = fs::remove_file(&to);
                    copy_folder(&from, &to);
                }
                Err(_) => drop(fs::remove_file(&to)),
            }
        }
        let _ = fs::remove_file(self.data().join("holdfast.db-shm"));
    }

    /// Starts on what is there now, settles, and compares the journal with what it was.
    fn go_on_after_rollback(&mut self) -> Result<(), String> {
        self.cast.chains.expect_cut();
        self.policy();
        self.cast.instances[0].start(self.cast.traffic)?;
        let froze = self.cast.settle_rollback()?;
        let journal = self.journal()?;
        self.cast.audit(journal, Some(&froze))
    }

    fn older_copy(&mut self) -> Result<(), String> {
        self.backup_and_go_on()?;
        self.down()?;
        let journal = self.journal()?;
        self.cast.audit(journal, None)?;
        self.put_back(&["holdfast.db", LOG]);
        self.go_on_after_rollback()
    }

    fn log_deleted(&mut self) -> Result<(), String> {
        self.cast.instances[0].kill();
        let journal = self.journal()?;
        self.cast.audit(journal, None)?;
        fs::remove_file(self.data().join(LOG)).map_err(|error| format!("no write-ahead log: {error}"))?;
        let _ = fs::remove_file(self.data().join("holdfast.db-shm"));
        self.go_on_after_rollback()
    }

    fn anchor_deleted(&mut self) -> Result<(), String> {
        self.down()?;
        fs::remove_file(self.data().join("anchor")).map_err(|error| format!("no anchor: {error}"))?;
        self.cast.instances[0].policy = Policy::Freeze;
        self.cast.instances[0].start(self.cast.traffic)?;
        let froze = self.cast.settle_rollback()?;
        if froze[0] { Ok(()) } else { Err("a missing anchor went unnoticed".to_owned()) }
    }

    /// The database and its anchor go back into the same files: nothing on the machine can notice, so the operator
    /// places the fence before the signer starts, as the runbook says.
    fn machine_snapshot(&mut self) -> Result<(), String> {
        self.backup_and_go_on()?;
        self.down()?;
        let journal = self.journal()?;
        self.cast.audit(journal, None)?;
        for name in ["holdfast.db", LOG, "anchor"] {
            let (from, to) = (self.backup().join(name), self.data().join(name));
            match fs::read(&from) {
                Ok(content) if to.exists() => overwrite(&to, &content),
                Ok(_) => copy_folder(&from, &to),
                Err(_) => drop(fs::remove_file(&to)),
            }
        }
        let _ = fs::remove_file(self.data().join("holdfast.db-shm"));
        self.cast.chains.expect_cut();
        self.cast.instances[0].fence(self.cast.traffic)?;
        self.cast.instances[0].start(self.cast.traffic)?;
        self.cast.settle_rollback()?;
        let journal = self.journal()?;
        self.cast.audit(journal, None)
    }

    /// A second signer on a copy of the data directory, beside the first and with the same clients.
    fn copied_directory(&mut self) -> Result<(), String> {
        self.down()?;
        let _ = fs::remove_dir_all(&self.copy.data_dir);
        copy_folder(&self.data(), &self.copy.data_dir);
        self.cast.recover(|| ())?;
        self.copy.start(self.cast.traffic)?;
        self.cast.door(COPY, true);
        let went = self.cast.traffic.progress(self.cast.plan.requests_between / 2, SIGNED_BEFORE_A_ROLLBACK);
        for (key, ask) in self.cast.traffic.ledger.newest() {
            for conflict in ask.conflicts() {
                drop(self.copy.ask(self.cast.traffic, key, conflict));
            }
        }
        let state = self.copy.state();
        self.cast.door(COPY, false);
        self.copy.kill();
        went?;
        if !matches!(state, crate::instance::State::Suspects(_)) {
            return Err(format!("the signer on a copied directory is {state:?}"));
        }
        self.cast.traffic.totals.add(|counts| counts.freezes += 1);
        // What the copy signed (nothing slashable) is in its own journal, which ends here.
        let name = format!("copy {}", self.copy.starts);
        let mut journals = journal_in(&name, &self.copy.data_dir)?;
        journals.extend(self.journal()?);
        self.cast.audit(journals, None)
    }

    /// The disk fails once; the signer ends, because it cannot know what was kept, and is started again.
    fn disk_fails(&mut self, fault: DiskFault) -> Result<(), String> {
        let control = self.cast.instances[0].control.clone();
        let before = control.hits();
        control.arm(fault, LOG);
        self.cast.wait_for("the disk fails", || control.hits() > before)?;
        control.disarm();
        self.cast.recover(|| ())
    }

    fn disk_full(&mut self) -> Result<(), String> {
        let ballast = self.disk.join("ballast");
        let before = self.cast.traffic.mark();
        fill(&ballast);
        let refused =
            self.cast.wait_for("a full disk refuses", || self.cast.traffic.mark().unavailable > before.unavailable + 3);
        fs::remove_file(&ballast).expect("the ballast is there");
        refused?;
        self.cast.recover(|| ())
    }
}

impl Stage for OnSqlite<'_> {
    fn hurt(&mut self, kind: Kind) -> Result<(), String> {
        match kind {
            Kind::KillSigner => self.cast.kill_signer(),
            Kind::HangSigner => self.cast.hang_signer(),
            Kind::ClockForward => self.cast.clock_forward(),
            Kind::ClockBack => self.cast.clock_back(),
            Kind::CommitNotKept => self.disk_fails(DiskFault::WriteFails),
            Kind::CommitKept => self.disk_fails(DiskFault::FlushFailsButIsKept),
            Kind::FlushLost => self.disk_fails(DiskFault::FlushFailsAndLoses),
            Kind::DiskFull => self.disk_full(),
            Kind::OlderCopy => self.older_copy(),
            Kind::LogDeleted => self.log_deleted(),
            Kind::AnchorDeleted => self.anchor_deleted(),
            Kind::MachineSnapshot => self.machine_snapshot(),
            Kind::CopiedDirectory => self.copied_directory(),
            Kind::KillDatabase
            | Kind::KillBackend
            | Kind::Cut
            | Kind::HangNetwork
            | Kind::HangDatabase
            | Kind::OlderBackup
            | Kind::Promotion => Err(format!("{} needs a database server", kind.name())),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        self.cast.instances[0].stop()?;
        let journal = self.journal()?;
        self.cast.audit(journal, None)
    }

    fn logs(&self) -> String {
        self.cast.instances[0].log()
    }
}

fn journal_in(name: &str, data: &Path) -> Result<Vec<(String, Reader)>, String> {
    let reader = Reader::open(&data.join("holdfast.db")).map_err(|error| format!("no journal of {name}: {error:?}"))?;
    Ok(vec![(name.to_owned(), reader)])
}

/// Replaces the content of a file, not the file.
fn overwrite(path: &Path, content: &[u8]) {
    let file = OpenOptions::new().write(true).truncate(true).open(path).expect("the file opens");
    file.write_all_at(content, 0).expect("the file is written");
}

/// Fills the file system to the last byte.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("room for a name");
    let block = vec![0_u8; 1 << 16];
    let mut size = block.len();
    while size > 0 {
        match file.write(&block[..size]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
            Err(error) => panic!("the disk cannot be filled: {error}"),
        }
    }
}
