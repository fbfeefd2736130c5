//! How many files and connections the system lets this process have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Asks for as many as the system allows: every connection is one, and so is every blob that is on
/// its way out. Shells often start programs with 1,024.
pub(super) fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}
