//! A vault in a process of its own: this program is both, the test and the vault it starts.
//!
//! Proved here, on a real process with everything given up that a vault gives up: the suite of every backend; that a
//! crash is noticed, said and mended; that keys are made there and leave sealed; that the raw protocol yields nothing slashable; what the system says of the
//! process; and that none of its secrets can be read from outside.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::expect_used,
    unused_crate_dependencies,
    reason = "a test fails by panicking, and this one prints its own report"
)]

#[path = "support/suite.rs"]
mod suite;
mod support;

#[path = "process/crash.rs"]
mod crash;
#[path = "process/generate.rs"]
mod generate;
#[path = "process/memory.rs"]
mod memory;
#[path = "process/raw.rs"]
mod raw;
#[path = "process/system.rs"]
mod system;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_domain::{Clock, Network, UnixMillis};
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::vault::home::{self, HomeOptions};
use holdfast_enclave::{ProcessBackend, ProcessOptions, Unprotected, VaultPlace, VaultProgram, VerifyPolicy};

/// Length of a slot in these tests, and of an epoch: a fence is passed in no time.
const SLOT_MILLIS: u64 = 50;
/// Anything waited for comes within this.
const LIMIT: Duration = Duration::from_mins(1);

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

/// Asked for the time, it opens a file.
struct CuriousClock;

impl Clock for CuriousClock {
    fn now(&self) -> UnixMillis {
        drop(std::fs::read("/etc/hostname"));
        UnixMillis(now())
    }
}

/// The network of these tests: it began a thousand slots ago.
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

/// Waits until something is so.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Numbers of slots (and epochs) that may be signed now, each behind every fence before and higher than the last.
fn next_slot() -> u64 {
    let behind = slot() + 2;
    wait_until("the slot after the next one", || slot() >= behind);
    behind
}

fn vault_program(mode: &str, more: &[String]) -> VaultProgram {
    let mut arguments = vec![mode.to_owned()];
    arguments.extend(more.iter().cloned());
    VaultProgram { program: PathBuf::from("/proc/self/exe"), arguments }
}

fn start(mode: &str, more: &[String]) -> ProcessBackend {
    let options = ProcessOptions {
        vault: VaultPlace::Program(vault_program(mode, more)),
        network: network(),
        program: "test".to_owned(),
        queue_capacity: NonZeroUsize::new(16_384).unwrap(),
        witnesses: None,
        verify: VerifyPolicy::BeforeRelease,
        unprotected: Unprotected::Warn,
    };
    ProcessBackend::start(options).unwrap()
}

fn vault(mode: &str, arguments: &[String]) -> ExitCode {
    let parent = arguments.last().unwrap().parse().unwrap();
    // What the memory test looks for: bytes that are nowhere else, as the argument is text.
    let planted = match (mode, arguments) {
        ("vault-with-copy", [text, _]) => hex::decode(text).unwrap(),
        _ => Vec::new(),
    };
    let clock: Arc<dyn Clock> = if mode == "vault-curious" { Arc::new(CuriousClock) } else { Arc::new(SystemClock) };
    let options = HomeOptions { parent, threads: NonZeroUsize::new(2).unwrap(), program: "test vault".to_owned() };
    let ended = home::run(options, clock);
    std::hint::black_box(&planted);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, rest @ ..] = arguments.as_slice()
        && mode.starts_with("vault")
    {
        return vault(mode, rest);
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let tests: [(&str, fn()); 10] = [
        ("the suite of every backend", conformance),
        ("a crash is said and mended", crash::a_crash_is_said_and_mended),
        ("a vault that cannot be started is an error", crash::a_vault_that_cannot_be_started_is_an_error),
        ("stopping finishes what was accepted", crash::stopping_finishes_what_was_accepted),
        ("keys are made, sealed and sign", generate::keys_are_made_sealed_and_sign),
        ("nothing slashable over the raw protocol", raw::nothing_slashable),
        ("garbage ends the vault", raw::garbage_ends_the_vault),
        ("what the system says of the process", system::what_was_given_up),
        ("a vault that opens a file is ended", system::opening_a_file_ends_it),
        ("no secret can be read from outside", memory::no_secret_can_be_read),
    ];
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    for (name, test) in tests {
        if filter.is_none_or(|filter| name.contains(filter.as_str())) {
            let begun = Instant::now();
            test();
            println!("process: {name} ... ok ({:?})", begun.elapsed());
        }
    }
    ExitCode::SUCCESS
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// A vault process.
struct Beside(ProcessBackend);

impl suite::Place for Beside {
    fn backend(&self) -> Arc<dyn KeyBackend> {
        self.0.clone().into()
    }

    fn next(&self) -> u64 {
        next_slot()
    }
}

fn conformance() {
    block_on(suite::backend(&Beside(start("vault", &[]))));
}
