//! Proved here, over every sequence of five events of a small world: no epoch has two holders, the last epoch never
//! falls, nothing is granted beyond the bound, and old requests change nothing.

use std::collections::BTreeMap;

use holdfast_domain::GenesisValidatorsRoot;
use proptest::prelude::*;

use super::*;
use crate::key::SigningKey;

fn key(seed: u8) -> VerifyingKey {
    SigningKey::from_seed(&[seed; 32]).public()
}

fn request(holder: VerifyingKey, version: u64, nonce: u8, wish: Wish) -> Request {
    Request {
        chain: GenesisValidatorsRoot([7; 32]),
        witness: key(9),
        group: "group".parse().unwrap(),
        holder,
        version,
        nonce: Nonce([nonce; 32]),
        wish,
        member: key(8),
    }
}

#[derive(Clone)]
struct World {
    record: Record,
    version: u64,
    now: Epoch,
    nonce: u8,
    /// Every request made, to be sent again.
    made: Vec<Request>,
    /// Who was granted an epoch and has not given it back.
    owners: BTreeMap<u64, VerifyingKey>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Ask(usize, u64),
    Release(usize),
    /// The first, or the last, request once more.
    Again(bool),
    Time,
}

const EVENTS: [Event; 8] = [
    Event::Ask(0, 1),
    Event::Ask(1, 1),
    Event::Ask(0, 9),
    Event::Ask(1, 0),
    Event::Release(0),
    Event::Release(1),
    Event::Again(false),
    Event::Time,
];

impl World {
    fn new() -> Self {
        Self {
            record: Record::default(),
            version: 0,
            now: Epoch(5),
            nonce: 0,
            made: Vec::new(),
            owners: BTreeMap::new(),
        }
    }

    fn event(&mut self, event: Event, holders: &[VerifyingKey; 2]) {
        let request = match event {
            Event::Time => {
                self.now = Epoch(self.now.0 + 1);
                return;
            }
            Event::Again(last) => {
                let made = if last { self.made.last() } else { self.made.first() };
                let Some(old) = made.cloned() else { return };
                if old.version != self.version {
                    if let Ok(lease) = self.record.judge(self.version, &old, self.now) {
                        assert_eq!(Some(lease), self.record.lease, "an old request changes nothing");
                    }
                    return;
                }
                // It was refused, and may be good by now.
                old
            }
            Event::Ask(who, ahead) => {
                self.nonce += 1;
                let until = Epoch(self.now.0 + ahead);
                let resumes = self.record.lease.as_ref().and_then(|lease| lease.released).filter(|_| ahead != 1);
                request(holders[who], self.version, self.nonce, Wish::Acquire { until, resumes })
            }
            Event::Release(who) => {
                self.nonce += 1;
                let seq = self.record.lease.as_ref().map_or(1, |lease| lease.seq + 1);
                let wish = Wish::Release { seq, hash: CheckpointHash([self.nonce; 32]) };
                request(holders[who], self.version, self.nonce, wish)
            }
        };
        self.made.push(request.clone());
        let before = self.record.lease.as_ref().map_or(Epoch(0), |lease| lease.until);
        let Ok(lease) = self.record.judge(self.version, &request, self.now) else { return };
        assert!(lease.until >= before, "the last epoch fell");
        assert!(lease.until.0 <= (self.now.0 + AHEAD).max(before.0), "beyond the bound");
        if lease.released.is_some() {
            self.owners.retain(|_, owner| *owner != lease.holder);
        } else {
            for epoch in lease.after.0 + 1..=lease.until.0 {
                let owner = *self.owners.entry(epoch).or_insert(lease.holder);
                assert_eq!(owner, lease.holder, "epoch {epoch} has two holders");
            }
        }
        self.record.lease = Some(lease);
        self.version += 1;
        assert_eq!(Record::decode(&self.record.encode()), Ok(self.record.clone()));
    }
}

