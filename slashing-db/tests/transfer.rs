//! Histories in and out of a real database: all or nothing, upward only, and a key that was read out with
//! a stop signs nothing more.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "tests may stop at the first surprise, and use different parts of what they share"
)]

mod support;

use std::collections::BTreeMap;

use holdfast_domain::{Epoch, GenesisValidatorsRoot, PublicKey, Slot};
use holdfast_slashing_db::interchange::{Change, History, Interchange, Rows, SwitchedOff, ValidatorFloor};
use holdfast_slashing_db::{
    AdminError, EntryWatermark, Floor, ImportMode, KeyState, RegisterError, Registered, Switch, Switched, Then,
    Tombstone, Withdraw,
};
use support::{Home, Intents, caller, chain, key, new_key, register_fresh, start_of};

fn history(slot: u64, source: u64, target: u64) -> History {
    let mut floor = ValidatorFloor::default();
    floor.add_block(Slot(slot));
    floor.add_attestation(Epoch(source), Epoch(target));
    History { floor, rows: Rows { blocks: 1, attestations: 1 } }
}

fn histories(list: &[(PublicKey, History)]) -> Interchange {
    Interchange::new(chain(), list.iter().copied().collect::<BTreeMap<_, _>>())
}

#[tokio::test]
async fn an_import_raises_and_never_lowers_and_a_dry_run_says_the_same_and_does_nothing() {
    let home = Home::at_slot(1_000);
    let guard = home.open();
    register_fresh(&guard, [key(1)]).await;
    let file = histories(&[(key(1), history(5, 2, 3)), (key(2), history(7, 1, 1))]);
    let dry = guard.import(file.clone(), ImportMode::DryRun, &caller()).await.unwrap();
    assert_eq!(guard.list().await.unwrap().len(), 1, "a dry run changes nothing");
    let done = guard.import(file.clone(), ImportMode::Commit, &caller()).await.unwrap();
    assert_eq!(dry, done);
    assert_eq!(done.validators.iter().map(|one| one.change).collect::<Vec<_>>(), [Change::Raised, Change::New]);
    let again = guard.import(file, ImportMode::Commit, &caller()).await.unwrap();
    assert!(again.validators.iter().all(|one| one.change == Change::Unchanged));
    let older = histories(&[(key(1), history(4, 1, 9))]);
    guard.import(older, ImportMode::Commit, &caller()).await.unwrap();
    let marks = guard.watermark(&key(1)).await.unwrap().unwrap();
    assert_eq!(marks.block.unwrap().slot, Slot(5));
    let vote = marks.attestation.unwrap();
    assert_eq!((vote.source, vote.target), (Epoch(2), Epoch(9)));
    guard.shutdown().await;
}

#[tokio::test]
async fn another_chain_is_refused() {
    let home = Home::at_slot(1_000);
    let guard = home.open();
    let other = Interchange::new(GenesisValidatorsRoot([9; 32]), [(key(1), history(1, 1, 1))].into());
    let refused = guard.import(other, ImportMode::Commit, &caller()).await;
    assert!(matches!(refused, Err(AdminError::WrongChain { .. })));
    assert!(guard.list().await.unwrap().is_empty());
    guard.shutdown().await;
}

#[tokio::test]
async fn a_key_known_by_its_history_cannot_enter_as_never_signed_and_starts_from_it() {
    let home = Home::at_slot(1_000);
    let guard = home.open();
    guard.import(histories(&[(key(1), history(5, 2, 3))]), ImportMode::Commit, &caller()).await.unwrap();
    assert_eq!(guard.key_info(&key(1)).await.unwrap().unwrap().state, KeyState::Disabled);
    let refused = guard.register(new_key(key(1)), EntryWatermark::NeverSigned, Tombstone::Refuse).await;
    assert!(matches!(refused, Err(RegisterError::AlreadySeen)));
    let floor = Floor { block: Some(Slot(4)), source: Some(Epoch(3)), target: Some(Epoch(3)) };
    let entered = guard.register(new_key(key(1)), EntryWatermark::AtLeast(floor), Tombstone::Refuse).await;
    assert!(matches!(entered, Ok(Registered::New(_))));
    let marks = guard.watermark(&key(1)).await.unwrap().unwrap();
    assert_eq!(marks.block.unwrap().slot, Slot(5));
    assert_eq!(marks.attestation.unwrap().source, Epoch(3));
    guard.shutdown().await;
}

