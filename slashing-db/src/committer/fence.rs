//! Suspicion of the database, and the fence that ends it.
//!
//! Order of a fence: the watermarks rise in one transaction; then journal batches say who fenced which key at
//! what height; only then is the anchor renewed. So an anchor without suspicion always names a
//! journal that holds the fence: a database put back to before the fence is noticed like any other.
//!
//! Suspicion of a shared database is written into it as well, so that it stops every instance: what one of them
//! remembers, the others cannot know. A fence of every key, by whichever instance, takes that away in the transaction
//! that raises the watermarks. The anchor of whoever suspected by itself stays as it is until a fence of its own.

use std::collections::HashSet;

use super::{Committer, Suspect};
use crate::anchor::{RollbackKind, Suspicion};
use crate::error::{AdminError, FreezeReason, StoreError};
use crate::identity::CallerId;
use crate::journal::codec::Encoder;
use crate::journal::merkle::Accumulator;
use crate::journal::{BatchHeader, Entry, Head, Outcome, leaf};
use crate::rules::Watermarks;
use crate::store::{Planned, Row};
use holdfast_domain::{Epoch, ObservedRoot, PublicKey, Slot, Subject, UnixMillis};

/// What became of protection after a failure.
pub(super) enum Distrust {
    /// It goes on for what cannot be slashed.
    Suspect,
    /// The database went away before it could be looked at; it will be looked at again before it is used.
    Later,
    /// It is over.
    Frozen(FreezeReason),
}

impl Committer {
    /// Takes over what the anchor says about the database, and shows it; what others say, if it says nothing.
    pub(super) fn show_suspicion(&mut self) {
        let own = self.anchor.as_ref().and_then(crate::anchor::Anchor::suspicion);
        self.suspect = own.map(|suspicion| Suspect::since(&self.shared, suspicion.since));
        self.unshared = own.map(|suspicion| suspicion.since);
        let head = self.store.as_ref().map_or(Head::EMPTY, |store| store.head());
        let (kind, expected) = (RollbackKind::PeerSuspects, Some(head));
        let told = self.told.map(|since| Suspicion { kind, since, expected, found: head });
        self.shared.show(own.or(told));
    }

    /// Takes over what a shared database said, when it was read last, about who suspects it.
    pub(super) fn listen(&mut self) {
        let Some(store) = &self.store else { return };
        let told = store.suspected();
        if told == self.told {
            return;
        }
        self.told = told;
        // Suspicion of its own says more, and is shown already.
        if self.suspect.is_none() {
            if told.is_none() {
                tracing::info!("the suspicion of another instance ended with a fence of every key");
            }
            self.show_suspicion();
        }
    }

