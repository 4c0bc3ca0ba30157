//! Finds the PostgreSQL server programs and runs them as a user PostgreSQL accepts: the server
//! refuses to run as root, so under root everything drops to an unprivileged user first.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Oldest supported major version.
const OLDEST_MAJOR: u32 = 14;

/// An account that may run the server when the tests run as root.
#[derive(Clone, Copy)]
pub(super) struct Account {
    pub(super) user: u32,
    pub(super) group: u32,
}

/// The newest installed PostgreSQL and the account to run it as.
#[derive(Clone)]
pub(super) struct Programs {
    bin: PathBuf,
    pub(super) account: Option<Account>,
}

impl Programs {
    /// Finds them, or panics with what to install.
    pub(super) fn find() -> Self {
        let newest = candidates()
            .into_iter()
            .filter_map(|bin| Some((major_version(&bin)?, bin)))
            .filter(|(major, _)| *major >= OLDEST_MAJOR)
            .max_by_key(|(major, _)| *major);
        let Some((_, bin)) = newest else {
            panic!(
                "no PostgreSQL {OLDEST_MAJOR} or newer server programs found: install them (Debian, Ubuntu: \
                 `apt-get install --no-install-recommends postgresql`; the system service need not run) \
                 or name their folder in HOLDFAST_POSTGRES_BIN"
            )
        };
        let account = rustix::process::geteuid().is_root().then(|| {
            account("postgres")
                .or_else(|| account("nobody"))
                .expect("root needs a user `postgres` or `nobody` to run PostgreSQL as")
        });
        Self { bin, account }
    }

    /// A command on one of the programs, unprivileged, without libpq settings of the user.
    pub(super) fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = match self.account {
            None => Command::new(self.bin.join(program)),
            Some(account) => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={}", account.user))
                    .arg(format!("--regid={}", account.group))
                    .args(["--clear-groups", "--"])
                    .arg(self.bin.join(program));
                command
            }
        };
        clean(&mut command);
        command.current_dir(folder).stdin(Stdio::null());
        command
    }

    /// A `psql`, which needs no dropped rights.
    pub(super) fn psql(&self) -> Command {
        let mut command = Command::new(self.bin.join("psql"));
        clean(&mut command);
        command
    }

    /// User and group the server runs as.
    pub(super) fn ids(&self) -> (u32, u32) {
        let own = || (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        self.account.map_or_else(own, |account| (account.user, account.group))
    }

    /// Hands a file or folder to the account the server runs as.
    pub(super) fn own(&self, path: &Path) {
        if let Some(account) = self.account {
            chown(path, Some(account.user), Some(account.group)).expect("root may change owners");
        }
    }
}

/// A command that needs root, through sudo for others.
pub fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

/// Runs to the end; panics with the output unless it succeeds.
pub(super) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    // No certificates or password files of the user either.
    command.env("LC_ALL", "C").env("HOME", "/nonexistent");
}

fn candidates() -> Vec<PathBuf> {
    if let Some(bin) = std::env::var_os("HOLDFAST_POSTGRES_BIN") {
        return vec![PathBuf::from(bin)];
    }
    let children = |parent: &str, suffix: &str| -> Vec<PathBuf> {
        std::fs::read_dir(parent)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join(suffix)))
            .collect()
    };
    let mut found = children("/usr/lib/postgresql", "bin");
    found.extend(children("/usr", "bin").into_iter().filter(|bin| bin.to_string_lossy().contains("/pgsql-")));
    found.extend([PathBuf::from("/usr/local/pgsql/bin"), PathBuf::from("/usr/libexec/postgresql")]);
    found.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    found
}

/// Major version of a folder that holds every program the tests run.
fn major_version(bin: &Path) -> Option<u32> {
    if !["postgres", "initdb", "pg_basebackup", "psql"].iter().all(|program| bin.join(program).is_file()) {
        return None;
    }
    let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let digits: String =
        text.chars().skip_while(|letter| !letter.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn account(name: &str) -> Option<Account> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.first() == Some(&name)).then_some(())?;
        Some(Account { user: fields.get(2)?.parse().ok()?, group: fields.get(3)?.parse().ok()? })
    })
}
