//! The repositories that the caller of a request may pull from, for decisions about blobs of other repositories.
//!
//! Permissions themselves are checked in [`crate::http`]. Start reading at [`PullRights`].

use std::sync::Arc;

use imgsync_oci::Repository;

use crate::registry::BlobUse;

type RepositoryPredicate = Arc<dyn Fn(&Repository) -> bool + Send + Sync>;

/// The repositories that the caller of a request, and anonymous clients, may pull from.
#[derive(Clone)]
pub(crate) struct PullRights {
    /// Reports whether the caller may pull from a repository.
    pub(crate) may_caller_pull: RepositoryPredicate,
    /// Reports whether anyone may pull from a repository.
    pub(crate) may_anyone_pull: RepositoryPredicate,
}

impl PullRights {
    /// Returns what a request for `requested` may do with a blob that `holder` links, or `None` if
    /// the caller may not read it there.
    ///
    /// The blob is linked into the requested repository only if this makes it readable for nobody
    /// else. All users may pull from everywhere, so only anonymous clients matter.
    pub(super) fn allowed_use(
        &self,
        requested: &Repository,
        holder: &Repository,
    ) -> Option<BlobUse> {
        if !(self.may_caller_pull)(holder) {
            return None;
        }
        let is_published = (self.may_anyone_pull)(requested) && !(self.may_anyone_pull)(holder);
        Some(if is_published {
            BlobUse::Serve
        } else {
            BlobUse::Link
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_blob_is_not_linked_where_anyone_may_pull() {
        let starts_with = |prefix: &'static str| -> RepositoryPredicate {
            Arc::new(move |repository| repository.as_str().starts_with(prefix))
        };
        let anonymous = PullRights {
            may_caller_pull: starts_with("open"),
            may_anyone_pull: starts_with("open"),
        };
        let user = PullRights {
            may_caller_pull: starts_with(""),
            ..anonymous.clone()
        };
        let [open, other, private] =
            ["open/a", "open/b", "private/a"].map(|name| name.parse().unwrap());
        assert_eq!(anonymous.allowed_use(&open, &private), None);
        assert_eq!(anonymous.allowed_use(&open, &other), Some(BlobUse::Link));
        assert_eq!(user.allowed_use(&open, &private), Some(BlobUse::Serve));
        assert_eq!(user.allowed_use(&private, &open), Some(BlobUse::Link));
        assert_eq!(user.allowed_use(&private, &private), Some(BlobUse::Link));
    }
}
