//! Finds out whether a stored blob may be used for a cached repository that does not link it.
//!
//! The word of an upstream is not enough: an upstream that claims a digest could otherwise publish
//! bytes that were pushed into a private repository. Start reading at [`Registry::find_blob_holder`].

use std::cell::RefCell;

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::error::{Error, Result};
use super::super::locks::lock_shared;
use crate::store::{self, MarkKey, Walk};

/// Bounds how much of a mark is read; the address of an upstream is far shorter.
const MAX_MARK_BYTES: usize = 1024;
/// Bounds how many repositories are looked at. If none of them holds the blob, it is fetched.
const MAX_SEARCH_STEPS: u64 = 4000;

/// The use that a request may make of a blob that another repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobUse {
    /// Link it into the requested repository, for everyone who may pull from there.
    Link,
    /// Only send it to the caller.
    Serve,
}

/// A repository that holds a blob, and what a request may do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlobHolder {
    /// The repository that links the blob.
    pub(crate) repository: Repository,
    /// The use that the request may make of the blob.
    pub(crate) allowed_use: BlobUse,
}

impl Registry {
    /// Finds a repository whose blob may be used for a cached repository of `upstream`: one that got
    /// the blob from the same upstream, or one for which `allowed_use` returns a use. A holder whose
    /// blob may be linked is preferred. The search is bounded, so a holder may be missed.
    ///
    /// # Errors
    /// Returns the errors of the store.
    pub(crate) fn find_blob_holder(
        &self,
        digest: &Digest,
        upstream: &str,
        allowed_use: &dyn Fn(&Repository) -> Option<BlobUse>,
    ) -> Result<Option<BlobHolder>> {
        // The predicate of the search cannot fail, and cannot return what it finds out.
        let (served, failure) = (RefCell::new(None), RefCell::new(None));
        let may_link = |repository: &Repository| {
            match self.use_of_holder(repository, digest, upstream, allowed_use) {
                Ok(Some(BlobUse::Link)) => return true,
                Ok(Some(BlobUse::Serve)) => {
                    let mut served = served.borrow_mut();
                    served.get_or_insert_with(|| repository.clone());
                }
                Ok(None) => {}
                Err(error) => *failure.borrow_mut() = Some(error),
            }
            false
        };
        let walk = Walk::new(MAX_SEARCH_STEPS, &|| false);
        let linkable = match self.find_linking_repository(digest, &may_link, &walk) {
            Err(Error::Store(store::Error::WalkEnded)) => None,
            found => found?,
        };
        if let Some(error) = failure.into_inner() {
            return Err(error);
        }
        let holder = |allowed_use| {
            move |repository| BlobHolder {
                repository,
                allowed_use,
            }
        };
        let linkable = linkable.map(holder(BlobUse::Link));
        Ok(linkable.or_else(|| served.into_inner().map(holder(BlobUse::Serve))))
    }

    /// Returns what a request may do with the blob of one repository; `None` if nothing, or if the
    /// repository does not hold the blob.
    fn use_of_holder(
        &self,
        repository: &Repository,
        digest: &Digest,
        upstream: &str,
        allowed_use: &dyn Fn(&Repository) -> Option<BlobUse>,
    ) -> Result<Option<BlobUse>> {
        let _lock = lock_shared(&self.locks, digest.clone().into());
        if self.find_linked_blob(repository, digest)?.is_none() {
            return Ok(None);
        }
        if !upstream.is_empty() && self.origin_of_layer(repository, digest)? == upstream {
            return Ok(Some(BlobUse::Link));
        }
        Ok(allowed_use(repository))
    }

    /// Returns the address of the upstream from which a linked blob was fetched. Empty if the blob
    /// was pushed, or if its mark is from a version that did not store the address.
    fn origin_of_layer(&self, repository: &Repository, digest: &Digest) -> Result<String> {
        let mark = MarkKey::Layer(repository, digest);
        let bytes = self.store.read_mark(mark, MAX_MARK_BYTES)?;
        Ok(String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default())
    }
}
