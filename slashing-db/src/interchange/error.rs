//! What can be wrong with an interchange file, where, and what to do about it.
//!
//! No text repeats its source, and nothing from the file is printed longer than a token may be.

use std::fmt;
use std::io;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey};

use super::{FORMAT_VERSION, MAX_TOKEN_BYTES, MAX_VALIDATORS};

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The JSON path, such as `data[3].signed_blocks[17].slot`; empty for the file itself.
    pub path: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in bytes, counted from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}, ", self.path)?;
        }
        write!(f, "line {} column {}", self.line, self.column)
    }
}

/// What is wrong at a place. Text from the file is shown escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A required member is missing.
    #[error("`{0}` is missing; ask the program that made the file for a complete EIP-3076 export")]
    Missing(&'static str),
    /// A member stands twice in one object.
    #[error("`{0}` is given twice in one object; keep one, after finding out which is right")]
    Twice(&'static str),
    /// A member that version 5 does not have.
    #[error(
        "{name:?} is not part of {object} in format version 5; check its spelling, or remove it if it means nothing"
    )]
    Unknown {
        /// The member's name.
        name: String,
        /// Where it stands.
        object: &'static str,
    },
    /// Not a number as the format writes it.
    #[error("{0:?} is not a whole number in decimal digits; write it as text, such as \"123\"")]
    NotDecimal(String),
    /// More than 64 bits.
    #[error("{0:?} is larger than 18446744073709551615, the largest slot or epoch there is")]
    TooLarge(String),
    /// A bare number that another program may have rounded.
    #[error(
        "the bare number {0} is above 9007199254740991, so a program may have rounded it; \
         write it as text, in quotes, after checking its value"
    )]
    MaybeRounded(u64),
    /// Below zero.
    #[error("{0} is negative; slots and epochs start at 0")]
    Negative(i64),
    /// With a fraction or an exponent, or too large for an integer.
    #[error(
        "a number with a fraction, an exponent or more than 64 bits; write a whole number as text, such as \"123\""
    )]
    NotWhole,
    /// Not a public key.
    #[error("{0:?} is not a BLS public key of 96 hexadecimal digits")]
    PublicKey(String),
    /// Not a root.
    #[error("{0:?} is not a root of 64 hexadecimal digits")]
    Root(String),
    /// Too many validators.
    #[error("the file lists more than {MAX_VALIDATORS} validators; split it and import the parts one by one")]
    TooManyValidators,
    /// Another version.
    #[error(
        "format version {0:?}, but only {FORMAT_VERSION:?} can be read; \
         export again with a current release of the client that made the file"
    )]
    WrongVersion(String),
    /// For another chain.
    #[error(
        "the file is for the chain with genesis validators root {found}, but this signer is set up for {expected}; \
         choose the file or the network to match"
    )]
    WrongGenesisValidatorsRoot {
        /// The root in the file.
        found: GenesisValidatorsRoot,
        /// The root of this signer.
        expected: GenesisValidatorsRoot,
    },
}

/// Why a file gave nothing. Whatever the reason, nothing of the file was used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read the interchange file; check the path and the disk")]
    Io(#[source] io::Error),
    /// The file ends early.
    #[error("the interchange file ends too early ({place}); copy or export it again, it is not complete")]
    Truncated {
        /// Where it ends.
        place: Place,
    },
    /// Not JSON.
    #[error("the interchange file is not valid JSON ({place}); export it again, or restore it from a backup")]
    NotJson {
        /// Where it stops being JSON.
        place: Place,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// JSON, but of another shape.
    #[error("the interchange file has something else at {place} than EIP-3076 says; check that it is the right file")]
    Shape {
        /// Where.
        place: Place,
        /// What was found and expected.
        #[source]
        source: serde_json::Error,
    },
    /// A text or number longer than any legal one.
    #[error(
        "the interchange file has a text or number longer than {MAX_TOKEN_BYTES} bytes at {place}; \
         check that it is the right file"
    )]
    TokenTooLong {
        /// Where.
        place: Place,
    },
    /// A value is wrong.
    #[error("the interchange file cannot be used: {problem} ({place})")]
    Invalid {
        /// Where.
        place: Place,
        /// What is wrong.
        problem: Problem,
    },
}

/// Why a file was not written. What is on disk then is no complete JSON, and no reader accepts it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Writing failed.
    #[error("cannot write the interchange file; check the free space, and delete the incomplete file")]
    Io(#[source] io::Error),
    /// Validators must come in ascending order, each once.
    #[error("validator {key} does not come after {previous}; report this as a defect")]
    OutOfOrder {
        /// The one written before.
        previous: PublicKey,
        /// The one refused.
        key: PublicKey,
    },
}
