//! An OCI layout as a source: a folder, or an archive of one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use futures::stream::{self, BoxStream, StreamExt};
use imgsync_oci::{Descriptor, Digest, Reference, Registry, Repository, Tag};

use super::{Index, contents, walk};
use crate::exit::Failure;
use crate::mirror::ends::off::off;
use crate::mirror::ends::{self, Answer, Head, Held};
use crate::source::contents::{Contents, Stored};
use crate::source::{self, Error};
use crate::spool::Spool;
use crate::transfer::Body;

/// A layout that images come out of. What it says is believed only as far as digests show it; its
/// files may be links, as build tools make them, for the bytes behind them are checked too.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    contents: Arc<Contents>,
    index: Arc<Index>,
    referrers: Arc<OnceLock<HashMap<Digest, Vec<Descriptor>>>>,
}

impl Source {
    /// Opens the layout under `path`: a folder, or an archive, which may be compressed as a whole
    /// (it is then unpacked into `spool`). `called` is what the user typed for it.
    ///
    /// # Errors
    /// It is not there, or no layout.
    pub async fn open(path: &Path, called: &str, spool: &Spool) -> Result<Self, Failure> {
        let (path, spool) = (path.to_owned(), spool.clone());
        let (contents, index) = off(move || {
            let contents = source::open(&path, &spool)?;
            let index = contents::index(&contents)?;
            Ok((contents, index))
        })
        .await?;
        Ok(Self {
            name: called.to_owned(),
            contents: Arc::new(contents),
            index: Arc::new(index),
            referrers: Arc::default(),
        })
    }

    /// What a name of the layout's own stands for: the whole of what an entry is called, be it a
    /// tag or, as podman and Docker write, a name with one.
    pub fn named(&self, name: &str) -> Option<Digest> {
        self.index.named(name).map(|entry| entry.digest.clone())
    }

    /// The only image of a layout that has one image and no name for it.
    pub fn only(&self) -> Option<Digest> {
        let mut digests: Vec<_> = self.index.entries().map(|it| &it.digest).collect();
        let about = self.about();
        let is_referrer = |digest: &Digest| {
            let mut all = about.values().flatten();
            all.any(|referrer| referrer.digest == *digest)
        };
        digests.retain(|digest| !is_referrer(digest));
        digests.dedup();
        match digests[..] {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    fn about(&self) -> &HashMap<Digest, Vec<Descriptor>> {
        self.referrers
            .get_or_init(|| walk::referrers_of(&*self.contents, &self.index))
    }

    /// The digest and type of what a reference means.
    fn entry(&self, reference: &Reference) -> Result<Option<Descriptor>, Failure> {
        match reference {
            Reference::Digest(digest) => Ok(self
                .contents
                .blob(digest)
                .ok()
                .map(|stored| Descriptor::new("", digest.clone(), stored.len()))),
            Reference::Tag(tag) => match self.index.find(tag) {
                Ok(entry) => Ok(entry.cloned()),
                Err(names) => Err(Error::Ambiguous {
                    from: self.contents.from().to_owned(),
                    names,
                }
                .into()),
            },
        }
    }

    fn held(&self, reference: &Reference) -> Result<Option<Held>, Failure> {
        let Some(entry) = self.entry(reference)? else {
            return Ok(None);
        };
        let held = walk::held(&*self.contents, &entry.digest, Some(&entry.media_type));
        if held.is_some() {
            return Ok(held);
        }
        // A tag that names nothing readable is damage; a digest may be that of something else.
        match reference {
            Reference::Digest(_) => Ok(None),
            Reference::Tag(tag) => {
                let what = format!("the manifest {} of {tag}", entry.digest);
                let reason = format!("{what} is missing, damaged or none");
                Err(self.contents.malformed(reason).into())
            }
        }
    }
}

impl ends::Source for Source {
    fn name(&self) -> &str {
        &self.name
    }

    fn place(&self) -> Option<(&Registry, &Repository)> {
        None
    }

    fn tags(&self) -> BoxStream<'_, Result<Vec<Tag>, Failure>> {
        stream::once(async { Ok(self.index.tags()) }).boxed()
    }

    fn head<'a>(&'a self, reference: &'a Reference) -> Answer<'a, Option<Head>> {
        let (own, reference) = (self.clone(), reference.clone());
        Box::pin(off(move || {
            Ok(own.held(&reference)?.map(|held| Head {
                digest: held.digest,
                media_type: Some(held.media_type),
                size: Some(held.bytes.len() as u64),
            }))
        }))
    }

    fn manifest<'a>(&'a self, reference: &'a Reference) -> Answer<'a, Option<Held>> {
        let (own, reference) = (self.clone(), reference.clone());
        Box::pin(off(move || own.held(&reference)))
    }

    fn blob<'a>(&'a self, blob: &'a Descriptor) -> Answer<'a, Body> {
        Box::pin(async move {
            let stored = self.contents.blob(&blob.digest)?;
            let (digest, len) = (&blob.digest, stored.len());
            if len != blob.size {
                let size = blob.size;
                let reason = format!("the blob {digest} has {len} bytes, and should have {size}");
                return Err(self.contents.malformed(reason).into());
            }
            match stored {
                Stored::Here(slice) => Ok(Body::Here(slice)),
                // Nothing is left out of what was opened here.
                Stored::Elsewhere { .. } => {
                    let reason = format!("the blob {digest} was not kept");
                    Err(self.contents.malformed(reason).into())
                }
            }
        })
    }

    fn referrers<'a>(&'a self, subject: &'a Digest) -> Answer<'a, Vec<Descriptor>> {
        let (own, subject) = (self.clone(), subject.clone());
        Box::pin(off(move || {
            Ok(own.about().get(&subject).cloned().unwrap_or_default())
        }))
    }
}
