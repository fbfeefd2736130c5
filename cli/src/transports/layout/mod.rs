//! OCI image layouts (OCI image-spec, "Image Layout"): out of a folder or an archive, into a folder.
//!
//! Tags are the entries of `index.json` with the annotation `org.opencontainers.image.ref.name`;
//! what speaks about another manifest, and what was asked for by digest, are entries without it,
//! which is how oras, skopeo and podman write and read them. Parts of an index are blobs only.

mod folder;
pub(super) mod image_reader;
mod index;
mod partial_file;
mod source;
mod store;
mod target;
#[cfg(test)]
mod tests;
pub(super) mod walk;

pub(super) use folder::{OCI_LAYOUT_CONTENT, OCI_LAYOUT_FILE};
pub(super) use index::LayoutIndex;
pub use source::LayoutSource;
pub(super) use store::{OCI_INDEX_FILE, read_index};
pub use target::LayoutTarget;
