//! Looks whether the files of TLS and of the callers have changed, and takes the change over.
//!
//! By looking every few seconds: it works for files that are replaced, written in place, or reached through links
//! that are turned, as Kubernetes does, and on every filesystem.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::{Reloaded, Tls};
use crate::callers::Callers;
use crate::drain::Stopping;
use crate::outcome::chain;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(2);

/// How files looked: device, inode, length, and times of change. `None` for one that cannot be seen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<Option<[i64; 7]>>);

impl Stamps {
    /// Of these files, links followed.
    pub(crate) fn of(files: &[PathBuf]) -> Self {
        Self(files.iter().map(|file| stamp(file)).collect())
    }
}

fn stamp(file: &Path) -> Option<[i64; 7]> {
    let found = std::fs::metadata(file).ok()?;
    let (device, inode, length) = (found.dev().cast_signed(), found.ino().cast_signed(), found.len().cast_signed());
    Some([device, inode, length, found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()])
}

/// Takes over changes until the process stops.
pub(crate) async fn watch(all: Vec<Arc<Tls>>, callers: Arc<Callers>, mut stopping: Stopping) {
    loop {
        tokio::select! {
            () = stopping.begun() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let (all, callers) = (all.clone(), Arc::clone(&callers));
        // Reading files blocks, and opening PKCS#12 stretches a password.
        let looked = tokio::task::spawn_blocking(move || {
            for tls in all.iter().filter(|tls| tls.has_changed()) {
                take_over(tls);
            }
            if callers.has_changed() {
                take_over_callers(&callers);
                // They name certificates by their fingerprints.
                for tls in &all {
                    tls.judge_again();
                }
            }
        });
        if looked.await.is_err() {
            warn!("changes of TLS files and callers could not be looked for: report this as a bug");
        }
    }
}

fn take_over(tls: &Tls) {
    let listener = tls.listener;
    match tls.reload() {
        Ok(Reloaded::Changed) => info!(listener, "TLS files have changed and are in use for new connections"),
        Ok(Reloaded::Unchanged) => {}
        Err(error) => {
            let problem = chain(&error);
            warn!(listener, "TLS files have changed and cannot be used; those of before stay in use: {problem}");
        }
    }
}

fn take_over_callers(callers: &Callers) {
    match callers.reload() {
        Ok(count) => info!(callers = count, "the callers have changed"),
        Err(error) => warn!("the callers have changed and cannot be used; those of before stay: {}", chain(&error)),
    }
}
