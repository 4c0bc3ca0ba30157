//! The database as a file: opening, locking, refusing what is not ours, surviving restarts, and the
//! second line of defence in SQL.
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

use std::os::unix::fs::PermissionsExt;

use holdfast_domain::{Epoch, GenesisValidatorsRoot, Slot};
use holdfast_slashing_db::{
    Approval, BindOptions, CallerId, DataKeyId, DataKeyRecord, EntryWatermark, Floor, KeyState, OpenError,
    RegisterError, Registered, SlashingDb, StoreOptions, Switch, Switched, Tombstone,
};
use rusqlite::Connection;
use support::{Home, Intents, caller, chain, key, new_key, register_fresh, slot_clock, start_of};

fn try_open(home: &Home) -> Result<SlashingDb, OpenError> {
    SlashingDb::open(&StoreOptions { path: home.path() })
}

#[tokio::test]
async fn watermarks_survive_a_restart_and_identical_data_is_signed_again() {
    let home = Home::at_slot(1_000);
    let intents = Intents::new();
    let guard = home.open();
    register_fresh(&guard, [key(1)]).await;
    let permit = guard.authorize(intents.block(key(1), 50, 1), caller()).await.unwrap();
    assert!(permit.is_block_proposal());
    assert_eq!((permit.approval(), permit.commit_seq()), (Approval::NewData, 1));
    assert!(!guard.authorize(intents.vote(key(1), 3, 4, 1), caller()).await.unwrap().is_block_proposal());
    // Dropped without a shutdown: the last clone closes and unlocks.
    drop(guard);

    assert_eq!(try_open(&home).unwrap().journal_head().seq, 2);
    let guard = home.open();
    let marks = guard.watermark(&key(1)).await.unwrap().unwrap();
    assert_eq!(marks.block.unwrap().slot, Slot(50));
    assert_eq!(marks.attestation.unwrap().target, Epoch(4));
    let again = guard.authorize(intents.block(key(1), 50, 1), caller()).await.unwrap();
    assert_eq!((again.approval(), again.commit_seq()), (Approval::SameData, 3));
    let other = guard.authorize(intents.block(key(1), 50, 2), caller()).await.unwrap_err();
    assert_eq!(other.reason(), "double_block");
    let again = guard.authorize(intents.vote(key(1), 3, 4, 1), caller()).await.unwrap();
    assert_eq!(again.approval(), Approval::SameData);
    guard.shutdown().await;
    let late = guard.authorize(intents.block(key(1), 51, 1), caller()).await.unwrap_err();
    assert_eq!(late.reason(), "database_unavailable");
}

