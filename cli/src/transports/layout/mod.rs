//! OCI image layouts (OCI image-spec, "Image Layout"), read from a folder or an archive and written
//! to a folder. The module `archive` writes archives; both are a `StorageTarget`.
//!
//! Tags are the entries of `index.json` with the annotation `org.opencontainers.image.ref.name`.
//! Referrers and manifests that were requested by digest are entries without it, as oras, skopeo
//! and podman write and read them. The manifests of an index have no entries. Start at
//! [`LayoutSource`] and `LayoutTarget`; `push` reads images with `image_reader`.

mod folder;
pub(super) mod image_reader;
mod index;
mod source;
mod storage;
mod target;
#[cfg(test)]
mod tests;
pub(super) mod walk;

pub(super) use folder::{OCI_LAYOUT_CONTENT, OCI_LAYOUT_FILE};
pub(super) use index::LayoutIndex;
pub use source::LayoutSource;
pub(super) use storage::{LayoutStorage, StorageTarget};
pub(crate) use target::LayoutTarget;
pub(super) use walk::{BlobStore, OCI_INDEX_FILE, read_index};
