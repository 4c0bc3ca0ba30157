//! Tracked tasks, so that stopping means something: every task the program starts is counted,
//! hears when it should finish, and is waited for up to a deadline.
//!
//! Before tasks are told to finish they may be *leaving*: all goes on, but whoever asks is told to go elsewhere.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Starts tasks and stops them together. Cloning gives another handle on the same group.
#[derive(Clone)]
pub(crate) struct Tasks(Arc<Group>);

struct Group {
    stage: watch::Sender<Stage>,
    running: watch::Sender<usize>,
}

/// How far stopping is. It only moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Not begun.
    Running,
    /// All is served, and sends its clients elsewhere.
    Leaving,
    /// Tasks finish.
    Stopping,
}

/// Tells a task when to finish.
#[derive(Clone)]
pub(crate) struct Stopping(watch::Receiver<Stage>);

/// Tasks still running at the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfinished {
    /// How many.
    pub(crate) tasks: usize,
}

/// Counts one running task; dropping it, also by panic or abort, uncounts it.
struct Counted(Arc<Group>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running = running.saturating_sub(1));
    }
}

impl Tasks {
    /// A group without tasks.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Group { stage: watch::Sender::new(Stage::Running), running: watch::Sender::new(0) }))
    }

    /// Starts a task of this group. It should watch [`Self::stopping`].
    #[expect(clippy::disallowed_methods, reason = "the one home of tokio::spawn: here tasks are counted")]
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.running.send_modify(|running| *running = running.saturating_add(1));
        let counted = Counted(Arc::clone(&self.0));
        tokio::spawn(async move {
            let _counted = counted;
            task.await;
        })
    }

    /// The signal a task waits for beside its work.
    pub(crate) fn stopping(&self) -> Stopping {
        Stopping(self.0.stage.subscribe())
    }

    /// Whether clients should go elsewhere.
    pub(crate) fn is_leaving(&self) -> bool {
        *self.0.stage.borrow() >= Stage::Leaving
    }

    /// From now on clients are sent elsewhere; tasks go on.
    pub(crate) fn begin_leaving(&self) {
        self.advance(Stage::Leaving);
    }

    /// Tells every task to finish; does not wait.
    fn begin_stop(&self) {
        self.advance(Stage::Stopping);
    }

    fn advance(&self, to: Stage) {
        self.0.stage.send_if_modified(|stage| {
            let moves = *stage < to;
            *stage = (*stage).max(to);
            moves
        });
    }

    /// Tells every task to finish and waits for the last one, at most `deadline`.
    pub(crate) async fn stop(&self, deadline: Duration) -> Result<(), Unfinished> {
        self.begin_stop();
        let mut running = self.0.running.subscribe();
        let finished = tokio::time::timeout(deadline, running.wait_for(|count| *count == 0)).await;
        match finished {
            Ok(_) => Ok(()),
            Err(_elapsed) => Err(Unfinished { tasks: *self.0.running.borrow() }),
        }
    }
}

impl Stopping {
    /// Completes when stopping begins, at once if it has begun.
    pub(crate) async fn begun(&mut self) {
        // An error means the group is gone, which is stopping too.
        let _ = self.0.wait_for(|stage| *stage == Stage::Stopping).await;
    }

    /// Whether clients should go elsewhere.
    pub(crate) fn is_leaving(&self) -> bool {
        *self.0.borrow() >= Stage::Leaving
    }
}

#[cfg(test)]
mod tests {
    //! Proves: stop waits for tasks, tells them, gives up at the deadline and says how many were left; leaving comes
    //! before and tells no task to finish.
    use super::*;

    #[tokio::test]
    async fn stop_tells_tasks_and_waits_for_them() {
        let tasks = Tasks::new();
        let mut stopping = tasks.stopping();
        let handle = tasks.spawn(async move { stopping.begun().await });
        assert!(!tasks.is_leaving());
        tasks.begin_leaving();
        assert!(tasks.is_leaving());
        assert!(!handle.is_finished());
        assert_eq!(tasks.stop(Duration::from_mins(1)).await, Ok(()));
        assert!(tasks.is_leaving());
        handle.await.expect("the task ended by itself");
    }

    #[tokio::test]
    async fn a_deadline_reports_what_is_left() {
        let tasks = Tasks::new();
        let stuck = tasks.spawn(std::future::pending());
        assert_eq!(tasks.stop(Duration::ZERO).await, Err(Unfinished { tasks: 1 }));
        stuck.abort();
        assert_eq!(tasks.stop(Duration::from_mins(1)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_panicking_task_is_not_counted_for_ever() {
        let tasks = Tasks::new();
        let handle = tasks.spawn(async { panic!("on purpose") });
        assert!(handle.await.is_err());
        assert_eq!(tasks.stop(Duration::from_mins(1)).await, Ok(()));
    }
}
