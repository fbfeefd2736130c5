//! Reads manifests and configs for a page, up to a number of bytes in all.

use std::cell::Cell;

use imgsync_oci::{Digest, Reference, Repository};

use super::config_facts::ConfigFacts;
use super::image_facts::{ImageSummary, MAX_READ_CHILDREN, index_platforms, total_bytes};
use super::manifest_facts::{BlobFacts, ManifestContent, ManifestFacts};
use super::untrusted::short_part;
use crate::registry::{Error, Registry, Walk};

/// The largest config that is read. Real ones have a few kilobytes.
const MAX_CONFIG_BYTES: u64 = 512 * 1024;
/// How many bytes are read for a page. The size of what is left is not told.
const MAX_PAGE_READ_BYTES: usize = 24 * 1024 * 1024;
/// How many blobs of an index are summed up.
const MAX_SUMMED_BLOBS: usize = 10_000;

/// Reads the manifests and configs of a repository for a page.
pub(super) struct ImageReader<'a> {
    registry: &'a Registry,
    repository: &'a Repository,
    walk: &'a Walk<'a>,
    bytes_left: Cell<usize>,
}

/// A manifest that was read.
#[derive(Debug)]
pub(super) struct ReadManifest {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) facts: ManifestFacts,
    /// The size of the manifest itself in bytes.
    pub(super) size: usize,
}

impl<'a> ImageReader<'a> {
    /// Creates a reader for one page.
    pub(super) fn new(
        registry: &'a Registry,
        repository: &'a Repository,
        walk: &'a Walk<'a>,
    ) -> Self {
        Self {
            registry,
            repository,
            walk,
            bytes_left: Cell::new(MAX_PAGE_READ_BYTES),
        }
    }

    /// Reads the config of an image; `None` if it is not here, or too large.
    pub(super) fn config(&self, digest: &Digest) -> Result<Option<ConfigFacts>, Error> {
        self.walk.step()?;
        if self.bytes_left.get() == 0 {
            return Ok(None);
        }
        let blob = match self.registry.open_blob(self.repository, digest) {
            Ok(blob) if blob.size() <= MAX_CONFIG_BYTES => blob,
            Ok(_) | Err(Error::BlobUnknown(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = usize::try_from(blob.size()).unwrap_or_default();
        self.count(len)?;
        let bytes = blob.read(0, len).ok();
        Ok(bytes.map(|bytes| ConfigFacts::parse(&bytes)))
    }

    /// Reads a manifest; `None` if it is not here, or is damaged.
    pub(super) fn manifest(&self, reference: &Reference) -> Result<Option<ReadManifest>, Error> {
        self.walk.step()?;
        if self.bytes_left.get() == 0 {
            return Ok(None);
        }
        let stored = match self.registry.get_manifest(self.repository, reference) {
            Ok(stored) => stored,
            Err(Error::ManifestUnknown(_) | Error::ManifestDamaged(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        self.count(stored.bytes.len())?;
        let facts = ManifestFacts::parse(&stored.media_type, &stored.bytes);
        Ok(facts.map(|facts| ReadManifest {
            digest: stored.digest,
            media_type: stored.media_type,
            facts,
            size: stored.bytes.len(),
        }))
    }

    /// Sums up an image; `None` if its manifest is not here.
    pub(super) fn summarize(&self, digest: &Digest) -> Result<Option<ImageSummary>, Error> {
        let read = self.manifest(&Reference::Digest(digest.clone()))?;
        let Some(ReadManifest { facts, .. }) = read else {
            return Ok(None);
        };
        Ok(Some(match facts.content {
            ManifestContent::Image { config, layers } => {
                let platform = self
                    .config(&config.digest)?
                    .and_then(|facts| facts.platform);
                ImageSummary {
                    platforms: platform
                        .iter()
                        .map(|text| short_part(text).to_owned())
                        .collect(),
                    bytes: total_bytes(layers.iter().chain([&config])),
                }
            }
            ManifestContent::Index { children, .. } => {
                let mut blobs = Vec::new();
                for child in children.iter().take(MAX_READ_CHILDREN) {
                    if blobs.len() < MAX_SUMMED_BLOBS {
                        blobs.extend(self.child_blobs(&child.digest)?);
                    }
                }
                ImageSummary {
                    platforms: index_platforms(&children),
                    bytes: total_bytes(&blobs),
                }
            }
        }))
    }

    /// Returns the blobs of an image of an index; none if the image is not here.
    pub(super) fn child_blobs(&self, child: &Digest) -> Result<Vec<BlobFacts>, Error> {
        let read = self.manifest(&Reference::Digest(child.clone()))?;
        Ok(match read.map(|read| read.facts.content) {
            Some(ManifestContent::Image { config, layers }) => {
                layers.into_iter().chain([config]).collect()
            }
            _ => Vec::new(),
        })
    }

    fn count(&self, bytes: usize) -> Result<(), Error> {
        let left = self.bytes_left.get().saturating_sub(bytes);
        self.bytes_left.set(left);
        Ok(self.walk.step_for_file(bytes)?)
    }
}