#[tokio::test]
async fn now_and_a_history_takes_the_higher_of_both() {
    let home = Home::at_slot(1_000);
    let guard = home.open();
    let far = Floor { block: Some(Slot(1)), source: Some(Epoch(1)), target: Some(Epoch(1 << 40)) };
    guard.register(new_key(key(1)), EntryWatermark::NowAnd(far), Tombstone::Refuse).await.unwrap();
    let marks = guard.watermark(&key(1)).await.unwrap().unwrap();
    assert!(marks.block.unwrap().slot >= Slot(1_000), "the present is above the history's block");
    assert_eq!(marks.attestation.unwrap().target, Epoch(1 << 40), "the history's vote is above the present");
    guard.shutdown().await;
}

#[tokio::test]
async fn what_is_read_out_with_a_stop_signs_nothing_more_also_after_a_restart() {
    let home = Home::at_slot(1_000);
    let guard = home.open();
    let intents = Intents::new();
    register_fresh(&guard, [key(1), key(2), key(3)]).await;
    guard.import(histories(&[(key(4), history(5, 2, 3))]), ImportMode::Commit, &caller()).await.unwrap();
    let signed = guard.authorize(intents.block(key(1), 6, 1), caller()).await;
    assert!(signed.is_ok());
    let kept = guard.export(None, Then::Keep, &caller()).await.unwrap();
    assert_eq!(kept.len(), 4);
    assert!(kept.is_sorted_by_key(|one| one.key));
    let asked = Some(vec![key(1), key(4), key(9), key(1)]);
    let out = guard.export(asked.clone(), Then::Stop(Withdraw::Disable), &caller()).await.unwrap();
    let of = |wanted: PublicKey| *out.iter().find(|one| one.key == wanted).unwrap();
    assert_eq!(out.len(), 2, "a key never seen is left out, a repeated one counts once");
    assert_eq!((of(key(1)).before, of(key(1)).had_secret), (KeyState::Enabled, true));
    assert_eq!(of(key(1)).watermarks.block.unwrap().slot, Slot(6));
    assert!(!of(key(4)).had_secret);
    let deleted = guard.export(Some(vec![key(2)]), Then::Stop(Withdraw::Tombstone), &caller()).await.unwrap();
    assert!(deleted[0].had_secret);
    guard.shutdown().await;

    let guard = home.open();
    for (stopped, slot) in [(key(1), 7), (key(2), 8)] {
        let refused = guard.authorize(intents.block(stopped, slot, 1), caller()).await;
        assert_eq!(refused.unwrap_err().reason(), "key_disabled");
    }
    assert!(guard.authorize(intents.block(key(3), 9, 1), caller()).await.is_ok(), "others sign on");
    let states: Vec<KeyState> = guard.list().await.unwrap().iter().map(|info| info.state).collect();
    assert_eq!(states, [KeyState::Disabled, KeyState::Tombstoned, KeyState::Enabled, KeyState::Disabled]);
    assert_eq!(guard.active_keys().await.unwrap().len(), 2, "the deleted secret is gone");
    // A second time nothing is new, and the history is handed out again.
    let again = guard.export(Some(vec![key(2)]), Then::Stop(Withdraw::Tombstone), &caller()).await.unwrap();
    assert_eq!((again[0].before, again[0].had_secret), (KeyState::Tombstoned, false));
    assert_eq!(guard.switch(&key(1), Switch::Enable, &caller()).await.unwrap(), Switched::Fenced);
    let past = guard.authorize(intents.block(key(1), 7, 1), caller()).await.unwrap_err();
    assert_eq!(past.reason(), "block_slot_below_watermark", "somebody else may have signed that meanwhile");
    home.clock.set(start_of(1_002));
    assert!(guard.authorize(intents.block(key(1), 1_002, 1), caller()).await.is_ok(), "only an operator enables");
    guard.shutdown().await;
}

