//! An OCI archive as a target.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use imgsync_oci::client::Deleted;
use imgsync_oci::{Descriptor, Digest, MAX_MANIFEST_BYTES, Reference, Registry, Repository, Tag};

use super::docker::{self, MANIFEST, loadable};
use super::writer::{Writer, Written};
use crate::exit::{Failure, Kind};
use crate::mirror::ends::fetch::{Fetch, Next};
use crate::mirror::ends::layout::{
    INDEX, Index, LAYOUT, LAYOUT_BYTES, read_index, walk, walk::Blobs,
};
use crate::mirror::ends::off::{off, unwritable};
use crate::mirror::ends::plain;
use crate::mirror::ends::{self, Answer, Head, Held, Role};
use crate::report::Report;
use crate::source::contents::{Contents, Stored};
use crate::source::{self, Slice};
use crate::transfer::{Body, Moved, Outgoing};

/// An archive that images go into. Its file is as it was until [`ends::Target::finish`].
#[derive(Debug, Clone)]
pub struct Target {
    name: String,
    path: PathBuf,
    /// What images are called as a whole, without the tag.
    image: Option<String>,
    old: Option<Arc<Old>>,
    state: Arc<Mutex<State>>,
    /// A tar takes one entry at a time.
    writer: Arc<tokio::sync::Mutex<Option<Writer>>>,
}

/// The archive that is there.
#[derive(Debug)]
struct Old {
    contents: Contents,
    stamp: Metadata,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    changed: bool,
    written: Written,
}

/// What will be in the new archive, or may be: what was written, and what the old one has.
impl Blobs for Target {
    fn size(&self, digest: &Digest) -> Option<u64> {
        let written = self.state().written.size(digest);
        written.or_else(|| self.old.as_ref()?.contents.size(digest))
    }

    fn bytes(&self, digest: &Digest) -> Option<Bytes> {
        // Nobody else writes there, and what was written was verified.
        match self.state().written.get(digest).cloned() {
            Some(slice) if slice.len() <= MAX_MANIFEST_BYTES as u64 => slice.bytes().ok(),
            Some(_) => None,
            None => self.old.as_ref()?.contents.bytes(digest),
        }
    }
}

