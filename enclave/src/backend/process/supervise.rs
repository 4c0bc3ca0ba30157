//! The thread that starts a vault process, or connects to one in an enclave, reads its answers, and does so again when
//! that ends.
//!
//! One thread for all of it, for two reasons: the system ends the vault when the *thread* that started it does, and
//! an end is seen where answers are read.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, PoisonError, mpsc};
use std::time::{Duration, Instant};

use holdfast_vault_proto::frame::FrameReader;
use holdfast_vault_proto::{Answer, FrameError, Protections, Request, VERSION};
use tracing::{error, info, warn};

use super::link::{Ended, Link};
use super::{Phase, Shared, Unprotected, VaultPlace, VaultProgram};
use crate::error::SignError;

/// How long a vault may take to introduce itself, and to take a write.
const HELLO_LIMIT: Duration = Duration::from_secs(20);
/// How long a vault may take to end once nobody needs it.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Waits between two starts: from this, doubling,
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A vault that lived for this long had a good start.
const GOOD_LIFE: Duration = Duration::from_mins(1);

/// Why a vault could not be started.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot start {program}")]
    Spawn {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot reach the vault at {address}: does it run, and is its address right?")]
    Connect {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot make a pair of sockets")]
    Socket(#[source] io::Error),
    #[error("the vault does not answer as it should: {what}; its own last words are above")]
    Handshake {
        what: &'static str,
        #[source]
        source: Option<FrameError>,
    },
    #[error(
        "the vault would run without {}, and signing.require_protections asks for all: let the system give it (kernel, container, \
         LimitMEMLOCK), or set that to false", missing.join(", ")
    )]
    Unprotected { missing: Vec<&'static str> },
    #[error("the network's genesis validators root or genesis time is missing")]
    Network,
}

/// A vault that introduced itself.
struct Running {
    /// Where the vault is a process of ours.
    child: Option<Reaped>,
    link: Arc<Link>,
    reader: FrameReader<UnixStream>,
    protections: Protections,
}

/// A child process that is ended and waited for, whatever happens.
struct Reaped(Child);

impl Reaped {
    /// Waits for its end until the limit, and ends it then.
    fn wait(&mut self, limit: Duration) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => {
                    // Ended by somebody else in this very moment, if it cannot be.
                    let _ = self.0.kill();
                    return self.0.wait().ok();
                }
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        self.wait(Duration::ZERO);
    }
}

