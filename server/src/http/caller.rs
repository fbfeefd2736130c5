//! Who asks, and what they may do.

use imgsync_oci::Repository;
use imgsync_oci::endpoint::Action;

/// The caller of one request. Cheap to clone: work that blocks takes one along.
#[derive(Debug, Clone)]
pub(super) struct Caller;

impl Caller {
    /// Whether the caller may do this in a repository.
    pub(super) fn may(&self, _action: Action, _repository: &Repository) -> bool {
        true
    }
}
