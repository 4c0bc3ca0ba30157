//! The runtime under a synchronous store: one worker thread that drives connections, so that a lost one is
//! replaced in the background while the committer goes on refusing.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{FreezeReason, OpenError, StoreError};

/// A private runtime. Stops in the background when dropped, which is allowed anywhere.
pub(super) struct Engine {
    /// `None` only while dropping.
    runtime: Option<Runtime>,
    handle: Handle,
}

/// Why a call gave no result.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The driver or the server said so.
    Sql(sqlx::Error),
    /// Nobody answered in time.
    Late(Duration),
}

impl Engine {
    pub(super) fn new() -> Result<Self, OpenError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("holdfast-pg")
            .enable_io()
            .enable_time()
            .build()
            .map_err(OpenError::Thread)?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Waits for `work`, but no longer than `deadline`. Works inside and outside another runtime.
    pub(super) fn within<T: Send>(
        &self,
        deadline: Duration,
        work: impl Future<Output = sqlx::Result<T>> + Send,
    ) -> Result<T, Trouble> {
        let bounded = async {
            match tokio::time::timeout(deadline, work).await {
                Ok(done) => done.map_err(Trouble::Sql),
                Err(_) => Err(Trouble::Late(deadline)),
            }
        };
        self.wait(bounded)
    }

    /// Waits for `work`, which must be bounded.
    pub(super) fn wait<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        if Handle::try_current().is_err() {
            return self.handle.block_on(work);
        }
        // A thread that belongs to a runtime must not wait in another one: a thread of our own may.
        std::thread::scope(|scope| {
            let waited = scope.spawn(|| self.handle.block_on(work)).join();
            waited.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(work));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Trouble {
    /// Whether the server said, in good order, that it did not do it. The connection is then still good.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => error
                .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                .is_some_and(|error| matches!(error.severity(), sqlx::postgres::PgSeverity::Error)),
            Self::Sql(_) | Self::Late(_) => false,
        }
    }

    /// The server's five-letter code.
    pub(super) fn code(&self) -> Option<String> {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => error.code().map(std::borrow::Cow::into_owned),
            Self::Sql(_) | Self::Late(_) => None,
        }
    }

    /// The name of the constraint that was violated.
    pub(super) fn constraint(&self) -> Option<&str> {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => error.constraint(),
            Self::Sql(_) | Self::Late(_) => None,
        }
    }

    pub(super) fn into_source(self) -> crate::error::BoxError {
        match self {
            Self::Sql(error) => Box::new(error),
            Self::Late(deadline) => format!("the server did not answer within {} ms", deadline.as_millis()).into(),
        }
    }
}

/// Whether a value came back that this program never writes.
pub(super) fn damaged_by(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Sql(sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }) => true,
        Trouble::Sql(_) => matches!(trouble.code().as_deref(), Some("XX001" | "XX002")),
        Trouble::Late(_) => false,
    }
}

/// What trouble means for protection: nothing was written, or nothing rests on whether it was.
pub(super) fn classify(action: &'static str, trouble: Trouble) -> StoreError {
    let violated = trouble.code().is_some_and(|code| code.starts_with("23"));
    if damaged_by(&trouble) {
        StoreError::fatal(action, FreezeReason::DatabaseDamaged, trouble.into_source())
    } else if violated {
        StoreError::fatal(action, FreezeReason::InvariantViolated, trouble.into_source())
    } else {
        StoreError::retryable(action, trouble.into_source())
    }
}
