//! Newly enabled keys, on both stores: whatever enables a key notes it in the same transaction, the note survives, and
//! where keys are held back nothing that shows life is signed until somebody says that it is over.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "tests may stop at the first surprise, and use different parts of what they share"
)]

mod support;

use holdfast_domain::{Epoch, PublicKey, Slot, UnixMillis};
use holdfast_slashing_db::journal::{Batch, Outcome, Reader};
use holdfast_slashing_db::{
    Approval, Denial, EntryWatermark, Finding, Floor, Guard, Judged, NewlyEnabled, Objection, Registered, SlashingDb,
    Switch, Then, Tombstone, Withdraw,
};
use rusqlite::Connection;
use support::{Home, Intents, caller, key, new_key, register_fresh, start_of};

async fn watched(guard: &Guard) -> Vec<(PublicKey, UnixMillis)> {
    guard.newly_enabled().await.unwrap().iter().map(|key| (key.key, key.enabled)).collect()
}

async fn only(guard: &Guard) -> NewlyEnabled {
    let keys = guard.newly_enabled().await.unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys[0]
}

async fn judge(guard: &Guard, of: &NewlyEnabled, finding: Finding) {
    guard.judge_newly_enabled(vec![Judged { key: of.key, enabled: of.enabled, finding }]).await.unwrap();
}

async fn every_road_is_noted(home: Home) {
    let guard = home.open();
    register_fresh(&guard, [key(1), key(2)]).await;
    assert_eq!(watched(&guard).await, [1, 2].map(|number| (key(number), start_of(1_000))));
    // Here already: nothing is enabled by that.
    home.clock.set(start_of(1_001));
    let again = guard.register(new_key(key(1)), EntryWatermark::Now, Tombstone::Refuse).await.unwrap();
    assert!(matches!(again, Registered::Duplicate));
    guard.switch(&key(1), Switch::Enable, &caller()).await.unwrap();
    assert_eq!(watched(&guard).await[0], (key(1), start_of(1_000)));
    // Off is not watched; on again is, from then on.
    guard.switch(&key(1), Switch::Disable, &caller()).await.unwrap();
    assert_eq!(watched(&guard).await, [(key(2), start_of(1_000))]);
    home.clock.set(start_of(1_002));
    guard.switch(&key(1), Switch::Enable, &caller()).await.unwrap();
    assert_eq!(watched(&guard).await, [(key(1), start_of(1_002)), (key(2), start_of(1_000))]);
    // A deleted key, and one that comes back with its tombstone replaced.
    guard.tombstone(&key(2), &caller()).await.unwrap();
    assert_eq!(watched(&guard).await.len(), 1);
    home.clock.set(start_of(1_003));
    let back = guard.register(new_key(key(2)), EntryWatermark::Now, Tombstone::Replace).await.unwrap();
    assert!(matches!(back, Registered::New(_)));
    assert_eq!(watched(&guard).await[1], (key(2), start_of(1_003)));
    // Stopped by an export, and a fence changes nothing.
    guard.fence(None, &caller()).await.unwrap();
    assert_eq!(watched(&guard).await.len(), 2);
    guard.export(Some(vec![key(2)]), Then::Stop(Withdraw::Disable), &caller()).await.unwrap();
    assert_eq!(watched(&guard).await, [(key(1), start_of(1_002))]);
    guard.shutdown().await;
    let guard = home.open();
    assert_eq!(watched(&guard).await, [(key(1), start_of(1_002))], "it survives a restart");
    guard.shutdown().await;
}

#[tokio::test]
async fn sqlite_every_road_is_noted() {
    every_road_is_noted(Home::at_slot(1_000)).await;
}

#[tokio::test]
async fn postgres_every_road_is_noted() {
    every_road_is_noted(Home::on_postgres(1_000)).await;
}