#[tokio::test]
async fn every_refusal_has_its_word() {
    let home = Home::at_slot(320);
    let intents = Intents::new();
    let guard = home.open();
    let floor = Floor { block: Some(Slot(100)), source: Some(Epoch(3)), target: Some(Epoch(4)) };
    guard.register(new_key(key(1)), EntryWatermark::AtLeast(floor), Tombstone::Refuse).await.unwrap();
    let refused = [
        (intents.block(key(1), 100, 1), "block_slot_below_watermark"),
        (intents.block(key(1), 322, 1), "slot_in_future"),
        (intents.vote(key(1), 5, 4, 1), "source_after_target"),
        (intents.vote(key(1), 2, 5, 1), "source_below_watermark"),
        (intents.vote(key(1), 3, 4, 1), "target_below_watermark"),
        (intents.vote(key(1), 3, 11, 1), "target_in_future"),
        (intents.block(key(1), u64::MAX, 1), "slot_in_future"),
        (intents.vote(key(1), u64::MAX, u64::MAX, 1), "target_in_future"),
        (intents.block(key(2), 200, 1), "key_not_registered"),
        (intents.randao(key(2), 3), "key_not_registered"),
    ];
    for (intent, reason) in refused {
        assert_eq!(guard.authorize(intent, caller()).await.unwrap_err().reason(), reason);
    }
    // One slot beyond the clock is within the tolerance.
    assert!(guard.authorize(intents.block(key(1), 321, 1), caller()).await.is_ok());
    assert!(guard.authorize(intents.vote(key(1), 3, 10, 1), caller()).await.is_ok());
    assert_eq!(guard.authorize(intents.vote(key(1), 4, 10, 1), caller()).await.unwrap_err().reason(), "double_vote");
    assert_eq!(guard.authorize(intents.randao(key(1), 9), caller()).await.unwrap().approval(), Approval::NotSlashable);
    guard.switch(&key(1), Switch::Disable, &caller()).await.unwrap();
    for intent in [intents.block(key(1), 321, 1), intents.randao(key(1), 9)] {
        assert_eq!(guard.authorize(intent, caller()).await.unwrap_err().reason(), "key_disabled");
    }
    assert_eq!(guard.switch(&key(1), Switch::Enable, &caller()).await.unwrap(), Switched::Fenced);
    // Behind the fence what was signed here may be signed again, and nothing else.
    assert!(guard.authorize(intents.block(key(1), 321, 1), caller()).await.is_ok());
    assert_eq!(guard.authorize(intents.block(key(1), 321, 2), caller()).await.unwrap_err().reason(), "double_block");
    assert_eq!(
        guard.authorize(intents.vote(key(1), 9, 10, 1), caller()).await.unwrap_err().reason(),
        "target_below_watermark"
    );
    guard.shutdown().await;
}

/// A key that comes back may have signed elsewhere meanwhile, as after `slashing export --disable`: nothing of that time is
/// signed again. One that was on all the while loses nothing.
async fn enabling_fences_what_was_off(home: Home) {
    let guard = home.open();
    let intents = Intents::new();
    register_fresh(&guard, [key(1), key(2), key(3)]).await;
    for number in 1..=3 {
        assert!(guard.authorize(intents.block(key(number), 400, 1), caller()).await.is_ok());
        assert!(guard.authorize(intents.vote(key(number), 11, 12, 1), caller()).await.is_ok());
    }
    for number in [1, 3] {
        assert_eq!(guard.switch(&key(number), Switch::Disable, &caller()).await.unwrap(), Switched::Plainly);
    }
    let before = guard.watermark(&key(1)).await.unwrap();
    // A week later.
    home.clock.set(start_of(50_400));
    let by = CallerId::new("ann");
    assert_eq!(guard.switch(&key(1), Switch::Enable, &by).await.unwrap(), Switched::Fenced);
    let info = guard.key_info(&key(1)).await.unwrap().unwrap();
    assert_eq!((info.state, &info.changed_by), (KeyState::Enabled, &by));
    let vote = info.watermarks.attestation.unwrap();
    assert_eq!(
        (info.watermarks.block.unwrap().slot, vote.source, vote.target),
        (Slot(50_401), Epoch(1_574), Epoch(1_575))
    );
    for intent in
        [intents.block(key(1), 50_401, 1), intents.vote(key(1), 12, 1_575, 1), intents.vote(key(1), 11, 12, 1)]
    {
        assert!(guard.authorize(intent, caller()).await.is_err());
    }
    // On already: nothing is lost, whoever says so once more.
    let on = guard.watermark(&key(2)).await.unwrap();
    assert_eq!(guard.switch(&key(2), Switch::Enable, &by).await.unwrap(), Switched::Plainly);
    assert_eq!(guard.watermark(&key(2)).await.unwrap(), on);
    assert!(guard.authorize(intents.vote(key(2), 12, 1_575, 1), caller()).await.is_ok());
    // Somebody vouches that what is known is all.
    assert_eq!(guard.switch(&key(3), Switch::EnableUnfenced, &by).await.unwrap(), Switched::Plainly);
    assert_eq!(guard.watermark(&key(3)).await.unwrap(), before);
    assert!(guard.authorize(intents.vote(key(3), 12, 1_575, 1), caller()).await.is_ok());
    // The fence lasts, and ends with its epoch.
    guard.shutdown().await;
    let guard = home.open();
    assert!(guard.authorize(intents.vote(key(1), 1_574, 1_575, 1), caller()).await.is_err());
    home.clock.set(start_of(50_432));
    assert!(guard.authorize(intents.vote(key(1), 1_574, 1_576, 1), caller()).await.is_ok());
    assert!(guard.authorize(intents.block(key(1), 50_432, 1), caller()).await.is_ok());
    // Without a believable clock there is no fence, and without a fence it stays off.
    guard.switch(&key(1), Switch::Disable, &caller()).await.unwrap();
    home.clock.set(holdfast_domain::UnixMillis(1_000));
    assert!(guard.switch(&key(1), Switch::Enable, &caller()).await.is_err());
    assert_eq!(guard.key_info(&key(1)).await.unwrap().unwrap().state, KeyState::Disabled);
    guard.shutdown().await;
}

