//! An OCI layout as the source of a copy: a folder, or an archive of one.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use imgsync_oci::{Descriptor, Digest, Reference, Tag};

use super::{LayoutIndex, read_index, walk};

use crate::spool::Spool;
use crate::transports::blocking::run_blocking;
use crate::transports::files::{FileContent, SourceFiles};
use crate::transports::locate::open_files;
use crate::transports::{CopySource, Result, VerifiedManifest};
use crate::upload::BlobSource;

/// A layout that images are copied from. Content is verified by its digest, so files may be
/// symbolic links, as some build tools make them.
#[derive(Debug, Clone)]
pub struct LayoutSource {
    name: String,
    files: Arc<SourceFiles>,
    index: Arc<LayoutIndex>,
    referrers: Arc<OnceLock<HashMap<Digest, Vec<Descriptor>>>>,
}

impl LayoutSource {
    /// Opens the layout at `path`: a folder or an archive. A compressed archive is extracted into
    /// `spool`. `name` is the name that the user typed, and `from` what errors call the layout.
    ///
    /// # Errors
    /// Returns an error if it is missing or no layout.
    pub async fn open(path: &Path, name: &str, from: &str, spool: &Spool) -> Result<Self> {
        let (path, spool) = (path.to_owned(), spool.clone());
        let (name, from) = (name.to_owned(), from.to_owned());
        run_blocking(move || {
            let files = open_files(&path, &from, &spool)?;
            let index = read_index(&files)?;
            Ok(Self {
                name,
                files: Arc::new(files),
                index: Arc::new(index),
                referrers: Arc::default(),
            })
        })
        .await
    }

    /// Returns the digest of an entry by its name: a tag or, as podman and Docker write it, a full
    /// name.
    pub fn find_named(&self, name: &str) -> Option<Digest> {
        Some(self.index.find_named(name)?.digest.clone())
    }

    /// Returns the image of a layout that has only one, ignoring referrers.
    pub fn only_image(&self) -> Option<Digest> {
        let referrers = self.referrer_map().values().flatten();
        let referrers: HashSet<_> = referrers.map(|referrer| &referrer.digest).collect();
        let digests = self.index.entries().map(|entry| &entry.digest);
        let mut images: Vec<_> = digests
            .filter(|digest| !referrers.contains(digest))
            .collect();
        images.dedup();
        match images[..] {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    /// Returns the number of images of a layout without any tag; `None` if there are tags.
    pub fn untagged_images(&self) -> Option<usize> {
        let referrers = self.referrer_map().values().flatten();
        let referrers: HashSet<_> = referrers.map(|referrer| &referrer.digest).collect();
        let images = self.index.entries();
        let images = images.filter(|entry| !referrers.contains(&entry.digest));
        self.index.tags().is_empty().then_some(images.count())
    }

    fn referrer_map(&self) -> &HashMap<Digest, Vec<Descriptor>> {
        self.referrers
            .get_or_init(|| walk::referrers_by_subject(&*self.files, &self.index))
    }

    /// Returns the manifest of a tag, which must be a valid manifest.
    fn read_tagged(&self, tag: &Tag) -> Result<Option<VerifiedManifest>> {
        let entry = self.index.resolve_tag(tag);
        let entry = entry.map_err(|names| self.files.ambiguous(names.into_iter()))?;
        let Some(Descriptor {
            digest, media_type, ..
        }) = entry
        else {
            return Ok(None);
        };
        match walk::read_manifest(&*self.files, digest, Some(media_type)) {
            Some((manifest, _)) => Ok(Some(manifest)),
            None => {
                let what = format!("the manifest {digest} of {tag}");
                let reason = format!("{what} is missing, damaged or invalid");
                Err(self.files.malformed(reason).into())
            }
        }
    }
}

#[async_trait]
impl CopySource for LayoutSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn list_tags(&self) -> BoxStream<'_, Result<Vec<Tag>>> {
        stream::once(async { Ok(self.index.tags()) }).boxed()
    }

    async fn fetch_manifest(&self, reference: &Reference) -> Result<Option<VerifiedManifest>> {
        let (source, reference) = (self.clone(), reference.clone());
        run_blocking(move || match &reference {
            Reference::Tag(tag) => source.read_tagged(tag),
            // The digest may be that of another blob.
            Reference::Digest(digest) => {
                let manifest = walk::read_manifest(&*source.files, digest, None);
                Ok(manifest.map(|(manifest, _)| manifest))
            }
        })
        .await
    }

    async fn locate_blob(&self, blob: &Descriptor) -> Result<BlobSource> {
        match self.files.sized_blob(blob)? {
            FileContent::Available(slice) => Ok(BlobSource::Local(slice)),
            // Nothing is skipped when a layout is opened as a source.
            FileContent::Skipped { digest, .. } => {
                let reason = format!("the blob {digest} was not kept");
                Err(self.files.malformed(reason).into())
            }
        }
    }

    async fn list_referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let (source, subject) = (self.clone(), subject.clone());
        run_blocking(move || {
            let referrers = source.referrer_map().get(&subject);
            Ok(referrers.cloned().unwrap_or_default())
        })
        .await
    }
}
