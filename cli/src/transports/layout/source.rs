//! An OCI layout as the source of a copy: a folder, or an archive of one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use futures::stream::{self, BoxStream, StreamExt};
use imgsync_oci::{Descriptor, Digest, Reference, Tag};

use super::{LayoutIndex, store, walk};
use crate::exit::Failure;
use crate::image::Error;
use crate::spool::Spool;
use crate::transports::blocking::run_blocking;
use crate::transports::files::{FileContent, SourceFiles};
use crate::transports::locate::open_files;
use crate::transports::{self, TransportFuture, VerifiedManifest};
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
    /// `spool`. `called` is the name that the user typed.
    ///
    /// # Errors
    /// Returns an error if it is missing or no layout.
    pub async fn open(path: &Path, called: &str, spool: &Spool) -> Result<Self, Failure> {
        let (path, spool) = (path.to_owned(), spool.clone());
        let (contents, index) = run_blocking(move || {
            let contents = open_files(&path, &spool)?;
            let index = store::read_index(&contents)?;
            Ok::<_, Failure>((contents, index))
        })
        .await?;
        Ok(Self {
            name: called.to_owned(),
            files: Arc::new(contents),
            index: Arc::new(index),
            referrers: Arc::default(),
        })
    }

    /// Returns the digest of an entry by its name: a tag or, as podman and Docker write it, a full
    /// name.
    pub fn find_named(&self, name: &str) -> Option<Digest> {
        self.index
            .find_named(name)
            .map(|entry| entry.digest.clone())
    }

    /// Returns the image of a layout that has only one, ignoring referrers.
    pub fn only_image(&self) -> Option<Digest> {
        let mut digests: Vec<_> = self.index.entries().map(|it| &it.digest).collect();
        let by_subject = self.referrer_map();
        let is_referrer = |digest: &Digest| {
            let mut all = by_subject.values().flatten();
            all.any(|referrer| referrer.digest == *digest)
        };
        digests.retain(|digest| !is_referrer(digest));
        digests.dedup();
        match digests[..] {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    fn referrer_map(&self) -> &HashMap<Digest, Vec<Descriptor>> {
        self.referrers
            .get_or_init(|| walk::referrers_by_subject(&*self.files, &self.index))
    }

    /// Returns the descriptor that a reference names; for a digest, without a media type.
    fn entry(&self, reference: &Reference) -> Result<Option<Descriptor>, Failure> {
        match reference {
            Reference::Digest(digest) => Ok(self
                .files
                .blob(digest)
                .ok()
                .map(|stored| Descriptor::new("", digest.clone(), stored.len()))),
            Reference::Tag(tag) => match self.index.resolve_tag(tag) {
                Ok(entry) => Ok(entry.cloned()),
                Err(names) => Err(Error::Ambiguous {
                    from: self.files.source_name().to_owned(),
                    names,
                }
                .into()),
            },
        }
    }

    fn read_manifest(&self, reference: &Reference) -> Result<Option<VerifiedManifest>, Failure> {
        let Some(entry) = self.entry(reference)? else {
            return Ok(None);
        };
        let manifest = walk::read_manifest(&*self.files, &entry.digest, Some(&entry.media_type));
        if manifest.is_some() {
            return Ok(manifest);
        }
        // A tag must name a manifest; a digest may be that of another blob.
        match reference {
            Reference::Digest(_) => Ok(None),
            Reference::Tag(tag) => {
                let what = format!("the manifest {} of {tag}", entry.digest);
                let reason = format!("{what} is missing, damaged or invalid");
                Err(self.files.malformed(reason).into())
            }
        }
    }
}

impl transports::CopySource for LayoutSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn list_tags(&self) -> BoxStream<'_, Result<Vec<Tag>, Failure>> {
        stream::once(async { Ok(self.index.tags()) }).boxed()
    }

    fn fetch_manifest<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> TransportFuture<'a, Option<VerifiedManifest>> {
        let (own, reference) = (self.clone(), reference.clone());
        Box::pin(run_blocking(move || own.read_manifest(&reference)))
    }

    fn locate_blob<'a>(&'a self, blob: &'a Descriptor) -> TransportFuture<'a, BlobSource> {
        Box::pin(async move {
            match self.files.sized_blob(blob)? {
                FileContent::Available(slice) => Ok(BlobSource::Local(slice)),
                // Nothing is skipped when a layout is opened as a source.
                FileContent::Skipped { digest, .. } => {
                    let reason = format!("the blob {digest} was not kept");
                    Err(self.files.malformed(reason).into())
                }
            }
        })
    }

    fn list_referrers<'a>(&'a self, subject: &'a Digest) -> TransportFuture<'a, Vec<Descriptor>> {
        let (own, subject) = (self.clone(), subject.clone());
        Box::pin(run_blocking(move || {
            Ok(own
                .referrer_map()
                .get(&subject)
                .cloned()
                .unwrap_or_default())
        }))
    }
}
