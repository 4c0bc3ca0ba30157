//! Faults between a program and its operating system, by a small library that the test compiles and
//! loads into the program (`LD_PRELOAD`): a wrong time of day, failed flushes, failed writes.
//!
//! Why so: a disk that fails at a chosen flush and a wrong clock of one process cannot be had from
//! the real system on command, and a switch for them in the product would be a back door. The program
//! under test is the released binary; only answers of the system change.
//!
//! Guarantees: a control that returned is in force for every later call of the program. Without a
//! C compiler (`cc`) the test fails.

use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Places of the shared page, as offsets in bytes; see `shim/shim.c`.
const CLOCK_OFFSET: u64 = 0;
const FLUSH_MODE: u64 = 8;
const FLUSHES_LEFT: u64 = 16;
const WRITE_ERRNO: u64 = 24;
const WRITES_LEFT: u64 = 32;
const FLUSH_HITS: u64 = 40;
const WRITE_HITS: u64 = 48;
const PATTERN: u64 = 64;
const PATTERN_ROOM: usize = 128;
const PAGE: u64 = 4096;

/// `EIO`, the same number on every Linux.
const EIO: i64 = 5;

/// The compiled library.
#[derive(Debug, Clone)]
pub struct Shim {
    library: PathBuf,
}

impl Shim {
    /// Compiles the library into a folder that every account may read.
    pub fn compile(folder: &Path) -> Self {
        let library = folder.join("fault_shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/shim/shim.c");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-pthread", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .output()
            .expect("a C compiler is installed as `cc`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { library }
    }

    /// Makes a page to steer one program with, without any fault.
    pub fn control(&self, page: &Path) -> Control {
        let file = File::options().read(true).write(true).create_new(true).open(page).expect("the page is new");
        file.set_len(PAGE).expect("room for a page");
        // PostgreSQL runs under another account.
        file.set_permissions(std::fs::Permissions::from_mode(0o666)).expect("chmod");
        Control { library: self.library.clone(), page: page.to_owned(), file }
    }
}

/// What a disk does wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// A write fails and changes nothing.
    WriteFails,
    /// A flush is carried out and reported as failed.
    FlushFailsButIsKept,
    /// A flush fails, and what was written since is lost.
    FlushFailsAndLoses,
}

/// Steers the programs that were started with [`Control::environment`].
#[derive(Debug)]
pub struct Control {
    library: PathBuf,
    page: PathBuf,
    file: File,
}

impl Control {
    /// What a program needs in its environment.
    pub fn environment(&self) -> [(String, String); 2] {
        [
            ("LD_PRELOAD".to_owned(), self.library.display().to_string()),
            ("FAULT_SHIM_PAGE".to_owned(), self.page.display().to_string()),
        ]
    }

    /// Sets how far the time of day is off, in nanoseconds.
    pub fn set_clock_offset(&self, nanoseconds: i64) {
        self.store(CLOCK_OFFSET, nanoseconds);
    }

    /// The next call on a file whose path holds `pattern` meets the fault. Replaces one that still waits.
    pub fn arm(&self, fault: DiskFault, pattern: &str) {
        self.disarm();
        let mut text = pattern.as_bytes().to_vec();
        assert!(text.len() < PATTERN_ROOM, "the pattern is too long");
        text.resize(PATTERN_ROOM, 0);
        self.file.write_all_at(&text, PATTERN).expect("the page is writable");
        match fault {
            DiskFault::WriteFails => {
                self.store(WRITE_ERRNO, EIO);
                self.store(WRITES_LEFT, 1);
            }
            DiskFault::FlushFailsButIsKept => {
                self.store(FLUSH_MODE, 1);
                self.store(FLUSHES_LEFT, 1);
            }
            DiskFault::FlushFailsAndLoses => {
                self.store(FLUSH_MODE, 2);
                self.store(FLUSHES_LEFT, 1);
            }
        }
    }

    /// Takes a fault that still waits away.
    pub fn disarm(&self) {
        for place in [FLUSHES_LEFT, WRITES_LEFT, FLUSH_MODE, WRITE_ERRNO] {
            self.store(place, 0);
        }
    }

    /// How many calls failed by a fault so far.
    pub fn hits(&self) -> u64 {
        [FLUSH_HITS, WRITE_HITS].map(|place| self.load(place)).iter().sum()
    }

    fn store(&self, place: u64, value: i64) {
        self.file.write_all_at(&value.to_ne_bytes(), place).expect("the page is writable");
    }

    fn load(&self, place: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, place).expect("the page is readable");
        u64::from_ne_bytes(bytes)
    }
}
