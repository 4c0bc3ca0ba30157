//! Where a vault in an enclave is, and how it is reached.
//!
//! Guarantees: an address that is no address is refused when it is read; a connection is made or refused within a time
//! limit. Nothing that comes over it is believed more than from any other vault: who is at the other end is shown by an
//! attestation document, which [`AttestedVault`] asks for.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_enclave_sys::vsock::{VsockMachine, VsockPort, VsockStream};
use holdfast_slashing_db::SealedKey;
use holdfast_vault_proto::limits::MAX_KEYS;
use holdfast_vault_proto::{
    Answer, AttestedOrder, Bound, EncryptedKey, GeneratedKey, Request, SealedKeyBytes, VERSION,
};

use super::{Pool, held};
use crate::backend::{Held, OpenError};
use crate::error::SignError;

/// Longest answer to a request for a port: `OK` and a number.
const LONGEST_ANSWER: usize = 32;

/// Where a vault listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnclaveAddress {
    /// On a vsock of this machine: a real enclave.
    Vsock {
        /// The enclave's context identifier.
        machine: VsockMachine,
        /// Its port.
        port: VsockPort,
    },
    /// Behind a Unix socket that connects to ports of a virtual machine (`CONNECT port`), as those of vhost-device-vsock
    /// and Firecracker do.
    Unix {
        /// The socket.
        path: PathBuf,
        /// The port.
        port: VsockPort,
    },
}

/// A text is no address of a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address of a vault: give vsock:MACHINE:PORT, or unix:PATH:PORT")]
pub struct NotAnAddress;

impl FromStr for EnclaveAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let (kind, rest) = text.split_once(':').ok_or(NotAnAddress)?;
        let (place, port) = rest.rsplit_once(':').ok_or(NotAnAddress)?;
        let port = VsockPort(port.parse().map_err(|_| NotAnAddress)?);
        match kind {
            "vsock" => Ok(Self::Vsock { machine: VsockMachine(place.parse().map_err(|_| NotAnAddress)?), port }),
            "unix" if !place.is_empty() => Ok(Self::Unix { path: PathBuf::from(place), port }),
            _ => Err(NotAnAddress),
        }
    }
}

impl fmt::Display for EnclaveAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock { machine, port } => write!(formatter, "vsock:{}:{}", machine.0, port.0),
            Self::Unix { path, port } => write!(formatter, "unix:{}:{}", path.display(), port.0),
        }
    }
}

impl EnclaveAddress {
    /// Connects; reading and writing are limited to `limit` from then on.
    pub(super) fn connect(&self, limit: Duration) -> io::Result<UnixStream> {
        let stream = match self {
            Self::Vsock { machine, port } => {
                let stream = VsockStream::connect(*machine, *port).map_err(io::Error::other)?;
                // Not a Unix socket, but a connected one: everything that is done with it is the same for both.
                UnixStream::from(OwnedFd::from(stream))
            }
            Self::Unix { path, .. } => UnixStream::connect(path)?,
        };
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        if let Self::Unix { port, .. } = self {
            ask_for(&stream, *port)?;
        }
        Ok(stream)
    }
}

fn ask_for(mut stream: &UnixStream, port: VsockPort) -> io::Result<()> {
    stream.write_all(format!("CONNECT {}\n", port.0).as_bytes())?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the line is the vault's.
    let mut byte = [0];
    while !answer.ends_with(b"\n") {
        if answer.len() > LONGEST_ANSWER || stream.read(&mut byte)? == 0 {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens on this port of the enclave"));
        }
        answer.extend_from_slice(&byte);
    }
    if answer.starts_with(b"OK ") {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the socket does not speak CONNECT"))
    }
}

/// A vault that takes no data key from this process, only one that was encrypted for it elsewhere.
pub trait AttestedVault: Send + Sync {
    /// An attestation document that answers this nonce. Blocks, and believes nothing.
    ///
    /// # Errors
    /// [`SignError`] if the vault cannot be had, or has nobody to attest it.
    fn attest(&self, nonce: &[u8]) -> Result<Vec<u8>, SignError>;

    /// What a vault of this version has attested besides its key, once it serves this chain.
    fn user_data(&self, network: GenesisValidatorsRoot) -> Vec<u8>;

    /// Makes sealed keys ready to sign, with a data key that a key service encrypted for the vault (CMS). One result for each, in
    /// order. Blocks.
    ///
    /// # Errors
    /// [`SignError`] if the vault cannot be had, or the envelope is not for this boot of it.
    fn open_attested(
        &self,
        cms: &[u8],
        network: GenesisValidatorsRoot,
        keys: &[(PublicKey, &SealedKey)],
    ) -> Result<Vec<Result<Held, OpenError>>, SignError>;