    /// Writes suspicion of its own into a shared database, for the other instances. Until that is done it is tried with
    /// every heartbeat: the database may be away.
    pub(super) fn share(&mut self) {
        let (Some(since), Some(store)) = (self.unshared, &mut self.store) else { return };
        match store.share_suspicion(since) {
            Ok(()) => self.unshared = None,
            Err(error) => {
                let reason = error.freezes();
                // Every second, and the store says by itself when it loses its connection.
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "the other instances cannot be told of the suspicion yet");
                if let Some(reason) = reason {
                    self.freeze(reason);
                }
            }
        }
    }

    /// Acts on a failure after which the database cannot be used as before.
    pub(super) fn distrust(&mut self, reason: FreezeReason) -> Distrust {
        if reason == FreezeReason::JournalHeadMoved {
            match self.suspect_the_journal() {
                Some(Distrust::Frozen(_)) | None => {}
                Some(outcome) => return outcome,
            }
        }
        self.freeze(reason);
        Distrust::Frozen(reason)
    }

    /// Goes on under suspicion after the journal or the server changed while the database was open, as when it
    /// failed over to a copy that lacks commits. `None` if there is no anchor to remember it, or it cannot be written.
    fn suspect_the_journal(&mut self) -> Option<Distrust> {
        let (Some(anchor), Some(store)) = (&mut self.anchor, &mut self.store) else { return None };
        let (expected, noticed) = (store.head(), store.noticed());
        let found = match store.accept_head() {
            Ok(found) => found,
            // Nothing was taken over, so the next transaction notices it again.
            Err(error) if error.freezes().is_none() => return Some(Distrust::Later),
            Err(_) => return None,
        };
        let database = store.identity().ok()?;
        let kind = if found.seq < expected.seq {
            RollbackKind::JournalShorter
        } else {
            noticed.unwrap_or(RollbackKind::JournalMoved)
        };
        let since = self.shared.not_before_reached(self.shared.settings.clock.now());
        let suspicion = Suspicion { kind, since, expected: Some(expected), found };
        if let Err(error) = anchor.suspect(suspicion, database, store.landmarks()) {
            tracing::error!(%error, "cannot write suspicion of the database down");
            // This instance is about to freeze, and a restart may have forgotten why: the others need not.
            drop(store.share_suspicion(since));
            return None;
        }
        self.show_suspicion();
        self.share();
        Some(Distrust::Suspect)
    }

    /// Fences keys, or all of them, and ends suspicion if it was all.
    pub(super) fn fence(&mut self, keys: Option<&[PublicKey]>, by: &CallerId) -> Result<u64, AdminError> {
        let now = self.shared.settings.clock.now();
        let floor = self.shared.fence(now)?;
        let now = self.shared.not_before_reached(now);
        let fenced = self.raise(keys, &floor, by, now);
        if let Err(AdminError::Store(error)) = &fenced
            && let Some(reason) = error.freezes()
        {
            self.distrust(reason);
        }
        let fenced = fenced?;
        self.shared.metrics.fences.inc();
        tracing::warn!(%by, keys = fenced, all = keys.is_none(), "keys were fenced at the present");
        if keys.is_none() {
            if let (Some(anchor), Some(store)) = (&mut self.anchor, &self.store) {
                anchor
                    .clear(store.head(), store.landmarks())
                    .map_err(|source| AdminError::Anchor { path: anchor.path(), source })?;
            }
            self.told = self.store.as_ref().and_then(|store| store.suspected());
            if self.told.is_some() {
                tracing::warn!(
                    "another instance suspects the database since a moment after this fence, by its clock; keys stay \
                     stopped until a fence of its own, or a later one here"
                );
            }
            self.show_suspicion();
        }
        self.listen();
        Ok(fenced)
    }

    fn raise(
        &mut self,
        keys: Option<&[PublicKey]>,
        floor: &Watermarks,
        by: &CallerId,
        now: UnixMillis,
    ) -> Result<u64, AdminError> {
        let Some(store) = &mut self.store else {
            return Err(AdminError::Frozen(self.shared.frozen().unwrap_or(FreezeReason::CommitterGone)));
        };
        let mut named: Vec<PublicKey> = store.reader()?.key_infos(None)?.into_iter().map(|info| info.key).collect();
        if let Some(keys) = keys {
            let wanted: HashSet<&PublicKey> = keys.iter().collect();
            named.retain(|key| wanted.contains(key));
        }
        let found = store.raise(keys.map(|_| named.as_slice()), floor, by, now)?;
        for chunk in named.chunks(self.shared.settings.max_batch.get()) {
            self.journal_fence(chunk, floor, by, now)?;
        }
        Ok(found)
    }

    /// Writes one batch about fenced keys, all of which have rows.
    fn journal_fence(
        &mut self,
        keys: &[PublicKey],
        floor: &Watermarks,
        by: &CallerId,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let instance = self.instance;
        let mut end = Head::EMPTY;
        store.commit_batch(keys, &mut |head, _, rows| {
            let mut encoder = Encoder::new();
            let mut tree = Accumulator::default();
            let mut encoded = Vec::new();
            for (key, row) in keys.iter().zip(rows.iter()) {
                let entry = Entry {
                    caller: by.clone(),
                    key: *key,
                    subject: height(floor, row.as_ref()),
                    root: ObservedRoot::new([0; 32]),
                    outcome: Outcome::Fenced,
                };
                encoder.push(&entry, row.as_ref().map(|row| row.id));
                encoded.clear();
                leaf::write(&entry, now, &mut encoded);
                tree.push(&encoded);
            }
            let header = BatchHeader::following(head, instance, now, tree.root(), tree.count());
            end = header.as_head();
            Planned { header, entries: encoder.finish() }
        })?;
        self.advance(end);
        Ok(())
    }
}

/// The fence as a subject. Before genesis there is none; the row's own marks then say what stays.
fn height(floor: &Watermarks, row: Option<&Row>) -> Subject {
    let own = row.map(|row| row.marks).unwrap_or_default();
    let (block, attestation) = (floor.block.or(own.block), floor.attestation.or(own.attestation));
    Subject::Attestation {
        slot: block.map_or(Slot(0), |mark| mark.slot),
        source: attestation.map_or(Epoch(0), |mark| mark.source),
        target: attestation.map_or(Epoch(0), |mark| mark.target),
    }
}
