//! The SQLite store by itself: what a failed write leaves behind, and who else wrote.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may stop at the first surprise")]

use holdfast_domain::UnixMillis;

use super::*;
use crate::journal::{BatchHeader, Hash};
use crate::support::{Home, key, new_key};

impl SqliteStore {
    /// Lets the database grow to `pages` pages and no further (never below what it has).
    pub(crate) fn limit_pages(&self, pages: u32) {
        self.db.pragma_update(None, "max_page_count", pages).unwrap();
    }
}

fn opened(home: &Home) -> SqliteStore {
    let mut store = SqliteStore::open(&home.path()).unwrap();
    let enroll =
        &mut |_: usize, _: Option<&KeyRow>| Ok(Entry::Enroll(Watermarks::default(), crate::registry::Standing::On));
    for result in store.register(&[new_key(key(1))], UnixMillis(1), enroll).unwrap() {
        assert!(matches!(result, Ok(Registered::New(_))));
    }
    store
}

/// Commits a batch of `size` opaque bytes that raises key 1 to `slot`.
fn commit(store: &mut SqliteStore, slot: u64, size: usize) -> Result<Committed, StoreError> {
    let instance = store.instance;
    store.commit_batch(&[key(1), key(2)], &mut |head, _, rows| {
        assert_eq!(rows.len(), 2);
        assert!(rows[1].is_none(), "key 2 has no row");
        let row = rows[0].as_mut().unwrap();
        let mark = crate::rules::BlockMark { slot: holdfast_domain::Slot(slot), root: None };
        row.marks.block = Some(mark);
        row.changed = true;
        let header = BatchHeader::following(head, instance, UnixMillis(5), Hash([1; 32]), 1);
        Planned { header, entries: vec![7; size] }
    })
}

fn slot_of(store: &SqliteStore) -> Option<u64> {
    let rows = load_rows(&store.db, &[key(1)]).unwrap();
    rows[0].unwrap().marks.block.map(|mark| mark.slot.0)
}

#[test]
fn a_full_database_is_rolled_back_and_recovers() {
    let home = Home::at_slot(1);
    let mut store = opened(&home);
    assert_eq!(commit(&mut store, 5, 10).unwrap().seq(), 1);
    store.limit_pages(1);
    let error = commit(&mut store, 6, 1 << 20).unwrap_err();
    assert_eq!(error.freezes(), None, "{error:?}");
    assert_eq!((slot_of(&store), read_head(&store.db).unwrap().seq), (Some(5), 1));
    store.limit_pages(u32::MAX);
    assert_eq!(commit(&mut store, 6, 1 << 20).unwrap().seq(), 2);
    assert_eq!(slot_of(&store), Some(6));
}

#[test]
fn a_lowered_watermark_freezes() {
    let home = Home::at_slot(1);
    let mut store = opened(&home);
    assert!(commit(&mut store, 5, 10).is_ok());
    let error = commit(&mut store, 4, 10).unwrap_err();
    assert_eq!(error.freezes(), Some(FreezeReason::InvariantViolated));
    assert_eq!(slot_of(&store), Some(5));
}

#[test]
fn a_key_is_on_only_behind_its_fence_whatever_ends_the_switch() {
    let home = Home::at_slot(1);
    let mut store = opened(&home);
    let by = CallerId::new("ann");
    let none = Watermarks::default();
    let at = |slot| Watermarks {
        block: Some(crate::rules::BlockMark { slot: holdfast_domain::Slot(slot), root: None }),
        attestation: None,
    };
    let seen = |store: &SqliteStore| (slot_of(store), find_key(&store.db, &key(1)).unwrap().unwrap().1.state);
    store.switch(&key(1), Switch::Disable, &none, &by, UnixMillis(2)).unwrap();
    // Between the watermarks and the state.
    let stop = "CREATE TRIGGER stop BEFORE UPDATE OF state ON validators BEGIN SELECT RAISE(ABORT, 'stopped'); END";
    store.db.execute_batch(stop).unwrap();
    assert!(store.switch(&key(1), Switch::Enable, &at(70), &by, UnixMillis(3)).is_err());
    assert_eq!(seen(&store), (None, KeyState::Disabled));
    store.db.execute_batch("DROP TRIGGER stop").unwrap();
    let before = store.switch(&key(1), Switch::Enable, &at(70), &by, UnixMillis(4)).unwrap();
    assert_eq!((before, seen(&store)), (Some(KeyState::Disabled), (Some(70), KeyState::Enabled)));
    // On already: it loses nothing.
    let before = store.switch(&key(1), Switch::Enable, &at(80), &by, UnixMillis(5)).unwrap();
    assert_eq!((before, seen(&store)), (Some(KeyState::Enabled), (Some(70), KeyState::Enabled)));
    // And stopping is never a fence.
    store.switch(&key(1), Switch::Disable, &at(90), &by, UnixMillis(6)).unwrap();
    assert_eq!(seen(&store), (Some(70), KeyState::Disabled));
}

#[test]
fn a_moved_journal_head_freezes() {
    let home = Home::at_slot(1);
    for meddling in [
        "DELETE FROM journal",
        "INSERT INTO journal VALUES (9, zeroblob(16), 1, zeroblob(32), zeroblob(32), zeroblob(32), 1, x'01')",
    ] {
        let mut store = opened(&home);
        assert!(commit(&mut store, 5, 10).is_ok());
        let other = Connection::open(home.path()).unwrap();
        other.execute_batch(meddling).unwrap();
        let error = commit(&mut store, 6, 10).unwrap_err();
        assert_eq!(error.freezes(), Some(FreezeReason::JournalHeadMoved), "{meddling}");
        drop((other, store));
        std::fs::remove_file(home.path()).unwrap();
    }
}

#[test]
fn a_writer_that_does_not_let_go_is_a_certain_failure() {
    let home = Home::at_slot(1);
    let mut store = opened(&home);
    store.db.busy_timeout(std::time::Duration::ZERO).unwrap();
    let other = Connection::open(home.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(commit(&mut store, 5, 10).unwrap_err().freezes(), None);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(commit(&mut store, 5, 10).unwrap().seq(), 1);
}

#[test]
fn a_checkpoint_moves_pages_and_loses_nothing() {
    let home = Home::at_slot(1);
    let mut store = opened(&home);
    for slot in 1..=5 {
        assert!(commit(&mut store, slot, 100_000).is_ok());
    }
    let size = || std::fs::metadata(home.path()).unwrap().len();
    let before = size();
    store.pages_since_checkpoint = CHECKPOINT_WHEN_IDLE_PAGES;
    store.tidy(Load::Busy);
    assert_eq!(size(), before, "not under load");
    store.tidy(Load::Idle);
    assert!(size() > before + 400_000);
    assert_eq!(store.pages_since_checkpoint, 0);
    Box::new(store).close();
    let store = SqliteStore::open(&home.path()).unwrap();
    assert_eq!((slot_of(&store), store.head.seq), (Some(5), 5));
}
