//! Proved here, on a real database: grants survive a restart of the witness, lost answers are given again, members only,
//! and requests for other witnesses and chains are refused.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and may spawn tasks")]

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_domain::{Epoch, UnixMillis};

use super::*;
use crate::holding::{Holding, Pins};
use crate::store::sqlite::SqliteStore;

const CHAIN: GenesisValidatorsRoot = GenesisValidatorsRoot([7; 32]);

/// A clock that is set by hand, in epochs.
#[derive(Default)]
struct Hands(AtomicU64);

impl Clock for Hands {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed) * 32_000)
    }
}

fn seeded(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn witness(path: &Path, clock: &Arc<Hands>, founding: Founding) -> Witness<SqliteStore> {
    let slots = SlotClock {
        genesis: UnixMillis(0),
        slot_millis: NonZeroU64::new(1_000).unwrap(),
        slots_per_epoch: NonZeroU64::new(32).unwrap(),
    };
    let clock: Arc<dyn Clock> = Arc::<Hands>::clone(clock);
    Witness::new(seeded(1), (CHAIN, slots), clock, SqliteStore::open(path).unwrap(), founding)
}

fn vault(chain: GenesisValidatorsRoot, witness: &SigningKey) -> Holding {
    let pins = Pins::new("group".parse().unwrap(), vec![witness.public()], 1).unwrap();
    Holding::new(pins, chain).unwrap()
}

#[tokio::test]
async fn grants_survive_a_restart_and_lost_answers_are_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("witness.db");
    let clock = Arc::new(Hands(AtomicU64::new(10)));
    let member = seeded(2);
    let (mut one, mut other) = (vault(CHAIN, &seeded(1)), vault(CHAIN, &seeded(1)));

    let asks = one.ask(&member, Epoch(11), None, &[0]).unwrap();
    let lost = witness(&path, &clock, Founding::Open).answer(&asks[0]).await.unwrap();
    // Another process on the same file.
    let witness = witness(&path, &clock, Founding::Open);
    let again = witness.answer(&asks[0]).await.unwrap();
    assert_eq!(again, lost);
    assert!(one.adopt(&[&again], None).lease.is_some());
    assert!(one.covers(Epoch(11)));

    let refused = witness.answer(&other.ask(&member, Epoch(11), None, &[1]).unwrap()[0]).await.unwrap_err();
    assert!(
        matches!(refused, ServiceError::Denied { denied: Denied::Held { until: Epoch(11) }, version: 1 }),
        "{refused}"
    );
    clock.0.store(12, Ordering::Relaxed);
    let stale = witness.answer(&other.ask(&member, Epoch(12), None, &[0]).unwrap()[0]).await.unwrap_err();
    assert!(stale.is_moved() && stale.version() == Some(1), "{stale}");
    let grant = witness.answer(&other.ask(&member, Epoch(12), None, &[1]).unwrap()[0]).await.unwrap();
    other.adopt(&[&grant], None);
    assert!(other.covers(Epoch(12)) && !other.covers(Epoch(11)));
    let too_late = witness.answer(&one.ask(&member, Epoch(12), None, &[2]).unwrap()[0]).await.unwrap_err();
    assert!(matches!(too_late, ServiceError::Denied { denied: Denied::Held { .. }, .. }), "{too_late}");
    assert!(!one.covers(Epoch(12)));
}

#[tokio::test]
async fn two_clones_that_race_never_share_an_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("witness.db");
    let clock = Arc::new(Hands(AtomicU64::new(10)));
    // Two witness processes on one file, too.
    let witnesses = [(); 2].map(|()| Arc::new(witness(&path, &clock, Founding::Open)));
    for round in 0..20_u64 {
        clock.0.store(10 + 3 * round, Ordering::Relaxed);
        let mut racing = Vec::new();
        for witness in &witnesses {
            let witness = Arc::clone(witness);
            let version = witness.store().latest(&"group".parse().unwrap()).await.unwrap().version;
            racing.push(tokio::spawn(async move {
                let mut vault = vault(CHAIN, &seeded(1));
                let ask = vault.ask(&seeded(2), Epoch(10 + 3 * round), None, &[version]).unwrap().remove(0);
                if let Ok(grant) = witness.answer(&ask).await {
                    vault.adopt(&[&grant], None);
                }
                vault.covers(Epoch(10 + 3 * round))
            }));
        }
        let mut holders = 0;
        for one in racing {
            holders += usize::from(one.await.unwrap());
        }
        assert_eq!(holders, 1, "round {round}");
    }
}

#[tokio::test]
async fn members_only_and_one_witness_and_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hands(AtomicU64::new(10)));
    let group: Group = "group".parse().unwrap();
    let closed = witness(&dir.path().join("closed.db"), &clock, Founding::Closed);
    let ask = |member: u8| vault(CHAIN, &seeded(1)).ask(&seeded(member), Epoch(10), None, &[1]).unwrap().remove(0);
    let refused = closed.answer(&ask(2)).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains(&format!("enroll --group group --key {}", seeded(2).public())), "{text}");
    assert_eq!(enroll(closed.store(), &group, seeded(2).public()).await.unwrap(), Enrolled::Added);
    assert_eq!(enroll(closed.store(), &group, seeded(2).public()).await.unwrap(), Enrolled::Already);
    assert!(closed.answer(&ask(2)).await.is_ok());

    // The first founds the group, the next is a stranger.
    let open = witness(&dir.path().join("open.db"), &clock, Founding::Open);
    let first = vault(CHAIN, &seeded(1)).ask(&seeded(2), Epoch(10), None, &[0]).unwrap().remove(0);
    assert!(open.answer(&first).await.is_ok());
    assert!(matches!(open.answer(&ask(3)).await, Err(ServiceError::NotEnrolled { .. })));

    let elsewhere = vault(CHAIN, &seeded(9)).ask(&seeded(2), Epoch(10), None, &[1]).unwrap().remove(0);
    assert!(matches!(open.answer(&elsewhere).await, Err(ServiceError::OtherWitness { .. })));
    let foreign =
        vault(GenesisValidatorsRoot([8; 32]), &seeded(1)).ask(&seeded(2), Epoch(10), None, &[1]).unwrap().remove(0);
    assert!(matches!(open.answer(&foreign).await, Err(ServiceError::OtherChain)));
    let mut forged = ask(2);
    *forged.last_mut().unwrap() ^= 1;
    assert!(matches!(open.answer(&forged).await, Err(ServiceError::Message(MessageError::Signature))));
    assert!(open.answer(b"GET / HTTP/1.1").await.unwrap_err().is_malformed());
}
