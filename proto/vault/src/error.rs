//! Why bytes are not understood. After any of these the connection is of no more use.

use std::io;

/// A frame could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The other side closed the connection between two frames.
    #[error("the connection was closed")]
    Closed,
    /// The connection broke, perhaps within a frame.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// A frame announces a length that no frame has.
    #[error("a frame of {len} bytes was announced; at least 9 and at most {max} are allowed")]
    Length {
        /// Length announced, in bytes.
        len: usize,
        /// Longest allowed, in bytes.
        max: usize,
    },
    /// No such operation.
    #[error("there is no operation {code}")]
    Operation {
        /// The code.
        code: u8,
    },
    /// A request is not the next one: frames were lost, repeated or reordered.
    #[error("request {found} came where {expected} was due")]
    OutOfOrder {
        /// Number due.
        expected: u64,
        /// Number found.
        found: u64,
    },
    /// The content of a frame is not what its operation has.
    #[error("the content of a frame cannot be understood")]
    Malformed(#[from] Malformed),
}

/// The content of a frame is not what its operation has.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// Not a protocol buffer.
    #[error("not a protocol buffer")]
    Encoding(#[source] prost::DecodeError),
    /// More elements than allowed.
    #[error("{field} has more than {max} elements")]
    TooMany {
        /// Which list.
        field: &'static str,
        /// Most allowed.
        max: usize,
    },
    /// A byte string of the wrong length.
    #[error("{field} has {len} bytes")]
    Length {
        /// Which field.
        field: &'static str,
        /// Length found.
        len: usize,
    },
    /// A required field is missing.
    #[error("{field} is missing")]
    Missing {
        /// Which field.
        field: &'static str,
    },
    /// A number that stands for nothing.
    #[error("{field} has no value {value}")]
    Value {
        /// Which field.
        field: &'static str,
        /// The number.
        value: u64,
    },
    /// The forks of a network are not in order.
    #[error("the forks of the network are not in order")]
    Forks(#[source] holdfast_domain::NetworkError),
}
