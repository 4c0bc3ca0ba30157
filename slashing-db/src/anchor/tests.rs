//! What the anchor notices, on a real database: every way to lose writes, and none that loses nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]
#![allow(clippy::disallowed_methods, reason = "a test damages files, it does not keep them")]

use std::fs;
use std::path::PathBuf;

use holdfast_domain::Slot;

use super::RollbackKind as Kind;
use crate::journal::{Outcome, Reader};
use crate::rules::Approval;
use crate::support::{Home, Intents, caller, key, new_key, register_fresh, start_of};
use crate::{
    AdminError, CallerId, EntryWatermark, Guard, GuardHealth, OpenError, RegisterError, SlashingDb, StoreOptions,
    Tombstone,
};

struct Stage {
    home: Home,
    intents: Intents,
}

impl Stage {
    /// A database with two keys, of which key 1 has signed a block at slot 1000, closed in good order.
    async fn new() -> Self {
        let stage = Self { home: Home::at_slot(1_000), intents: Intents::new() };
        let guard = stage.open();
        register_fresh(&guard, [key(1), key(2)]).await;
        stage.sign(&guard, 1_000).await;
        guard.shutdown().await;
        stage
    }

    fn anchor(&self) -> PathBuf {
        self.home.directory.path().join("anchor")
    }

    fn backup(&self) -> PathBuf {
        self.home.directory.path().join("backup")
    }

    fn open(&self) -> Guard {
        self.home.open_with(|options| options.anchor = Some(self.anchor()))
    }

    async fn sign(&self, guard: &Guard, slot: u64) {
        let _permit = guard.authorize(self.intents.block(key(1), slot, 1), caller()).await.unwrap();
    }

    async fn refused(&self, guard: &Guard, number: u32, slot: u64) -> &'static str {
        guard.authorize(self.intents.block(key(number), slot, 2), caller()).await.unwrap_err().reason()
    }

    /// Overwrites the database in place with an older content: same file, less in it.
    fn restore(&self) {
        let old = fs::read(self.backup()).unwrap();
        let file = fs::OpenOptions::new().write(true).truncate(true).open(self.home.path()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &old, 0).unwrap();
    }

    /// The same database again, one signature ago.
    async fn rolled_back() -> Self {
        let stage = Self::new().await;
        fs::copy(stage.home.path(), stage.backup()).unwrap();
        stage.home.clock.set(start_of(1_001));
        let guard = stage.open();
        stage.sign(&guard, 1_001).await;
        guard.shutdown().await;
        stage.restore();
        stage
    }
}

fn kind(guard: &Guard) -> Option<Kind> {
    match guard.health() {
        GuardHealth::Suspect(suspicion) => Some(suspicion.kind),
        GuardHealth::Serving => None,
        GuardHealth::Frozen { reason } => panic!("{reason}"),
    }
}

#[tokio::test]
async fn reopening_raises_no_alarm() {
    let stage = Stage::new().await;
    for slot in 1_001..1_010 {
        stage.home.clock.set(start_of(slot));
        let guard = stage.open();
        assert_eq!(kind(&guard), None);
        stage.sign(&guard, slot).await;
        // Without a shutdown, as if the process had ended.
        drop(guard);
    }
}

#[tokio::test]
async fn a_commit_that_was_never_acknowledged_raises_no_alarm() {
    let stage = Stage::new().await;
    let anchor = fs::read(stage.anchor()).unwrap();
    let guard = stage.open();
    stage.sign(&guard, 1_001).await;
    guard.shutdown().await;
    fs::write(stage.anchor(), anchor).unwrap();
    assert_eq!(kind(&stage.open()), None);
}