#[tokio::test]
async fn sqlite_enabling_fences_what_was_off() {
    enabling_fences_what_was_off(Home::at_slot(400)).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn postgres_enabling_fences_what_was_off() {
    enabling_fences_what_was_off(Home::on_postgres(400)).await;
}

#[tokio::test]
async fn another_chain_is_refused_for_every_type_that_names_one() {
    let home = Home::at_slot(320);
    let guard = home.open_with(|options| options.genesis_validators_root = GenesisValidatorsRoot([7; 32]));
    let intents = Intents::new();
    register_fresh(&guard, [key(1)]).await;
    for intent in [intents.block(key(1), 1, 1), intents.vote(key(1), 0, 1, 1), intents.randao(key(1), 1)] {
        let refusal = guard.authorize(intent, caller()).await.unwrap_err();
        assert_eq!(refusal.reason(), "wrong_genesis_validators_root");
    }
    assert!(guard.watermark(&key(1)).await.unwrap().unwrap().block.is_none());
    guard.shutdown().await;

    let db = try_open(&home).unwrap();
    assert_eq!(db.pinned_network(), Some(GenesisValidatorsRoot([7; 32])));
    let options = BindOptions::new(chain(), slot_clock(), home.clock.clone());
    assert!(matches!(db.bind(options), Err(OpenError::WrongNetwork { .. })));
}

#[test]
fn a_second_opener_is_told_who_holds_the_database() {
    let home = Home::at_slot(1);
    let first = try_open(&home).unwrap();
    let Err(OpenError::Locked { holder, .. }) = try_open(&home) else { panic!("opened twice") };
    assert_eq!(holder, Some(std::process::id()));
    drop(first);
    drop(try_open(&home).unwrap());
    // A lock that this crate knows nothing about, as another process holds it.
    let file = std::fs::OpenOptions::new().read(true).write(true).open(home.path()).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = try_open(&home).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }));
    assert!(error.to_string().contains("already open in"), "{error}");
    drop(file);
    drop(try_open(&home).unwrap());
}

