//! Where keys are held: in this process, or in a vault that this process starts.
//!
//! Guarantees: whichever it is, the rest of the program sees one [`KeyBackend`]; a vault that had to be started again
//! gets its keys back by itself. The vault is this very program, so that both sides are of one version.

use std::num::NonZeroUsize;
#[cfg(feature = "backend-process")]
use std::path::PathBuf;
use std::sync::Arc;

use holdfast_domain::{GenesisValidatorsRoot, Network};
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::{ActiveKey, DataKey, LocalBackend, LocalOptions, SignError, VerifyPolicy};
#[cfg(feature = "backend-process")]
use holdfast_enclave::{
    ProcessBackend, ProcessOptions, Unprotected, VaultPlace, VaultProgram, vault::home, vault::service,
};
use holdfast_slashing_db::StoredKey;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::cli::Failure;
use crate::cli::args::VaultArgs;
#[cfg(feature = "backend-process")]
use crate::clock::SystemClock;
use crate::config::{Config, SignatureCheck, SigningBackend};
use crate::custody::CustodyError;
use crate::drain::Stopping;
use crate::loader::KeyLoader;
use crate::outcome::Exit;

/// Who talks to a vault, and which vault answers, for their logs.
#[cfg(feature = "backend-process")]
const PROGRAM: &str = concat!("holdfast ", env!("CARGO_PKG_VERSION"));

/// Where keys are held.
pub(crate) enum Backend {
    /// Here.
    Local(LocalBackend),
    /// In a vault, a process or an enclave.
    #[cfg(feature = "backend-process")]
    Process(ProcessBackend),
}

impl Backend {
    /// Starts what the configuration says. Waits for a vault to introduce itself.
    ///
    /// # Errors
    /// [`SignError`] if threads or the vault cannot be started.
    #[cfg_attr(not(feature = "backend-process"), expect(unused_variables, reason = "only a vault is told the chain"))]
    pub(crate) fn start(config: &Config, network: &Network) -> Result<Self, SignError> {
        let verify = match config.signing.verify {
            SignatureCheck::Outside if config.signing.backend == SigningBackend::InProcess => {
                VerifyPolicy::TrustBackend
            }
            SignatureCheck::Never => VerifyPolicy::TrustBackend,
            SignatureCheck::Outside | SignatureCheck::Always => VerifyPolicy::BeforeRelease,
        };
        let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = config.signing.threads.unwrap_or(processors);
        match config.signing.backend {
            SigningBackend::InProcess => Ok(Self::Local(LocalBackend::start(LocalOptions {
                threads,
                queue_capacity: config.signing.queue_capacity,
                cache_entries: config.signing.cache_entries,
                verify,
            })?)),
            #[cfg(feature = "backend-process")]
            SigningBackend::Process => Ok(Self::Process(ProcessBackend::start(ProcessOptions {
                vault: match &config.signing.vault_socket {
                    Some(path) => VaultPlace::Socket(path.clone()),
                    None => VaultPlace::Program(this_program(threads)),
                },
                network: network.clone(),
                program: PROGRAM.to_owned(),
                queue_capacity: config.signing.queue_capacity,
                verify,
                unprotected: unprotected(config),
                // Checked with the rest of the configuration.
                witnesses: config.witness.pins().ok().flatten(),
            })?)),
            #[cfg(feature = "backend-enclave")]
            SigningBackend::Enclave => {
                let address = config.enclave.address.as_deref().unwrap_or_default();
                Ok(Self::Process(ProcessBackend::start(ProcessOptions {
                    vault: VaultPlace::Enclave(address.parse().map_err(|error: holdfast_enclave::NotAnAddress| {
                        SignError::VaultStart(error.into())
                    })?),
                    network: network.clone(),
                    program: PROGRAM.to_owned(),
                    queue_capacity: config.signing.queue_capacity,
                    verify,
                    // The machine is the vault's alone; who may be in it is what its measurements say.
                    unprotected: Unprotected::Warn,
                    witnesses: config.witness.pins().ok().flatten(),
                })?))
            }
            #[cfg(not(feature = "backend-enclave"))]
            SigningBackend::Enclave => Err(SignError::VaultStart(
                "this build has no way to an enclave: build it with the feature backend-enclave".into(),
            )),
            #[cfg(not(feature = "backend-process"))]
            SigningBackend::Process => Err(SignError::VaultStart(
                "this build has no vault: use signing.backend = \"in-process\", or build with the feature backend-process"
                    .into(),
            )),
        }
    }

    /// Where a command makes keys and signs with them: in a vault process of its own, whatever `signing.backend` says, so that
    /// no private key is ever in the command. Every signature is verified: deposits and exits are forever.
    ///
    /// # Errors
    /// As [`Self::start`].
    #[cfg(feature = "backend-process")]
    pub(crate) fn for_a_command(config: &Config, network: &Network) -> Result<Self, SignError> {
        Ok(Self::Process(ProcessBackend::start(ProcessOptions {
            vault: VaultPlace::Program(this_program(NonZeroUsize::MIN)),
            network: network.clone(),
            program: PROGRAM.to_owned(),
            queue_capacity: config.signing.queue_capacity,
            verify: VerifyPolicy::BeforeRelease,
            unprotected: unprotected(config),
            witnesses: None,
        })?))
    }