#[tokio::test]
async fn lost_writes_freeze_what_is_slashable_until_the_fence() {
    let stage = Stage::rolled_back().await;
    for _ in 0..2 {
        let guard = stage.open();
        let GuardHealth::Suspect(suspicion) = guard.health() else { panic!("{:?}", guard.health()) };
        assert_eq!(suspicion.kind, Kind::JournalShorter);
        assert_eq!(guard.suspected().await, suspicion);
        assert_eq!((suspicion.expected.unwrap().seq, suspicion.found.seq), (2, 1));
        assert_eq!(stage.refused(&guard, 1, 1_001).await, "protection_frozen");
        assert_eq!(stage.refused(&guard, 1, 1_000).await, "double_block", "rules come first");
        let randao = guard.authorize(stage.intents.randao(key(1), 1), caller()).await.unwrap();
        assert_eq!(randao.approval(), Approval::NotSlashable);
        guard.shutdown().await;
        // Putting the database back in place does not help: keys may have been fenced and used since.
    }
    let guard = stage.open();
    assert_eq!(guard.fence(None, &CallerId::new("operator")).await.unwrap(), 2);
    assert_eq!(kind(&guard), None);
    assert_eq!(stage.refused(&guard, 1, 1_001).await, "block_slot_below_watermark");
    assert_eq!(stage.refused(&guard, 1, 1_002).await, "block_slot_below_watermark", "the tolerance is fenced too");
    stage.home.clock.set(start_of(1_003));
    stage.sign(&guard, 1_003).await;
    guard.shutdown().await;
    assert_eq!(kind(&stage.open()), None);
    let batches: Vec<_> = Reader::open(&stage.home.path()).unwrap().map(Result::unwrap).collect();
    let entries = batches.iter().flat_map(crate::journal::Batch::entries);
    let fenced: Vec<_> = entries.filter(|entry| entry.outcome == Outcome::Fenced).collect();
    assert_eq!(fenced.len(), 2);
    assert!(fenced.iter().all(|entry| entry.caller.as_str() == "operator"));
}

#[tokio::test]
async fn some_fenced_keys_sign_and_the_others_do_not() {
    let stage = Stage::rolled_back().await;
    let guard = stage.open();
    assert_eq!(guard.fence(Some(vec![key(2)]), &caller()).await.unwrap(), 1);
    stage.home.clock.set(start_of(1_010));
    for _ in 0..2 {
        assert_eq!(kind(&guard), Some(Kind::JournalShorter));
        assert_eq!(stage.refused(&guard, 2, 1_002).await, "block_slot_below_watermark");
        let _permit = guard.authorize(stage.intents.block(key(2), 1_003, 1), caller()).await.unwrap();
        assert_eq!(stage.refused(&guard, 1, 1_003).await, "protection_frozen");
    }
    guard.shutdown().await;
    // The fence of one key holds over a restart.
    let guard = stage.open();
    let _permit = guard.authorize(stage.intents.block(key(2), 1_004, 1), caller()).await.unwrap();
    assert_eq!(stage.refused(&guard, 1, 1_004).await, "protection_frozen");
    guard.shutdown().await;
    // A second rollback, to before that fence, voids it.
    stage.restore();
    let guard = stage.open();
    assert_eq!(stage.refused(&guard, 2, 1_010).await, "protection_frozen");
}

#[tokio::test]
async fn undoing_the_fence_is_a_rollback_too() {
    let stage = Stage::rolled_back().await;
    let guard = stage.open();
    guard.fence(None, &caller()).await.unwrap();
    guard.shutdown().await;
    stage.restore();
    assert_eq!(kind(&stage.open()), Some(Kind::JournalShorter));
}

#[tokio::test]
async fn copies_and_other_databases_are_noticed() {
    let stage = Stage::new().await;
    fs::copy(stage.home.path(), stage.backup()).unwrap();
    fs::remove_file(stage.home.path()).unwrap();
    // The name is free, the inode may be used again: its time of making is not.
    fs::copy(stage.backup(), stage.home.path()).unwrap();
    assert_eq!(kind(&stage.open()), Some(Kind::Copied));

    let stage = Stage::new().await;
    fs::remove_file(stage.home.path()).unwrap();
    let guard = stage.open();
    assert_eq!(kind(&guard), Some(Kind::OtherDatabase));
    register_fresh(&guard, [key(1)]).await;
    assert_eq!(stage.refused(&guard, 1, 1_000).await, "protection_frozen");
    guard.fence(None, &caller()).await.unwrap();
    assert_eq!(kind(&guard), None);
}

#[tokio::test]
async fn another_history_of_the_same_length_is_noticed() {
    let stage = Stage::new().await;
    fs::copy(stage.home.path(), stage.backup()).unwrap();
    let guard = stage.open();
    stage.sign(&guard, 1_001).await;
    guard.shutdown().await;
    stage.restore();
    // Somebody signs with the old copy and no anchor.
    let guard = stage.home.open();
    let _permit = guard.authorize(stage.intents.block(key(2), 1_001, 9), caller()).await.unwrap();
    guard.shutdown().await;
    assert_eq!(kind(&stage.open()), Some(Kind::JournalDiffers));
}

