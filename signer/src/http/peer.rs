//! The other end of a connection: where it is, and what it proved while connecting.

use std::net::IpAddr;

/// The other end of a connection. One per connection, shared by its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: IpAddr,
}
