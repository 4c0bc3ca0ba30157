//! A wire to a PostgreSQL server that can be cut or fall silent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "shared with the test programs, which may stop at the first surprise"
)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Name of the socket for the default port.
const SOCKET: &str = ".s.PGSQL.5432";

/// What becomes of what is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// It arrives.
    Open,
    /// It is swallowed, either way; connections stay.
    Silent,
    /// The next message with a commit in it arrives; then the connection is cut before the answer.
    CutAfterCommit,
    /// The connection is cut instead of carrying a commit.
    CutBeforeCommit,
}

const WIRES: [Wire; 4] = [Wire::Open, Wire::Silent, Wire::CutAfterCommit, Wire::CutBeforeCommit];

/// A socket in a directory of its own that leads to a server.
pub struct Proxy {
    directory: tempfile::TempDir,
    wire: Arc<AtomicU8>,
}

impl Proxy {
    /// Stands before the server whose socket is in `server`.
    pub fn before(server: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join(SOCKET)).unwrap();
        let wire = Arc::new(AtomicU8::new(0));
        let (server, shared) = (server.join(SOCKET), Arc::clone(&wire));
        // Ends with the test program.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), UnixStream::connect(&server).unwrap());
                for (from, to, sends) in [(&client, &server, true), (&server, &client, false)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let wire = Arc::clone(&shared);
                    std::thread::spawn(move || carry(from, to, &wire, sends));
                }
            }
        });
        Self { directory, wire }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn set(&self, wire: Wire) {
        let number = WIRES.iter().position(|known| *known == wire).unwrap();
        self.wire.store(u8::try_from(number).unwrap(), Ordering::SeqCst);
    }
}

/// Carries bytes one way until an end closes.
fn carry(mut from: UnixStream, mut to: UnixStream, wire: &AtomicU8, sends: bool) {
    let mut buffer = vec![0; 1 << 16];
    let cut = |a: &UnixStream, b: &UnixStream| {
        let _ = a.shutdown(std::net::Shutdown::Both);
        let _ = b.shutdown(std::net::Shutdown::Both);
    };
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..count];
        let commits = sends && bytes.windows(6).any(|window| window == b"COMMIT");
        match WIRES[usize::from(wire.load(Ordering::SeqCst))] {
            Wire::Silent => {}
            Wire::CutBeforeCommit if commits => break,
            Wire::CutAfterCommit if commits => {
                // Only the client's side is cut: the server reads what was sent, and commits.
                let _ = from.shutdown(std::net::Shutdown::Both);
                let _ = to.write_all(bytes);
                let _ = to.shutdown(std::net::Shutdown::Write);
                return;
            }
            Wire::Open | Wire::CutAfterCommit | Wire::CutBeforeCommit => {
                if to.write_all(bytes).is_err() {
                    break;
                }
            }
        }
    }
    cut(&from, &to);
}
