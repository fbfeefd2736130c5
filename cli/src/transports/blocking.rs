//! Runs blocking work off the thread that serves the network, and requests from such work.

use tokio::runtime::Handle;

use crate::exit::{Failure, FailureKind};

/// Runs blocking work on a thread of its own and returns its result. A panic of `work` goes on in
/// the caller.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only the end of the runtime cancels blocking work, and then the caller ends too.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Runs a request on the thread of the runtime, waits for it, and returns its result; `None` after a
/// panic, or at the end of the runtime. Call this from blocking work.
///
/// The request must not run on the calling thread: see the construction of the runtime in
/// `commands`.
pub(crate) fn wait_for_request<T: Send + 'static>(
    runtime: &Handle,
    request: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    runtime.block_on(runtime.spawn(request)).ok()
}

/// Returns the failure of a write to the local disk by a target.
pub(super) fn write_failure(error: std::io::Error) -> Failure {
    let what = format!("target: cannot write: {error}");
    let failure = Failure::new(FailureKind::Target, what);
    if error.kind() == std::io::ErrorKind::StorageFull {
        failure.with_hint("free some disk space; complete blobs are not fetched again")
    } else {
        failure
    }
}
