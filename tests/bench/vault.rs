//! What a vault process costs: CPU of both processes for a signature by itself and in a burst, against the backend in this
//! process; and what it costs to verify what comes back, many together against one by one.
//!
//! Permits are earned before the clock runs, so nothing but signing is measured. The vault is this program once more.

use std::collections::VecDeque;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_domain::{
    Clock, Epoch, Fork, ForkInfo, ForkVersion, GenesisValidatorsRoot, Message, Network, SigningIntent, UnixMillis,
    Unslashable,
};
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::vault::home::{self, HomeOptions};
use holdfast_enclave::{
    ActiveKey, DataKey, LocalBackend, LocalOptions, ProcessBackend, ProcessOptions, SecretKey, Unprotected, VaultPlace,
    VaultProgram, VerifyPolicy, generate, seal,
};
use holdfast_enclave_sys::{Claim, SignaturePoint, VerifyingPoint, hash_to_g2, verify, verify_together};
use holdfast_slashing_db::{
    BindOptions, CallerId, EntryWatermark, Guard, KeyOrigin, NewKey, Registered, SealedKey, SigningPermit, SlashingDb,
    StoreOptions, Tombstone,
};
use tokio::task::JoinSet;

use crate::burst::runtime;
use crate::measure::{cores, cpu_of};

const CHAIN: GenesisValidatorsRoot = GenesisValidatorsRoot([0x4b; 32]);
/// Signatures in one frame of a vault.
const FRAME: usize = 128;
/// CPU that a vault may add to a signature, in microseconds.
const TARGET_ADDED: f64 = 60.0;
/// Share of the throughput of this process that a vault has to keep.
const TARGET_KEPT: f64 = 0.9;

/// A clock that stands still: nothing here depends on the time.
struct Still;

impl Clock for Still {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_000_000 * 12_000)
    }
}

fn network() -> Network {
    let mut network = Network::builtin("mainnet").expect("a built-in network");
    network.genesis_validators_root = Some(CHAIN);
    network.genesis_time = Some(UnixMillis(0));
    network
}

/// The vault: `bench vault-process PARENT`.
pub(crate) fn process(parent: u32) {
    let threads = NonZeroUsize::new(cores()).expect("a core");
    let options = HomeOptions { parent, threads, program: "bench vault".to_owned() };
    home::run(options, Arc::new(Still)).expect("the conversation ends in good order");
}

/// What signing took.
#[derive(Default, Clone, Copy)]
struct Spent {
    signatures: u64,
    cpu: Duration,
    wall: Duration,
}

impl Spent {
    fn micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.signatures as f64
    }

    fn rate(&self) -> f64 {
        self.signatures as f64 / self.wall.as_secs_f64()
    }
}

/// A backend with keys, and a database that permits.
struct Side {
    name: &'static str,
    vault: Option<ProcessBackend>,
    keys: Vec<Arc<ActiveKey>>,
    guard: Guard,
    epoch: u64,
    single: Spent,
    burst: Spent,
    // Dropped last.
    _dir: tempfile::TempDir,
}

fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("nanoseconds"))
}

impl Side {
    async fn new(
        name: &'static str,
        place: Arc<dyn KeyBackend>,
        vault: Option<ProcessBackend>,
        secrets: &[SecretKey],
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let db = SlashingDb::open(&StoreOptions { path: dir.path().join("slashing.sqlite") }).expect("a database");
        let clock = network().slot_clock().expect("times");
        let guard = db.bind(BindOptions::new(CHAIN, clock, Arc::new(Still))).expect("a guard");
        let data_key = DataKey::generate().expect("a data key");
        let seal = |secret: &SecretKey| (*secret.public_key(), seal::seal(&data_key, CHAIN, secret).expect("sealed"));
        let sealed: Vec<_> = secrets.iter().map(seal).collect();
        let stored: Vec<_> = sealed.iter().map(|(key, sealed)| (*key, sealed)).collect();
        let opened = place.open(&data_key, CHAIN, &stored).expect("keys are opened");
        let mut keys = Vec::with_capacity(opened.len());
        for held in opened {
            let held = held.expect("a key is opened");
            let new = NewKey {
                key: *held.public_key(),
                sealed: SealedKey::new(vec![1]),
                origin: KeyOrigin::Generated,
                label: None,
                labels: holdfast_slashing_db::Labels::new(),
                registered_by: CallerId::new("bench"),
            };
            let registered = guard.register(new, EntryWatermark::NeverSigned, Tombstone::Refuse).await;
            let Ok(Registered::New(registration)) = registered else { panic!("a key is registered") };
            keys.push(Arc::new(ActiveKey::held(registration, held, Arc::clone(&place)).expect("the same key")));
        }
        Self { name, vault, keys, guard, epoch: 0, single: Spent::default(), burst: Spent::default(), _dir: dir }
    }