#[test]
fn the_file_is_private_and_the_directory_holds_nothing_else() {
    let home = Home::at_slot(1);
    let db = try_open(&home).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for entry in std::fs::read_dir(home.directory.path()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(["holdfast.db", "holdfast.db-wal", "holdfast.db-shm"].contains(&name.as_str()), "{name}");
        assert_eq!(mode(&entry.path()), 0o600, "{name}");
    }
    drop(db);
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = try_open(&home).map(drop).unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn what_is_not_ours_is_refused_untouched() {
    let home = Home::at_slot(1);
    let private = |bytes: &[u8]| {
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(home.path()).unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        std::io::Write::write_all(&mut std::fs::OpenOptions::new().write(true).open(home.path()).unwrap(), bytes)
            .unwrap();
    };
    private(b"slots: 12\n");
    assert!(matches!(try_open(&home), Err(OpenError::NotADatabase { .. })));
    assert_eq!(std::fs::read(home.path()).unwrap(), b"slots: 12\n");

    private(b"");
    Connection::open(home.path()).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
    let before = std::fs::read(home.path()).unwrap();
    assert!(matches!(try_open(&home), Err(OpenError::ForeignDatabase { .. })));
    assert_eq!(std::fs::read(home.path()).unwrap(), before);

    // A good start and garbage after it.
    let mut damaged = before[..100].to_vec();
    damaged.resize(4096, 0xff);
    private(&damaged);
    assert!(try_open(&home).is_err());
}

#[test]
fn a_newer_schema_is_refused() {
    let home = Home::at_slot(1);
    drop(try_open(&home).unwrap());
    let db = Connection::open(home.path()).unwrap();
    db.execute("INSERT INTO schema_version (version) VALUES (99)", []).unwrap();
    drop(db);
    let before = std::fs::read(home.path()).unwrap();
    let error = try_open(&home).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::NewerSchema { found: 99, .. }), "{error}");
    assert_eq!(std::fs::read(home.path()).unwrap(), before);
}

#[tokio::test]
async fn sql_cannot_lower_or_forget_a_watermark() {
    let home = Home::at_slot(1_000);
    let intents = Intents::new();
    let guard = home.open();
    register_fresh(&guard, [key(1)]).await;
    drop(guard.authorize(intents.block(key(1), 50, 1), caller()).await.unwrap());
    drop(guard.authorize(intents.vote(key(1), 3, 4, 1), caller()).await.unwrap());
    // The highest number there is: stored as -1, and still the highest.
    let top = Floor { block: Some(Slot(u64::MAX)), source: Some(Epoch(u64::MAX)), target: Some(Epoch(u64::MAX)) };
    guard.register(new_key(key(2)), EntryWatermark::AtLeast(top), Tombstone::Refuse).await.unwrap();
    let marks = guard.watermark(&key(2)).await.unwrap().unwrap();
    assert_eq!(marks.block.unwrap().slot, Slot(u64::MAX));
    assert_eq!(guard.high_watermarks().await.unwrap().target, Some(Epoch(u64::MAX)));
    guard.shutdown().await;

    let db = Connection::open(home.path()).unwrap();
    for lowering in [
        "UPDATE validators SET max_slot = 49 WHERE id = 1",
        "UPDATE validators SET max_slot = NULL, max_slot_root = NULL WHERE id = 1",
        "UPDATE validators SET max_slot_root = zeroblob(32) WHERE id = 1",
        "UPDATE validators SET max_source = 2 WHERE id = 1",
        "UPDATE validators SET max_target = 3 WHERE id = 1",
        "UPDATE validators SET max_source = NULL, max_target = NULL, attestation_root = NULL WHERE id = 1",
        "UPDATE validators SET attestation_root = zeroblob(32) WHERE id = 1",
        "UPDATE validators SET max_slot = 9223372036854775807 WHERE id = 2",
        "UPDATE validators SET max_slot = -2 WHERE id = 2",
        "UPDATE validators SET max_target = 5 WHERE id = 2",
        "UPDATE validators SET max_source = 5 WHERE id = 2",
        "UPDATE validators SET max_slot_root = zeroblob(32) WHERE id = 2",
        "UPDATE validators SET pubkey = zeroblob(48) WHERE id = 1",
        "DELETE FROM validators",
        "UPDATE journal SET time_ms = 0",
        "UPDATE meta SET genesis_validators_root = zeroblob(32)",
        "UPDATE meta SET genesis_validators_root = NULL",
    ] {
        assert!(db.execute(lowering, []).is_err(), "{lowering}");
    }
    for raising in [
        "UPDATE validators SET max_slot = 51, max_slot_root = NULL WHERE id = 1",
        "UPDATE validators SET max_source = 4, max_target = -7, attestation_root = zeroblob(32) WHERE id = 1",
    ] {
        assert_eq!(db.execute(raising, []), Ok(1), "{raising}");
    }
}

