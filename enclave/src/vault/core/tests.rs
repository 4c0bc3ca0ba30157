//! Proved here: what the vault signs and refuses, as an attacker who has the whole signer would ask for it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_domain::{
    Domain, DomainType, Epoch, ForkVersion, Hashed, Message, ObservedRoot, Slot, Stated, Statement, UnixMillis,
    Unslashable,
};

use super::*;
use crate::generate;
use crate::support::{NETWORK, attestation, attestation_of, block, block_of, intent, network};

/// A clock that is set by hand, in slots.
#[derive(Default)]
struct Hands(AtomicU64);

impl Clock for Hands {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

const SLOT: u64 = 12_000;

/// A vault whose clock stands at the first millisecond of this slot.
struct Bench {
    vault: Vault,
    clock: Arc<Hands>,
    data_key: DataKey,
}

impl Bench {
    fn at_slot(slot: u64) -> Self {
        let clock = Arc::new(Hands::default());
        let shared: Arc<dyn Clock> = Arc::<Hands>::clone(&clock);
        let mut bench = Self { vault: Vault::new(shared), clock, data_key: DataKey::generate().unwrap() };
        bench.set(slot);
        bench.vault.pin(network()).unwrap();
        bench
    }

    fn set(&self, slot: u64) {
        self.clock.0.store(slot * SLOT, Ordering::Relaxed);
    }

    fn sealed(&self, secret: &SecretKey) -> SealedKeyBytes {
        let sealed = seal::seal(&self.data_key, NETWORK, secret).unwrap().as_bytes().to_vec();
        SealedKeyBytes { public_key: *secret.public_key(), sealed }
    }

    fn plain(&self) -> DataKeyBytes {
        self.data_key.bytes().expose(|bytes| DataKeyBytes::new(bytes.try_into().unwrap()))
    }

    fn provision(&mut self, keys: Vec<SealedKeyBytes>) -> Vec<KeyOutcome> {
        let mut plain = self.plain();
        self.vault.provision(&mut plain, keys).unwrap()
    }

    /// A new key, open.
    fn key(&mut self) -> PublicKey {
        let secret = generate::secret_key().unwrap();
        let sealed = self.sealed(&secret);
        assert_eq!(self.provision(vec![sealed]), [KeyOutcome::Opened]);
        *secret.public_key()
    }

    fn sign(&mut self, key: PublicKey, message: &Message) -> Result<SigningRoot, Reason> {
        self.approve(&item(key, message))
    }

