//! Sockets between a virtual machine and its host (`AF_VSOCK`, vsock(7)): all that an enclave has of the world.
//!
//! Guarantees: addresses are whole when the system gets them; a connection is closed when it is dropped; reading and
//! writing are the standard library's.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use crate::error::SysError;

/// A machine on a vsock (context identifier, CID).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VsockMachine(pub u32);

impl VsockMachine {
    /// The parent instance of a Nitro enclave, where its launcher waits for the heartbeat (AWS Nitro Enclaves user
    /// guide: the parent's CID is always 3).
    pub const NITRO_PARENT: Self = Self(3);
    /// Whoever asks for it.
    const ANY: Self = Self(libc::VMADDR_CID_ANY);
}

/// A port on a vsock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VsockPort(pub u32);

/// Waits for connections to one port.
#[derive(Debug)]
pub struct VsockListener(OwnedFd);

impl VsockListener {
    /// Listens.
    ///
    /// # Errors
    /// [`SysError::Vsock`]: no vsock device, or the port is taken.
    pub fn bind(port: VsockPort) -> Result<Self, SysError> {
        let failed = |source| SysError::Vsock { what: "listen", source };
        let socket = socket().map_err(failed)?;
        let address = address(VsockMachine::ANY, port);
        // SAFETY: the address is a live sockaddr_vm of the length given, which bind only reads.
        let rc = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_LEN) };
        done(rc).map_err(failed)?;
        // One at a time is served; whoever reconnects waits for the end of the connection before.
        // SAFETY: listen touches no memory of ours.
        let rc = unsafe { libc::listen(socket.as_raw_fd(), 4) };
        done(rc).map_err(failed)?;
        Ok(Self(socket))
    }

    /// The next connection. Blocks until there is one.
    ///
    /// # Errors
    /// [`SysError::Vsock`].
    pub fn accept(&self) -> Result<VsockStream, SysError> {
        loop {
            // SAFETY: without an address to fill in, accept4 touches no memory of ours.
            let fd = unsafe {
                libc::accept4(self.0.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC)
            };
            match owned(fd) {
                Ok(socket) => return Ok(VsockStream(socket.into())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(SysError::Vsock { what: "accept a connection", source }),
            }
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct VsockStream(File);

impl VsockStream {
    /// Connects. Blocks until it is there or the system gives up, after two seconds.
    ///
    /// # Errors
    /// [`SysError::Vsock`].
    pub fn connect(machine: VsockMachine, port: VsockPort) -> Result<Self, SysError> {
        let failed = |source| SysError::Vsock { what: "connect", source };
        let socket = socket().map_err(failed)?;
        let address = address(machine, port);
        // SAFETY: the address is a live sockaddr_vm of the length given, which connect only reads.
        let rc = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_LEN) };
        done(rc).map_err(failed)?;
        Ok(Self(socket.into()))
    }

    /// The same connection once more, to read and write it from two places.
    ///
    /// # Errors
    /// [`SysError::Vsock`] if the system has no more files.
    pub fn try_clone(&self) -> Result<Self, SysError> {
        self.0.try_clone().map(Self).map_err(|source| SysError::Vsock { what: "share a connection", source })
    }

    /// Gives up writing to a peer that has not read for this long.
    ///
    /// # Errors
    /// [`SysError::Vsock`].
    pub fn set_write_timeout(&self, limit: Duration) -> Result<(), SysError> {
        self.set_timeout(libc::SO_SNDTIMEO, limit)
    }

    /// Gives up reading from a peer that has not written for this long.
    ///
    /// # Errors
    /// [`SysError::Vsock`].
    pub fn set_read_timeout(&self, limit: Duration) -> Result<(), SysError> {
        self.set_timeout(libc::SO_RCVTIMEO, limit)
    }

    fn set_timeout(&self, option: libc::c_int, limit: Duration) -> Result<(), SysError> {
        let time = libc::timeval {
            tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_usec: limit.subsec_micros().into(),
        };
        let len = libc::socklen_t::try_from(size_of::<libc::timeval>()).unwrap_or(0);
        // SAFETY: the value is a live timeval of the length given, which setsockopt only reads.
        let rc =
            unsafe { libc::setsockopt(self.0.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const time).cast(), len) };
        done(rc).map_err(|source| SysError::Vsock { what: "limit the time of a connection", source })
    }
}

impl From<VsockStream> for OwnedFd {
    fn from(stream: VsockStream) -> Self {
        stream.0.into()
    }
}

impl Read for VsockStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for VsockStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it has sixteen bytes")]
const ADDRESS_LEN: libc::socklen_t = size_of::<libc::sockaddr_vm>() as libc::socklen_t;

fn address(machine: VsockMachine, port: VsockPort) -> libc::sockaddr_vm {
    libc::sockaddr_vm {
        svm_family: libc::sa_family_t::try_from(libc::AF_VSOCK).unwrap_or(libc::sa_family_t::MAX),
        svm_reserved1: 0,
        svm_port: port.0,
        svm_cid: machine.0,
        svm_zero: [0; 4],
    }
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: socket touches no memory of ours.
    owned(unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    done(fd)?;
    // SAFETY: the system just gave it to us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn done(rc: libc::c_int) -> io::Result<()> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    //! Proved here: addresses have the layout of vsock(7). The rest needs a virtual machine: `tests/enclave`.

    use super::*;

    #[test]
    fn an_address_has_the_layout_of_the_kernel() {
        let address = address(VsockMachine::NITRO_PARENT, VsockPort(9_000));
        assert_eq!((address.svm_family, address.svm_cid, address.svm_port), (40, 3, 9_000));
        assert_eq!(ADDRESS_LEN, 16);
    }
}
