//! The switcher's background tasks: counted, told to stop, waited for.
//!
//! Why it exists: probes, broadcasts that outlive their first answer and event streams must not outlive
//! the switcher. What it guarantees: dropping the last handle ends every task; [`Tasks::stop`] waits for
//! them up to a deadline; a task that panics is reported and takes no other with it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

/// A group of tasks. Cloning gives another handle on the same group.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Group>);

#[derive(Debug)]
struct Group {
    running: Mutex<JoinSet<()>>,
    stopping: watch::Sender<bool>,
}

/// Tells a task when to finish.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// A group without tasks.
    pub fn new() -> Self {
        Self(Arc::new(Group { running: Mutex::new(JoinSet::new()), stopping: watch::Sender::new(false) }))
    }

    /// Starts a task of this group; it should watch [`Self::stopping`].
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = running.try_join_next() {
            report(ended);
        }
        running.spawn(task);
    }

    /// The signal a task waits for beside its work.
    pub fn stopping(&self) -> Stopping {
        Stopping(self.0.stopping.subscribe())
    }

    /// Tells every task to finish, waits at most `deadline`, then ends the rest. Returns how many had to be ended.
    pub async fn stop(&self, deadline: Duration) -> usize {
        self.0.stopping.send_replace(true);
        let mut running = std::mem::take(&mut *self.0.running.lock().unwrap_or_else(PoisonError::into_inner));
        let drained = tokio::time::timeout(deadline, async {
            while let Some(ended) = running.join_next().await {
                report(ended);
            }
        });
        if drained.await.is_ok() {
            return 0;
        }
        let left = running.len();
        running.shutdown().await;
        left
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task of the switcher panicked; please report this");
    }
}

impl Stopping {
    /// Completes when stopping begins, at once if it has begun.
    pub async fn begun(&mut self) {
        // An error means the group is gone, which is stopping too.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }

    /// Whether stopping has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stop_tells_waits_and_ends_the_stubborn() {
        let tasks = Tasks::new();
        let mut stopping = tasks.stopping();
        tasks.spawn(async move { stopping.begun().await });
        tasks.spawn(std::future::pending());
        tasks.spawn(async { panic!("on purpose") });
        assert!(!tasks.stopping().has_begun());
        assert_eq!(tasks.stop(Duration::from_secs(1)).await, 1);
        assert!(tasks.stopping().has_begun());
        assert_eq!(tasks.stop(Duration::from_secs(1)).await, 0);
    }
}
