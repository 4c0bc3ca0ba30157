//! Proved here, with real vaults, real messages and a real witness's rules: whatever vaults of a group are asked, in
//! whatever order, with old checkpoints, lost and repeated grants and new starts, no two messages that they sign are
//! slashable together; a restart in good order goes on at once with the same marks, an old checkpoint does not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_domain::{Clock, Message, PublicKey, UnixMillis};
use holdfast_vault_proto::{DataKeyBytes, KeyOutcome, SealedKeyBytes, SignItem, Watermarks};
use holdfast_witness::rules::Record;
use holdfast_witness::{Grant, Request as Asked};
use proptest::prelude::*;

use super::*;
use crate::support::{NETWORK, attestation_of, block_of, intent, network};
use crate::{SecretKey, generate, seal};

const SLOT: u64 = 12_000;
const EPOCH: u64 = 32;

#[derive(Default)]
struct Hands(AtomicU64);

impl Clock for Hands {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

/// What was signed with one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signed {
    Block { slot: u64, content: u8 },
    Vote { source: u64, target: u64, content: u8 },
}

fn slashable(one: Signed, two: Signed) -> bool {
    match (one, two) {
        (Signed::Block { slot: a, .. }, Signed::Block { slot: b, .. }) => a == b && one != two,
        (Signed::Vote { source: s1, target: t1, .. }, Signed::Vote { source: s2, target: t2, .. }) => {
            (t1 == t2 && one != two) || (s1 < s2 && t2 < t1) || (s2 < s1 && t1 < t2)
        }
        _ => false,
    }
}

struct World {
    clock: Arc<Hands>,
    data_key: DataKey,
    secrets: Vec<SecretKey>,
    witness: SigningKey,
    record: Record,
    version: u64,
    vaults: Vec<Vault>,
    checkpoints: Vec<Vec<Vec<u8>>>,
    grants: Vec<Vec<u8>>,
    signed: Vec<(PublicKey, Signed)>,
}

impl World {
    /// Three vaults at the beginning of epoch 10.
    fn new() -> Self {
        let mut world = Self {
            clock: Arc::default(),
            data_key: DataKey::generate().unwrap(),
            secrets: (0..2).map(|_| generate::secret_key().unwrap()).collect(),
            witness: SigningKey::from_seed(&[1; 32]),
            record: Record::default(),
            version: 0,
            vaults: Vec::new(),
            checkpoints: Vec::new(),
            grants: Vec::new(),
            signed: Vec::new(),
        };
        world.set(10 * EPOCH);
        world.vaults = (0..3).map(|_| world.vault()).collect();
        world
    }

    fn slot(&self) -> u64 {
        self.clock.now().0 / SLOT
    }

    fn set(&self, slot: u64) {
        self.clock.0.store(slot * SLOT, Ordering::Relaxed);
    }

    /// A vault that was just started, with all keys.
    fn vault(&self) -> Vault {
        let shared: Arc<dyn Clock> = Arc::<Hands>::clone(&self.clock);
        let mut vault = Vault::new(shared);
        vault.pin(network()).unwrap();
        let witnesses = vec![*self.witness.public().as_bytes()];
        carry_out(&mut vault, Request::Witnesses { group: "pair".to_owned(), witnesses, quorum: 1 }).unwrap();
        self.provision(&mut vault);
        vault
    }

