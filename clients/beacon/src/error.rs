//! Why a beacon node could not be asked.

use std::time::Duration;

/// Why there is no answer from a beacon node. Addresses are not part of the message, because they
/// may carry a password: the caller names the node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeaconError {
    /// The address is not one.
    #[error("not an address of a beacon node; write it like http://127.0.0.1:5052")]
    Address,
    /// Only plain HTTP so far.
    #[error("https is not supported yet; use the node's http:// address on this machine, or through a tunnel")]
    HttpsUnsupported,
    /// A user name or password in the address would be ignored, so it is refused.
    #[error("a user name or password in the address is not supported yet; leave it out")]
    CredentialsUnsupported,
    /// No connection, or it broke.
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    /// The HTTP exchange failed.
    #[error("the connection broke before the answer was complete")]
    Exchange(#[source] hyper::Error),
    /// The node took too long.
    #[error("no answer within {} seconds", .0.as_secs())]
    Timeout(Duration),
    /// The node answered with an error; 404 before genesis is known.
    #[error("answered {status} to {path}{}", if *.status == 404 { "; a node answers so before the genesis is known" } else { "" })]
    Status {
        /// HTTP status.
        status: u16,
        /// What was asked.
        path: &'static str,
    },
    /// The answer is longer than any right one.
    #[error("the answer to {path} is longer than {limit} bytes; is this a beacon node?")]
    TooLong {
        /// What was asked.
        path: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The answer is not what the Beacon API says.
    #[error("the answer to {path} is not what the Beacon API says; is this a beacon node?")]
    Content {
        /// What was asked.
        path: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}
