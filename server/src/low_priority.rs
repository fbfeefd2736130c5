//! Runs work that must not slow down the requests of a server.

use rustix::process::setpriority_process;

/// The lowest priority of a Unix process (nice 19).
const LOWEST_PRIORITY: i32 = 19;

/// Runs work in a thread of its own, with the lowest priority. The threads that serve requests keep
/// theirs. Fails if the work panics; `what` names it.
pub(crate) fn with_low_priority<T: Send>(
    what: &str,
    work: impl FnOnce() -> T + Send,
) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Err(error) = setpriority_process(None, LOWEST_PRIORITY) {
                tracing::debug!(%error, what, "cannot lower a priority");
            }
            work()
        });
        thread.join().map_err(|_| format!("{what} failed"))
    })
}