    fn approve(&mut self, item: &SignItem) -> Result<SigningRoot, Reason> {
        self.vault.approve(item).map(|approved| approved.root()).map_err(|refusal| refusal.reason)
    }
}

/// What an honest signer sends.
fn item(key: PublicKey, message: &Message) -> SignItem {
    let intent = intent(&key, message);
    SignItem { public_key: key, root: intent.root().into(), commit_seq: 1, statement: **intent.statement() }
}

#[test]
fn a_key_begins_behind_a_fence_at_the_present() {
    // Slot 100 is in epoch 3; the edge is slot 101, also in epoch 3.
    let mut bench = Bench::at_slot(100);
    let key = bench.key();
    assert_eq!(bench.sign(key, &block(101)), Err(Reason::BlockSlotBelowWatermark));
    assert_eq!(bench.sign(key, &block(102)), Err(Reason::SlotInFuture));
    assert_eq!(bench.sign(key, &attestation(3)), Err(Reason::TargetBelowWatermark));
    assert_eq!(bench.sign(key, &attestation(4)), Err(Reason::TargetInFuture));
    bench.set(101);
    assert!(bench.sign(key, &block(102)).is_ok());
    bench.set(127);
    assert!(bench.sign(key, &attestation(4)).is_ok(), "one slot before the epoch begins");
}

#[test]
fn nothing_slashable_however_it_is_asked_for() {
    let mut bench = Bench::at_slot(100);
    let (key, other) = (bench.key(), bench.key());
    bench.set(320);
    let root = bench.sign(key, &block_of(300, 1)).unwrap();
    assert_eq!(bench.sign(key, &block_of(300, 2)), Err(Reason::DoubleBlock));
    assert_eq!(bench.sign(key, &block_of(299, 1)), Err(Reason::BlockSlotBelowWatermark));
    assert_eq!(bench.sign(key, &block_of(300, 1)), Ok(root), "the same block again");
    assert!(bench.sign(other, &block_of(300, 2)).is_ok(), "another key has marks of its own");

    assert!(bench.sign(key, &attestation_of(5, 6, 1)).is_ok());
    assert_eq!(bench.sign(key, &attestation_of(5, 6, 2)), Err(Reason::DoubleVote));
    assert_eq!(bench.sign(key, &attestation_of(4, 7, 1)), Err(Reason::SourceBelowWatermark), "it surrounds");
    assert!(bench.sign(key, &attestation_of(6, 9, 1)).is_ok());
    assert_eq!(bench.sign(key, &attestation_of(7, 8, 1)), Err(Reason::TargetBelowWatermark), "it is surrounded");
    assert_eq!(bench.sign(key, &attestation_of(9, 8, 1)), Err(Reason::SourceAfterTarget));
    assert_eq!(bench.sign(key, &attestation_of(10, 10, 1)), Err(Reason::SourceNotBeforeTarget));
    let health = bench.vault.health();
    assert_eq!((health.keys, health.signatures, health.refusals), (2, 5, 7));
}

#[test]
fn a_claimed_root_is_only_compared() {
    let mut bench = Bench::at_slot(100);
    let key = bench.key();
    bench.set(320);
    let honest = item(key, &block_of(300, 1));
    let lie = SignItem { root: item(key, &block_of(300, 2)).root, ..honest };
    assert_eq!(bench.approve(&lie), Err(Reason::RootMismatch));
    assert_eq!(bench.approve(&SignItem { root: ObservedRoot::new([0; 32]), ..honest }), Err(Reason::RootMismatch));
    assert!(bench.approve(&honest).is_ok(), "what was refused left no mark");
}

/// The untyped path with the tree root of a block or a vote: whatever kind it is called, the root signed is not
/// that of the block or the vote.
#[test]
fn the_untyped_path_never_reaches_the_domains_of_blocks_and_votes() {
    let mut bench = Bench::at_slot(100);
    let key = bench.key();
    bench.set(320);
    for (message, domain) in
        [(block_of(300, 1), DomainType::BEACON_PROPOSER), (attestation_of(5, 6, 1), DomainType::BEACON_ATTESTER)]
    {
        let goal = item(key, &message);
        let object = *message.object_root(&network().preset).unwrap().as_bytes();
        for kind in holdfast_domain::MessageKind::ALL {
            let holdfast_domain::MessageKind::Unslashable(kind) = kind else { continue };
            let forms = [300, 6, 0].into_iter().filter_map(|date| Hashed::new(kind, date));
            for what in forms {
                let stated = Stated::Hashed { what, root: object };
                let statement = Statement { stated, ..goal.statement };
                assert_eq!(bench.approve(&SignItem { statement, ..goal }), Err(Reason::RootMismatch), "{what:?}");
            }
        }
        // The deposit's version is the sender's to choose: its type still stands in front.
        for version in [[0; 4], [5, 0, 0, 0], domain.0] {
            let stated = Stated::Deposit { root: object, genesis_fork_version: ForkVersion(version) };
            let statement = Statement { stated, ..goal.statement };
            assert_eq!(bench.approve(&SignItem { statement, ..goal }), Err(Reason::RootMismatch));
            let made = Domain::compute(DomainType::DEPOSIT, ForkVersion(version), GenesisValidatorsRoot::ZERO);
            assert!(made.to_string().starts_with("0x03000000"));
        }
    }
}

#[test]
fn one_chain_and_no_other() {
    let mut bench = Bench::at_slot(100);
    let key = bench.key();
    bench.set(320);
    bench.vault.pin(network()).unwrap();
    let mut elsewhere = network();
    elsewhere.genesis_validators_root = Some(GenesisValidatorsRoot([1; 32]));
    assert_eq!(bench.vault.pin(elsewhere.clone()), Err(Failure::OtherChain));
    let mut later = network();
    later.genesis_time = Some(UnixMillis(1));
    assert_eq!(bench.vault.pin(later), Err(Failure::OtherChain), "the clock is part of it");
    elsewhere.genesis_validators_root = None;
    assert_eq!(Vault::new(Arc::new(Hands::default())).pin(elsewhere), Err(Failure::OtherChain), "incomplete");
    // Who misstates the times of a chain that everybody knows would wind the fence back.
    let mainnet = Network::builtin("mainnet").unwrap();
    let wound =
        Network { genesis_time: mainnet.genesis_time.map(|time| UnixMillis(time.0 + 86_400_000)), ..mainnet.clone() };
    assert_eq!(Vault::new(Arc::new(Hands::default())).pin(wound), Err(Failure::UnknownChain));
    assert_eq!(Vault::new(Arc::new(Hands::default())).pin(mainnet), Ok(()));

    for message in
        [block_of(300, 1), attestation_of(5, 6, 1), Message::Unslashable(Unslashable::RandaoReveal(Epoch(9)))]
    {
        let mut foreign = item(key, &message);
        let info = foreign.statement.fork_info.as_mut().unwrap();
        info.genesis_validators_root = GenesisValidatorsRoot([1; 32]);
        // With the root that this statement really has.
        let statement = foreign.statement;
        let Err(IntentError::SigningRootMismatch { computed, .. }) = statement.restate(foreign.root, &network()) else {
            panic!("the chain is part of the root");
        };
        foreign.root = computed.into();
        assert_eq!(bench.approve(&foreign), Err(Reason::WrongChain));
        let nameless = SignItem { statement: Statement { fork_info: None, ..statement }, ..foreign };
        assert_eq!(bench.approve(&nameless), Err(Reason::Unsignable));
    }
}

#[test]
fn marks_outlive_secrets_and_only_rise() {
    let mut bench = Bench::at_slot(100);
    let secret = generate::secret_key().unwrap();
    let (key, sealed) = (*secret.public_key(), bench.sealed(&secret));
    assert_eq!(bench.provision(vec![sealed.clone()]), [KeyOutcome::Opened]);
    bench.set(320);
    assert!(bench.sign(key, &block_of(321, 1)).is_ok());
    assert_eq!(bench.provision(vec![sealed.clone()]), [KeyOutcome::AlreadyOpen]);
    assert_eq!(bench.sign(key, &block_of(321, 2)), Err(Reason::DoubleBlock));

    bench.vault.forget(&[key, PublicKey::from_bytes([1; 48])]);
    assert_eq!(bench.sign(key, &block_of(321, 1)), Err(Reason::UnknownKey));
    // Even a clock set back leaves the marks where they are.
    bench.set(200);
    assert_eq!(bench.provision(vec![sealed.clone()]), [KeyOutcome::Opened]);
    bench.set(400);
    assert_eq!(bench.sign(key, &block_of(321, 2)), Err(Reason::DoubleBlock));
    let state = bench.vault.list(None, 10);
    assert_eq!(state.len(), 1);
    assert_eq!((state[0].open, state[0].marks.block), (true, Some(Slot(321))));

    // Forgotten and brought back: somebody else may have signed meanwhile, so the fence is at the present.
    bench.vault.forget(&[key]);
    assert_eq!(bench.provision(vec![sealed]), [KeyOutcome::Opened]);
    assert_eq!(bench.sign(key, &block_of(401, 1)), Err(Reason::BlockSlotBelowWatermark));
    assert_eq!(bench.vault.health().keys, 1);
}

#[test]
fn sealed_keys_that_are_not_what_they_seem_stay_out() {
    let mut bench = Bench::at_slot(100);
    let [secret, other] = [(); 2].map(|()| generate::secret_key().unwrap());
    let good = bench.sealed(&secret);
    let mut damaged = good.clone();
    *damaged.sealed.last_mut().unwrap() ^= 1;
    let renamed = SealedKeyBytes { public_key: *other.public_key(), ..good.clone() };
    let short = SealedKeyBytes { sealed: vec![1; 10], ..good.clone() };
    let unknown = SealedKeyBytes { sealed: vec![9; 85], ..good.clone() };
    let foreign = seal::seal(&DataKey::generate().unwrap(), NETWORK, &secret).unwrap();
    let foreign = SealedKeyBytes { sealed: foreign.as_bytes().to_vec(), ..good.clone() };
    let elsewhere = seal::seal(&bench.data_key, GenesisValidatorsRoot([1; 32]), &secret).unwrap();
    let elsewhere = SealedKeyBytes { sealed: elsewhere.as_bytes().to_vec(), ..good.clone() };
    // Whoever has the data key can seal one secret under the name of another key, to get fresh marks for it.
    let mut bytes = secret.expose_be_bytes(|bytes| *bytes);
    let scalar = holdfast_enclave_sys::SecretScalar::from_be_bytes(&mut bytes).unwrap();
    let alias = SecretKey::vouched_for(*other.public_key(), scalar);
    let alias = bench.sealed(&alias);
    let outcomes = bench.provision(vec![damaged, renamed, short, unknown, foreign, elsewhere, alias, good]);
    assert_eq!(
        outcomes,
        [
            KeyOutcome::Damaged,
            KeyOutcome::OtherKey,
            KeyOutcome::Damaged,
            KeyOutcome::UnknownFormat,
            KeyOutcome::OtherDataKey,
            KeyOutcome::OtherNetwork,
            KeyOutcome::OtherKey,
            KeyOutcome::Opened,
        ]
    );
    assert_eq!(bench.vault.list(None, 10).len(), 1);
    let mut unpinned = Vault::new(Arc::new(Hands::default()));
    assert_eq!(unpinned.provision(&mut bench.plain(), Vec::new()), Err(Failure::NotPinned));
}

#[test]
fn keys_are_listed_in_order_and_in_pages() {
    let mut bench = Bench::at_slot(100);
    let mut keys: Vec<PublicKey> = (0..5).map(|_| bench.key()).collect();
    keys.sort_unstable();
    let mut seen = Vec::new();
    loop {
        let page = bench.vault.list(seen.last().copied(), 2);
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2);
        seen.extend(page.iter().map(|state| state.public_key));
    }
    assert_eq!(seen, keys);
}