    /// Gives it the data key for imports, as a key service encrypted it for the vault (CMS). Blocks.
    ///
    /// # Errors
    /// [`SignError`] if the vault cannot be had, or the envelope is not for this boot of it.
    fn hold_data_key(&self, cms: &[u8]) -> Result<(), SignError>;

    /// Has keys made and sealed under the data key that is named, with a document that says so. Blocks, and believes nothing.
    ///
    /// # Errors
    /// [`SignError`] if the vault cannot be had; [`SignError::VaultFailed`] if it holds another data key, or the seed is
    /// not for this boot of it.
    fn generate(&self, order: AttestedOrder) -> Result<(Vec<GeneratedKey>, Vec<u8>), SignError>;

    /// Has a private key sealed that was encrypted for the vault, under the data key that it names. Blocks.
    ///
    /// # Errors
    /// [`SignError`] if the vault cannot be had; [`SignError::VaultFailed`] if it holds another data key, or the key is not
    /// for this boot of it.
    fn import(&self, key: EncryptedKey) -> Result<SealedKey, SignError>;
}

impl AttestedVault for Pool {
    fn attest(&self, nonce: &[u8]) -> Result<Vec<u8>, SignError> {
        match self.shared.link()?.ask(&Request::Attest { nonce: nonce.to_vec() })? {
            Answer::Attested(document) => Ok(document),
            Answer::Failed(failure) => Err(SignError::VaultFailed { reason: failure.as_str() }),
            _ => Err(SignError::VaultDown),
        }
    }

    fn user_data(&self, network: GenesisValidatorsRoot) -> Vec<u8> {
        Bound { version: VERSION, chain: Some(network) }.encode()
    }

    fn open_attested(
        &self,
        cms: &[u8],
        network: GenesisValidatorsRoot,
        keys: &[(PublicKey, &SealedKey)],
    ) -> Result<Vec<Result<Held, OpenError>>, SignError> {
        let link = self.shared.link()?;
        let mut results = Vec::with_capacity(keys.len());
        for some in keys.chunks(MAX_KEYS) {
            let sealed = |(public_key, sealed): &(PublicKey, &SealedKey)| SealedKeyBytes {
                public_key: *public_key,
                sealed: sealed.as_bytes().to_vec(),
            };
            let keys = some.iter().map(sealed).collect();
            let outcomes = match link.ask(&Request::ProvisionAttested { cms: cms.to_vec(), keys })? {
                Answer::ProvisionedAttested(outcomes) if outcomes.len() == some.len() => outcomes,
                Answer::Failed(failure) => return Err(SignError::VaultFailed { reason: failure.as_str() }),
                _ => return Err(SignError::VaultDown),
            };
            results
                .extend(some.iter().zip(outcomes).map(|((key, sealed), outcome)| held(*key, sealed, network, outcome)));
        }
        Ok(results)
    }

    fn hold_data_key(&self, cms: &[u8]) -> Result<(), SignError> {
        match self.shared.link()?.ask(&Request::ProvisionAttested { cms: cms.to_vec(), keys: Vec::new() })? {
            Answer::ProvisionedAttested(outcomes) if outcomes.is_empty() => Ok(()),
            Answer::Failed(failure) => Err(SignError::VaultFailed { reason: failure.as_str() }),
            _ => Err(SignError::VaultDown),
        }
    }

    fn generate(&self, order: AttestedOrder) -> Result<(Vec<GeneratedKey>, Vec<u8>), SignError> {
        match self.shared.link()?.ask(&Request::GenerateAttested(Box::new(order)))? {
            Answer::GeneratedAttested { keys, document } => Ok((keys, document)),
            Answer::Failed(failure) => Err(SignError::VaultFailed { reason: failure.as_str() }),
            _ => Err(SignError::VaultDown),
        }
    }

    fn import(&self, key: EncryptedKey) -> Result<SealedKey, SignError> {
        match self.shared.link()?.ask(&Request::ImportAttested(Box::new(key)))? {
            Answer::Imported(sealed) => Ok(SealedKey::new(sealed)),
            Answer::Failed(failure) => Err(SignError::VaultFailed { reason: failure.as_str() }),
            _ => Err(SignError::VaultDown),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: addresses are read as they are shown, and what is none is refused.

    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_shown() {
        for text in ["vsock:16:9000", "unix:/run/vault.vsock:9000", "unix:a:b:1"] {
            assert_eq!(text.parse::<EnclaveAddress>().unwrap().to_string(), text);
        }
        for text in ["", "vsock", "vsock:16", "vsock:x:1", "vsock:16:x", "unix::1", "unix:/a", "tcp:1:2", "vsock:16:-1"]
        {
            assert_eq!(text.parse::<EnclaveAddress>(), Err(NotAnAddress), "{text}");
        }
    }
}