impl Target {
    /// The archive under `path`, which need not be there yet. `called` is what the user typed for
    /// it; `image` what the images are called as a whole, for Docker and podman.
    ///
    /// # Errors
    /// What is there is no OCI archive, or is damaged.
    pub async fn open(path: &Path, called: &str, image: Option<&str>) -> Result<Self, Failure> {
        let path = path.to_owned();
        let (path, old, index) = off(move || {
            // Where the user's own link leads, so that the link stays one.
            let path = path.canonicalize().unwrap_or(path);
            let size = plain::file(&path).map_err(|error| unwritable(&error))?;
            if size.is_none() {
                return Ok((path, None, Index::default()));
            }
            let (contents, stamp) = source::open_archive(&path).map_err(not_ours)?;
            let index = read_index(&contents).map_err(not_ours)?;
            let old = Some(Arc::new(Old { contents, stamp }));
            Ok((path, old, index))
        })
        .await?;
        let state = State {
            index,
            ..State::default()
        };
        Ok(Self {
            name: called.to_owned(),
            path,
            image: image.map(str::to_owned),
            old,
            state: Arc::new(Mutex::new(state)),
            writer: Arc::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, digest: &Digest, size: u64) -> bool {
        self.size(digest) == Some(size)
    }

    fn held(&self, reference: &Reference) -> Option<Held> {
        let (digest, media_type) = match reference {
            Reference::Digest(digest) => (digest.clone(), None),
            Reference::Tag(tag) => {
                let state = self.state();
                let entry = state.index.tagged(tag)?;
                (entry.digest.clone(), Some(entry.media_type.clone()))
            }
        };
        let media_type = media_type.as_deref();
        let is_whole = walk::is_whole(self, &digest, media_type);
        is_whole.then(|| walk::held(self, &digest, media_type))?
    }

    /// The file that is written until the archive is whole.
    fn begin(&self) -> Result<Writer, Failure> {
        let shown = self.path.display();
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".imgsync-part");
        let begun = Writer::begin(&self.path.with_file_name(name));
        let begun = begun.map_err(|error| unwritable(&error))?;
        let busy = |what: &str| {
            let what = format!("target: {shown} {what}");
            Failure::new(Kind::Target, what).hint("try again when the other one has ended")
        };
        let writer = begun.ok_or_else(|| busy("is being written by another imgsync"))?;
        // Another run may have ended between our reading and our lock.
        let now = self.path.symlink_metadata().ok();
        let is_same = match (&self.old, &now) {
            (None, None) => true,
            (Some(old), Some(now)) => plain::is_same(&old.stamp, now),
            (None, Some(_)) | (Some(_), None) => false,
        };
        match is_same {
            true => Ok(writer),
            false => {
                writer.discard().map_err(|error| unwritable(&error))?;
                Err(busy("has changed meanwhile"))
            }
        }
    }

    /// Writes a blob, checked on the way. What fails leaves nothing in the tar.
    async fn write(
        &self,
        slot: &mut Option<Writer>,
        blob: &Outgoing,
        told: Option<&Arc<dyn Report>>,
    ) -> Result<(), Failure> {
        let writer = match slot {
            Some(writer) => writer,
            None => slot.insert(self.begin()?),
        };
        let mut entry = writer.open(&blob.digest, blob.size);
        let mut fetch = Fetch::new(blob);
        loop {
            match fetch.next().await? {
                Next::Piece(piece) => {
                    entry = off(move || {
                        entry.write(&piece).map_err(|error| unwritable(&error))?;
                        Ok(entry)
                    })
                    .await?;
                    if let Some(report) = told {
                        report.position(&blob.digest, fetch.at());
                    }
                }
                Next::Whole => break,
                Next::Wrong(failure) => return Err(failure),
            }
        }
        let slice = writer.close(&entry);
        let slice = slice.map_err(|error| unwritable(&error))?;
        self.state().written.note(blob.digest.clone(), slice);
        Ok(())
    }

    async fn bring(&self, blob: &Outgoing, report: &Arc<dyn Report>) -> Result<Moved, Failure> {
        if self.has(&blob.digest, blob.size) {
            return Ok(Moved::There);
        }
        let mut slot = self.writer.lock().await;
        if self.has(&blob.digest, blob.size) {
            return Ok(Moved::There);
        }
        report.begin(&blob.digest, &blob.label, blob.size);
        self.write(&mut slot, blob, Some(report)).await?;
        report.done(&blob.digest);
        Ok(Moved::Sent { bytes: blob.size })
    }

    async fn end(&self) -> Result<(), Failure> {
        let mut slot = self.writer.lock().await;
        let (mut index, changed) = {
            let state = self.state();
            (state.index.clone(), state.changed)
        };
        if !changed {
            // Blobs of images that did not come about, if anything.
            return match slot.take() {
                Some(writer) => writer.discard().map_err(|error| unwritable(&error)),
                None => Ok(()),
            };
        }
        index.sort();
        for kept in self.kept(&index) {
            let (digest, size) = (kept.digest.clone(), kept.size);
            self.write(&mut slot, &kept, None)
                .await
                .map_err(|failure| {
                    let what =
                        format!("target: the archive has a damaged blob {digest} of {size} bytes");
                    Failure::new(Kind::Target, format!("{what}; {}", failure.what))
                        .hint("remove the archive and mirror again; it was not changed")
                })?;
        }
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => self.begin()?,
        };
        let images = loadable(self, &index, self.image.as_deref());
        let path = self.path.clone();
        off(move || {
            let mut whole = || {
                if !images.is_empty() {
                    writer.file(MANIFEST, &docker::manifest_json(&images))?;
                }
                writer.file(INDEX, &index.bytes())?;
                writer.file(LAYOUT, LAYOUT_BYTES)
            };
            let kept = whole().and_then(|()| writer.keep(&path));
            kept.map_err(|error| unwritable(&error))
        })
        .await?;
        self.state().changed = false;
        Ok(())
    }

