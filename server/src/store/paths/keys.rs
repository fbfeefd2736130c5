//! The names by which callers name files.

use imgsync_oci::{Digest, Repository, Tag};

/// Names an object: a blob, or a link.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ObjectKey<'a> {
    /// The bytes of a blob or a manifest.
    Blob(&'a Digest),
    /// The link that makes a repository hold a blob.
    LayerLink(&'a Repository, &'a Digest),
    /// The link that makes a repository hold a manifest.
    RevisionLink(&'a Repository, &'a Digest),
    /// The link from a tag to its manifest.
    TagCurrent(&'a Repository, &'a Tag),
    /// The link from a tag to a manifest that it points or pointed at.
    TagIndex(&'a Repository, &'a Tag, &'a Digest),
}

/// Names a mark. A mark says that a link or tag of a repository came from an upstream; one without
/// a mark was pushed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MarkKey<'a> {
    /// The mark of a link to a blob.
    Layer(&'a Repository, &'a Digest),
    /// The mark of a link to a manifest.
    Revision(&'a Repository, &'a Digest),
    /// The mark of a tag.
    Tag(&'a Repository, &'a Tag),
}

/// The kinds of links that a repository has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkKind {
    /// Links to blobs.
    Layers,
    /// Links to manifests.
    Revisions,
}

/// Names a derived file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DerivedKey<'a> {
    /// Whether a blob is a layer, and of which diffID.
    LayerRecord(&'a Digest),
    /// Records a blob of a diffID. Fields: diffID, blob.
    DiffIdBlob(&'a Digest, &'a Digest),
    /// The index of a layer, for delta uploads.
    LayerIndex(&'a Digest),
}

/// Names a derived log.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DerivedLogKey<'a> {
    /// Facts about the manifests of a repository.
    Manifests(&'a Repository),
    /// The links to blobs whose hash begins with this byte.
    BlobLinks(u8),
}
