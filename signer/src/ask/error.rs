//! Why a running server gave no answer, and what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use rustls::{CertificateError, Error as Rustls};

use crate::outcome::Exit;
use crate::tls::{TlsError, turned_away};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// A file of this side.
    #[error("the files by which a running server is asked cannot be used (ask, and the listener's tls)")]
    Files(#[source] TlsError),
    /// Certificate and key of this side do not work together.
    #[error("ask.certificate {} and its key cannot be used together", path.display())]
    Identity {
        /// The certificate.
        path: PathBuf,
        /// Why.
        #[source]
        source: Rustls,
    },
    /// The token's file.
    #[error("cannot read the token in {} (ask.token_file)", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is in it.
    #[error("{} (ask.token_file) holds neither one bearer token nor NAME:TOKEN", path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
    },
    /// It can be the name of no server.
    #[error("{name:?} (ask.name, or the first of http.allowed_hosts) can stand in no certificate")]
    Name {
        /// The name.
        name: String,
    },
    /// The host of an address is not known.
    #[error("the address of {host} cannot be found")]
    Lookup {
        /// Host and port.
        host: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nobody listens.
    #[error("nobody answers at {address}")]
    NoAnswer {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("no answer from {address} in time")]
    Late {
        /// Where.
        address: SocketAddr,
    },
    /// Another certificate than the one of this configuration.
    #[error(
        "the server at {address} shows another certificate than the one configured here: another server is there, or the file \
         has just changed; or name the authorities that vouch for it (ask.ca, --ask-ca)"
    )]
    NotItsOwn {
        /// Where.
        address: SocketAddr,
    },
    /// Nobody who is trusted vouches for the server.
    #[error(
        "nobody that is trusted vouches for the server at {address}: name the authority that signed its certificate (ask.ca, \
         --ask-ca)"
    )]
    Authority {
        /// Where.
        address: SocketAddr,
    },
    /// It has another name.
    #[error(
        "the certificate of the server at {address} is for another name than the one that was expected: give one that is in \
         it (ask.name, --ask-name)"
    )]
    OtherName {
        /// Where.
        address: SocketAddr,
        /// Which names there are.
        #[source]
        source: Rustls,
    },
    /// Its certificate is not accepted for another reason, such as its end.
    #[error("the certificate of the server at {address} is not accepted")]
    Certificate {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: Rustls,
    },
    /// The server asks for a certificate.
    #[error(
        "the server at {address} asks for a client certificate: name one that it accepts, and its key (ask.certificate and \
         ask.key, --ask-certificate and --ask-key)"
    )]
    NoCertificate {
        /// Where.
        address: SocketAddr,
    },
    /// The server does not accept the certificate.
    #[error(
        "the server at {address} does not accept the certificate it was shown (ask.certificate): its client_ca does not vouch \
         for it, or it has ended or was revoked"
    )]
    Refused {
        /// Where.
        address: SocketAddr,
    },
    /// There is no TLS.
    #[error("what answers at {address} does not speak TLS")]
    NoTls {
        /// Where.
        address: SocketAddr,
    },
    /// The connection ended too early.
    #[error("the connection to {address} broke")]
    Broken {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no HTTP.
    #[error("what answers at {address} is no HTTP server, or its answer is cut short")]
    NotHttp {
        /// Where.
        address: SocketAddr,
    },
    /// The answer is a refusal.
    #[error(
        "the server at {address} asks who comes: give a caller's token or certificate (ask.token_file or ask.certificate, \
         --ask-token-file or --ask-certificate); if one was given, it is nobody's there"
    )]
    Denied {
        /// Where.
        address: SocketAddr,
    },
    /// The answer is another than expected.
    #[error("the server at {address} answered {status}: {text}")]
    Status {
        /// Where.
        address: SocketAddr,
        /// HTTP status.
        status: u16,
        /// What it said.
        text: String,
    },
}

impl AskError {
    /// What went wrong on a connection with TLS. `shows`: whether this side had a certificate to show.
    pub(super) fn of_tls(error: io::Error, address: SocketAddr, shows: bool) -> Self {
        let unwanted = if shows { Self::Refused { address } } else { Self::NoCertificate { address } };
        let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Rustls>()) else {
            return match error.kind() {
                // It may have gone before what it said was read.
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => unwanted,
                _ => Self::Broken { address, source: error },
            };
        };
        match inner {
            Rustls::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => Self::NotItsOwn { address },
            Rustls::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                Self::Authority { address }
            }
            Rustls::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => Self::OtherName { address, source: inner.clone() },
            Rustls::InvalidCertificate(_) => Self::Certificate { address, source: inner.clone() },
            error if turned_away(error) => unwanted,
            Rustls::InvalidMessage(_) => Self::NoTls { address },
            _ => Self::Broken { address, source: error },
        }
    }

    /// Whether a server is there with the right certificate, which only does not accept this side.
    pub(crate) const fn is_of_this_side(&self) -> bool {
        matches!(self, Self::NoCertificate { .. } | Self::Refused { .. })
    }

    /// Whether it says more than that this is not what was looked for.
    pub(crate) const fn tells(&self) -> bool {
        !matches!(
            self,
            Self::NoAnswer { .. } | Self::NoTls { .. } | Self::NotHttp { .. } | Self::Broken { .. } | Self::Late { .. }
        )
    }

    /// How a command ends by it.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Files(_) | Self::Identity { .. } | Self::Token { .. } | Self::NoToken { .. } | Self::Name { .. } => {
                Exit::Usage
            }
            _ => Exit::Unreachable,
        }
    }
}
