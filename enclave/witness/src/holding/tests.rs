//! Proved here, with real keys and real messages over hostile histories: no epoch is ever held by two vaults, with one
//! witness and with `k` of `n` of which fewer than `2k - n` lie or forget; and with one liar more it is not so, which
//! shows that the histories are hostile enough.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::rules::Record;

const CHAIN: GenesisValidatorsRoot = GenesisValidatorsRoot([7; 32]);

fn seeded(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn group() -> Group {
    "group".parse().unwrap()
}

/// A witness; a liar forgets everything before each request.
struct Witness {
    key: SigningKey,
    record: Record,
    version: u64,
    lies: bool,
}

impl Witness {
    fn answer(&mut self, bytes: &[u8], now: Epoch) -> Option<Vec<u8>> {
        let request = Request::verify(bytes).ok()?;
        if request.witness != self.key.public() {
            return None;
        }
        let (version, mut record) =
            if self.lies { (request.version, Record::default()) } else { (self.version, self.record.clone()) };
        let lease = record.judge(version, &request, now).ok()?;
        if record.lease.as_ref() != Some(&lease) {
            self.version += 1;
        }
        record.lease = Some(lease.clone());
        self.record = record;
        let grant = Grant {
            chain: request.chain,
            group: request.group,
            holder: lease.holder,
            nonce: lease.nonce,
            version: self.version,
            after: lease.after,
            until: lease.until,
            seq: lease.seq,
            handed: lease.handed,
        };
        Some(grant.sign(&self.key))
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A vault asks; only the witnesses in the mask are reached, and only grants in the other mask come back.
    Ask {
        vault: usize,
        ahead: u64,
        reached: u8,
        heard: u8,
    },
    /// A vault gives its lease back.
    Release {
        vault: usize,
        reached: u8,
    },
    /// A vault is started anew, without any state: a crash, a clone, a restored image.
    Anew(usize),
    /// Any message ever sent, to everybody once more.
    Replay(proptest::sample::Index),
    Time,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3_usize, 0..4_u64, any::<u8>(), any::<u8>()).prop_map(|(vault, ahead, reached, heard)| {
            // Mostly everybody is reached.
            Event::Ask { vault, ahead, reached: reached | (reached << 1), heard: heard | (heard << 3) }
        }),
        1 => (0..3_usize, any::<u8>()).prop_map(|(vault, reached)| Event::Release { vault, reached }),
        1 => (0..3_usize).prop_map(Event::Anew),
        1 => any::<proptest::sample::Index>().prop_map(Event::Replay),
        2 => Just(Event::Time),
    ]
}

struct World {
    witnesses: Vec<Witness>,
    pins: Pins,
    vaults: Vec<(u64, Holding)>,
    next: u64,
    now: Epoch,
    sent: Vec<Vec<u8>>,
    granted: Vec<Vec<u8>>,
    /// Which vault ever could sign in an epoch, and has not given it back.
    owners: BTreeMap<u64, u64>,
    checkpoint: Option<Offered>,
    conflict: Option<u64>,
    resumed: usize,
}

impl World {
    fn new(count: u8, quorum: usize, liars: usize) -> Self {
        let witnesses: Vec<Witness> = (0..count)
            .map(|index| Witness {
                key: seeded(index + 1),
                record: Record::default(),
                version: 0,
                lies: usize::from(index) < liars,
            })
            .collect();
        let keys = witnesses.iter().map(|witness| witness.key.public()).collect();
        let pins = Pins::new(group(), keys, quorum).unwrap();
        let vaults = (0..3).map(|id| (id, Holding::new(pins.clone(), CHAIN).unwrap())).collect();
        Self {
            witnesses,
            pins,
            vaults,
            next: 3,
            now: Epoch(10),
            sent: Vec::new(),
            granted: Vec::new(),
            owners: BTreeMap::new(),
            checkpoint: None,
            conflict: None,
            resumed: 0,
        }
    }

    fn versions(&self) -> Vec<u64> {
        self.witnesses.iter().map(|witness| witness.version).collect()
    }

