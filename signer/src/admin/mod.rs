//! The admin API of a running process: gRPC (`holdfast.admin.v1`, ADR 0027), on a Unix socket in the data directory.
//!
//! Why it exists: what runs should be changed without a restart, and commands and other programs should do it in one way.
//! What it guarantees: the socket has mode 0600, and whoever connects is asked for its user by the kernel; every act goes
//! through one door ([`gate::Gate`]) that journals it before it begins; a command that finds no server asks the very same
//! services in its own process.
//!
//! Request to answer: [`server`] (connection, bounds, caller) → [`routes`] (which service) → a service ([`keys`],
//! [`slashing`], [`kek`], [`audit`], [`approvals`], [`policy`], [`status`], [`configuration`], [`switcher`]) → [`gate`] (may, approved, journaled) → [`desk`] (done in a
//! running signer, or in a database that is open here alone).

mod approvals;
mod audit;
mod client;
mod configuration;
pub(crate) mod convert;
mod danger;
mod desk;
#[cfg(any(test, feature = "backend-enclave"))]
mod elsewhere;
mod gate;
mod health;
mod import;
mod kek;
mod keys;
mod lines;
pub(crate) mod pipe;
mod policy;
mod remote;
mod requests;
mod routes;
mod server;
pub(crate) mod show;
mod slashing;
mod status;
mod switcher;
mod tcp;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};

use crate::callers::Callers;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::drain::Tasks;
use crate::loader::KeyLoader;
use crate::outcome::chain;
use crate::reload::Reloads;
use crate::switcher::Running;

pub(crate) use audit::selection as audit_selection;
pub(crate) use client::{Admin, Channel, ClientError, Place};
pub(crate) use desk::{DIGEST, Desk, REQUEST};
#[cfg(feature = "backend-enclave")]
pub(crate) use elsewhere::Elsewhere;
pub(crate) use gate::{Act, Gate};
pub(crate) use kek::names as provider_names;
pub(crate) use remote::{RemoteError, connect as connect_remote};
pub(crate) use routes::Routes;
pub(crate) use server::{AdminSocket, SocketError, bind_socket};
pub(crate) use tcp::AdminDoor;

/// Serves the admin API of a signer.
pub(crate) fn serve(
    config: &Config,
    desk: Desk,
    (running, loader, callers): (Option<&Arc<Running>>, &Arc<KeyLoader>, &Arc<Callers>),
    reloads: &Arc<Reloads>,
    door: Option<AdminDoor>,
    tasks: &Tasks,
) {
    let (guard, gate) = (desk.guard.clone(), desk.gate.clone());
    let mut routes = Routes::of_desk(&Arc::new(desk)).with_reloads(Arc::clone(reloads));
    if let Some(running) = running {
        routes = routes.with_switcher(Arc::clone(running), gate);
    }
    let (routes, reporter) = routes.with_standard();
    tasks.spawn(health::watch(reporter, guard, Arc::clone(loader), tasks.clone()));
    listen(config, routes, (Some(Arc::clone(callers)), door), tasks);
}

/// Serves the admin API of a switcher that runs alone: it has no journal.
pub(crate) fn live_control(
    config: &Config,
    running: &Arc<Running>,
    reloads: &Arc<Reloads>,
    door: Option<AdminDoor>,
    tasks: &Tasks,
) {
    let gate = Gate::new(None, Arc::new(SystemClock), tasks.clone());
    let (routes, _health) =
        Routes::default().with_switcher(Arc::clone(running), gate).with_reloads(Arc::clone(reloads)).with_standard();
    listen(config, routes, (None, door), tasks);
}

/// Opens the socket and serves it, and the address if there is one. A machine that is read-only has no place for the
/// socket, and all else works without.
fn listen(config: &Config, routes: Routes, (callers, door): (Option<Arc<Callers>>, Option<AdminDoor>), tasks: &Tasks) {
    let routes = Arc::new(routes);
    if let Some(door) = door {
        door.serve(Arc::clone(&routes), tasks);
    }
    if let Err(error) = holdfast_enclave::durable::create_private_dir(config.data_dir()) {
        warn!("no admin API: {}", chain(&error));
        return;
    }
    match AdminSocket::bind(socket_path(config)) {
        Ok(socket) => {
            info!(socket = %socket.path().display(), "admin API");
            server::serve(socket, routes, callers, tasks);
        }
        Err(error) => warn!("no admin API: {}", chain(&error)),
    }
}

/// Where the socket of an instance is.
pub(crate) fn socket_path(config: &Config) -> PathBuf {
    socket_in(config.data_dir())
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join("admin.sock")
}