async fn findings_count_once_and_only_for_their_time(home: Home) {
    let guard = home.open();
    let floor = Floor { block: Some(Slot(7)), source: Some(Epoch(1)), target: Some(Epoch(2)) };
    guard.register(new_key(key(1)), EntryWatermark::AtLeast(floor), Tombstone::Refuse).await.unwrap();
    let first = only(&guard).await;
    assert_eq!((first.quiet_epochs, first.own_epochs, first.judged_through, first.seen), (0, 0, None, None));
    assert_eq!(first.watermarks.attestation.unwrap().target, Epoch(2));
    judge(&guard, &first, Finding::Quiet(Epoch(40))).await;
    judge(&guard, &first, Finding::Quiet(Epoch(40))).await;
    judge(&guard, &first, Finding::Quiet(Epoch(39))).await;
    judge(&guard, &first, Finding::Own(Epoch(41))).await;
    let now = only(&guard).await;
    assert_eq!((now.quiet_epochs, now.own_epochs, now.judged_through), (1, 1, Some(Epoch(41))));
    // About another time of the key, or no key at all.
    let other = NewlyEnabled { enabled: UnixMillis(first.enabled.0 + 1), ..first };
    for finding in [Finding::Quiet(Epoch(50)), Finding::Seen(Epoch(50)), Finding::Over] {
        judge(&guard, &other, finding).await;
        judge(&guard, &NewlyEnabled { key: key(9), ..first }, finding).await;
    }
    assert_eq!(only(&guard).await, now);
    judge(&guard, &first, Finding::Seen(Epoch(42))).await;
    judge(&guard, &first, Finding::Seen(Epoch(43))).await;
    assert_eq!(only(&guard).await.seen, Some(Epoch(42)), "the first time somebody was seen");
    guard.shutdown().await;
    let guard = home.open();
    assert_eq!(only(&guard).await.seen, Some(Epoch(42)));
    // Off and on again begins anew.
    home.clock.set(start_of(1_500));
    guard.switch(&key(1), Switch::Disable, &caller()).await.unwrap();
    guard.switch(&key(1), Switch::Enable, &caller()).await.unwrap();
    let anew = only(&guard).await;
    assert_eq!((anew.quiet_epochs, anew.own_epochs, anew.judged_through, anew.seen), (0, 0, None, None));
    judge(&guard, &first, Finding::Over).await;
    assert_eq!(only(&guard).await, anew);
    judge(&guard, &anew, Finding::Over).await;
    assert_eq!(watched(&guard).await, []);
    guard.shutdown().await;
}

#[tokio::test]
async fn sqlite_findings_count_once_and_only_for_their_time() {
    findings_count_once_and_only_for_their_time(Home::at_slot(1_000)).await;
}

#[tokio::test]
async fn postgres_findings_count_once_and_only_for_their_time() {
    findings_count_once_and_only_for_their_time(Home::on_postgres(1_000)).await;
}

async fn held_keys_show_no_life(home: Home) {
    let intents = Intents::new();
    let guard = home.open();
    register_fresh(&guard, [key(1), key(2)]).await;
    // Nothing is held back unless somebody asks for it.
    drop(guard.authorize(intents.vote(key(1), 1, 2, 1), caller()).await.unwrap());
    guard.hold_newly_enabled();
    let shows_life = |target: u64| {
        [
            intents.block(key(1), target * 32, 1),
            intents.vote(key(1), target - 1, target, 1),
            intents.aggregate(key(1), target),
        ]
    };
    for intent in shows_life(3) {
        assert_eq!(guard.authorize(intent, caller()).await.unwrap_err().reason(), "doppelganger_pending");
    }
    // Not even what was signed before, while what shows no life is signed.
    let same = guard.authorize(intents.vote(key(1), 1, 2, 1), caller()).await.unwrap_err();
    assert_eq!(same.reason(), "doppelganger_pending");
    assert_eq!(guard.authorize(intents.randao(key(1), 1), caller()).await.unwrap().approval(), Approval::NotSlashable);
    // The rules come first.
    let double = guard.authorize(intents.vote(key(1), 1, 2, 2), caller()).await.unwrap_err();
    assert_eq!(double.reason(), "double_vote");
    let keys = guard.newly_enabled().await.unwrap();
    judge(&guard, &keys[0], Finding::Quiet(Epoch(40))).await;
    assert_eq!(
        guard.authorize(intents.block(key(1), 90, 1), caller()).await.unwrap_err().reason(),
        "doppelganger_pending"
    );
    judge(&guard, &keys[0], Finding::Over).await;
    for intent in shows_life(3) {
        assert!(guard.authorize(intent, caller()).await.is_ok());
    }
    judge(&guard, &keys[1], Finding::Seen(Epoch(41))).await;
    let seen = guard.authorize(intents.block(key(2), 90, 1), caller()).await.unwrap_err();
    assert_eq!(seen.reason(), "doppelganger_detected");
    guard.shutdown().await;

    // It stays so, whatever the next process holds back, and until the key is switched off and on.
    let guard = home.open();
    guard.hold_newly_enabled();
    let seen = guard.authorize(intents.block(key(2), 90, 1), caller()).await.unwrap_err();
    assert_eq!(seen.reason(), "doppelganger_detected");
    assert!(guard.authorize(intents.block(key(1), 97, 1), caller()).await.is_ok());
    guard.switch(&key(2), Switch::Disable, &caller()).await.unwrap();
    guard.switch(&key(2), Switch::Enable, &caller()).await.unwrap();
    let behind = guard.authorize(intents.block(key(2), 90, 1), caller()).await.unwrap_err();
    assert_eq!(
        behind.reason(),
        "block_slot_below_watermark",
        "what the other one signed meanwhile is not contradicted"
    );
    home.clock.set(start_of(2_002));
    let anew = guard.authorize(intents.block(key(2), 2_002, 1), caller()).await.unwrap_err();
    assert_eq!(anew.reason(), "doppelganger_pending");
    // A key that enters while the process runs is held back from its first request on.
    register_fresh(&guard, [key(3)]).await;
    let first = guard.authorize(intents.block(key(3), 90, 1), caller()).await.unwrap_err();
    assert_eq!(first.reason(), "doppelganger_pending");
    guard.shutdown().await;
    let guard = home.open();
    let signed = guard.authorize(intents.block(key(2), 2_002, 1), caller()).await;
    assert!(signed.is_ok(), "a process that holds nothing back");
    let marks = guard.watermark(&key(3)).await.unwrap().unwrap();
    assert!(marks.block.is_none(), "what was held back moved nothing");
    guard.shutdown().await;
}