#[test]
fn no_epoch_has_two_holders_in_any_order_of_events() {
    fn explore(world: &World, holders: &[VerifyingKey; 2], depth: usize, seen: &mut u64) {
        for event in EVENTS {
            let mut next = world.clone();
            next.event(event, holders);
            *seen += 1;
            if depth > 1 {
                explore(&next, holders, depth - 1, seen);
            }
        }
    }
    let mut seen = 0;
    explore(&World::new(), &[key(1), key(2)], 5, &mut seen);
    assert_eq!(seen, (1..=5).map(|length| 8_u64.pow(length)).sum::<u64>());
}

proptest! {
    #[test]
    fn nor_in_long_ones(events in proptest::collection::vec(
        prop_oneof![
            4 => (0..2_usize, 0..4_u64).prop_map(|(who, ahead)| Event::Ask(who, ahead)),
            1 => (0..2_usize).prop_map(Event::Release),
            1 => any::<bool>().prop_map(Event::Again),
            3 => Just(Event::Time),
        ],
        0..100,
    )) {
        let mut world = World::new();
        for event in events {
            world.event(event, &[key(1), key(2)]);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Record::decode(&bytes).is_err());
    }
}

/// The story a pair of signers lives.
#[test]
fn a_standby_takes_over_when_the_lease_is_over_and_at_once_when_it_is_given_back() {
    let (active, standby) = (key(1), key(2));
    let ask_with = |record: &Record, holder, version, until, now, resumes| {
        let nonce = u8::try_from(version).unwrap() + 100;
        let request = request(holder, version, nonce, Wish::Acquire { until: Epoch(until), resumes });
        record.judge(version, &request, Epoch(now))
    };
    let ask = |record: &Record, holder, version, until, now| ask_with(record, holder, version, until, now, None);
    let mut record = Record::default();
    let first = ask(&record, active, 0, 11, 10).unwrap();
    assert_eq!((first.after, first.until), (Epoch(9), Epoch(11)));
    record.lease = Some(first);
    assert_eq!(ask(&record, standby, 1, 12, 11), Err(Denied::Held { until: Epoch(11) }));
    let taken = ask(&record, standby, 1, 13, 12).unwrap();
    assert_eq!((taken.after, taken.until, taken.handed), (Epoch(11), Epoch(13), None), "never an epoch of the active");
    // The active comes back within an epoch of the standby.
    record.lease = Some(taken);
    assert_eq!(ask(&record, active, 2, 13, 12), Err(Denied::Held { until: Epoch(13) }));
    assert_eq!(ask(&record, active, 2, 11, 14), Err(Denied::Past), "a clock that is behind takes nothing over");
    let stale = request(active, 1, 1, Wish::Acquire { until: Epoch(14), resumes: None });
    assert_eq!(record.judge(2, &stale, Epoch(14)), Err(Denied::Moved));

    let hash = CheckpointHash([5; 32]);
    let backwards = request(standby, 2, 1, Wish::Release { seq: 0, hash });
    assert_eq!(record.judge(2, &backwards, Epoch(12)), Err(Denied::Backwards));
    let foreign = request(active, 2, 1, Wish::Release { seq: 1, hash });
    assert_eq!(record.judge(2, &foreign, Epoch(12)), Err(Denied::NotHolder));
    record.lease = Some(record.judge(2, &request(standby, 2, 1, Wish::Release { seq: 1, hash }), Epoch(12)).unwrap());
    assert_eq!(ask(&record, standby, 3, 14, 12), Err(Denied::Released));
    let held = Err(Denied::Held { until: Epoch(13) });
    assert_eq!(ask(&record, key(3), 3, 12, 12), held, "without its checkpoint it is as if nothing was given back");
    assert_eq!(ask_with(&record, key(3), 3, 12, 12, Some(CheckpointHash([6; 32]))), held);
    assert_eq!(ask(&record, key(3), 3, 14, 14).unwrap().after, Epoch(13), "and it is over as any other");
    let handed = ask_with(&record, active, 3, 12, 12, Some(hash)).unwrap();
    assert_eq!((handed.after, handed.until), (Epoch(11), Epoch(13)), "all that was given back");
    assert_eq!(handed.handed, Some(Handed { seq: 1, hash, until: Epoch(13) }));
    record.lease = Some(handed);
    assert_eq!(ask_with(&record, key(3), 4, 13, 12, Some(hash)), held, "handed on once");
}
