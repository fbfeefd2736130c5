//! OCI image layouts as one file: a tar, written anew whenever something comes or goes.
//!
//! An archive that is there is treated like a folder: what is in it stays, tags that come again are
//! replaced. Nothing of the old file changes until the new one is whole and on the disk; then the
//! new one takes its name. What no entry of the index needs any more is left out.

pub(super) mod compressed;
pub(super) mod docker_archive;
pub(super) mod docker_manifest;
pub(super) mod entries;
pub(super) mod expected_blobs;
pub(super) mod staging;
pub(super) mod tar_header;
pub(super) mod tar_reader;
mod target;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use docker_manifest::{DOCKER_MANIFEST_FILE, DockerManifestEntry, manifest_json};
pub use target::ArchiveTarget;
