//! What the first program of a machine has to do: mounts, modules, the heartbeat, and the end.
//!
//! Guarantees: a step that failed is said on the console in words, as there is nobody else to tell.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use holdfast_enclave_sys::SysError;
use holdfast_enclave_sys::vsock::{VsockMachine, VsockPort, VsockStream};
use holdfast_nitro::cms::OpenError;
use holdfast_vault_proto::Malformed;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};

/// The modules of the kernel that the image has, a file name on each line, in the order they need each other.
const MODULES: &str = "/modules/list";
/// Where the launcher of an enclave waits to hear that it booted, and what it wants to hear (AWS's `nitro-cli`).
const HEARTBEAT: (VsockMachine, VsockPort, u8) = (VsockMachine::NITRO_PARENT, VsockPort(9_000), 0xb7);
/// How long its answer may take.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(5);

/// Why the machine is switched off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The kernel refused something.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A module of the kernel was not taken.
    #[error("cannot load the module {name}: it is for another kernel than the one in the image")]
    KernelModule {
        /// Which.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A device of the enclave.
    #[error("a device of the enclave is missing")]
    Device(#[source] SysError),
    /// The security module answered something else.
    #[error("the security module answered something that was not asked for")]
    Answer,
    /// No key for this boot.
    #[error("cannot make the key of this boot")]
    BootKey(#[source] OpenError),
    /// The witnesses of the image are none.
    #[error("the witnesses in the image cannot be read: build the image again")]
    Witnesses,
    /// The chain of the image is none.
    #[error("the chain in the image cannot be read: build the image again")]
    Chain(#[source] Option<Malformed>),
}

/// A line on the console.
pub(crate) fn say(line: &str) {
    // Nobody to tell if there is none.
    let _ = writeln!(io::stderr(), "holdfast vault: {line}");
}

/// Makes devices appear under `/dev`, where the security module is.
pub(crate) fn mount_devices() -> Result<(), Failed> {
    let failed = |source| Failed::System { what: "mount /dev", source };
    match std::fs::create_dir("/dev") {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    mount("dev", "/dev", "devtmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, None::<&CStr>)
        .map_err(|error| failed(error.into()))
}

/// Loads the modules of the image. A kernel built for enclaves has none.
pub(crate) fn load_modules() -> Result<(), Failed> {
    let list = match std::fs::read_to_string(MODULES) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Failed::System { what: "read the list of modules", source }),
    };
    for name in list.lines() {
        let failed = |source| Failed::KernelModule { name: name.to_owned(), source };
        let file = File::open(format!("/modules/{name}")).map_err(failed)?;
        finit_module(file, c"", 0).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

/// Tells the launcher that the machine runs. In a thread of its own: where nobody waits, it takes seconds to find out.
pub(crate) fn beat_in_background() -> Result<(), Failed> {
    let beat = || {
        let (machine, port, byte) = HEARTBEAT;
        let Ok(mut launcher) = VsockStream::connect(machine, port) else { return };
        let mut answer = [0];
        // It may want to know, and need not.
        let _ = launcher.set_read_timeout(HEARTBEAT_LIMIT);
        let _ = launcher.write_all(&[byte]).and_then(|()| launcher.read_exact(&mut answer));
    };
    let thread = std::thread::Builder::new().name("heartbeat".to_owned()).spawn(beat);
    thread.map(|_| ()).map_err(|source| Failed::System { what: "start a thread", source })
}

/// Adds bytes to what the kernel makes random numbers of. They are not counted as random, and do no harm if they are not.
pub(crate) fn stir_randomness(bytes: &[u8]) -> Result<(), Failed> {
    let failed = |source| Failed::System { what: "stir the random numbers of the kernel", source };
    let mut pool = OpenOptions::new().write(true).open("/dev/urandom").map_err(failed)?;
    pool.write_all(bytes).map_err(failed)
}

/// Switches the machine off: what it held is gone.
pub(crate) fn switch_off() {
    say("switches off");
    // The end of the first program ends the machine as well.
    let _ = reboot(RebootCommand::Restart);
}