#[tokio::test]
async fn a_key_enters_leaves_and_returns_without_losing_its_watermarks() {
    let home = Home::at_slot(1_000);
    let intents = Intents::new();
    let guard = home.open();
    let enter = |entry, tombstone| guard.register(new_key(key(1)), entry, tombstone);

    let Registered::New(registration) = enter(EntryWatermark::NeverSigned, Tombstone::Refuse).await.unwrap() else {
        panic!("a new key is new");
    };
    assert_eq!(registration.key(), &key(1));
    drop(guard.authorize(intents.block(key(1), 50, 1), caller()).await.unwrap());
    // Again, with a floor: a duplicate, but the floor counts.
    let floor = Floor { block: Some(Slot(60)), ..Floor::default() };
    let duplicate = enter(EntryWatermark::AtLeast(floor), Tombstone::Refuse).await.unwrap();
    assert!(matches!(duplicate, Registered::Duplicate));
    assert_eq!(guard.authorize(intents.block(key(1), 60, 1), caller()).await.unwrap_err().class(), {
        holdfast_slashing_db::Class::Refused
    });
    // Disabled stays disabled when imported again.
    guard.switch(&key(1), Switch::Disable, &CallerId::new("ann")).await.unwrap();
    let seen = Floor { block: Some(Slot(70)), ..Floor::default() };
    assert!(matches!(enter(EntryWatermark::AtLeast(seen), Tombstone::Refuse).await, Ok(Registered::Duplicate)));
    let info = guard.key_info(&key(1)).await.unwrap().unwrap();
    assert_eq!(
        (info.state, info.watermarks.block.unwrap().slot),
        (KeyState::Disabled, Slot(70)),
        "and its history counts"
    );

    assert_eq!(guard.tombstone(&key(1), &CallerId::new("bob")).await.unwrap(), KeyState::Disabled);
    assert!(guard.active_keys().await.unwrap().is_empty());
    assert!(guard.switch(&key(1), Switch::Enable, &caller()).await.is_err());
    assert!(matches!(enter(EntryWatermark::Now, Tombstone::Refuse).await, Err(RegisterError::Tombstoned)));
    let never = enter(EntryWatermark::NeverSigned, Tombstone::Replace).await;
    assert!(matches!(never, Err(RegisterError::AlreadySeen)));
    let info = guard.key_info(&key(1)).await.unwrap().unwrap();
    assert_eq!((info.state, info.changed_by.as_str()), (KeyState::Tombstoned, "bob"));

    let low = Floor { block: Some(Slot(10)), ..Floor::default() };
    assert!(matches!(enter(EntryWatermark::AtLeast(low), Tombstone::Replace).await, Ok(Registered::New(_))));
    let marks = guard.watermark(&key(1)).await.unwrap().unwrap();
    assert_eq!(marks.block.unwrap().slot, Slot(70), "a returning key keeps its watermark");
    assert!(guard.authorize(intents.block(key(1), 71, 1), caller()).await.is_ok());
    guard.shutdown().await;
}

#[tokio::test]
async fn a_second_import_fences_a_key_that_is_off_and_not_one_at_work() {
    let home = Home::at_slot(1_000);
    let guard = home.open();
    register_fresh(&guard, [key(1), key(2)]).await;
    guard.switch(&key(2), Switch::Disable, &caller()).await.unwrap();
    for number in [1, 2] {
        let again = guard.register(new_key(key(number)), EntryWatermark::Now, Tombstone::Refuse).await;
        assert!(matches!(again, Ok(Registered::Duplicate)));
    }
    assert!(guard.watermark(&key(1)).await.unwrap().unwrap().block.is_none());
    assert_eq!(guard.watermark(&key(2)).await.unwrap().unwrap().block.unwrap().slot, Slot(1_001));
    guard.shutdown().await;
}