/// Keeps a vault running until everything is drained. `started` is told how the first start went.
pub(super) fn run(shared: &Arc<Shared>, started: mpsc::SyncSender<Result<(), SignError>>) {
    let mut started = Some(started);
    let mut pause = SHORTEST_PAUSE;
    loop {
        let born = Instant::now();
        match start(shared) {
            Ok(running) => {
                let process = running.child.as_ref().map(|child| child.0.id());
                report(&shared.options.vault, running.protections, process);
                shared.vault.starts.inc();
                shared.change(|state| {
                    state.link = Some(Arc::clone(&running.link));
                    state.process = process;
                    state.protections = running.protections;
                    if state.phase == Phase::Drained {
                        // Nobody needs it any more.
                        running.link.hang_up();
                    }
                });
                shared.generations.send_modify(|generation| *generation = generation.saturating_add(1));
                if let Some(started) = started.take() {
                    // Whoever asked waits for it.
                    drop(started.send(Ok(())));
                } else {
                    shared.vault.restarts.inc();
                }
                let good = serve(shared, running);
                if good {
                    return;
                }
            }
            Err(failure) => {
                if let Some(started) = started.take() {
                    shared.change(|state| state.phase = Phase::Drained);
                    drop(started.send(Err(SignError::VaultStart(Box::new(failure)))));
                    return;
                }
                error!(error = %failure, cause = ?std::error::Error::source(&failure), "no vault");
            }
        }
        if born.elapsed() > GOOD_LIFE {
            pause = SHORTEST_PAUSE;
        }
        if rest(shared, pause) {
            return;
        }
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Reads until the end of the conversation. True if it ended because it was to.
fn serve(shared: &Arc<Shared>, mut running: Running) -> bool {
    let ended = running.link.read(&mut running.reader, |sent, jobs, outcomes| shared.answered(sent, jobs, outcomes));
    running.link.end();
    shared.down();
    let done = shared.state().phase == Phase::Drained;
    let limit = if done { END_LIMIT } else { Duration::ZERO };
    let status = running.child.as_mut().map(|child| child.wait(limit));
    if !done {
        let ended: &Ended = &ended;
        if let Some(status) = status {
            error!(reason = %ended, status = ?status, "the vault ended; it is started again, and signs from the next epoch on");
        } else {
            error!(reason = %ended, "the connection to the vault ended; connecting again");
        }
    }
    done
}

/// Waits before the next start. True if there is to be none.
fn rest(shared: &Shared, pause: Duration) -> bool {
    let until = Instant::now() + pause;
    let mut state = shared.state();
    loop {
        if state.phase != Phase::Running {
            state.phase = Phase::Drained;
            shared.changed.notify_all();
            return true;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn start(shared: &Shared) -> Result<Running, StartError> {
    let (child, ours) = match &shared.options.vault {
        VaultPlace::Program(program) => {
            let (child, ours) = spawn(program)?;
            (Some(child), ours)
        }
        VaultPlace::Socket(path) => {
            let failed = |source| StartError::Connect { address: path.display().to_string(), source };
            let stream = UnixStream::connect(path).map_err(failed)?;
            stream.set_read_timeout(Some(HELLO_LIMIT)).map_err(StartError::Socket)?;
            stream.set_write_timeout(Some(HELLO_LIMIT)).map_err(StartError::Socket)?;
            (None, stream)
        }
        VaultPlace::Enclave(address) => {
            let connected = address.connect(HELLO_LIMIT);
            (None, connected.map_err(|source| StartError::Connect { address: address.to_string(), source })?)
        }
    };
    introduce(shared, child, &ours)
}

/// Starts a process with one end of a pair of sockets, and keeps the other.
fn spawn(vault: &VaultProgram) -> Result<(Reaped, UnixStream), StartError> {
    let (ours, theirs) = UnixStream::pair().map_err(StartError::Socket)?;
    ours.set_read_timeout(Some(HELLO_LIMIT)).map_err(StartError::Socket)?;
    ours.set_write_timeout(Some(HELLO_LIMIT)).map_err(StartError::Socket)?;
    if let Err(error) = holdfast_enclave_sys::keep_files_to_this_process() {
        warn!(%error, "the vault may inherit files");
    }
    let program = &vault.program;
    let child = Command::new(program)
        .args(&vault.arguments)
        .arg(std::process::id().to_string())
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .map_err(|source| StartError::Spawn { program: program.display().to_string(), source })?;
    Ok((Reaped(child), ours))
}

/// The first words with a vault: who speaks, and the chain.
fn introduce(shared: &Shared, child: Option<Reaped>, ours: &UnixStream) -> Result<Running, StartError> {
    let options = &shared.options;
    let mut reader = FrameReader::new(ours.try_clone().map_err(StartError::Socket)?);
    let mut ask = |number: u64, request: Option<&Request>| -> Result<Answer, StartError> {
        let broke = |source| StartError::Handshake { what: "the conversation broke", source: Some(source) };
        let frame = request.and_then(|request| request.frame(number)).ok_or(StartError::Network)?;
        frame.write(&mut &*ours).map_err(broke)?;
        let (header, body) = reader.read().map_err(broke)?;
        if header.number != number {
            return Err(StartError::Handshake { what: "an answer to another request", source: None });
        }
        Answer::read(header.operation, body).map_err(|error| broke(error.into()))
    };
    let hello = Request::Hello { version: VERSION, program: options.program.clone() };
    let Answer::Welcome { version: VERSION, protections, .. } = ask(1, Some(&hello))? else {
        return Err(StartError::Handshake { what: "another version", source: None });
    };
    let missing = lacking(&options.vault, protections);
    if options.unprotected == Unprotected::Refuse && !missing.is_empty() {
        return Err(StartError::Unprotected { missing });
    }
    let Answer::Done(_) = ask(2, Some(&Request::Pin(Box::new(options.network.clone()))))? else {
        return Err(StartError::Handshake { what: "it does not take the network", source: None });
    };
    let mut asked = 2;
    if let Some(pins) = &options.witnesses {
        asked = 3;
        let witnesses = pins.witnesses().iter().map(|key| *key.as_bytes()).collect();
        let group = pins.group().as_str().to_owned();
        let request = Request::Witnesses { group, witnesses, quorum: pins.quorum() };
        let Answer::Done(_) = ask(asked, Some(&request))? else {
            return Err(StartError::Handshake { what: "it does not take the witnesses", source: None });
        };
    }
    ours.set_read_timeout(None).map_err(StartError::Socket)?;
    let link = Arc::new(Link::new(ours, asked).map_err(StartError::Socket)?);
    Ok(Running { child, link, reader, protections })
}

/// What is missing of what may be required.
fn lacking(place: &VaultPlace, protections: Protections) -> Vec<&'static str> {
    let kept_from_swap = protections.has(Protections::SECRET_MEMORY) || protections.has(Protections::LOCKED_MEMORY);
    let memory = ["secret_memory", "locked_memory"];
    let mut missing = place.missing(protections);
    missing.retain(|word| !(kept_from_swap && memory.contains(word)));
    missing
}

fn report(place: &VaultPlace, protections: Protections, process: Option<u32>) {
    let on: Vec<&str> = protections.words().collect();
    let off = place.missing(protections);
    if off.is_empty() {
        info!(process, protections = on.join(","), "the vault runs; it signs with a new key from the next epoch on");
    } else {
        warn!(process, protections = on.join(","), missing = off.join(","), "the vault runs with less than it could");
    }
}