    fn provision(&self, vault: &mut Vault) {
        let keys = self.secrets.iter().map(|secret| SealedKeyBytes {
            public_key: *secret.public_key(),
            sealed: seal::seal(&self.data_key, NETWORK, secret).unwrap().as_bytes().to_vec(),
        });
        let mut plain = self.data_key.bytes().expose(|bytes| DataKeyBytes::new(bytes.try_into().unwrap()));
        let outcomes = vault.provision(&mut plain, keys.collect()).unwrap();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, KeyOutcome::Opened | KeyOutcome::AlreadyOpen)));
    }

    fn carry(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let asked = Asked::verify(request).unwrap();
        let lease = self.record.judge(self.version, &asked, Epoch(self.slot() / EPOCH)).ok()?;
        if self.record.lease.as_ref() != Some(&lease) {
            self.version += 1;
        }
        self.record.lease = Some(lease.clone());
        let grant = Grant {
            chain: asked.chain,
            group: asked.group,
            holder: lease.holder,
            nonce: lease.nonce,
            version: self.version,
            after: lease.after,
            until: lease.until,
            seq: lease.seq,
            handed: lease.handed,
        };
        let grant = grant.sign(&self.witness);
        self.grants.push(grant.clone());
        Some(grant)
    }

    fn requests(&mut self, vault: usize, request: Request) -> Result<(Vec<u8>, u32), Failure> {
        match carry_out(&mut self.vaults[vault], request)? {
            Answer::Requests { requests, pages, .. } => Ok((requests[0].clone(), pages)),
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, vault: usize, grants: Vec<Vec<u8>>) -> LeaseReport {
        match carry_out(&mut self.vaults[vault], Request::TakeLease(grants)).unwrap() {
            Answer::Lease(report) => report,
            other => panic!("{other:?}"),
        }
    }

    fn acquire(&mut self, vault: usize, ahead: u64) -> LeaseReport {
        let until = Epoch(self.slot() / EPOCH + ahead);
        let versions = vec![self.version];
        let (request, _) = self.requests(vault, Request::AskLease { until, versions }).unwrap();
        let grant = self.carry(&request);
        self.take(vault, grant.into_iter().collect())
    }

    fn release(&mut self, vault: usize) -> bool {
        let versions = vec![self.version];
        let Ok((request, pages)) = self.requests(vault, Request::ReleaseLease { versions }) else { return false };
        let fetch = |index| match carry_out(&mut self.vaults[vault], Request::FetchPage(index)).unwrap() {
            Answer::Page(page) => page,
            other => panic!("{other:?}"),
        };
        let pages = (0..pages).map(fetch).collect();
        self.checkpoints.push(pages);
        self.carry(&request).is_some()
    }

    fn offer(&mut self, vault: usize, checkpoint: usize) -> bool {
        let pages = self.checkpoints[checkpoint].clone();
        pages.into_iter().all(|page| carry_out(&mut self.vaults[vault], Request::OfferPage(page)).is_ok())
    }

    fn sign(&mut self, vault: usize, key: usize, what: Signed) -> Result<(), Reason> {
        let public_key = *self.secrets[key].public_key();
        let message: Message = match what {
            Signed::Block { slot, content } => block_of(slot, content),
            Signed::Vote { source, target, content } => attestation_of(source, target, content),
        };
        let intent = intent(&public_key, &message);
        let item = SignItem { public_key, root: intent.root().into(), commit_seq: 1, statement: **intent.statement() };
        let _approved = self.vaults[vault].approve(&item).map_err(|refusal| refusal.reason)?;
        for (other, before) in &self.signed {
            assert!(*other != public_key || !slashable(*before, what), "{before:?} and {what:?} with one key");
        }
        self.signed.push((public_key, what));
        Ok(())
    }

    fn marks(&self, vault: usize) -> Vec<Watermarks> {
        self.vaults[vault].list(None, 10).iter().map(|state| state.marks).collect()
    }
}

fn block(slot: u64, content: u8) -> Signed {
    Signed::Block { slot, content }
}

fn vote(source: u64, target: u64, content: u8) -> Signed {
    Signed::Vote { source, target, content }
}

#[test]
fn a_restart_in_good_order_goes_on_at_once_with_the_same_marks() {
    let mut world = World::new();
    assert_eq!(world.sign(0, 0, block(10 * EPOCH + 1, 1)), Err(Reason::NoLease), "nothing is leased yet");
    assert_eq!(world.acquire(0, 1).news, LeaseNews::Begun);
    world.set(11 * EPOCH + 5);
    world.sign(0, 0, vote(10, 11, 1)).unwrap();
    world.sign(0, 0, block(11 * EPOCH + 5, 1)).unwrap();
    let marks = world.marks(0);
    assert!(world.release(0));
    assert_eq!(world.sign(0, 0, block(11 * EPOCH + 6, 1)), Err(Reason::NoLease), "it signs no more");
    assert_eq!(world.acquire(0, 1).news, LeaseNews::Nothing);

    world.vaults[1] = world.vault();
    assert!(world.offer(1, 0));
    let report = world.acquire(1, 0);
    assert_eq!((report.news, report.resumed), (LeaseNews::Resumed, 2));
    assert_eq!(world.marks(1), marks);
    // In the same epoch, the same slot: what was signed can be had again, another cannot.
    world.sign(1, 0, vote(10, 11, 1)).unwrap();
    assert_eq!(world.sign(1, 0, vote(10, 11, 2)), Err(Reason::DoubleVote));
    assert_eq!(world.sign(1, 0, block(11 * EPOCH + 5, 2)), Err(Reason::DoubleBlock));
    world.sign(1, 0, block(11 * EPOCH + 6, 1)).unwrap();
    world.sign(1, 1, vote(10, 11, 1)).unwrap();
}

