//! Replacing the data key, on both stores: all or nothing, only if nothing has moved, and nothing sealed under the old one
//! comes in afterwards.
#![cfg(feature = "sqlite")]
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests may stop at the first surprise, and use different parts of what they share"
)]

mod support;

use holdfast_slashing_db::{
    AdminError, DataKeyId, DataKeyRecord, EntryWatermark, Guard, NewKey, Replaced, Resealed, SealedKey, Tombstone,
};
use support::{Home, Intents, caller, key, new_key, register_fresh, start_of};

fn record(id: u32) -> DataKeyRecord {
    DataKeyRecord { id: DataKeyId(id), provider: "file".to_owned(), wrapped: vec![7; 90], stored: start_of(1) }
}

/// The stored keys, and what they are to become.
async fn anew(guard: &Guard, byte: u8) -> Vec<Resealed> {
    let stored = guard.active_keys().await.unwrap();
    let resealed = |stored: &holdfast_slashing_db::StoredKey| Resealed {
        key: *stored.registration.key(),
        before: stored.sealed.clone(),
        after: SealedKey::new(vec![byte; 60]),
    };
    stored.iter().map(resealed).collect()
}

async fn sealed(guard: &Guard) -> Vec<Vec<u8>> {
    guard.active_keys().await.unwrap().iter().map(|stored| stored.sealed.as_bytes().to_vec()).collect()
}

async fn data_keys(guard: &Guard) -> Vec<u32> {
    guard.data_keys().await.unwrap().iter().map(|record| record.id.0).collect()
}

async fn import_under(guard: &Guard, number: u32, data_key: u32) -> Result<(), AdminError> {
    let sealed = new_key(key(number)).sealed.under(Some(DataKeyId(data_key)));
    let new = NewKey { sealed, ..new_key(key(number)) };
    let mut done = guard.register_many(vec![(new, EntryWatermark::NeverSigned)], Tombstone::Refuse).await?;
    done.pop().unwrap().unwrap();
    Ok(())
}

async fn exchanged_together_or_not_at_all(home: &Home) {
    let guard = home.open();
    register_fresh(&guard, (0..5).map(key)).await;
    guard.put_data_key(record(1)).await.unwrap();
    let before = sealed(&guard).await;

    // Another data key, a key too few, a key that is not as it was read, one that is unknown: nothing happens.
    let good = anew(&guard, 1).await;
    let few = good[..4].to_vec();
    let mut changed = good.clone();
    changed[4].before = SealedKey::new(vec![9; 60]);
    let mut unknown = good.clone();
    unknown[0].key = key(99);
    let twice = [&good[..4], &good[..1]].concat();
    for (old, keys) in [(2, good.clone()), (1, few), (1, changed), (1, unknown), (1, twice)] {
        let replaced = guard.replace_data_key(DataKeyId(old), record(2), keys).await.unwrap();
        assert_eq!(replaced, Replaced::Moved);
        assert_eq!((sealed(&guard).await, data_keys(&guard).await), (before.clone(), vec![1]));
    }
    // Signing goes on, before and after.
    let intents = Intents::new();
    assert!(guard.authorize(intents.block(key(0), 50, 1), caller()).await.is_ok());
    let replaced = guard.replace_data_key(DataKeyId(1), record(2), good).await.unwrap();
    assert_eq!(replaced, Replaced::Done);
    assert_eq!((sealed(&guard).await, data_keys(&guard).await), (vec![vec![1; 60]; 5], vec![2]));
    assert!(guard.authorize(intents.block(key(0), 51, 1), caller()).await.is_ok());

    // What was sealed under the old one meanwhile is refused, with the reason, and nothing else is.
    let refused = import_under(&guard, 7, 1).await.unwrap_err();
    let reason = std::error::Error::source(&refused).and_then(std::error::Error::source).unwrap().to_string();
    assert!(reason.contains("the data key was replaced"), "{reason}");
    assert!(guard.key_info(&key(7)).await.unwrap().is_none());
    import_under(&guard, 7, 2).await.unwrap();
    assert_eq!(sealed(&guard).await.len(), 6);
    guard.shutdown().await;
    let guard = home.open();
    assert_eq!((sealed(&guard).await.len(), data_keys(&guard).await), (6, vec![2]));
    guard.shutdown().await;
}

#[tokio::test]
async fn on_sqlite_keys_are_exchanged_together_or_not_at_all() {
    exchanged_together_or_not_at_all(&Home::at_slot(1_000)).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn on_postgres_keys_are_exchanged_together_or_not_at_all() {
    exchanged_together_or_not_at_all(&Home::on_postgres(1_000)).await;
}

/// Two signers at once: one brings keys in, the other replaces the data key again and again. Whatever is stored in the end
/// was sealed under the data key that is there, which the second byte of each sealed key tells here.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_comes_in_under_a_data_key_that_is_gone() {
    let home = Home::on_postgres(1_000);
    let other = home.sibling();
    let (importing, replacing) = (home.open(), other.open());
    importing.put_data_key(record(1)).await.unwrap();
    let under = |number: u32, id: u32| {
        let sealed = SealedKey::new(vec![u8::try_from(id).unwrap(); 60]).under(Some(DataKeyId(id)));
        (NewKey { sealed, ..new_key(key(number)) }, EntryWatermark::NeverSigned)
    };
    let imports = tokio::spawn(async move {
        let (mut stored, mut refused) = (0_usize, 0_usize);
        for number in 0..150 {
            let present = importing.data_keys().await.unwrap()[0].id.0;
            match importing.register_many(vec![under(number, present)], Tombstone::Refuse).await {
                Ok(_) => stored += 1,
                Err(_) => refused += 1,
            }
        }
        importing.shutdown().await;
        (stored, refused)
    });
    let mut id = 1;
    while !imports.is_finished() && id < 250 {
        let keys = anew(&replacing, u8::try_from(id + 1).unwrap()).await;
        if replacing.replace_data_key(DataKeyId(id), record(id + 1), keys).await.unwrap() == Replaced::Done {
            id += 1;
        }
    }
    let (stored, refused) = imports.await.unwrap();
    let all = sealed(&replacing).await;
    assert_eq!((all.len(), stored + refused), (stored, 150));
    assert!(id > 1, "no data key was replaced");
    assert!(all.iter().all(|sealed| u32::from(sealed[0]) == id), "a key is sealed under another data key than {id}");
    println!("{stored} keys came in, {refused} were refused, {id} data keys");
    replacing.shutdown().await;
}
