//! An OCI layout as a target: a folder. What was put is on the disk, and is there for the next run.

use std::path::Path;
use std::sync::Arc;

use imgsync_oci::client::Deleted;
use imgsync_oci::{Descriptor, Digest, Reference, Registry, Repository, Tag};

use super::folder::Folder;
use super::part::Part;
use super::{Index, walk};
use crate::exit::{Failure, Kind};
use crate::mirror::ends::fetch::{Fetch, Next};
use crate::mirror::ends::off::{off, unwritable};
use crate::mirror::ends::{self, Answer, Head, Held, Moved, Role};
use crate::report::Report;
use crate::source::contents::Contents;
use crate::transfer::Outgoing;

/// A layout that images go into. What is in it stays; tags that come again are replaced.
#[derive(Debug, Clone)]
pub struct Target {
    name: String,
    folder: Arc<Folder>,
    contents: Arc<Contents>,
    /// What images are called as a whole, without the tag.
    image: Option<String>,
    /// One at a time changes the index; what is in there is not read twice.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Target {
    /// The layout in the folder `path`, which need not be there yet. `called` is what the user
    /// typed for it; `image` what the images are called as a whole, for Docker and podman.
    ///
    /// # Errors
    /// Something else is there.
    pub async fn open(path: &Path, called: &str, image: Option<&str>) -> Result<Self, Failure> {
        let path = path.to_owned();
        let folder = off(move || {
            let folder = Folder::new(&path).map_err(not_ours)?;
            folder.index().map_err(not_ours)?;
            Ok(folder)
        })
        .await?;
        Ok(Self {
            name: called.to_owned(),
            contents: Arc::new(folder.contents()),
            folder: Arc::new(folder),
            image: image.map(str::to_owned),
            turn: Arc::default(),
        })
    }

    fn index(&self) -> Result<Index, Failure> {
        self.folder.index().map_err(not_ours)
    }

    /// What a reference means, if it is there with all its parts.
    fn held(&self, reference: &Reference) -> Result<Option<Held>, Failure> {
        let (digest, media_type) = match reference {
            Reference::Digest(digest) => (digest.clone(), None),
            Reference::Tag(tag) => match self.index()?.tagged(tag) {
                Some(entry) => (entry.digest.clone(), Some(entry.media_type.clone())),
                None => return Ok(None),
            },
        };
        let media_type = media_type.as_deref();
        match walk::is_whole(&*self.contents, &digest, media_type) {
            true => Ok(walk::held(&*self.contents, &digest, media_type)),
            false => Ok(None),
        }
    }

    fn has(&self, digest: &Digest, size: u64) -> Result<bool, Failure> {
        let found = self.folder.size(digest);
        let found = found.map_err(|error| unwritable(&error))?;
        Ok(found == Some(size))
    }

    /// The place of a blob, and its part, ready to be written; `None` where it came meanwhile.
    async fn part(&self, digest: &Digest, size: u64) -> Result<Option<Part>, Failure> {
        self.folder.make().map_err(|error| unwritable(&error))?;
        let part = Part::open(&self.folder.part(digest)).await;
        let part = part.map_err(|error| unwritable(&error))?;
        if !self.has(digest, size)? {
            return Ok(Some(part));
        }
        part.discard().map_err(|error| unwritable(&error))?;
        Ok(None)
    }

    /// Puts a small blob that is at hand, and verified.
    async fn put_bytes(&self, manifest: &Held) -> Result<(), Failure> {
        let size = manifest.bytes.len() as u64;
        if self.has(&manifest.digest, size)? {
            return Ok(());
        }
        let Some(mut part) = self.part(&manifest.digest, size).await? else {
            return Ok(());
        };
        let (folder, manifest) = (Arc::clone(&self.folder), manifest.clone());
        off(move || {
            let mut whole = || {
                part.empty()?;
                part.write(&manifest.bytes)?;
                folder.place(&manifest.digest)
            };
            let kept = whole().and_then(|place| part.keep(&place));
            kept.map_err(|error| unwritable(&error))
        })
        .await
    }