#[test]
fn an_old_checkpoint_is_no_checkpoint() {
    let mut world = World::new();
    world.acquire(0, 1);
    world.set(11 * EPOCH + 5);
    world.sign(0, 0, vote(10, 11, 1)).unwrap();
    assert!(world.release(0));
    assert!(world.offer(1, 0));
    assert_eq!(world.acquire(1, 1).news, LeaseNews::Resumed);
    world.set(12 * EPOCH + 5);
    world.sign(1, 0, vote(11, 12, 1)).unwrap();
    assert!(world.release(1));
    // The host gives the older one.
    assert!(world.offer(2, 0), "it opens; but it is not the last");
    assert_eq!(world.acquire(2, 1).news, LeaseNews::Nothing);
    assert_eq!(world.sign(2, 0, vote(11, 12, 2)), Err(Reason::NoLease));
    world.set(13 * EPOCH);
    let report = world.acquire(2, 0);
    assert_eq!((report.news, report.resumed), (LeaseNews::Begun, 0));
    world.sign(2, 0, vote(12, 13, 1)).unwrap();
    // Damaged, cut, out of order, of another group: none.
    let page = world.checkpoints[1][0].clone();
    for broken in [page[..40].to_vec(), page[..page.len() - 1].to_vec(), [page.as_slice(), &[0]].concat()] {
        assert_eq!(carry_out(&mut world.vaults[2], Request::OfferPage(broken)), Err(Failure::NoCheckpoint));
    }
}

#[test]
fn a_standby_takes_over_when_the_lease_is_over_and_the_one_that_comes_back_signs_nothing() {
    let mut world = World::new();
    world.acquire(0, 0);
    world.set(10 * EPOCH + 20);
    assert_eq!(world.acquire(1, 1).news, LeaseNews::Nothing, "the holder has the right to extend it");
    world.set(11 * EPOCH);
    assert_eq!(world.acquire(1, 0).news, LeaseNews::Begun);
    world.sign(1, 0, vote(10, 11, 2)).unwrap();
    world.sign(1, 0, block(11 * EPOCH, 2)).unwrap();
    assert_eq!(world.acquire(0, 1).news, LeaseNews::Nothing);
    assert_eq!(world.sign(0, 0, vote(10, 11, 1)), Err(Reason::NoLease));
    assert_eq!(world.sign(0, 0, block(11 * EPOCH, 1)), Err(Reason::NoLease));
}

#[test]
fn witnesses_come_before_keys_and_stay() {
    let mut world = World::new();
    let named = |seed: u8| vec![*SigningKey::from_seed(&[seed; 32]).public().as_bytes()];
    let mut ask = |witnesses, quorum, group: &str| {
        let request = Request::Witnesses { group: group.to_owned(), witnesses, quorum };
        carry_out(&mut world.vaults[0], request)
    };
    assert_eq!(ask(named(1), 1, "pair"), Ok(Answer::Done(Operation::Witnesses)), "the same again");
    assert_eq!(ask(named(2), 1, "pair"), Err(Failure::OtherWitnesses));
    assert_eq!(ask(named(1), 1, "other"), Err(Failure::OtherWitnesses));
    assert_eq!(ask(named(1), 2, "pair"), Err(Failure::UnfitWitnesses));
    assert_eq!(ask(vec![[0; 32]], 1, "pair"), Err(Failure::UnfitWitnesses));
    let mut without = Vault::new(Arc::<Hands>::clone(&world.clock));
    without.pin(network()).unwrap();
    world.provision(&mut without);
    let late = Request::Witnesses { group: "pair".to_owned(), witnesses: named(1), quorum: 1 };
    assert_eq!(carry_out(&mut without, late), Err(Failure::OtherWitnesses), "it may have signed without them");
    let ask = Request::AskLease { until: Epoch(1), versions: Vec::new() };
    assert_eq!(carry_out(&mut without, ask), Err(Failure::NoWitnesses));
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// Whether the answer arrives.
    Acquire {
        vault: usize,
        ahead: u64,
        heard: bool,
    },
    Release(usize),
    /// A vault is started anew.
    Anew(usize),
    /// It is given one of the checkpoints there are, mostly the last, and asks for a lease.
    Resume {
        vault: usize,
        back: usize,
    },
    /// A key is forgotten and brought back.
    Forget(usize),
    /// Every grant there ever was.
    Replay(usize),
    /// Quarters of an epoch.
    Time(u64),
}

