//! The places where a backend computes, and what is peculiar to each.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_domain::{Clock, GenesisValidatorsRoot, Network, PublicKey, UnixMillis};
use holdfast_enclave::backend::{Held, KeyBackend, OpenError};
use holdfast_enclave::vault::home::{self, HomeOptions};
use holdfast_enclave::{
    LocalBackend, LocalOptions, ProcessBackend, ProcessOptions, Unprotected, VaultPlace, VaultProgram, VerifyPolicy,
};
use holdfast_slashing_db::SealedKey;

use super::suite::{self, Mortal, Place};
use super::support::{self, NETWORK};
use crate::attested::Service;
use crate::support::image::{nitro_for, stock_for};
use crate::support::keys::KnownDataKey;
use crate::support::line::Line;
use crate::support::machine::Machine;
use crate::support::relay::Relay;
use crate::support::wait_until;

/// Length of a slot, and of an epoch.
const SLOT_MILLIS: u64 = 20;
/// Long after every message of every vector: the year 2200.
const FAR: UnixMillis = UnixMillis(7_258_118_400_000);

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A chain whose slots pass in no time; it began ten thousand of them ago.
pub(super) fn network() -> Network {
    static BEGAN: OnceLock<u64> = OnceLock::new();
    let mut network = support::network();
    network.genesis_time = Some(UnixMillis(*BEGAN.get_or_init(|| now() - 10_000 * SLOT_MILLIS)));
    network.slot_millis = NonZeroU64::new(SLOT_MILLIS).unwrap();
    network.preset.slots_per_epoch = NonZeroU64::MIN;
    network
}

fn slot_at(millis: u64) -> u64 {
    network().slot_clock().unwrap().slot_at(UnixMillis(millis)).unwrap().0
}

fn options(vault: VaultPlace, network: &Network) -> ProcessOptions {
    ProcessOptions {
        vault,
        network: network.clone(),
        program: "test".to_owned(),
        queue_capacity: NonZeroUsize::new(16_384).unwrap(),
        witnesses: None,
        verify: VerifyPolicy::BeforeRelease,
        unprotected: Unprotected::Warn,
    }
}

/// The product's backend before the vault of a machine whose socket this is.
pub(crate) fn backend_at(socket: &Path, network: &Network) -> ProcessBackend {
    let address = format!("unix:{}:9002", socket.display()).parse().unwrap();
    ProcessBackend::start(options(VaultPlace::Enclave(address), network)).unwrap()
}

/// This process, which signs whatever is permitted.
pub(super) struct Here {
    backend: LocalBackend,
    last: AtomicU64,
}

impl Here {
    pub(super) fn new() -> Self {
        Self { backend: LocalBackend::start(LocalOptions::default()).unwrap(), last: AtomicU64::new(100) }
    }
}

impl Place for Here {
    fn backend(&self) -> Arc<dyn KeyBackend> {
        self.backend.clone().into()
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }
}

/// A vault process: this program, once more.
pub(super) struct Beside(ProcessBackend);

impl Beside {
    pub(super) fn new(network: &Network) -> Self {
        Self::with(network, vec!["vault".to_owned(), "0".to_owned()])
    }

    /// One that begins before its chain does, opens so many keys, and then is long after it: so no key is behind a fence,
    /// and every message lies in the past.
    pub(super) fn from_genesis(network: &Network, keys: usize) -> Self {
        Self::with(network, vec!["vault".to_owned(), keys.to_string()])
    }

    fn with(network: &Network, arguments: Vec<String>) -> Self {
        let program = VaultProgram { program: PathBuf::from("/proc/self/exe"), arguments };
        Self(ProcessBackend::start(options(VaultPlace::Program(program), network)).unwrap())
    }
}

impl Place for Beside {
    fn backend(&self) -> Arc<dyn KeyBackend> {
        self.0.clone().into()
    }

    fn next(&self) -> u64 {
        let behind = self.present() + 2;
        wait_until("a slot behind the fence", || self.present() >= behind);
        behind
    }
}

impl Mortal for Beside {
    fn vault(&self) -> &ProcessBackend {
        &self.0
    }

    fn present(&self) -> u64 {
        slot_at(now())
    }

    fn kill(&self) {
        let process = self.0.vault_process().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(now())
    }
}

/// Before every chain for so many questions, one for each key that comes in, and then far behind.
struct Leap(AtomicU64);

impl Clock for Leap {
    fn now(&self) -> UnixMillis {
        let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map_or(FAR, |_| UnixMillis(0))
    }
}