/// What a source that knows of states says: all of these keys signed up to slot 5, and these are off.
fn some_off(keys: &[u32], off: &[u32]) -> Interchange {
    let all: Vec<_> = keys.iter().map(|number| (key(*number), history(5, 2, 3))).collect();
    histories(&all).with_switched_off(off.iter().map(|number| key(*number)).collect())
}

async fn keys_off_elsewhere_are_off_here(home: Home) {
    use SwitchedOff::{Already, NotAsked, Noted, Now};
    let guard = home.open();
    let intents = Intents::new();
    register_fresh(&guard, [key(1), key(2), key(3), key(4)]).await;
    guard.switch(&key(3), Switch::Disable, &caller()).await.unwrap();
    guard.tombstone(&key(4), &caller()).await.unwrap();
    guard.import(some_off(&[7], &[]), ImportMode::Commit, &caller()).await.unwrap();
    let file = some_off(&[1, 2, 3, 4, 5, 6, 7], &[2, 3, 4, 6, 7]);
    let dry = guard.import(file.clone(), ImportMode::DryRun, &caller()).await.unwrap();
    let states = |infos: Vec<holdfast_slashing_db::KeyInfo>| infos.iter().map(|info| info.state).collect::<Vec<_>>();
    assert_eq!(states(guard.list().await.unwrap()).len(), 5, "a dry run changes nothing");
    let done = guard.import(file.clone(), ImportMode::Commit, &caller()).await.unwrap();
    assert_eq!(dry, done);
    let off = |report: &holdfast_slashing_db::interchange::ImportReport| {
        report.validators.iter().map(|one| one.switched_off).collect::<Vec<_>>()
    };
    assert_eq!(off(&done), [NotAsked, Now, Already, Already, NotAsked, Noted, Noted]);
    guard.shutdown().await;

    let guard = home.open();
    assert!(guard.authorize(intents.block(key(1), 6, 1), caller()).await.is_ok());
    for number in [2, 3, 4] {
        let refused = guard.authorize(intents.block(key(number), 6, 1), caller()).await;
        assert_eq!(refused.unwrap_err().reason(), "key_disabled", "key {number}");
    }
    // A key that comes in later enters as the source had it, until an operator says otherwise.
    let floor = EntryWatermark::AtLeast(Floor::default());
    let enter = |number: u32| guard.register(new_key(key(number)), floor, Tombstone::Refuse);
    assert!(matches!(enter(5).await, Ok(Registered::New(_))));
    assert!(guard.authorize(intents.block(key(5), 6, 1), caller()).await.is_ok());
    for number in [6, 7] {
        assert!(matches!(enter(number).await, Ok(Registered::SwitchedOff(_))), "key {number}");
        let refused = guard.authorize(intents.block(key(number), 6, 1), caller()).await;
        assert_eq!(refused.unwrap_err().reason(), "key_disabled", "key {number}");
        // Somebody vouches that the history is all there is.
        let switched = guard.switch(&key(number), Switch::EnableUnfenced, &caller()).await.unwrap();
        assert_eq!(switched, Switched::Plainly);
        assert!(guard.authorize(intents.block(key(number), 6, 1), caller()).await.is_ok());
    }
    // The same again switches off again what was enabled since, and says so.
    let again = guard.import(file, ImportMode::Commit, &caller()).await.unwrap();
    assert_eq!(off(&again), [NotAsked, Already, Already, Already, NotAsked, Now, Now]);
    guard.shutdown().await;
}

#[tokio::test]
async fn keys_off_elsewhere_are_off_here_on_sqlite() {
    keys_off_elsewhere_are_off_here(Home::at_slot(1_000)).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn keys_off_elsewhere_are_off_here_on_postgres() {
    keys_off_elsewhere_are_off_here(Home::on_postgres(1_000)).await;
}
