//! A socket between a signer and machines that come and go: it leads to one of them, to none, or breaks.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Where it leads, and what goes through it.
#[derive(Default)]
struct State {
    target: Option<PathBuf>,
    open: Vec<UnixStream>,
}

/// The socket.
pub(crate) struct Relay {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    _dir: tempfile::TempDir,
}

impl Relay {
    /// A socket that leads nowhere yet.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.vsock");
        let listener = UnixListener::bind(&path).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let mut state = shared.lock().unwrap();
                // Dropping it is the answer where it leads nowhere.
                let Some(far) = state.target.as_ref().and_then(|target| UnixStream::connect(target).ok()) else {
                    continue;
                };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || carry(from, to));
                }
                state.open.extend([near, far]);
            }
        });
        Self { path, state, _dir: dir }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// From now on it leads to this socket, or nowhere. What went through it breaks.
    pub(crate) fn lead_to(&self, target: Option<PathBuf>) {
        let mut state = self.state.lock().unwrap();
        state.target = target;
        for stream in state.open.drain(..) {
            // It may be over already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// What goes through it breaks; whoever connects again gets through.
    pub(crate) fn cut(&self) {
        let target = self.state.lock().unwrap().target.clone();
        self.lead_to(target);
    }
}

fn carry(mut from: UnixStream, mut to: UnixStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