#[tokio::test]
async fn sqlite_held_keys_show_no_life_and_the_journal_says_why() {
    let home = Home::at_slot(2_000);
    let path = home.path();
    let folder = home.directory.path().to_owned();
    let copy = Home { folder: Some(folder), ..Home::at_slot(2_000) };
    held_keys_show_no_life(copy).await;
    let batches: Vec<Batch> = Reader::open(&path).unwrap().map(Result::unwrap).collect();
    let count = |objection| {
        let wanted = Outcome::Denied(Denial::Objected(objection));
        batches.iter().flat_map(Batch::entries).filter(|entry| entry.outcome == wanted).count()
    };
    assert_eq!(count(Objection::DoppelgangerPending), 7);
    assert_eq!(count(Objection::DoppelgangerDetected), 2);
}

#[tokio::test]
async fn postgres_held_keys_show_no_life() {
    held_keys_show_no_life(Home::on_postgres(2_000)).await;
}

#[tokio::test]
async fn instances_of_one_database_watch_the_same_keys() {
    let first = Home::on_postgres(2_000);
    let second = first.sibling();
    let (one, two) = (first.open(), second.open());
    let intents = Intents::new();
    two.hold_newly_enabled();
    register_fresh(&one, [key(1)]).await;
    assert_eq!(watched(&two).await, [(key(1), start_of(2_000))]);
    let held = two.authorize(intents.block(key(1), 50, 1), caller()).await.unwrap_err();
    assert_eq!(held.reason(), "doppelganger_pending");
    // An instance without the policy signs, and its signature shows in the row.
    drop(one.authorize(intents.vote(key(1), 1, 2, 1), caller()).await.unwrap());
    let seen = only(&two).await;
    assert_eq!(seen.watermarks.attestation.unwrap().target, Epoch(2));
    // Both found the same out: it counts once.
    judge(&one, &seen, Finding::Quiet(Epoch(70))).await;
    judge(&two, &seen, Finding::Quiet(Epoch(70))).await;
    assert_eq!(only(&one).await.quiet_epochs, 1);
    judge(&one, &seen, Finding::Over).await;
    assert!(two.authorize(intents.block(key(1), 50, 1), caller()).await.is_ok());
    one.shutdown().await;
    two.shutdown().await;
}

/// A signer of the version before, which does not know of this, enables a key: the database notes it all the same.
#[tokio::test]
async fn postgres_notes_keys_that_older_programs_enable() {
    let home = Home::on_postgres(2_000);
    let guard = home.open();
    register_fresh(&guard, [key(1)]).await;
    guard.switch(&key(1), Switch::Disable, &caller()).await.unwrap();
    assert_eq!(watched(&guard).await, []);
    let name = home.url.as_ref().unwrap().rsplit('/').next().unwrap().to_owned();
    let cluster = support::postgres::Cluster::shared();
    cluster.sql(&name, "UPDATE holdfast.validators SET state = 0").unwrap();
    let noted = only(&guard).await;
    assert!(noted.enabled > start_of(2_000), "by the server's clock");
    guard.hold_newly_enabled();
    let held = guard.authorize(Intents::new().block(key(1), 50, 1), caller()).await.unwrap_err();
    assert_eq!(held.reason(), "doppelganger_pending");
    guard.shutdown().await;
}

/// Keys of a database of the schema before count as long enabled.
#[tokio::test]
async fn sqlite_keys_of_the_schema_before_are_not_watched() {
    let home = Home::at_slot(2_000);
    let guard = home.open();
    register_fresh(&guard, [key(1)]).await;
    guard.shutdown().await;
    let db = Connection::open(home.path()).unwrap();
    db.execute_batch(
        "DROP TRIGGER deleted_keys_have_no_labels; DROP TABLE key_labels; DROP TABLE newly_enabled;
         ALTER TABLE validators DROP COLUMN watch; DROP TABLE used_approvals; DROP TABLE approval_policy;
         DELETE FROM schema_version WHERE version >= 3",
    )
    .unwrap();
    drop(db);
    assert_eq!(
        SlashingDb::open(&holdfast_slashing_db::StoreOptions { path: home.path() }).unwrap().journal_head().seq,
        0
    );
    let guard = home.open();
    guard.hold_newly_enabled();
    assert_eq!(watched(&guard).await, []);
    assert!(guard.authorize(Intents::new().block(key(1), 50, 1), caller()).await.is_ok());
    guard.switch(&key(1), Switch::Disable, &caller()).await.unwrap();
    guard.switch(&key(1), Switch::Enable, &caller()).await.unwrap();
    assert_eq!(watched(&guard).await.len(), 1);
    guard.shutdown().await;
}