    /// In a build without a vault: here.
    #[cfg(not(feature = "backend-process"))]
    pub(crate) fn for_a_command(_: &Config, _: &Network) -> Result<Self, SignError> {
        let options = LocalOptions { verify: VerifyPolicy::BeforeRelease, ..LocalOptions::default() };
        Ok(Self::Local(LocalBackend::start(options)?))
    }

    /// Registers what it measures.
    pub(crate) fn register(&self, registry: &mut Registry) {
        match self {
            Self::Local(backend) => backend.metrics().register(registry),
            #[cfg(feature = "backend-process")]
            Self::Process(backend) => backend.register(registry),
        }
    }

    /// As the rest of the program sees it.
    pub(crate) fn place(&self) -> Arc<dyn KeyBackend> {
        match self {
            Self::Local(backend) => backend.clone().into(),
            #[cfg(feature = "backend-process")]
            Self::Process(backend) => backend.clone().into(),
        }
    }

    /// The words of the protections that a vault process has, and of those that it lacks; none without one.
    pub(crate) fn protections(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        match self {
            Self::Local(_) => (Vec::new(), Vec::new()),
            #[cfg(feature = "backend-process")]
            Self::Process(backend) => backend.protections(),
        }
    }

    /// The vault process, if there is one.
    #[cfg(feature = "backend-process")]
    pub(crate) fn process(&self) -> Option<&ProcessBackend> {
        match self {
            Self::Local(_) => None,
            Self::Process(backend) => Some(backend),
        }
    }

    /// Counts vaults, each of which begins without keys; `None` without a vault.
    pub(crate) fn generations(&self) -> Option<watch::Receiver<u64>> {
        match self {
            Self::Local(_) => None,
            #[cfg(feature = "backend-process")]
            Self::Process(backend) => Some(backend.generations()),
        }
    }

    /// Finishes what was accepted and ends. Blocks until then.
    pub(crate) fn shutdown(&self) {
        match self {
            Self::Local(backend) => backend.shutdown(),
            #[cfg(feature = "backend-process")]
            Self::Process(backend) => backend.shutdown(),
        }
    }
}

/// The vault that is this program: not its path, but this very file, even if the path has another version by now.
#[cfg(feature = "backend-process")]
fn this_program(threads: NonZeroUsize) -> VaultProgram {
    VaultProgram {
        program: PathBuf::from("/proc/self/exe"),
        arguments: ["vault", "--threads", &threads.to_string()].map(str::to_owned).to_vec(),
    }
}

#[cfg(feature = "backend-process")]
fn unprotected(config: &Config) -> Unprotected {
    if config.signing.require_protections { Unprotected::Refuse } else { Unprotected::Warn }
}

/// A stored key, ready to sign in this place.
///
/// # Errors
/// [`CustodyError`] if the place cannot be had, or the key does not open there.
pub(crate) fn ready(
    place: &Arc<dyn KeyBackend>,
    data_key: &DataKey,
    network: GenesisValidatorsRoot,
    stored: StoredKey,
) -> Result<ActiveKey, CustodyError> {
    let key = *stored.registration.key();
    let opened = place.open(data_key, network, &[(key, &stored.sealed)]).map_err(CustodyError::Backend)?;
    let held = opened.into_iter().next().ok_or(CustodyError::Backend(SignError::VaultDown))??;
    Ok(ActiveKey::held(stored.registration, held, Arc::clone(place))?)
}

/// Brings the keys back whenever a vault had to be started again.
pub(crate) async fn watch(mut generations: watch::Receiver<u64>, loader: Arc<KeyLoader>, mut stopping: Stopping) {
    let follow = async {
        while generations.changed().await.is_ok() {
            loader.bring_back().await;
        }
    };
    tokio::select! {
        () = stopping.begun() => {}
        () = follow => {}
    }
}

/// `holdfast vault`: runs until the signer closes the socket, or, with `--listen`, until it is ended.
#[cfg(feature = "backend-process")]
pub(crate) fn run(args: &VaultArgs) -> Result<Exit, Failure> {
    let threads = args.threads.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let program = PROGRAM.to_owned();
    let ended = match (&args.listen, args.parent) {
        (Some(socket), _) => {
            let options = service::ServiceOptions { socket: socket.clone(), client: args.client, threads, program };
            service::run(&options, Arc::new(SystemClock)).map_err(anyhow::Error::new)
        }
        (None, parent) => {
            let options = home::HomeOptions { parent: parent.unwrap_or_default(), threads, program };
            home::run(options, Arc::new(SystemClock)).map_err(anyhow::Error::new)
        }
    };
    ended.map_err(|error| Failure::new(Exit::Unreachable, error))?;
    Ok(Exit::Done)
}

/// `holdfast vault` in a build that has none.
#[cfg(not(feature = "backend-process"))]
pub(crate) fn run(_: &VaultArgs) -> Result<Exit, Failure> {
    Err(Failure::message(Exit::Usage, "this build has no vault: build it with the feature backend-process"))
}
