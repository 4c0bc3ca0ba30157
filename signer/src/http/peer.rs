//! The other end of a connection: where it is, and what it proved while connecting.

use std::net::IpAddr;
use std::sync::Arc;

use crate::tls::ClientCertificate;

/// The other end of a connection. One per connection, shared by its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its address; loopback for a Unix socket.
    pub(crate) address: IpAddr,
    /// What it proved.
    pub(crate) proof: Proof,
}

/// What the other end of a connection proved about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing.
    None,
    /// That it has the key of a certificate which is accepted here.
    Certificate(Arc<ClientCertificate>),
    /// That it is a process of this user, as the kernel says.
    User(u32),
}
