//! Sources and targets of a copy: registries, OCI layouts, archives and daemons, a module each.
//!
//! A transport retries transient errors itself and reports only final ones, prefixed with
//! `source:` or `target:`. It does not decide what is copied; that is the work of `copy` and
//! `push`. Start at [`CopySource`] and [`CopyTarget`].

pub mod archive;
mod blocking;
mod copy_request;
pub mod daemon;
mod fetch;
mod files;
pub mod layout;
pub mod locate;
pub(crate) mod registry;
pub(crate) mod registry_target;
#[cfg(test)]
mod testing;
pub(crate) mod throttle;

pub use crate::image::VerifiedManifest;
pub(crate) use blocking::wait_for_request;
pub use copy_request::{BeforeTagHook, CopyRequest, ReferrersPolicy};
pub use locate::{ImageRequest, LayerPacking, LocatedImage, SkipLayer, TakeLayer};

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use imgsync_oci::client::DeleteOutcome;
use imgsync_oci::{Descriptor, Digest, Reference, Registry, Repository, Tag};

use crate::exit::Failure;
use crate::report::Report;
use crate::upload::{BlobSource, PendingBlob, UploadOutcome};

/// The result of a source or a target.
pub type Result<T> = std::result::Result<T, Failure>;

/// A manifest without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestDescriptor {
    /// The digest.
    pub digest: Digest,
    /// The media type, if the source or target reports it.
    pub media_type: Option<String>,
}

impl From<VerifiedManifest> for ManifestDescriptor {
    fn from(manifest: VerifiedManifest) -> Self {
        Self {
            digest: manifest.digest,
            media_type: Some(manifest.media_type),
        }
    }
}

/// The role of a manifest at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestRole {
    /// A manifest of an index that follows; clients reach it through the index, by digest.
    Child,
    /// A signature, attestation or other artifact; clients reach it through the list of referrers
    /// of its subject.
    Referrer {
        /// The digest of the subject.
        subject: Digest,
    },
    /// A manifest that a tag names from now on.
    Tagged(Tag),
    /// A manifest that clients reach by its digest alone.
    Untagged,
}

/// A source of images: one repository, layout or archive. Several calls may run at a time.
#[async_trait]
pub trait CopySource: Send + Sync {
    /// Returns the name that users know the source by, without a tag: `ghcr.io/owner/app`,
    /// `oci:build/image`.
    fn name(&self) -> &str;

    /// Returns the repository, if the source is one. A target at the same registry can then mount
    /// its blobs.
    fn repository(&self) -> Option<(&Registry, &Repository)> {
        None
    }

    /// Returns all tags, page by page, in the order of the source. A missing repository is an
    /// error.
    fn list_tags(&self) -> BoxStream<'_, Result<Vec<Tag>>>;

    /// Returns the descriptor of the manifest that a tag or digest names now; `None` if there is
    /// none. A registry answers without sending the manifest, where it can.
    async fn head_manifest(&self, reference: &Reference) -> Result<Option<ManifestDescriptor>> {
        Ok(self.fetch_manifest(reference).await?.map(Into::into))
    }

    /// Returns a verified manifest; `None` if there is none of that tag or digest.
    async fn fetch_manifest(&self, reference: &Reference) -> Result<Option<VerifiedManifest>>;

    /// Returns where the bytes of a blob can be read. Nothing is read yet, so a missing blob may
    /// show only when it is read.
    async fn locate_blob(&self, blob: &Descriptor) -> Result<BlobSource>;

    /// Returns the manifests whose `subject` is the given one, oldest first where the source keeps
    /// that order; none if the source keeps no such list. Tags of cosign's scheme are not included.
    async fn list_referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>>;
}

/// A target of images: one repository, layout or archive. Several calls may run at a time. The
/// caller puts blobs before their manifest, and manifests before their index.
#[async_trait]
pub trait CopyTarget: Send + Sync {
    /// Returns the name that users know the target by, without a tag.
    fn name(&self) -> &str;

    /// Returns the repository, if the target is one.
    fn repository(&self) -> Option<(&Registry, &Repository)> {
        None
    }

    /// Returns the descriptor of the manifest that a tag or digest names now; `None` if there is
    /// none. A manifest that is present is present with all its blobs and child manifests.
    async fn head_manifest(&self, reference: &Reference) -> Result<Option<ManifestDescriptor>> {
        Ok(self.fetch_manifest(reference).await?.map(Into::into))
    }

    /// Returns a manifest that is present; an invalid one counts as absent.
    async fn fetch_manifest(&self, reference: &Reference) -> Result<Option<VerifiedManifest>>;

    /// Returns whether the target has a blob of this digest and size.
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool>;

    /// Copies a blob, resuming an earlier attempt where the target can. On success the target has
    /// the blob, and its bytes have its digest.
    async fn put_blob(&self, blob: &PendingBlob, report: &Arc<dyn Report>)
    -> Result<UploadOutcome>;

    /// Puts a manifest whose blobs and child manifests are present. Safe to repeat.
    async fn put_manifest(&self, manifest: &VerifiedManifest, role: &ManifestRole) -> Result<()>;

    /// Returns the manifests at the target whose `subject` is the given one; `None` if the target
    /// keeps no such list. The caller then maintains the list under the fallback tag of the OCI
    /// distribution-spec ("Referrers Tag Schema").
    async fn list_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>>;

    /// Deletes a tag, but not the manifest that it names.
    async fn delete_tag(&self, tag: &Tag) -> Result<DeleteOutcome>;

    /// Makes everything that was put permanent: an archive is written and renamed. A registry has
    /// nothing left to do.
    async fn finish(&self) -> Result<()> {
        Ok(())
    }
}