    /// Permits, one for each of these keys: of one root for all, or of a root each.
    async fn permits(&mut self, keys: &[Arc<ActiveKey>], shared: bool) -> Vec<(Arc<ActiveKey>, SigningPermit)> {
        let version = ForkVersion([5, 0, 0, 0]);
        let fork = Fork { previous_version: version, current_version: version, epoch: Epoch(0) };
        let info = ForkInfo { fork, genesis_validators_root: CHAIN };
        let network = network();
        let mut earning = VecDeque::new();
        self.epoch += 1;
        for key in keys {
            self.epoch += u64::from(!shared);
            let message = Message::Unslashable(Unslashable::RandaoReveal(Epoch(self.epoch)));
            let intent = SigningIntent::new(*key.key(), &message, Some(info), None, &network).expect("an intent");
            earning.push_back((Arc::clone(key), self.guard.authorize(intent, CallerId::new("bench"))));
        }
        let mut permits = Vec::with_capacity(keys.len());
        for (key, permit) in earning {
            permits.push((key, permit.await.expect("a permit")));
        }
        permits
    }

    fn cpu(&self) -> Duration {
        let vault = self.vault.as_ref().map(|vault| vault.vault_process().expect("a vault runs"));
        own_cpu() + vault.map(cpu_of).unwrap_or_default()
    }

    /// One after the other, each awaited.
    async fn singles(&mut self, count: u64) {
        let keys: Vec<_> =
            self.keys.iter().cycle().take(usize::try_from(count).expect("a small number")).cloned().collect();
        let permits = self.permits(&keys, false).await;
        let (cpu, begun) = (self.cpu(), Instant::now());
        for (key, permit) in permits {
            key.sign(permit).await.expect("a signature");
        }
        let wall = begun.elapsed();
        self.single = add(self.single, count, self.cpu().saturating_sub(cpu), wall);
    }

    /// One for each key, all at once.
    async fn burst(&mut self) {
        let keys = self.keys.clone();
        let permits = self.permits(&keys, true).await;
        let (cpu, begun) = (self.cpu(), Instant::now());
        let mut signing = JoinSet::new();
        for (key, permit) in permits {
            signing.spawn_local(async move { key.sign(permit).await.expect("a signature") });
        }
        let count = signing.join_all().await.len() as u64;
        let wall = begun.elapsed();
        self.burst = add(self.burst, count, self.cpu().saturating_sub(cpu), wall);
    }
}

fn add(spent: Spent, signatures: u64, cpu: Duration, wall: Duration) -> Spent {
    Spent { signatures: spent.signatures + signatures, cpu: spent.cpu + cpu, wall: spent.wall + wall }
}

fn vault(verify: VerifyPolicy) -> ProcessBackend {
    let program =
        VaultProgram { program: PathBuf::from("/proc/self/exe"), arguments: vec!["vault-process".to_owned()] };
    ProcessBackend::start(ProcessOptions {
        vault: VaultPlace::Program(program),
        network: network(),
        program: "bench".to_owned(),
        queue_capacity: NonZeroUsize::new(16_384).expect("not zero"),
        witnesses: None,
        verify,
        unprotected: Unprotected::Warn,
    })
    .expect("a vault starts")
}