#[tokio::test]
async fn entering_now_fences_at_the_clock_and_its_tolerance() {
    let home = Home::at_slot(320);
    let intents = Intents::new();
    let guard = home.open();
    guard.register(new_key(key(1)), EntryWatermark::Now, Tombstone::Refuse).await.unwrap();
    let marks = guard.watermark(&key(1)).await.unwrap().unwrap();
    let vote = marks.attestation.unwrap();
    assert_eq!((marks.block.unwrap().slot, vote.source, vote.target), (Slot(321), Epoch(9), Epoch(10)));
    assert!(guard.authorize(intents.block(key(1), 321, 1), caller()).await.is_err());
    assert!(guard.authorize(intents.vote(key(1), 9, 10, 1), caller()).await.is_err());
    home.clock.set(start_of(352));
    assert!(guard.authorize(intents.block(key(1), 352, 1), caller()).await.is_ok());
    assert!(guard.authorize(intents.vote(key(1), 9, 11, 1), caller()).await.is_ok());
    assert_eq!(guard.fence(None, &caller()).await.unwrap(), 1);
    assert_eq!(guard.watermark(&key(1)).await.unwrap().unwrap().block.unwrap().slot, Slot(353));
    // A clock in 1970 would fence nothing: refused.
    home.clock.set(holdfast_domain::UnixMillis(1_000));
    assert!(guard.register(new_key(key(2)), EntryWatermark::Now, Tombstone::Refuse).await.is_err());
    assert!(guard.key_info(&key(2)).await.unwrap().is_none());
    guard.shutdown().await;
}

#[tokio::test]
async fn sealed_keys_and_data_keys_come_back_as_stored() {
    let home = Home::at_slot(1);
    let guard = home.open();
    register_fresh(&guard, (0..3).map(key)).await;
    let record = |wrapped: &[u8]| DataKeyRecord {
        id: DataKeyId(1),
        provider: "file".to_owned(),
        wrapped: wrapped.to_vec(),
        stored: start_of(1),
    };
    guard.put_data_key(record(b"first")).await.unwrap();
    guard.put_data_key(record(b"second")).await.unwrap();
    guard.shutdown().await;
    let guard = home.open();
    assert_eq!(guard.data_keys().await.unwrap(), [record(b"second")]);
    let keys = guard.active_keys().await.unwrap();
    assert_eq!(
        keys.iter().map(|stored| *stored.registration.key()).collect::<Vec<_>>(),
        (0..3).map(key).collect::<Vec<_>>()
    );
    assert!(keys.iter().all(|stored| stored.enabled() && stored.sealed.as_bytes() == [0x5e; 60]));
    let info = guard.list().await.unwrap();
    assert_eq!(info.len(), 3);
    assert_eq!((info[0].created, info[0].created_by.as_str()), (start_of(1), "operator"));
    guard.shutdown().await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_process_that_is_killed() {
    let home = Home::at_slot(1_000);
    let intents = Intents::new();
    let guard = home.open();
    register_fresh(&guard, [key(1)]).await;
    drop(guard.authorize(intents.block(key(1), 50, 1), caller()).await.unwrap());
    // What a killed process leaves: the files as they are, the last commits only in the write-ahead log.
    let left = Home::at_slot(1_000);
    for name in ["holdfast.db", "holdfast.db-wal"] {
        std::fs::copy(home.directory.path().join(name), left.directory.path().join(name)).unwrap();
    }
    let log = left.directory.path().join("holdfast.db-wal");
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    let again = left.open();
    // Taken over into the database and synced before anything is served.
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
    let other = again.authorize(intents.block(key(1), 50, 2), caller()).await.unwrap_err();
    assert_eq!(other.reason(), "double_block");
    let same = again.authorize(intents.block(key(1), 50, 1), caller()).await.unwrap();
    assert_eq!(same.approval(), Approval::SameData);
    again.shutdown().await;
    guard.shutdown().await;
}
