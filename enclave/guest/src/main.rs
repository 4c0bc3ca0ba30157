//! The vault as the only program of an enclave: `/init` of its machine, from boot to switching it off.
//!
//! Why it exists: an enclave has no disk, no network and no other program. So this one mounts what it needs, makes a key
//! for this boot, and lends the vault of `holdfast-enclave`, the very one that runs as a process elsewhere, its devices:
//! a vsock to be asked through and the security module to be attested by.
//!
//! What it guarantees:
//! - it listens, on one port, and dials nowhere but for the heartbeat that the launcher of an enclave waits for;
//! - conversations come one after another; keys, marks and the chain outlive each of them, whatever was said in it;
//! - the clock is the security module's where there is one ([`clock`]);
//! - witnesses in the image are its witnesses, whatever the host says;
//! - nothing is read from the kernel's command line: it is not measured in every machine.
//!
//! Without a security module (in a plain virtual machine, for tests) it cannot be attested, and so no key service gives
//! it a data key. It needs no switch for that.

mod boot;
mod clock;
mod machine;
mod module;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use holdfast_domain::{Clock, Network};
use holdfast_enclave::vault::enclave::{converse, settle, threads};
use holdfast_enclave::vault::{Ended, Options, Vault};
use holdfast_enclave_sys::vsock::{VsockListener, VsockPort};
use holdfast_nitro::cms::RecipientKey;
use holdfast_vault_proto::{Operation, Request};

use boot::Boot;
use clock::EnclaveClock;
use machine::{Failed, say};
use module::Module;

/// Where the vault listens.
const PORT: VsockPort = VsockPort(9_002);
/// Whoever does not take an answer for this long has hung up.
const WRITE_LIMIT: Duration = Duration::from_secs(20);
/// The chain, if it is none of the built-in ones: the content of a `Pin` request (vault.proto).
const CHAIN: &str = "/chain";
/// The witnesses without whose grants no block and no attestation is signed, if there are any: the content of a `Witnesses`
/// request.
const WITNESSES: &str = "/witnesses";

fn main() -> ExitCode {
    if std::process::id() != 1 {
        say("this is the init of an enclave, and no command: see `holdfast enclave build`");
        return ExitCode::from(2);
    }
    // A payload of a panic could hold anything; its place says enough. The machine ends with its first program.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        say(&format!("this is a bug at {place}; please report it"));
        std::process::abort();
    }));
    if let Err(failed) = run() {
        let causes = std::iter::successors(std::error::Error::source(&failed), |cause| cause.source());
        say(&causes.fold(failed.to_string(), |text, cause| format!("{text}: {cause}")));
    }
    machine::switch_off();
    ExitCode::FAILURE
}

fn run() -> Result<(), Failed> {
    machine::mount_devices()?;
    machine::load_modules()?;
    machine::beat_in_background()?;
    let module = Module::open()?.map(Arc::new);
    if let Some(module) = &module {
        machine::stir_randomness(&module.random()?)?;
    }
    let clock = EnclaveClock::start(module.clone())?;
    let chain = measured_chain()?;
    let witnesses = measured(WITNESSES, "read the witnesses of the image")?;
    // Listening before the key is made, which takes a while: whoever connects meanwhile waits.
    let listener = VsockListener::bind(PORT).map_err(Failed::Device)?;
    let protections = settle();
    let key = RecipientKey::generate().map_err(Failed::BootKey)?;
    let boot = Boot::new(key, module, Arc::clone(&clock), chain);
    let options = Options {
        threads: threads(),
        program: concat!("holdfast-vault-guest ", env!("CARGO_PKG_VERSION")).to_owned(),
        protections,
    };
    say(&format!("listens; protected by {}", protections.words().collect::<Vec<_>>().join(", ")));
    let mut vault = Vault::in_enclave(clock as Arc<dyn Clock>, Box::new(boot));
    if let Some(file) = witnesses {
        vault = vault.with_witnesses(&file).map_err(|_| Failed::Witnesses)?;
    }
    serve(&listener, vault, &options)
}

/// Serves until it is told to end.
fn serve(listener: &VsockListener, mut vault: Vault, options: &Options) -> Result<(), Failed> {
    loop {
        let from = listener.accept().map_err(Failed::Device)?;
        let talked = from.set_write_timeout(WRITE_LIMIT).and_then(|()| from.try_clone());
        let ended = match talked {
            Ok(to) => converse(from, to, &mut vault, options),
            Err(error) => {
                say(&format!("a connection was given up: {error}"));
                continue;
            }
        };
        match ended {
            Ok(Ended::Closed) => {}
            Ok(Ended::Shutdown) => return Ok(()),
            // The next one finds everything as it was.
            Err(error) => say(&format!("a conversation ended: {error}")),
        }
    }
}

/// The chain in the image, if there is one.
fn measured_chain() -> Result<Option<Network>, Failed> {
    let Some(bytes) = measured(CHAIN, "read the chain of the image")? else { return Ok(None) };
    match Request::read(Operation::Pin, &bytes) {
        Ok(Request::Pin(network)) => Ok(Some(*network)),
        Ok(_) => Err(Failed::Chain(None)),
        Err(error) => Err(Failed::Chain(Some(error))),
    }
}

/// A file of the image, if it is there.
fn measured(path: &str, what: &'static str) -> Result<Option<Vec<u8>>, Failed> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Failed::System { what, source }),
    }
}
