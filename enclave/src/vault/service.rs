//! A vault in a process of its own that outlives the signer: started by the system, as another user if wanted, and asked
//! over a Unix socket.
//!
//! Guarantees: conversations come one after another, each with the one user that may have them, as the kernel says; keys,
//! marks and the chain outlive each of them, so a signer that starts again signs at once; nothing is accepted before
//! everything that can be given up is. As in the other homes, no frame is believed, and one that is not understood ends its
//! conversation.

use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_domain::Clock;
use holdfast_vault_proto::{FrameError, Protections};

use super::core::Vault;
use super::crew::Crew;
use super::sandbox;
use super::serve::{self, Ended};

/// Whoever does not take an answer for this long has hung up.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// How such a vault is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceOptions {
    /// Where it listens.
    pub socket: PathBuf,
    /// The user whose signer is served. Default: the vault's own.
    pub client: Option<u32>,
    /// Threads that sign.
    pub threads: NonZeroUsize,
    /// Name and version of the program, for logs.
    pub program: String,
}

/// Why there is no such vault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Another process answers there.
    #[error("another process serves {}; stop it, or listen elsewhere", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket is in the way.
    #[error("{} is there and is no socket; move it away", path.display())]
    Obstacle {
        /// What is in the way.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Serves signers until one of them asks the vault to end.
///
/// # Errors
/// [`ServiceError`], which says what to do.
pub fn run(options: &ServiceOptions, clock: Arc<dyn Clock>) -> Result<(), ServiceError> {
    let failed = |source| ServiceError::Listen { path: options.socket.clone(), source };
    let listener = listen(&options.socket, options.client.is_some())?;
    let client = options.client.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    sandbox::abort_on_panic();
    let protections = sandbox::in_service();
    sandbox::say(&format!("listens; protected by {}", protections.words().collect::<Vec<_>>().join(", ")));
    let mut vault = Vault::new(clock);
    loop {
        let (from, _) = listener.accept().map_err(failed)?;
        let peer = rustix::net::sockopt::socket_peercred(&from).map(|peer| peer.uid.as_raw());
        if peer != Ok(client) {
            sandbox::say("a connection of another user was refused");
            continue;
        }
        match converse(from, &mut vault, options, protections) {
            Ok(Ended::Closed) => {}
            Ok(Ended::Shutdown) => return Ok(()),
            // The next one finds everything as it was.
            Err(problem) => sandbox::say(&format!("a conversation ended: {problem}")),
        }
    }
}

fn converse(
    from: UnixStream,
    vault: &mut Vault,
    options: &ServiceOptions,
    protections: Protections,
) -> Result<Ended, FrameError> {
    let begun = from
        .set_write_timeout(Some(WRITE_LIMIT))
        .and_then(|()| from.try_clone())
        .and_then(|to| Crew::start(options.threads, Box::new(to)));
    let crew = begun.map_err(FrameError::Io)?;
    serve::converse(from, crew, vault, options.program.clone(), |_| protections)
}

/// Listens in place of a process that is gone. Who may connect is asked of the kernel, connection by connection; the mode
/// of the file only keeps others from trying.
fn listen(path: &Path, for_another_user: bool) -> Result<UnixListener, ServiceError> {
    let failed = |source| ServiceError::Listen { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ServiceError::Obstacle { path: path.to_owned() }),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(ServiceError::InUse { path: path.to_owned() }),
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let mode = if for_another_user { 0o666 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}
