//! Runs blocking work, such as disk access, on the threads that are meant for it.

use super::error_response::ErrorResponse;

/// Runs blocking work and returns its result.
///
/// # Errors
/// An internal error if the work panicked.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ErrorResponse> {
    let result = tokio::task::spawn_blocking(work).await;
    result.map_err(|error| ErrorResponse::internal(&error))
}

/// Runs blocking work whose errors become the response.
///
/// # Errors
/// Fails if the work fails, and with an internal error if it panics.
pub(super) async fn try_blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, ErrorResponse>
where
    T: Send + 'static,
    E: Into<ErrorResponse> + Send + 'static,
{
    run_blocking(work).await?.map_err(Into::into)
}