#[tokio::test]
async fn a_missing_or_damaged_anchor_is_noticed_and_a_torn_one_is_not_lost() {
    let stage = Stage::new().await;
    let whole = fs::read(stage.anchor()).unwrap();
    for place in [0, whole.len() / 2] {
        let mut torn = whole.clone();
        torn[place + 80] ^= 1;
        fs::write(stage.anchor(), torn).unwrap();
        assert_eq!(kind(&stage.open()), None, "one whole record is left");
        fs::write(stage.anchor(), &whole).unwrap();
    }
    fs::write(stage.anchor(), "nonsense").unwrap();
    assert_eq!(kind(&stage.open()), Some(Kind::AnchorUnreadable));

    let stage = Stage::new().await;
    fs::remove_file(stage.anchor()).unwrap();
    let guard = stage.open();
    assert_eq!(kind(&guard), Some(Kind::AnchorMissing));
    guard.fence(None, &caller()).await.unwrap();
    drop(guard);
    assert_eq!(kind(&stage.open()), None);
}

#[tokio::test]
async fn a_journal_cut_while_it_is_open_is_noticed() {
    let stage = Stage::new().await;
    let guard = stage.open();
    let other = rusqlite::Connection::open(stage.home.path()).unwrap();
    other.execute("DELETE FROM journal", []).unwrap();
    assert_eq!(stage.refused(&guard, 2, 1_001).await, "protection_frozen");
    assert_eq!(kind(&guard), Some(Kind::JournalShorter));
    let randao = guard.authorize(stage.intents.randao(key(1), 1), caller()).await.unwrap();
    assert_eq!((randao.approval(), randao.commit_seq()), (Approval::NotSlashable, 1));
    assert_eq!(stage.refused(&guard, 2, 1_001).await, "protection_frozen");
    drop(guard);
    assert_eq!(kind(&stage.open()), Some(Kind::JournalShorter), "and remembered");
}

#[tokio::test]
async fn an_anchor_in_use_is_refused() {
    let stage = Stage::new().await;
    let _guard = stage.open();
    let options = crate::BindOptions {
        anchor: Some(stage.anchor()),
        ..crate::BindOptions::new(crate::support::chain(), crate::support::slot_clock(), stage.home.clock.clone())
    };
    let other = SlashingDb::open(&StoreOptions { path: stage.backup() }).unwrap();
    assert!(matches!(other.bind(options), Err(OpenError::AnchorInUse { .. })));
}

#[tokio::test]
async fn no_fence_is_placed_by_a_clock_that_is_behind_what_was_signed() {
    let stage = Stage::new().await;
    stage.home.clock.set(start_of(900));
    let guard = stage.open();
    assert_eq!(kind(&guard), None);
    let refused = guard.fence(None, &caller()).await.unwrap_err();
    assert!(matches!(refused, AdminError::ClockBehind { now, .. } if now == start_of(900)), "{refused}");
    let new = guard.register(new_key(key(3)), EntryWatermark::Now, Tombstone::Refuse).await;
    assert!(matches!(new, Err(RegisterError::Admin(AdminError::ClockBehind { .. }))), "{new:?}");
    // A little is what setting a clock right costs.
    stage.home.clock.set(start_of(999));
    assert_eq!(guard.fence(None, &caller()).await.unwrap(), 2);
    assert_eq!(guard.watermark(&key(2)).await.unwrap().unwrap().block.unwrap().slot, Slot(1_000));
    guard.shutdown().await;
    stage.home.clock.set(start_of(900));
    let trusting = stage.home.open_with(|options| {
        options.anchor = Some(stage.anchor());
        options.trust_clock = true;
    });
    assert_eq!(trusting.fence(None, &caller()).await.unwrap(), 2);
    assert_eq!(trusting.watermark(&key(2)).await.unwrap().unwrap().block.unwrap().slot, Slot(1_000));
}

#[tokio::test]
async fn a_clock_that_is_behind_makes_no_fence_of_the_marks_that_were_put_back() {
    // Signed up to slot 1001, a slot of tolerance above slot 1000; put back to before that, and the clock before even what was put back.
    let stage = Stage::rolled_back().await;
    stage.home.clock.set(start_of(900));
    let guard = stage.open();
    assert_eq!(kind(&guard), Some(Kind::JournalShorter));
    let GuardHealth::Suspect(suspicion) = guard.health() else { panic!("{:?}", guard.health()) };
    assert_eq!(suspicion.since, start_of(1_000), "the anchor knows that it was later");
    assert!(guard.fence(None, &caller()).await.is_err());
    stage.home.clock.set(start_of(1_002));
    assert_eq!(stage.refused(&guard, 1, 1_002).await, "protection_frozen", "no mark is one of a fence since");
    assert_eq!(guard.fence(None, &caller()).await.unwrap(), 2);
    assert_eq!(kind(&guard), None);
}