    async fn bring(&self, blob: &Outgoing, report: &Arc<dyn Report>) -> Result<Moved, Failure> {
        if self.has(&blob.digest, blob.size)? {
            return Ok(Moved::There);
        }
        let Some(mut part) = self.part(&blob.digest, blob.size).await? else {
            return Ok(Moved::There);
        };
        report.begin(&blob.digest, &blob.label, blob.size);
        let mut bytes = 0;
        loop {
            let (digest, size) = (blob.digest.clone(), blob.size);
            let hashed;
            let first;
            (part, hashed, first) = off(move || {
                let begun = part.begin(&digest, size);
                let (hashed, first) = begun.map_err(|error| unwritable(&error))?;
                Ok((part, hashed, first))
            })
            .await?;
            report.position(&blob.digest, first);
            let mut fetch = Fetch::after(blob, first, hashed);
            let wrong = loop {
                match fetch.next().await? {
                    Next::Piece(piece) => {
                        bytes += piece.len() as u64;
                        part = off(move || {
                            let written = part.write(&piece);
                            written.map_err(|error| unwritable(&error))?;
                            Ok(part)
                        })
                        .await?;
                        report.position(&blob.digest, fetch.at());
                    }
                    Next::Whole => break None,
                    Next::Wrong(failure) => break Some(failure),
                }
            };
            let Some(failure) = wrong else { break };
            // What was there before may be to blame, and not the source.
            part.empty().map_err(|error| unwritable(&error))?;
            if first == 0 {
                part.discard().map_err(|error| unwritable(&error))?;
                return Err(failure);
            }
            report.detail(&format!("{}: begins anew: {}", blob.digest, failure.what));
        }
        let (folder, digest) = (Arc::clone(&self.folder), blob.digest.clone());
        off(move || {
            let kept = folder.place(&digest).and_then(|place| part.keep(&place));
            kept.map_err(|error| unwritable(&error))
        })
        .await?;
        report.done(&blob.digest);
        Ok(Moved::Sent { bytes })
    }

    /// Changes the index, under the lock. Yields what `change` does: whether it changed anything.
    async fn edit(
        &self,
        change: impl FnOnce(&mut Index) -> bool + Send + 'static,
    ) -> Result<bool, Failure> {
        let _turn = self.turn.lock().await;
        self.folder.make().map_err(|error| unwritable(&error))?;
        let lock = self.folder.lock().await;
        let lock = lock.map_err(|error| unwritable(&error))?;
        let folder = Arc::clone(&self.folder);
        off(move || {
            let mut index = folder.index().map_err(not_ours)?;
            let changed = change(&mut index);
            if changed {
                let written = folder.write_index(&index, &lock);
                written.map_err(|error| unwritable(&error))?;
            }
            Ok(changed)
        })
        .await
    }
}

fn not_ours(reason: String) -> Failure {
    Failure::new(Kind::Target, format!("target: {reason}"))
        .hint("give a folder that is empty, not there yet, or an OCI layout that is whole")
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
        Box::pin(off(move || own.held(&reference)))
    }

    fn holds<'a>(&'a self, blob: &'a Descriptor) -> Answer<'a, bool> {
        Box::pin(async { self.has(&blob.digest, blob.size) })
    }

    fn referrers<'a>(&'a self, subject: &'a Digest) -> Answer<'a, Option<Vec<Descriptor>>> {
        let (own, subject) = (self.clone(), subject.clone());
        Box::pin(off(move || {
            let about = walk::referrers_of(&*own.contents, &own.index()?);
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
            self.put_bytes(manifest).await?;
            if *role == Role::Part {
                return Ok(());
            }
            let (manifest, role, image) = (manifest.clone(), role.clone(), self.image.clone());
            let put = move |index: &mut Index| index.put(&manifest, &role, image.as_deref());
            self.edit(put).await.map(drop)
        })
    }

    fn delete_tag<'a>(&'a self, tag: &'a Tag) -> Answer<'a, Deleted> {
        Box::pin(async move {
            let tag = tag.clone();
            Ok(match self.edit(move |index| index.remove(&tag)).await? {
                true => Deleted::Gone,
                false => Deleted::Absent,
            })
        })
    }

    fn finish<'a>(&'a self, _: &'a Arc<dyn Report>) -> Answer<'a, ()> {
        let own = self.clone();
        Box::pin(off(move || {
            own.folder.tidy();
            Ok(())
        }))
    }
}