    fn carry(&mut self, asks: Asks, reached: u8) -> Vec<Vec<u8>> {
        let now = self.now;
        let mut grants = Vec::new();
        for (index, (ask, witness)) in asks.iter().zip(&mut self.witnesses).enumerate() {
            if reached & (1 << index) != 0 {
                grants.extend(witness.answer(ask, now));
            }
        }
        self.sent.extend(asks);
        self.granted.extend(grants.iter().cloned());
        grants
    }

    fn adopt(&mut self, vault: usize, grants: &[Vec<u8>]) {
        let grants: Vec<&[u8]> = grants.iter().map(Vec::as_slice).collect();
        let (id, holding) = &mut self.vaults[vault];
        let adopted = holding.adopt(&grants, self.checkpoint);
        if let Some((span, run)) = adopted.lease {
            self.resumed += usize::from(matches!(run, Run::Resumed { .. }));
            for epoch in span.after.0 + 1..=span.until.0 {
                if *self.owners.entry(epoch).or_insert(*id) != *id {
                    self.conflict = Some(epoch);
                }
            }
        }
    }

    fn event(&mut self, event: Event) {
        let member = seeded(100);
        let versions = self.versions();
        match event {
            Event::Time => self.now = Epoch(self.now.0 + 1),
            Event::Anew(vault) => {
                self.vaults[vault] = (self.next, Holding::new(self.pins.clone(), CHAIN).unwrap());
                self.next += 1;
            }
            Event::Ask { vault, ahead, reached, heard } => {
                let until = Epoch(self.now.0 + ahead);
                let asks = self.vaults[vault].1.ask(&member, until, self.checkpoint, &versions).unwrap();
                let grants = self.carry(asks, reached);
                let kept: Vec<_> =
                    grants.into_iter().enumerate().filter(|(index, _)| heard & (1 << index) != 0).collect();
                self.adopt(vault, &kept.into_iter().map(|(_, grant)| grant).collect::<Vec<_>>());
            }
            Event::Release { vault, reached } => {
                let (id, holding) = &mut self.vaults[vault];
                let (id, seq) = (*id, holding.next_seq());
                let hash = CheckpointHash([u8::try_from(self.next % 251).unwrap(); 32]);
                self.next += 1;
                let asks = holding.release(&member, seq, hash, &versions).unwrap();
                let grants = self.carry(asks, reached);
                // Its own answer is of no use to it.
                self.adopt(vault, &grants);
                assert!(self.vaults[vault].1.lease().is_none());
                self.owners.retain(|_, owner| *owner != id);
                self.checkpoint = Some(Offered { hash, seq });
            }
            Event::Replay(which) => {
                if !self.sent.is_empty() {
                    let old = which.get(&self.sent).clone();
                    let asks = vec![old; self.witnesses.len()];
                    let _ = self.carry(asks, 0xff);
                }
                for vault in 0..self.vaults.len() {
                    let all = self.granted.clone();
                    self.adopt(vault, &all);
                }
            }
        }
    }
}

