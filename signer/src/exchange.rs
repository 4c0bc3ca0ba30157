//! Signing histories as a file (EIP-3076): for commands that write one, and for the admin API, which sends one.

use std::io::{self, Write};

use holdfast_domain::GenesisValidatorsRoot;
use holdfast_slashing_db::Withdrawn;
use holdfast_slashing_db::interchange::{WriteError, Writer};

/// Writes the interchange file of these keys, which must ascend, one validator after the other.
///
/// # Errors
/// What `out` fails with.
pub(crate) fn write_file(out: impl Write, network: GenesisValidatorsRoot, keys: &[Withdrawn]) -> io::Result<()> {
    let plain = |error| match error {
        WriteError::Io(error) => error,
        error => io::Error::other(error),
    };
    let mut writer = Writer::begin(out, network).map_err(plain)?;
    for one in keys {
        writer.validator(&one.key, &one.watermarks).map_err(plain)?;
    }
    writer.finish().map_err(plain)?.flush()
}
