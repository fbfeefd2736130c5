//! Work that blocks, on a thread of its own.

use crate::exit::{Failure, FailureKind};

/// Runs what blocks off the threads that serve the network.
///
/// # Errors
/// Those of `work`.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(Failure::new(
                FailureKind::Target,
                format!("stopped: {cancelled}"),
            )),
        },
    }
}

/// What a disk of this side refused, at the end that is written to.
pub(super) fn write_failure(error: &std::io::Error) -> Failure {
    let failure = Failure::new(
        FailureKind::Target,
        format!("target: cannot write: {error}"),
    );
    match error.kind() {
        std::io::ErrorKind::StorageFull => {
            failure.with_hint("make room there; what arrived whole is not fetched again")
        }
        _ => failure,
    }
}
