//! Many tasks, one key: exactly one root per slot and per target is ever permitted.
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

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use holdfast_domain::SigningIntent;
use holdfast_slashing_db::{Guard, GuardHealth, Refusal, SigningPermit};
use support::{Home, Intents, caller, key, register_fresh};
use tokio::task::JoinSet;

const TASKS: u8 = 48;
const ROUNDS: u64 = 20;

async fn race(guard: &Guard, intents: Vec<SigningIntent>) -> Vec<Result<SigningPermit, Refusal>> {
    let barrier = Arc::new(tokio::sync::Barrier::new(intents.len()));
    let mut tasks = JoinSet::new();
    for intent in intents {
        let (guard, barrier) = (guard.clone(), Arc::clone(&barrier));
        tasks.spawn(async move {
            barrier.wait().await;
            guard.authorize(intent, caller()).await
        });
    }
    tasks.join_all().await
}

async fn one_block_per_slot(home: Home) {
    let (guard, intents) = (home.open(), Arc::new(Intents::new()));
    register_fresh(&guard, [key(1)]).await;
    for slot in 1..=ROUNDS {
        // Three tasks for each content: retries of the winner must succeed.
        let wanted = (0..TASKS).map(|task| intents.block(key(1), slot, task / 3)).collect();
        let results = race(&guard, wanted).await;
        let roots: BTreeSet<_> = results.iter().flatten().map(SigningPermit::root).collect();
        assert_eq!(roots.len(), 1, "slot {slot}");
        assert_eq!(results.iter().flatten().count(), 3, "slot {slot}: the winner's retries are the same data");
        assert!(results.iter().filter_map(|result| result.as_ref().err()).all(|r| r.reason() == "double_block"));
    }
    guard.shutdown().await;
}

async fn one_vote_per_target_for_each_of_many_keys(home: Home) {
    let guard = home.open_with(|options| options.max_batch = NonZeroUsize::new(7).unwrap());
    let intents = Intents::new();
    register_fresh(&guard, (0..8).map(key)).await;
    for target in 1..=ROUNDS {
        let wanted = (0..TASKS).map(|task| intents.vote(key(u32::from(task % 8)), target - 1, target, task / 8));
        let results = race(&guard, wanted.collect()).await;
        let mut winners: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for permit in results.into_iter().flatten() {
            winners.entry(*permit.key()).or_default().insert(permit.root());
        }
        assert_eq!(winners.len(), 8, "every key wins once at target {target}");
        assert!(winners.values().all(|roots| roots.len() == 1), "target {target}");
    }
    assert_eq!(guard.health(), GuardHealth::Serving);
    guard.shutdown().await;
}

mod sqlite {
    use super::Home;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_block_per_slot() {
        super::one_block_per_slot(Home::at_slot(1_000)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_vote_per_target_for_each_of_many_keys() {
        super::one_vote_per_target_for_each_of_many_keys(Home::at_slot(1_000)).await;
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use super::Home;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_block_per_slot() {
        super::one_block_per_slot(Home::on_postgres(1_000)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_vote_per_target_for_each_of_many_keys() {
        super::one_vote_per_target_for_each_of_many_keys(Home::on_postgres(1_000)).await;
    }
}
