//! A vault in a process of its own, started by the signer with one end of a pair of sockets as standard input.
//!
//! Guarantees: nothing is read before everything that can be given up is (see the list in SECURITY.md); the process
//! listens nowhere, and ends when the signer does.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use holdfast_domain::Clock;
use holdfast_vault_proto::FrameError;

use super::core::Vault;
use super::crew::Crew;
use super::{sandbox, serve};

/// How a vault process is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeOptions {
    /// Process id of the signer that starts it.
    pub parent: u32,
    /// Threads that sign.
    pub threads: NonZeroUsize,
    /// Name and version of the program, for logs.
    pub program: String,
}

/// Why a vault process ended other than in good order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Standard input is no socket.
    #[error("standard input is not the signer's socket: this command is for `holdfast serve`, not for people")]
    NoSocket(#[source] io::Error),
    /// Its signer is gone.
    #[error("the process that started this vault is gone")]
    Orphaned,
    /// A thread could not be started.
    #[error("cannot start a signing thread: raise the limit of threads or processes")]
    Thread(#[source] io::Error),
    /// The conversation broke.
    #[error("the conversation with the signer broke")]
    Conversation(#[source] FrameError),
}

/// Runs a vault until the signer closes the conversation.
///
/// # Errors
/// [`HomeError`].
pub fn run(options: HomeOptions, clock: Arc<dyn Clock>) -> Result<(), HomeError> {
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(HomeError::NoSocket)?;
    let socket = UnixStream::from(socket);
    socket.peer_addr().map_err(HomeError::NoSocket)?;
    let out = socket.try_clone().map_err(HomeError::NoSocket)?;
    sandbox::abort_on_panic();
    let protections = sandbox::before_threads(options.parent).map_err(|sandbox::Orphaned| HomeError::Orphaned)?;
    let crew = Crew::start(options.threads, Box::new(out)).map_err(HomeError::Thread)?;
    let mut vault = Vault::new(clock);
    serve::converse(socket, crew, &mut vault, options.program, |_| sandbox::after_threads(protections))
        .map(|_| ())
        .map_err(HomeError::Conversation)
}
