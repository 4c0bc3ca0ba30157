//! The signer's side of a vault in an enclave: reached through a socket that connects to ports, attested, opened with what was
//! encrypted for it, and still there after the connection broke. The vault is the real one, in a thread; its enclave is a
//! stand-in whose encryption is a prefix.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::expect_used,
    unused_crate_dependencies,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "only a part of it is for this one")]
#[path = "support/suite.rs"]
mod suite;
mod support;

use std::io::{Read as _, Write as _};
use std::num::{NonZeroU64, NonZeroUsize};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_domain::{Clock, Network, PublicKey, UnixMillis};
use holdfast_enclave::backend::{KeyBackend, OpenError};
use holdfast_enclave::vault::enclave::{Enclave, converse};
use holdfast_enclave::vault::{Options, Vault};
use holdfast_enclave::{
    ActiveKey, DataKey, ProcessBackend, ProcessOptions, SealError, SecretKey, SignError, Unprotected, VaultPlace,
    VerifyPolicy, generate, seal,
};
use holdfast_slashing_db::SealedKey;
use holdfast_vault_proto::{Failure, Protections};
use zeroize::Zeroizing;

use crate::support::{Bench, NETWORK, block};

/// Length of a slot, so that a fence is passed in no time.
const SLOT_MILLIS: u64 = 50;
const LIMIT: Duration = Duration::from_mins(1);
const PLAIN: [u8; 32] = [5; 32];

#[expect(clippy::disallowed_methods, reason = "a vault has a clock of its own")]
fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(now())
    }
}

fn network() -> Network {
    static GENESIS: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let mut network = support::network();
    network.genesis_time = Some(UnixMillis(*GENESIS.get_or_init(|| now() - 1_000 * SLOT_MILLIS)));
    network.slot_millis = NonZeroU64::new(SLOT_MILLIS).unwrap();
    network.preset.slots_per_epoch = NonZeroU64::MIN;
    network
}

fn slot() -> u64 {
    network().slot_clock().unwrap().slot_at(UnixMillis(now())).unwrap().0
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An enclave whose encryption is a prefix.
struct Paper;

impl Enclave for Paper {
    fn boot_key(&self) -> &[u8] {
        b"boot key"
    }

    fn attest(&self, nonce: &[u8], user_data: &[u8]) -> Result<Vec<u8>, Failure> {
        Ok([nonce, user_data].concat())
    }

    fn open(&self, cms: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        cms.strip_prefix(b"cms").map(|plain| Zeroizing::new(plain.to_vec())).ok_or(Failure::NotForThisBoot)
    }

    fn unwrap(&self, _: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        Err(Failure::NotForThisBoot)
    }

    fn chain(&self) -> Option<&Network> {
        static CHAIN: std::sync::OnceLock<Network> = std::sync::OnceLock::new();
        Some(CHAIN.get_or_init(network))
    }

    fn set_clock(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A running vault, and its connection.
struct Stage {
    directory: tempfile::TempDir,
    connection: Arc<Mutex<Option<UnixStream>>>,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("vault.vsock")).unwrap();
        let connection = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&connection);
        std::thread::spawn(move || {
            let mut vault = Vault::in_enclave(Arc::new(SystemClock), Box::new(Paper));
            let options = Options {
                threads: NonZeroUsize::MIN,
                program: "test".to_owned(),
                protections: Protections::from_bits(0),
            };
            for stream in listener.incoming().map_while(Result::ok) {
                if !connected(&stream) {
                    continue;
                }
                *shared.lock().unwrap() = Some(stream.try_clone().unwrap());
                // One that breaks is no concern of the vault.
                let _ = converse(&stream, stream.try_clone().unwrap(), &mut vault, &options);
                // The clone for the test would keep it open.
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        });
        Self { directory, connection }
    }

    fn backend(&self, port: u32) -> Result<ProcessBackend, SignError> {
        let path = self.directory.path().join("vault.vsock");
        ProcessBackend::start(ProcessOptions {
            vault: VaultPlace::Enclave(format!("unix:{}:{port}", path.display()).parse().unwrap()),
            network: network(),
            program: "test".to_owned(),
            queue_capacity: NonZeroUsize::new(100).unwrap(),
            unprotected: Unprotected::Warn,
            witnesses: None,
            verify: VerifyPolicy::BeforeRelease,
        })
    }

    fn cut(&self) {
        self.connection.lock().unwrap().take().unwrap().shutdown(std::net::Shutdown::Both).unwrap();
    }
}

/// As vhost-device-vsock does it: a line that asks for a port, and a line that grants it.
fn connected(mut stream: &UnixStream) -> bool {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|count| count == 1) && byte != *b"\n" {
        line.extend_from_slice(&byte);
    }
    line == b"CONNECT 9002" && stream.write_all(b"OK 1073741824\n").is_ok()
}

