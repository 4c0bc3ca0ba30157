//! Taking archived batches out between two commits, and the thread that asks for it.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::sync::Arc;

use super::Committer;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use super::{Core, spawn};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::db::Settings;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::error::OpenError;
use crate::error::StoreError;
use crate::journal::{Head, InstanceId};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::journal::{
    Retention,
    retention::{Archiver, Wake},
};
use crate::store::Pruned;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::store::{ReadStore, Store};

impl Committer {
    /// Takes batches out, unless they may be needed to notice that the database lost writes.
    pub(super) fn prune(&mut self, chain: InstanceId, from: Head, upto: Head) -> Result<Pruned, StoreError> {
        let own = chain == self.instance;
        let anchored =
            self.anchor.as_mut().is_none_or(|anchor| anchor.settle().is_some_and(|head| upto.seq < head.seq));
        let Some(store) = &mut self.store else { return Ok(Pruned::Unsettled) };
        if self.suspect.is_some() || self.told.is_some() || (own && (!anchored || store.head().seq <= upto.seq)) {
            return Ok(Pruned::Unsettled);
        }
        let pruned = store.prune(chain, from, upto);
        if let Err(error) = &pruned
            && let Some(reason) = error.freezes()
        {
            self.distrust(reason);
        }
        pruned
    }
}

/// What the archiver starts with.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) type Prepared = (Retention, Box<dyn ReadStore>);

/// Makes the archive's folder, so that a wrong one is noticed at the start, and a way of its own for the archiver to
/// read.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn prepare(settings: &Settings, store: &dyn Store) -> Result<Option<Prepared>, OpenError> {
    let Some(retention) = settings.retention.clone() else { return Ok(None) };
    let made = make_durably(&retention.archive);
    made.map_err(|source| OpenError::Io { action: "make the folder", path: retention.archive.clone(), source })?;
    let reader = store.reader().map_err(|source| OpenError::Database {
        action: "open a reader for",
        path: retention.archive.clone(),
        source: Box::new(source),
    })?;
    Ok(Some((retention, reader)))
}

/// Makes a folder that is still there after a power cut, as the files in it must be.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn make_durably(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let folder = folder.canonicalize()?;
    let device = folder.metadata()?.dev();
    for above in folder.ancestors().skip(1) {
        if above.metadata()?.dev() != device {
            break;
        }
        match std::fs::File::open(above) {
            Ok(above) => above.sync_all()?,
            // Not ours to read, so it was there before.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl Core {
    pub(super) fn start_archiver(
        &mut self,
        retention: Retention,
        store: Box<dyn ReadStore>,
        instance: InstanceId,
    ) -> Result<(), OpenError> {
        let (waker, queue) = std::sync::mpsc::channel::<Wake>();
        let archiver = Archiver {
            retention,
            instance,
            shared: Arc::clone(&self.shared),
            store,
            // Weak: archiving is no reason to keep the committer.
            commands: self.commands().downgrade(),
            queue,
            waiting: Vec::new(),
            stopping: None,
        };
        self.threads.push(spawn("holdfast-archive", move || archiver.run())?);
        self.archiver = Some(waker);
        Ok(())
    }
}
