//! The writing connection: there, or being made again in the background with a growing pause.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::engine::{Engine, Trouble, classify, damaged_by};
use super::session::{Dial, Facts, Session};
use crate::error::{OpenError, StoreError};

/// How long the first request after a loss waits for a new connection; later ones do not wait at all.
const GRACE: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The connection, if there is one, and the way to the next.
pub(super) struct Link {
    pub(super) engine: Arc<Engine>,
    pub(super) dial: Dial,
    session: Option<Session>,
    facts: Facts,
    coming: Option<oneshot::Receiver<Session>>,
    /// Set until the first request after a loss has waited.
    just_lost: bool,
}

impl Link {
    pub(super) fn new(engine: Arc<Engine>, dial: Dial, session: Session) -> Self {
        let facts = session.facts.clone();
        Self { engine, dial, session: Some(session), facts, coming: None, just_lost: false }
    }

    /// What was learnt when the present connection, or the last one, was made.
    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Takes the connection; [`put`](Self::put) it back while it is good, else [`lose`](Self::lose) it.
    pub(super) fn take(&mut self) -> Result<Session, StoreError> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        let mut coming = match self.coming.take() {
            Some(coming) => coming,
            None => dial_in_background(&self.engine, self.dial.clone()),
        };
        let patience = if core::mem::take(&mut self.just_lost) { GRACE } else { Duration::ZERO };
        let arrived = match coming.try_recv() {
            Ok(session) => Some(session),
            Err(oneshot::error::TryRecvError::Closed) => None,
            Err(oneshot::error::TryRecvError::Empty) => {
                let waited = async { tokio::time::timeout(patience, &mut coming).await };
                let arrived = self.engine.wait(waited).ok().and_then(Result::ok);
                if arrived.is_none() {
                    self.coming = Some(coming);
                }
                arrived
            }
        };
        let Some(session) = arrived else {
            let cause = "there is no connection to it; a new one is being made";
            return Err(StoreError::retryable("answer", cause));
        };
        self.facts = session.facts.clone();
        tracing::info!(address = %self.dial.address, "connected to the database again");
        Ok(session)
    }

    pub(super) fn put(&mut self, session: Session) {
        self.session = Some(session);
    }

    /// Gives a connection up, and starts making another.
    pub(super) fn lose(&mut self) {
        self.session = None;
        self.just_lost = true;
        if self.coming.is_none() {
            self.coming = Some(dial_in_background(&self.engine, self.dial.clone()));
        }
    }

    /// Runs `work` on the connection. On trouble the transaction is rolled back, or the connection lost.
    pub(super) fn run<T, W>(
        &mut self,
        deadline: Duration,
        work: impl FnOnce(Session) -> W,
    ) -> Result<Result<T, Trouble>, StoreError>
    where
        T: Send,
        W: Future<Output = (Session, sqlx::Result<T>)> + Send,
    {
        let session = self.take()?;
        let work = work(session);
        let outcome = self.engine.within(deadline, async { Ok(work.await) });
        Ok(match outcome {
            Ok((session, Ok(value))) => {
                self.put(session);
                Ok(value)
            }
            Ok((session, Err(error))) => {
                let trouble = Trouble::Sql(error);
                if trouble.is_answer() || damaged_by(&trouble) {
                    self.roll_back(session);
                } else {
                    self.lose();
                }
                Err(trouble)
            }
            Err(late) => {
                self.lose();
                Err(late)
            }
        })
    }

    /// Gives locks back. A connection that cannot do even that is lost.
    pub(super) fn roll_back(&mut self, mut session: Session) {
        let undone = self.engine.within(self.dial.deadline(), async {
            sqlx::raw_sql("ROLLBACK").execute(&mut session.db).await?;
            Ok(session)
        });
        match undone {
            Ok(session) => self.put(session),
            Err(_) => self.lose(),
        }
    }

    /// The same for the connection in place.
    pub(super) fn abandon(&mut self) {
        if let Some(session) = self.session.take() {
            self.roll_back(session);
        }
    }

    /// Runs one statement that reads, on a connection that may turn out to be dead: then once more on a new one.
    pub(super) fn ask<T, W>(
        &mut self,
        action: &'static str,
        mut work: impl FnMut(Session) -> W,
    ) -> Result<T, StoreError>
    where
        T: Send,
        W: Future<Output = (Session, sqlx::Result<T>)> + Send,
    {
        let deadline = self.dial.deadline();
        match self.run(deadline, &mut work)? {
            Ok(value) => Ok(value),
            Err(Trouble::Sql(error)) if is_dead(&error) => {
                self.run(deadline, work)?.map_err(|trouble| classify(action, trouble))
            }
            Err(trouble) => Err(classify(action, trouble)),
        }
    }

    pub(super) fn close(mut self) {
        if let Some(session) = self.session.take() {
            let closed = self.engine.within(self.dial.deadline(), sqlx::Connection::close(session.db));
            if let Err(trouble) = closed {
                tracing::debug!(error = %trouble.into_source(), "the connection did not close cleanly; nothing is lost");
            }
        }
    }
}

/// Whether the connection was found closed, as after a restart of the server.
fn is_dead(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => {
            // Shutdown by an administrator, crash of another server process, start-up in progress, idle time-out.
            matches!(error.code().as_deref(), Some("57P01" | "57P02" | "57P03" | "25P03" | "57P05"))
        }
        _ => false,
    }
}

fn dial_in_background(engine: &Engine, dial: Dial) -> oneshot::Receiver<Session> {
    let (mut found, coming) = oneshot::channel();
    engine.spawn(async move {
        let mut pause = FIRST_PAUSE;
        let mut reported = None;
        loop {
            let connected = tokio::select! {
                () = found.closed() => return,
                connected = dial.connect() => connected,
            };
            match connected {
                Ok(session) => {
                    drop(found.send(session));
                    return;
                }
                Err(error) => report(&error, &mut reported),
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    });
    coming
}

/// Logs a failure once, and again when it becomes another.
fn report(error: &OpenError, reported: &mut Option<String>) {
    let text = error.to_string();
    if reported.as_ref() != Some(&text) {
        let error: &dyn std::error::Error = error;
        tracing::warn!(error, "cannot connect to the database; trying again, and refusing to sign meanwhile");
        *reported = Some(text);
    }
}
