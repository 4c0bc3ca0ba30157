//! An interchange file (EIP-3076, version 5) as the source of an import.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use holdfast_domain::GenesisValidatorsRoot;
use holdfast_slashing_db::interchange::{Interchange, ReadError, Salvaged, read, salvage};
use serde_json::json;

use super::super::{Exit, Failure};
use super::STANDARD;
use super::import::{LeftOut, Taken};
use crate::outcome::chain;

fn open(path: &Path, option: &str) -> Result<Box<dyn Read>, Failure> {
    if path == Path::new(STANDARD) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| {
        let text = format!("{option}: cannot open {}: {error}; check the path and its permissions", path.display());
        Failure::message(Exit::Usage, text)
    })?;
    Ok(Box::new(file))
}

fn unreadable(path: &Path, error: &ReadError) -> Failure {
    Failure::message(Exit::Refused, format!("{}: {}; nothing was imported", path.display(), chain(error)))
}

/// Reads an interchange file for this chain, all of it or nothing.
///
/// # Errors
/// [`Failure`] that names the file and the place in it.
pub(in crate::cli) fn read_file(
    path: &Path,
    option: &str,
    network: GenesisValidatorsRoot,
) -> Result<Interchange, Failure> {
    read(open(path, option)?, network).map_err(|error| unreadable(path, &error))
}

/// Reads a file: all of it, or with `partial` what can be read.
pub(super) fn take(path: &Path, partial: bool, network: GenesisValidatorsRoot) -> Result<Taken, Failure> {
    let file = open(path, "--from")?;
    let result = if partial {
        salvage(file, network)
    } else {
        read(file, network).map(|interchange| Salvaged { interchange, left_out: Vec::new() })
    };
    let Salvaged { interchange, left_out } = result.map_err(|error| unreadable(path, &error))?;
    let left_out = left_out.iter().map(|(index, error)| {
        let reason = chain(error);
        LeftOut {
            text: format!("data[{index}] left out: {reason}"),
            value: json!({ "entry": index, "change": "left_out", "reason": reason }),
        }
    });
    let left_out = left_out.collect();
    Ok(Taken { interchange, left_out, source: None })
}
