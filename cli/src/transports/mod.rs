//! The two ends of a copy: what a source offers, and what a target takes. One file a kind of end.
//!
//! Both may be asked several things at a time. An end asks again by itself after faults that pass;
//! an error that it yields counts. Errors say `source:` or `target:`, by the end that they are of.

pub mod archive;
mod blocking;
mod copy_request;
pub mod daemon;
mod fetch;
mod files;
pub mod layout;
pub(crate) mod registry;
pub mod source;
#[cfg(test)]
mod testing;
pub(crate) mod throttle;

pub use copy_request::{BeforeTagHook, CopyRequest, ReferrersPolicy};
pub use source::{ImageRequest, LocatedImage, SkipLayer};

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use imgsync_oci::client::DeleteOutcome;
use imgsync_oci::{Descriptor, Digest, Reference, Registry, Repository, Tag};

use crate::exit::Failure;
use crate::report::Report;
use crate::upload::{BlobSource, PendingBlob, UploadOutcome};

/// What a question to an end comes to.
pub type TransportFuture<'a, T> = BoxFuture<'a, Result<T, Failure>>;

/// What is known of a manifest without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestDescriptor {
    /// Its digest.
    pub digest: Digest,
    /// Its media type, where the end tells.
    pub media_type: Option<String>,
    /// Its size in bytes, where the end tells.
    pub size: Option<u64>,
}

/// A manifest, verified: the bytes have the digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedManifest {
    /// Its digest: the one that it was asked for by, else computed from the bytes.
    pub digest: Digest,
    /// Its media type: what the end says, else what its bytes show.
    pub media_type: String,
    /// Its bytes, as they were put.
    pub bytes: bytes::Bytes,
}

/// What a manifest is at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestRole {
    /// A part of an index that follows: it is reached through that one, by digest.
    Child,
    /// What speaks about another manifest: reached through that one's list of referrers.
    Referrer {
        /// What it speaks about.
        subject: Digest,
    },
    /// What a tag names from now on.
    Tagged(Tag),
    /// Reached by its digest alone, for whoever asks for it so.
    Untagged,
}

/// Where images come from: one repository, layout or archive.
pub trait CopySource: Send + Sync {
    /// What people call it, without a tag: `ghcr.io/owner/app`, `oci:build/image`.
    fn name(&self) -> &str;

    /// The repository that it is, where it is one: a target at the same registry can link its
    /// blobs.
    fn repository(&self) -> Option<(&Registry, &Repository)>;

    /// All tags, part by part, in the order of the end. A repository that is not there is an
    /// error.
    fn list_tags(&self) -> BoxStream<'_, Result<Vec<Tag>, Failure>>;

    /// What a tag or digest names now; `None` where it names nothing. Cheap: no manifest is read,
    /// where the end can do without.
    fn head_manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> TransportFuture<'a, Option<ManifestDescriptor>>;

    /// A manifest, verified; `None` where there is none of that name.
    fn fetch_manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> TransportFuture<'a, Option<VerifiedManifest>>;

    /// Where a blob's bytes are. Nothing is read yet, and it need not be there.
    fn blob<'a>(&'a self, blob: &'a Descriptor) -> TransportFuture<'a, BlobSource>;

    /// The manifests that speak about this one by their `subject`, those first that came first;
    /// none where the end keeps no such list. Tags of cosign's scheme are not among them.
    fn list_referrers<'a>(&'a self, subject: &'a Digest) -> TransportFuture<'a, Vec<Descriptor>>;
}

/// Where images go: one repository, layout, archive or daemon. The engine puts what something
/// needs before it: blobs before their manifest, parts before their index.
pub trait CopyTarget: Send + Sync {
    /// What people call it, without a tag.
    fn name(&self) -> &str;

    /// The repository that it is, where it is one.
    fn repository(&self) -> Option<(&Registry, &Repository)>;

    /// What a tag or digest names now. A manifest that is there is there with all its parts.
    fn head_manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> TransportFuture<'a, Option<ManifestDescriptor>>;

    /// A manifest that is there; one that makes no sense counts as absent.
    fn fetch_manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> TransportFuture<'a, Option<VerifiedManifest>>;

    /// Whether it holds a blob, whole.
    fn holds<'a>(&'a self, blob: &'a Descriptor) -> TransportFuture<'a, bool>;

    /// Brings a blob. Goes on where an earlier attempt ended, as far as the end can. When this
    /// yields, the target has the blob, and its bytes have its digest.
    fn put_blob<'a>(
        &'a self,
        blob: &'a PendingBlob,
        report: &'a Arc<dyn Report>,
    ) -> TransportFuture<'a, UploadOutcome>;

    /// Puts a manifest, all of whose parts are there. Safe to repeat.
    fn put_manifest<'a>(
        &'a self,
        manifest: &'a VerifiedManifest,
        role: &'a ManifestRole,
    ) -> TransportFuture<'a, ()>;

    /// The manifests at the target that speak about this one by their `subject`; `None` where the
    /// target keeps no such list by itself. Then the engine keeps one, under the tag that the
    /// specification has for that.
    fn list_referrers<'a>(
        &'a self,
        subject: &'a Digest,
    ) -> TransportFuture<'a, Option<Vec<Descriptor>>>;

    /// Takes a tag out, and nothing but the tag.
    fn delete_tag<'a>(&'a self, tag: &'a Tag) -> TransportFuture<'a, DeleteOutcome>;

    /// All that was put stays from now on: an archive is written out. For a registry there is
    /// nothing left to do.
    fn finish<'a>(&'a self, report: &'a Arc<dyn Report>) -> TransportFuture<'a, ()>;
}