/// The vault process: `vault KEYS PARENT`.
pub(crate) fn vault(arguments: &[String]) -> ExitCode {
    let [keys, parent] = arguments else { return ExitCode::FAILURE };
    let clock: Arc<dyn Clock> = match keys.parse().unwrap() {
        0 => Arc::new(SystemClock),
        keys => Arc::new(Leap(AtomicU64::new(keys))),
    };
    let options = HomeOptions {
        parent: parent.parse().unwrap(),
        threads: NonZeroUsize::new(2).unwrap(),
        program: "test vault".to_owned(),
    };
    if home::run(options, clock).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Which machine.
#[derive(Clone, Copy)]
pub(super) enum Boots {
    /// Debian's kernel: the test plays the key service, and encrypts to the key that the vault names.
    Stock,
    /// The image of an enclave: the stand-in for AWS KMS reads the document, and opens for this image only.
    Nitro,
}

/// A vault in a machine, and the product's backend in front of it.
pub(super) struct Enclosed {
    backend: ProcessBackend,
    relay: Relay,
    image: Vec<u8>,
    service: Option<Service>,
    machine: Mutex<Option<Booted>>,
}

/// How far a vault's clock is ahead of this machine's, in milliseconds: at least and at most.
type Ahead = (i64, i64);

/// By QEMU's security module, which tells whole seconds. The vault's clock is set by it again whenever keys come in and
/// every half minute, and is rather ahead by the time of that question than behind.
const BY_WHOLE_SECONDS: Ahead = (-1_100, 200);

/// One boot.
struct Booted {
    // It ends with this.
    _machine: Machine,
    key: Vec<u8>,
    ahead: Ahead,
}

impl Booted {
    fn new(mut machine: Machine, relay: &Relay, attested: bool) -> Self {
        let (mut line, greeting) = Line::greeted(&mut machine);
        let ahead = if attested {
            BY_WHOLE_SECONDS
        } else {
            let ahead = line.health().clock_millis.checked_signed_diff(now()).unwrap();
            (ahead, ahead)
        };
        drop(line);
        relay.lead_to(Some(machine.vsock()));
        Self { _machine: machine, key: greeting.boot_key, ahead }
    }
}

fn boot(image: &[u8], attested: bool) -> Machine {
    if attested { Machine::nitro(image) } else { Machine::stock_with(image) }
}

impl Enclosed {
    pub(super) fn start(network: &Network, boots: Boots) -> Self {
        let (image, service) = match boots {
            Boots::Stock => (stock_for(network), None),
            Boots::Nitro => {
                let image = nitro_for(network);
                let service = Service::new(&KnownDataKey::of(suite::plain()), &image.measurements());
                (image.to_bytes().unwrap(), Some(service))
            }
        };
        let relay = Relay::new();
        let attested = service.is_some();
        let machine = Booted::new(boot(&image, attested), &relay, attested);
        let backend = backend_at(relay.path(), network);
        Self { backend, relay, image, service, machine: Mutex::new(Some(machine)) }
    }

    /// Breaks the connection.
    pub(super) fn cut(&self) {
        self.relay.cut();
    }

    /// The present by the vault's clock: no earlier and no later than these.
    fn presents(&self) -> (u64, u64) {
        // While no machine runs any number will do: nothing is signed.
        let (least, most) = self.machine.lock().unwrap().as_ref().map_or((0, 0), |booted| booted.ahead);
        let at = |ahead| slot_at(now().checked_add_signed(ahead).unwrap());
        (at(least), at(most))
    }

    fn booted<T>(&self, what: impl FnOnce(&Booted) -> T) -> T {
        what(self.machine.lock().unwrap().as_ref().expect("a machine runs"))
    }
}

impl Place for Enclosed {
    fn backend(&self) -> Arc<dyn KeyBackend> {
        self.backend.clone().into()
    }

    fn open(&self, chain: GenesisValidatorsRoot, keys: &[(PublicKey, &SealedKey)]) -> Vec<Result<Held, OpenError>> {
        let backend = self.backend();
        let vault = backend.attested().unwrap();
        let envelope = match &self.service {
            Some(service) => service.envelope_for(&vault.attest(b"every backend").unwrap()).unwrap(),
            None => self.booted(|booted| KnownDataKey::of(suite::plain()).envelope(&booted.key)),
        };
        vault.open_attested(&envelope, chain, keys).unwrap()
    }

    fn next(&self) -> u64 {
        // In a machine the fence is a slot further, and so is the rounding of two clocks.
        let (_, latest) = self.presents();
        let behind = latest + 5;
        wait_until("a slot behind the fence", || self.present() > behind);
        behind
    }
}

impl Mortal for Enclosed {
    fn vault(&self) -> &ProcessBackend {
        &self.backend
    }

    fn present(&self) -> u64 {
        self.presents().0
    }

    fn kill(&self) {
        self.relay.lead_to(None);
        self.machine.lock().unwrap().take();
    }

    fn revive(&self) {
        let attested = self.service.is_some();
        let machine = boot(&self.image, attested);
        *self.machine.lock().unwrap() = Some(Booted::new(machine, &self.relay, attested));
    }
}

/// The chain of these tests is that of their messages.
const _: () = assert!(NETWORK.0[0] == crate::support::chain::GENESIS.0[0]);