fn sealed(secret: &SecretKey) -> SealedKey {
    seal::seal(&DataKey::take(&mut PLAIN.clone()).unwrap(), NETWORK, secret).unwrap()
}

fn envelope(plain: &[u8]) -> Vec<u8> {
    [b"cms", plain].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_opened_by_what_was_encrypted_for_the_enclave_and_survive_a_cut() {
    let stage = Stage::new();
    let backend = stage.backend(9002).unwrap();
    let mut generations = backend.generations();
    let place: Arc<dyn KeyBackend> = backend.clone().into();
    assert_eq!((place.name(), backend.vault_process()), ("enclave", None));
    let vault = place.attested().unwrap();

    // It is asked for a document with a nonce, and says which chain and version it is for.
    let said = [b"nonce".as_slice(), &vault.user_data(NETWORK)].concat();
    assert_eq!(vault.attest(b"nonce").unwrap(), said);

    let secret = generate::secret_key().unwrap();
    let (key, stored) = (*secret.public_key(), sealed(&secret));
    let keys: [(PublicKey, &SealedKey); 1] = [(key, &stored)];
    // In the clear; for another boot; of another data key.
    assert!(place.open(&DataKey::take(&mut PLAIN.clone()).unwrap(), NETWORK, &keys).is_err());
    let error = vault.open_attested(b"other", NETWORK, &keys).err().unwrap();
    assert_eq!(error.reason(), "not_for_this_boot");
    let other = vault.open_attested(&envelope(&[6; 32]), NETWORK, &keys).unwrap().remove(0);
    assert!(matches!(other, Err(OpenError::Seal(SealError::WrongDataKey { .. }))));

    let bench = Bench::new();
    let held = vault.open_attested(&envelope(&PLAIN), NETWORK, &keys).unwrap().remove(0).unwrap();
    let active = ActiveKey::held(bench.register(key).await, held, Arc::clone(&place)).unwrap();
    let opened = slot();
    let sign = async |message: u64| {
        let permit = bench.permit(&key, &block(message)).await;
        let expected = suite::reference(&secret, permit.root().as_bytes());
        active.sign(permit).await.map(|signed| assert_eq!(*signed.signature.as_bytes(), expected))
    };
    // Behind the fence at the present, which in an enclave is a slot further.
    assert!(matches!(sign(opened).await, Err(SignError::VaultRefused { .. })));
    wait_until("the end of the fence", || slot() >= opened + 5);
    sign(opened + 5).await.unwrap();

    // The connection breaks, the vault does not: keys and marks are as they were.
    generations.mark_unchanged();
    stage.cut();
    wait_until("another connection", || generations.has_changed().unwrap());
    let again = vault.open_attested(&envelope(&PLAIN), NETWORK, &keys).unwrap().remove(0);
    assert!(again.is_ok());
    let next = slot().max(opened + 6);
    sign(next).await.unwrap();
    backend.shutdown();
}

#[test]
fn a_vault_that_cannot_be_reached_is_named() {
    let stage = Stage::new();
    let error = stage.backend(1).err().unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("cannot reach the vault at unix:") && cause.contains("vault.vsock:1:"), "{cause}");
}
