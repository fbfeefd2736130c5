//! OCI image layouts (OCI image-spec, "Image Layout"): out of a folder or an archive, into a folder.
//!
//! Tags are the entries of `index.json` with the annotation `org.opencontainers.image.ref.name`;
//! what speaks about another manifest, and what was asked for by digest, are entries without it,
//! which is how oras, skopeo and podman write and read them. Parts of an index are blobs only.

mod contents;
mod folder;
mod index;
mod part;
mod source;
mod target;
#[cfg(test)]
mod tests;
pub(super) mod walk;

pub(super) use contents::{OCI_INDEX_FILE, read_index};
pub(super) use folder::{OCI_LAYOUT_CONTENT, OCI_LAYOUT_FILE};
pub(super) use index::LayoutIndex;
pub use source::LayoutSource;
pub use target::LayoutTarget;
