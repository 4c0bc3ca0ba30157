//! Runs an async call to its end on the thread it is on, with a time limit. The runtime and whatever the call left in
//! it are gone afterwards.

use std::time::Duration;

use holdfast_enclave::provider::{ServiceError, ServiceFailure};

/// Waits for `call`, at most `limit`.
///
/// # Errors
/// What the call ended with; [`ServiceFailure::TimedOut`] after the limit; [`ServiceFailure::Unusable`] if there can
/// be no runtime.
pub(crate) fn block_on<R>(
    limit: Duration,
    call: impl Future<Output = Result<R, ServiceError>>,
) -> Result<R, ServiceError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ServiceError::new(ServiceFailure::Unusable, error))?;
    let ended = runtime.block_on(within(limit, call));
    // What still resolves a name or closes a connection need not be waited for.
    runtime.shutdown_background();
    ended
}

/// The same on the runtime that is there.
///
/// # Errors
/// What the call ended with; [`ServiceFailure::TimedOut`] after the limit.
pub(crate) async fn within<R>(
    limit: Duration,
    call: impl Future<Output = Result<R, ServiceError>>,
) -> Result<R, ServiceError> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(ServiceError::new(ServiceFailure::TimedOut, format!("no answer within {} ms", limit.as_millis())))
    })
}
