//! The admin API over TCP: certificates on both sides, and only administrators that are named.
//!
//! Guarantees: nobody without an accepted certificate is asked for a request; whoever has one and is no administrator
//! gets a refusal that says so, to every call; who asks is decided for each call anew, so one who is taken away is
//! refused on connections that are open. Those who say nothing make way for those who come.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_access::{Builtin, Means};
use holdfast_wire::admin::{Reason, refusal};
use hyper::header::HeaderMap;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::routes::Routes;
use super::server::{self, Who};
use crate::callers::{Callers, Door, Principal};
use crate::config::Config;
use crate::drain::Tasks;
use crate::http::{Peer, Proof};
use crate::tls::{Queue, Tls};

/// Connections of administrators at the same time.
const CONNECTIONS: usize = 64;
/// Connections of others with an accepted certificate, who are told that they are no administrators: they take no place
/// from those who are.
const OTHERS: usize = 8;
/// Connections that have proved nothing yet, at most; the oldest makes way.
const NEWCOMERS: usize = 256;

/// Where the admin API listens, and whom it takes.
pub(crate) struct AdminDoor {
    listener: TcpListener,
    address: SocketAddr,
    tls: Arc<Tls>,
    callers: Arc<Callers>,
    administrators: Arc<BTreeSet<String>>,
}

impl AdminDoor {
    /// On a socket that is ours, for the administrators of the configuration.
    pub(crate) fn new(
        (listener, address): (TcpListener, SocketAddr),
        tls: Arc<Tls>,
        callers: Arc<Callers>,
        config: &Config,
    ) -> Self {
        let administrators = Arc::new(config.admin.administrators.iter().cloned().collect());
        Self { listener, address, tls, callers, administrators }
    }

    /// Serves until the group of tasks is stopped.
    pub(super) fn serve(self, routes: Arc<Routes>, tasks: &Tasks) {
        tracing::info!(address = %self.address, administrators = self.administrators.len(), "admin API over TCP");
        tasks.spawn(accept(Arc::new(self), routes, tasks.clone()));
    }

    /// Who makes a call.
    fn who(&self, peer: &Peer) -> Who {
        let door = Door { name: "admin", listener: Principal::builtin(Builtin::Http), guarded: true };
        // Tokens are for the signing API: here only the certificate counts.
        match self.callers.resolve(&door, peer, &HeaderMap::new()) {
            Ok(who) if who.caller().means() != Means::Certificate => Err(refused("a certificate is needed")),
            Ok(who) if self.administrators.contains(who.caller().name().as_str()) => Ok(who),
            Ok(who) => {
                Err(refused(&format!("{who} is no administrator: admin.administrators of the server does not name it")))
            }
            Err(denial) => Err(refused(&denial.to_string())),
        }
    }
}

fn refused(text: &str) -> tonic::Status {
    refusal(Reason::Denied, text)
}

async fn accept(door: Arc<AdminDoor>, routes: Arc<Routes>, tasks: Tasks) {
    let (places, others) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(Semaphore::new(OTHERS)));
    let newcomers = Arc::new(Queue::new(NEWCOMERS));
    let mut stopping = tasks.stopping();
    loop {
        let accepted: io::Result<(TcpStream, SocketAddr)> = tokio::select! {
            biased;
            () = stopping.begun() => return,
            accepted = door.listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin API");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (door, routes, newcomers) = (Arc::clone(&door), Arc::clone(&routes), Arc::clone(&newcomers));
        let (places, others) = (Arc::clone(&places), Arc::clone(&others));
        let mut stopping = tasks.stopping();
        tasks.spawn(async move {
            let newcomer = newcomers.enter();
            let handshake = tokio::select! {
                done = door.tls.accept(stream, from.ip()) => done,
                () = newcomer.told_to_go() => return,
                () = stopping.begun() => return,
            };
            // It is counted and logged there.
            let Ok((stream, Some(certificate))) = handshake else { return };
            newcomer.settle();
            let peer = Peer { address: from.ip(), proof: Proof::Certificate(certificate) };
            let places = match door.who(&peer) {
                Ok(_) => places,
                Err(refusal) => {
                    tracing::warn!(peer = %from, "the admin API refuses: {}", refusal.message());
                    others
                }
            };
            let Ok(place) = places.try_acquire_owned() else {
                tracing::warn!(peer = %from, "the admin API has all the connections it takes");
                return;
            };
            server::connection(stream, routes, move || door.who(&peer), stopping).await;
            drop(place);
        });
    }
}
