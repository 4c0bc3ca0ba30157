//! The admin API of a running process: gRPC (`holdfast.admin.v1`) on a Unix socket in the data directory.
//!
//! Why it exists: what runs should be changed without a restart. What it guarantees: the socket has mode 0600,
//! and whoever connects is asked for its user by the kernel: only this process's user and root are served.

mod client;
mod server;
mod switcher;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};

use crate::config::Config;
use crate::drain::Tasks;
use crate::outcome::chain;
use crate::switcher::Running;

pub(crate) use client::{AdminClient, ClientError};
pub(crate) use server::{AdminSocket, SocketError, bind_socket};
use switcher::SwitcherService;

/// Opens the socket and serves it. A machine that is read-only has no place for it, and all else works without.
pub(crate) fn live_control(config: &Config, running: &Arc<Running>, tasks: &Tasks) {
    if let Err(error) = holdfast_enclave::durable::create_private_dir(config.data_dir()) {
        warn!("no live control with `holdfast switcher`: {}", chain(&error));
        return;
    }
    match AdminSocket::bind(socket_path(config)) {
        Ok(socket) => {
            info!(socket = %socket.path().display(), "live control");
            server::serve(socket, SwitcherService(Arc::clone(running)), tasks);
        }
        Err(error) => warn!("no live control with `holdfast switcher`: {}", chain(&error)),
    }
}

/// Where the socket of an instance is.
pub(crate) fn socket_path(config: &Config) -> PathBuf {
    socket_in(config.data_dir())
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join("admin.sock")
}