    /// What the new archive takes over from the old one.
    fn kept(&self, index: &Index) -> Vec<Outgoing> {
        let Some(old) = &self.old else {
            return Vec::new();
        };
        let needed = walk::reachable(self, index).into_iter();
        let missing = needed.filter(|digest| self.state().written.size(digest).is_none());
        let outgoing = missing.filter_map(|digest| match old.contents.blob(&digest) {
            Ok(Stored::Here(slice)) => Some(outgoing(digest, slice)),
            Ok(Stored::Elsewhere { .. }) | Err(_) => None,
        });
        outgoing.collect()
    }
}

fn outgoing(digest: Digest, slice: Slice) -> Outgoing {
    Outgoing {
        label: digest.short().to_owned(),
        size: slice.len(),
        body: Body::Here(slice),
        digest,
        mount: None,
    }
}

fn not_ours(error: source::Error) -> Failure {
    Failure::new(Kind::Target, format!("target: {error}"))
        .hint("an archive that is there is added to; to begin anew, remove it or give another path")
}

impl ends::Target for Target {
    fn name(&self) -> &str {
        &self.name
    }

    fn place(&self) -> Option<(&Registry, &Repository)> {
        None
    }

    fn head<'a>(&'a self, reference: &'a Reference) -> Answer<'a, Option<Head>> {
        Box::pin(async move {
            let held = self.manifest(reference).await?;
            Ok(held.map(|held| Head {
                size: Some(held.bytes.len() as u64),
                digest: held.digest,
                media_type: Some(held.media_type),
            }))
        })
    }

    fn manifest<'a>(&'a self, reference: &'a Reference) -> Answer<'a, Option<Held>> {
        let (own, reference) = (self.clone(), reference.clone());
        Box::pin(off(move || Ok(own.held(&reference))))
    }

    fn holds<'a>(&'a self, blob: &'a Descriptor) -> Answer<'a, bool> {
        Box::pin(async { Ok(self.has(&blob.digest, blob.size)) })
    }

    fn referrers<'a>(&'a self, subject: &'a Digest) -> Answer<'a, Option<Vec<Descriptor>>> {
        let (own, subject) = (self.clone(), subject.clone());
        Box::pin(off(move || {
            let index = own.state().index.clone();
            let about = walk::referrers_of(&own, &index);
            Ok(Some(about.get(&subject).cloned().unwrap_or_default()))
        }))
    }

    fn put_blob<'a>(
        &'a self,
        blob: &'a Outgoing,
        report: &'a Arc<dyn Report>,
    ) -> Answer<'a, Moved> {
        Box::pin(self.bring(blob, report))
    }

    fn put_manifest<'a>(&'a self, manifest: &'a Held, role: &'a Role) -> Answer<'a, ()> {
        Box::pin(async move {
            let size = manifest.bytes.len() as u64;
            let mut slot = self.writer.lock().await;
            if !self.has(&manifest.digest, size) {
                let slice = Slice::memory(manifest.bytes.clone());
                let blob = outgoing(manifest.digest.clone(), slice);
                self.write(&mut slot, &blob, None).await?;
            }
            let mut state = self.state();
            let changed = state.index.put(manifest, role, self.image.as_deref());
            state.changed |= changed;
            Ok(())
        })
    }

    fn delete_tag<'a>(&'a self, tag: &'a Tag) -> Answer<'a, Deleted> {
        Box::pin(async {
            let mut state = self.state();
            let gone = state.index.remove(tag);
            state.changed |= gone;
            Ok(match gone {
                true => Deleted::Gone,
                false => Deleted::Absent,
            })
        })
    }

    fn finish<'a>(&'a self, _: &'a Arc<dyn Report>) -> Answer<'a, ()> {
        Box::pin(self.end())
    }
}
