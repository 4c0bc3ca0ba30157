//! Looking at a shared database while nobody asks for anything, so that an idle instance learns what the others
//! write, and notices when it is gone.

use std::sync::mpsc as blocking;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Command, Committer};

/// The beat goes on while this exists.
pub(super) struct Beating {
    _running: blocking::Sender<()>,
}

/// A beat into `commands`, and the body of the thread that makes it. The thread ends by itself, at once, when
/// [`Beating`] is dropped or the commands have nowhere to go.
pub(super) fn new(commands: &mpsc::Sender<Command>, every: Duration) -> (Beating, impl FnOnce() + Send + 'static) {
    let (running, stopped) = blocking::channel::<()>();
    // Weak: a beat is no reason to keep the committer.
    let commands = commands.downgrade();
    let body = move || {
        while stopped.recv_timeout(every) == Err(blocking::RecvTimeoutError::Timeout) {
            let Some(commands) = commands.upgrade() else { return };
            // A queue that is full is beat enough.
            if let Err(mpsc::error::TrySendError::Closed(_)) = commands.try_send(Command::Heartbeat) {
                return;
            }
        }
    };
    (Beating { _running: running }, body)
}

impl Committer {
    /// One look; and the others are told of suspicion, if they do not know yet.
    pub(super) fn heartbeat(&mut self) {
        self.look();
        self.share();
    }

    /// What it finds goes into the anchor, or puts the database under suspicion.
    fn look(&mut self) {
        let Some(store) = &mut self.store else { return };
        match store.heartbeat() {
            Ok(()) => {
                if let (Some(anchor), Some(landmarks)) = (&mut self.anchor, store.landmarks())
                    && anchor.note(landmarks).is_err()
                {
                    self.shared.metrics.anchor_failures.inc();
                }
                self.listen();
            }
            Err(error) => {
                let reason = error.freezes();
                let error: &dyn std::error::Error = &error;
                if let Some(reason) = reason {
                    tracing::error!(error, "the database is not what it was");
                    self.distrust(reason);
                } else {
                    // The store says by itself when it loses its connection.
                    tracing::debug!(error, "the database did not answer");
                }
            }
        }
    }
}