fn worlds() -> impl Strategy<Value = (u8, usize)> {
    prop_oneof![Just((1, 1)), Just((2, 2)), Just((3, 2)), Just((3, 3)), Just((4, 3)), Just((5, 3)), Just((5, 4))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_epoch_is_held_by_two_vaults(
        (count, quorum) in worlds(), events in proptest::collection::vec(event(), 1..50),
    ) {
        let tolerated = 2 * quorum - usize::from(count) - 1;
        let mut world = World::new(count, quorum, tolerated);
        for event in events {
            world.event(event);
            prop_assert_eq!(world.conflict, None);
        }
    }
}

/// The bound is sharp: with one liar more two vaults hold an epoch at once.
#[test]
fn with_one_liar_more_than_the_bound_it_breaks() {
    for (count, quorum) in [(1, 1), (3, 2), (5, 3), (5, 4)] {
        for (liars, breaks) in [(2 * quorum - usize::from(count), true), (2 * quorum - usize::from(count) - 1, false)] {
            let mut world = World::new(count, quorum, liars);
            // The liars, and half of the others, for each of two vaults.
            let liar_mask = (1_u8 << liars) - 1;
            let honest: Vec<u8> = (liars..usize::from(count)).map(|index| 1 << index).collect();
            let (left, right) = honest.split_at(honest.len() / 2);
            let mask = |side: &[u8]| side.iter().fold(liar_mask, |mask, bit| mask | bit);
            world.event(Event::Ask { vault: 0, ahead: 1, reached: mask(left), heard: 0xff });
            world.event(Event::Ask { vault: 1, ahead: 1, reached: mask(right), heard: 0xff });
            assert_eq!(world.conflict.is_some(), breaks, "{quorum} of {count} with {liars} liars");
        }
    }
}

#[test]
fn a_vault_resumes_what_was_given_back_and_only_with_the_last_checkpoint() {
    for (offers, expected) in [(true, true), (false, false)] {
        let mut world = World::new(3, 2, 0);
        world.event(Event::Ask { vault: 0, ahead: 1, reached: 7, heard: 7 });
        assert!(world.vaults[0].1.covers(Epoch(10)) && world.vaults[0].1.covers(Epoch(11)));
        world.event(Event::Release { vault: 0, reached: 7 });
        assert!(!world.vaults[0].1.covers(Epoch(10)));
        if !offers {
            let old = world.checkpoint.unwrap();
            world.checkpoint = Some(Offered { hash: CheckpointHash([0; 32]), seq: old.seq });
        }
        world.event(Event::Ask { vault: 1, ahead: 2, reached: 7, heard: 7 });
        assert_eq!(world.resumed, usize::from(expected));
        assert_eq!(world.vaults[1].1.covers(Epoch(10)), expected, "what was given back needs its marks");
        if !expected {
            world.now = Epoch(12);
            world.event(Event::Ask { vault: 1, ahead: 0, reached: 7, heard: 7 });
        }
        assert!(world.vaults[1].1.covers(Epoch(12)), "what is new needs none");
        assert_eq!(world.vaults[1].1.base(), Some(Epoch(11)), "a key that comes in is behind the one before");
    }
}

#[test]
fn what_is_pinned_must_hold_together() {
    let keys: Vec<VerifyingKey> = (1..=16).map(|seed| seeded(seed).public()).collect();
    let pins = |count: usize, quorum| Pins::new(group(), keys[..count].to_vec(), quorum);
    for (count, quorum) in [(1, 1), (2, 2), (3, 2), (15, 8)] {
        assert!(pins(count, quorum).is_ok());
    }
    for (count, quorum) in [(1, 0), (2, 1), (3, 1), (3, 4), (4, 2)] {
        assert_eq!(pins(count, quorum), Err(PinsError::Quorum { quorum, count }));
    }
    assert_eq!(pins(0, 0), Err(PinsError::Count { found: 0, max: 15 }));
    assert_eq!(pins(16, 9), Err(PinsError::Count { found: 16, max: 15 }));
    assert_eq!(Pins::new(group(), vec![keys[0], keys[0]], 2), Err(PinsError::Twice));
}

#[test]
fn a_gap_begins_a_new_run_and_an_extension_does_not() {
    let mut world = World::new(1, 1, 0);
    let ask = |world: &mut World, ahead| {
        let versions = world.versions();
        let until = Epoch(world.now.0 + ahead);
        let asks = world.vaults[0].1.ask(&seeded(100), until, None, &versions).unwrap();
        let grants = world.carry(asks, 1);
        let grants: Vec<&[u8]> = grants.iter().map(Vec::as_slice).collect();
        world.vaults[0].1.adopt(&grants, None).lease
    };
    let span = |after, until| Span { after: Epoch(after), until: Epoch(until) };
    assert_eq!(ask(&mut world, 0), Some((span(9, 10), Run::Begun { after: Epoch(9) })));
    assert_eq!(ask(&mut world, 0), None, "nothing new");
    assert_eq!(ask(&mut world, 1), Some((span(9, 11), Run::Continued)));
    world.now = Epoch(20);
    assert_eq!(ask(&mut world, 0), Some((span(9, 20), Run::Continued)), "nobody came between");
    world.now = Epoch(30);
    world.event(Event::Ask { vault: 1, ahead: 0, reached: 1, heard: 1 });
    world.now = Epoch(31);
    assert_eq!(ask(&mut world, 0), Some((span(30, 31), Run::Begun { after: Epoch(30) })));
    assert!(!world.vaults[0].1.covers(Epoch(20)), "what lies before the gap is given up");
}
