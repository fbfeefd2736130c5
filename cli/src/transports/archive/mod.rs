//! Image archives: one tar file with an OCI layout, an image of `docker save`, or both.
//!
//! As a target, an existing archive is updated like a folder: its content stays, and tags are
//! replaced. The new archive is written beside the old one and renamed when it is complete; blobs
//! that no entry of the index needs are left out. Start at `ArchiveTarget` for writing and
//! `tar_reader` or `staging` for reading.

pub(super) mod compressed;
pub(super) mod docker_archive;
pub(super) mod docker_manifest;
pub(super) mod expected_blobs;
pub(super) mod staging;
pub(super) mod tar_header;
pub(super) mod tar_reader;
mod target;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use compressed::DecompressedStream;
pub(super) use docker_manifest::{DOCKER_MANIFEST_FILE, DockerManifestEntry, manifest_json};
pub(crate) use target::ArchiveTarget;
