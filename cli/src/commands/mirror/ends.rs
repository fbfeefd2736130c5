//! Opens the two ends of a mirror.

use std::path::Path;
use std::sync::Arc;

use imgsync_oci::{Digest, Reference};

use super::Mirrors;
use crate::cache;
use crate::exit::{Failure, Kind};
use crate::mirror::ends::{Source, Target, archive, layout};
use crate::mirror::job::{Goal, Job};
use crate::mirror::place::{Disk, From};
use crate::mirror::record::Record;
use crate::spool::Spool;
use crate::transfer::Journal;

/// A source, and which of its images are meant.
pub(super) struct Opened {
    pub(super) source: Arc<dyn Source>,
    /// The one image that is meant; `None` where it is all tags.
    pub(super) single: Option<Reference>,
    /// The image of a layout that has one: it need not have a tag.
    pub(super) only: Option<Digest>,
}

impl Mirrors<'_> {
    /// The source. At a registry nothing need be there yet.
    ///
    /// # Errors
    /// There is no way there; a layout is none, or has no such image.
    pub(super) async fn source(&self, job: &Job) -> Result<Opened, Failure> {
        let (disk, tag) = match &job.from {
            From::Registry(registry, repository, single) => {
                let access = self.settings.ways.source(registry);
                let client = access.connect(registry, Some(repository), false, self.report);
                return Ok(Opened {
                    source: self.run.source(client.await?, repository.clone()),
                    single: single.clone(),
                    only: None,
                });
            }
            From::Disk(disk, tag) => (disk, tag),
        };
        let called = disk.to_string();
        let source = layout::Source::open(&disk.path, &called, &self.spool()?).await?;
        let only = source.only();
        let single = match (tag, &job.tag) {
            (Some(tag), _) => Some(source.named(tag.as_str()).ok_or_else(|| {
                Failure::new(Kind::Source, format!("source: {called} has no image {tag}"))
            })?),
            // The target names a tag: then one image is meant.
            (None, Some(_)) => Some(only.clone().ok_or_else(|| {
                let what = format!("source: {called} does not hold exactly one image");
                Failure::new(Kind::Source, what).hint(format!("name one: {called}:TAG"))
            })?),
            (None, None) => None,
        };
        Ok(Opened {
            source: Arc::new(source),
            single: single.map(Reference::Digest),
            only,
        })
    }

    /// The target of a mirror; `None` where it is the local Docker.
    ///
    /// # Errors
    /// There is no way there; something else is where a layout should be.
    pub(super) async fn target(&self, job: &Job) -> Result<Option<Arc<dyn Target>>, Failure> {
        // What `docker load` and `podman load` call the images.
        let image = match &job.from {
            From::Registry(..) => Some(job.source()),
            From::Disk(..) => None,
        };
        let called = job.to.to_string();
        Ok(Some(match &job.to {
            Goal::Registry(registry, repository) => {
                let access = self.settings.ways.target(registry);
                let client = access.connect(registry, Some(repository), true, self.report);
                let client = client.await?;
                if !self.settings.is_dry {
                    cache::sweep(&self.settings.folders.cache);
                }
                let journal = Journal::new(&self.settings.folders.cache, client.scheme());
                let manner = self.settings.manner;
                self.run.target(client, repository.clone(), journal, manner)
            }
            Goal::Disk(disk) => match disk.is_archive {
                true => {
                    Arc::new(archive::Target::open(&disk.path, &called, image.as_deref()).await?)
                }
                false => {
                    Arc::new(layout::Target::open(&disk.path, &called, image.as_deref()).await?)
                }
            },
            Goal::Daemon(_) => return Ok(None),
        }))
    }

    /// Where an archive that is compressed as a whole is unpacked.
    fn spool(&self) -> Result<Spool, Failure> {
        let folder = self.settings.folders.cache.join("spool");
        std::fs::create_dir_all(&folder).map_err(|error| {
            let shown = folder.display();
            let what = format!("source: cannot make the folder {shown}: {error}");
            Failure::new(Kind::Source, what)
                .hint("point XDG_CACHE_HOME at a folder that can be written")
        })?;
        Ok(Spool::fleeting(&folder))
    }

    /// The record of what this mirror brought; `None` where it can be kept nowhere, and nothing
    /// hangs on it.
    ///
    /// # Errors
    /// It cannot be used, or pruning needs it.
    pub(super) fn record(&self, job: &Job) -> Result<Option<Record>, Failure> {
        let pair = format!("{} → {}", absolute_source(job), absolute_goal(job));
        let opened = match self.settings.state.file(&pair) {
            Some(path) if self.settings.is_dry => Some(Record::look(&path, &pair)?),
            Some(path) => Record::open(&path, &pair)?,
            None => None,
        };
        match opened {
            Some(record) => Ok(Some(record)),
            None if job.prune => {
                let what = "there is no place to keep a record of what is mirrored, and without \
                            one nothing can be pruned";
                let hint = "set HOME or XDG_STATE_HOME, or pass --state FILE";
                Err(Failure::new(Kind::Source, what).hint(hint))
            }
            None => {
                self.report.note(
                    "note: what is mirrored is written down nowhere, so it will never be pruned; \
                     --state FILE names a place",
                );
                Ok(None)
            }
        }
    }
}

/// The source by a name that does not hang on the folder that one is in.
fn absolute_source(job: &Job) -> String {
    match &job.from {
        From::Registry(..) => job.source(),
        From::Disk(disk, _) => absolute(disk),
    }
}

fn absolute_goal(job: &Job) -> String {
    match &job.to {
        Goal::Registry(..) | Goal::Daemon(_) => job.to.to_string(),
        Goal::Disk(disk) => absolute(disk),
    }
}

fn absolute(disk: &Disk) -> String {
    let path: &Path = &disk.path;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Disk {
        path,
        ..disk.clone()
    }
    .to_string()
}
