//! The limit on open files of this process (`RLIMIT_NOFILE`).

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard limit.
///
/// Every connection and every blob that is being sent needs a file descriptor, and the usual soft
/// limit is 1,024. A failure is only logged.
pub(super) fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
}