/// What every vault is asked to sign after an event: how far back the target, the source and the block lie.
type Probe = (u64, u64, u64);

fn event() -> impl Strategy<Value = (Event, Probe)> {
    let event = prop_oneof![
        6 => (0..3_usize, 0..3_u64, prop::bool::weighted(0.9))
            .prop_map(|(vault, ahead, heard)| Event::Acquire { vault, ahead, heard }),
        2 => (0..3_usize).prop_map(Event::Release),
        1 => (0..3_usize).prop_map(Event::Anew),
        2 => (0..3_usize, prop_oneof![3 => Just(0), 1 => 0..3_usize])
            .prop_map(|(vault, back)| Event::Resume { vault, back }),
        1 => (0..3_usize).prop_map(Event::Forget),
        1 => (0..3_usize).prop_map(Event::Replay),
        6 => (1..9_u64).prop_map(Event::Time),
    ];
    (event, (0..2_u64, 0..4_u64, 0..40_u64))
}

impl World {
    fn event(&mut self, event: Event) {
        match event {
            Event::Acquire { vault, ahead, heard } => {
                let until = Epoch(self.slot() / EPOCH + ahead);
                let versions = vec![self.version];
                let (request, _) = self.requests(vault, Request::AskLease { until, versions }).unwrap();
                let grant = self.carry(&request).filter(|_| heard);
                self.take(vault, grant.into_iter().collect());
            }
            Event::Release(vault) => {
                self.release(vault);
            }
            Event::Anew(vault) => self.vaults[vault] = self.vault(),
            Event::Resume { vault, back } => {
                self.vaults[vault] = self.vault();
                if let Some(which) = self.checkpoints.len().checked_sub(back + 1) {
                    assert!(self.offer(vault, which));
                }
                self.acquire(vault, 1);
            }
            Event::Forget(vault) => {
                let key = *self.secrets[0].public_key();
                self.vaults[vault].forget(&[key]);
                let nobody = Vault::new(Arc::<Hands>::clone(&self.clock));
                let mut taken = std::mem::replace(&mut self.vaults[vault], nobody);
                self.provision(&mut taken);
                self.vaults[vault] = taken;
            }
            Event::Replay(vault) => {
                let recent = self.grants.iter().rev().take(15).cloned().collect();
                self.take(vault, recent);
            }
            Event::Time(quarters) => self.set(self.slot() + quarters * EPOCH / 4),
        }
    }

    /// Every vault is asked for something of its own; what one signs, no other may contradict.
    fn probe(&mut self, (back, source_back, block_back): Probe) {
        for vault in 0..self.vaults.len() {
            let content = u8::try_from(vault).unwrap();
            let target = self.slot() / EPOCH - back;
            let _ = self.sign(vault, 0, vote(target - source_back, target, content));
            let _ = self.sign(vault, 0, block(self.slot() + 1 - block_back, content));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// [`World::sign`] compares with everything that was signed before. Without the fence of a new lease, the rule about
    /// votes from an epoch to itself, or the comparison of checkpoints this finds a slashable pair.
    #[test]
    fn no_two_messages_of_a_group_are_slashable_together(events in prop::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        for (event, probe) in events {
            world.event(event);
            world.probe(probe);
        }
    }
}