/// The backend in this process, and vaults with and without verification, in turn.
pub(crate) fn measure(keys: u64, bursts: u64, singles: u64) {
    let secrets: Vec<SecretKey> = (0..keys).map(|_| generate::secret_key().expect("a key")).collect();
    let local = || tokio::task::LocalSet::new();
    let runtime = runtime();
    let mut sides = runtime.block_on(async {
        let here = LocalBackend::start(LocalOptions::default()).expect("threads");
        let (trusted, verified) = (vault(VerifyPolicy::TrustBackend), vault(VerifyPolicy::BeforeRelease));
        [
            Side::new("in process", here.into(), None, &secrets).await,
            Side::new("vault", trusted.clone().into(), Some(trusted), &secrets).await,
            Side::new("vault, verified", verified.clone().into(), Some(verified), &secrets).await,
        ]
    });
    for round in 0..=bursts {
        for side in &mut sides {
            local().block_on(&runtime, async {
                side.singles(singles.div_ceil(bursts)).await;
                side.burst().await;
            });
            if round == 0 {
                // Caches are warm now.
                (side.single, side.burst) = (Spent::default(), Spent::default());
            }
        }
    }
    let [here, ..] = &sides;
    let (single, burst) = (here.single, here.burst);
    for side in &sides {
        println!(
            "{:<16} {:>7.1} us CPU per single signature, adds {:>6.1} (target {TARGET_ADDED}); in bursts of {keys} {:>7.1} us, adds {:>6.1}; \
             {:>6.0} signatures/s, ratio {:.3} (target {TARGET_KEPT})",
            side.name,
            side.single.micros(),
            side.single.micros() - single.micros(),
            side.burst.micros(),
            side.burst.micros() - burst.micros(),
            side.burst.rate(),
            side.burst.rate() / burst.rate()
        );
    }
    verification(&secrets, bursts);
}

/// Signatures of one root, verified one by one and in frames, in turn.
fn verification(secrets: &[SecretKey], rounds: u64) {
    let root = [0x51; 32];
    let point = hash_to_g2(&root);
    let made: Vec<([u8; 48], [u8; 96], VerifyingPoint)> = secrets
        .iter()
        .take(FRAME)
        .map(|secret| {
            let key = *secret.public_key().as_bytes();
            let mut bytes = secret.expose_be_bytes(|bytes| *bytes);
            let scalar = holdfast_enclave_sys::SecretScalar::from_be_bytes(&mut bytes).expect("a key");
            (key, scalar.sign(&point), VerifyingPoint::new(&key).expect("a public key"))
        })
        .collect();
    let (mut alone, mut together, mut plain) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for round in 1..=rounds {
        let begun = own_cpu();
        assert!(made.iter().all(|(key, signature, _)| verify(key, &root, signature)));
        let middle = own_cpu();
        let claims: Vec<Claim> = (1..)
            .zip(&made)
            .map(|(index, (_, signature, key))| Claim {
                root: point,
                key: *key,
                signature: SignaturePoint::new(signature).expect("a signature"),
                coefficient: NonZeroU64::MIN | (round + index).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            })
            .collect();
        assert!(verify_together(&claims));
        let end = own_cpu();
        for (key, _, _) in &made {
            std::hint::black_box(hash_to_g2(&[key[0]; 32]));
        }
        (alone, together, plain) = (
            alone + middle.saturating_sub(begun),
            together + end.saturating_sub(middle),
            plain + own_cpu().saturating_sub(end),
        );
    }
    let each = |time: Duration| time.as_secs_f64() * 1e6 / (rounds as f64 * made.len() as f64);
    println!(
        "verification     {:>7.1} us CPU per signature one by one; {:.1} in frames of {} with one root, ratio {:.3}; hashing a root takes {:.1}",
        each(alone),
        each(together),
        made.len(),
        each(together) / each(alone),
        each(plain)
    );
}
