//! Writes the minimal interchange of EIP-3076: per validator, its watermarks as one block and one vote.
//!
//! The chain is needed to begin, so no file lacks it. A file that was not finished is no JSON, so no
//! reader takes it for a complete one. The same watermarks always give the same bytes.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use holdfast_domain::{GenesisValidatorsRoot, ObservedRoot, PublicKey};

use super::FORMAT_VERSION;
use super::error::WriteError;
use crate::rules::{AttestationMark, BlockMark, Watermarks};

/// Writes a whole file, ascending by public key.
///
/// # Errors
/// [`WriteError::Io`].
pub fn write(
    out: impl Write,
    genesis_validators_root: GenesisValidatorsRoot,
    validators: &BTreeMap<PublicKey, Watermarks>,
) -> Result<(), WriteError> {
    let mut writer = Writer::begin(out, genesis_validators_root)?;
    for (key, marks) in validators {
        writer.validator(key, marks)?;
    }
    writer.finish().map(drop)
}

/// Writes a file validator by validator, buffered, without holding any of them. One line each.
#[must_use = "the file is complete only after `finish`"]
pub struct Writer<W: Write> {
    out: BufWriter<W>,
    last: Option<PublicKey>,
}

impl<W: Write> Writer<W> {
    /// Begins a file for a chain.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub fn begin(out: W, genesis_validators_root: GenesisValidatorsRoot) -> Result<Self, WriteError> {
        let mut out = BufWriter::new(out);
        write!(
            out,
            "{{\"metadata\":{{\"interchange_format_version\":\"{FORMAT_VERSION}\",\
             \"genesis_validators_root\":\"{genesis_validators_root}\"}},\n\"data\":["
        )
        .map_err(WriteError::Io)?;
        Ok(Self { out, last: None })
    }

    /// Adds a validator: its highest block and attestation, with the root only if it was signed here. A
    /// validator that signed nothing is listed with empty lists.
    ///
    /// # Errors
    /// [`WriteError::OutOfOrder`] unless `key` comes after all earlier ones; [`WriteError::Io`].
    pub fn validator(&mut self, key: &PublicKey, marks: &Watermarks) -> Result<(), WriteError> {
        if let Some(previous) = self.last
            && previous >= *key
        {
            return Err(WriteError::OutOfOrder { previous, key: *key });
        }
        let separator = if self.last.is_some() { ",\n" } else { "\n" };
        self.last = Some(*key);
        self.entry(separator, key, marks).map_err(WriteError::Io)
    }

    fn entry(&mut self, separator: &str, key: &PublicKey, marks: &Watermarks) -> std::io::Result<()> {
        let out = &mut self.out;
        write!(out, "{separator}{{\"pubkey\":\"{key}\",\"signed_blocks\":[")?;
        if let Some(BlockMark { slot, root }) = marks.block {
            write!(out, "{{\"slot\":\"{slot}\"")?;
            end_row(out, root)?;
        }
        out.write_all(b"],\"signed_attestations\":[")?;
        if let Some(mark) = marks.attestation {
            let AttestationMark { source, target, root } = importable(mark);
            write!(out, "{{\"source_epoch\":\"{source}\",\"target_epoch\":\"{target}\"")?;
            end_row(out, root)?;
        }
        out.write_all(b"]}")
    }

    /// Ends the file and hands the output back, flushed to it.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.out.write_all(b"\n]}\n").map_err(WriteError::Io)?;
        self.out.into_inner().map_err(|error| WriteError::Io(error.into_error()))
    }
}

/// Imported watermarks can have their source above their target, and some clients refuse such a row. With
/// the target raised to the source the row is a possible vote and protects no less.
fn importable(mark: AttestationMark) -> AttestationMark {
    if mark.source > mark.target { AttestationMark { target: mark.source, root: None, ..mark } } else { mark }
}

fn end_row(out: &mut impl Write, root: Option<ObservedRoot>) -> std::io::Result<()> {
    match root {
        Some(root) => write!(out, ",\"signing_root\":\"{root}\"}}"),
        None => out.write_all(b"}"),
    }
}
