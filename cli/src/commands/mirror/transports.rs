//! Opens the two ends of a mirror.

use std::path::Path;
use std::sync::Arc;

use imgsync_oci::{Digest, Reference};

use super::MirrorRunner;
use crate::cache;
use crate::exit::{Failure, FailureKind};
use crate::mirror::job::{MirrorJob, MirrorTarget};
use crate::mirror::location::{LayoutLocation, SourceLocation};
use crate::mirror::record::MirrorRecord;
use crate::spool::Spool;
use crate::transports::{CopySource, CopyTarget, archive, layout};
use crate::upload::Journal;

/// A source, and which of its images are meant.
pub(super) struct OpenedSource {
    pub(super) source: Arc<dyn CopySource>,
    /// The one image that is meant; `None` where it is all tags.
    pub(super) single_reference: Option<Reference>,
    /// The image of a layout that has one: it need not have a tag.
    pub(super) only_image: Option<Digest>,
}

impl MirrorRunner<'_> {
    /// The source. At a registry nothing need be there yet.
    ///
    /// # Errors
    /// There is no way there; a layout is none, or has no such image.
    pub(super) async fn open_source(&self, job: &MirrorJob) -> Result<OpenedSource, Failure> {
        let (disk, tag) = match &job.from {
            SourceLocation::Registry(registry, repository, single) => {
                let access = self.settings.access.for_source(registry);
                let client = access.connect(registry, Some(repository), false, self.report);
                return Ok(OpenedSource {
                    source: self.copier.open_source(client.await?, repository.clone()),
                    single_reference: single.clone(),
                    only_image: None,
                });
            }
            SourceLocation::Layout(disk, tag) => (disk, tag),
        };
        let called = disk.to_string();
        let source = layout::LayoutSource::open(&disk.path, &called, &self.open_spool()?).await?;
        let only = source.only_image();
        let single = match (tag, &job.tag) {
            (Some(tag), _) => Some(source.find_named(tag.as_str()).ok_or_else(|| {
                Failure::new(
                    FailureKind::Source,
                    format!("source: {called} has no image {tag}"),
                )
            })?),
            // The target names a tag: then one image is meant.
            (None, Some(_)) => Some(only.clone().ok_or_else(|| {
                let what = format!("source: {called} does not hold exactly one image");
                Failure::new(FailureKind::Source, what).with_hint(format!("name one: {called}:TAG"))
            })?),
            (None, None) => None,
        };
        Ok(OpenedSource {
            source: Arc::new(source),
            single_reference: single.map(Reference::Digest),
            only_image: only,
        })
    }

    /// The target of a mirror; `None` where it is the local Docker.
    ///
    /// # Errors
    /// There is no way there; something else is where a layout should be.
    pub(super) async fn open_target(
        &self,
        job: &MirrorJob,
    ) -> Result<Option<Arc<dyn CopyTarget>>, Failure> {
        // What `docker load` and `podman load` call the images.
        let image = match &job.from {
            SourceLocation::Registry(..) => Some(job.source()),
            SourceLocation::Layout(..) => None,
        };
        let called = job.to.to_string();
        Ok(Some(match &job.to {
            MirrorTarget::Registry(registry, repository) => {
                let access = self.settings.access.for_target(registry);
                let client = access.connect(registry, Some(repository), true, self.report);
                let client = client.await?;
                if !self.settings.is_dry_run {
                    cache::sweep(&self.settings.folders.cache);
                }
                let journal = Journal::new(&self.settings.folders.cache, client.scheme());
                let manner = self.settings.transfer_options;
                self.copier
                    .open_target(client, repository.clone(), journal, manner)
            }
            MirrorTarget::Layout(disk) => match disk.is_archive {
                true => Arc::new(
                    archive::ArchiveTarget::open(&disk.path, &called, image.as_deref()).await?,
                ),
                false => Arc::new(
                    layout::LayoutTarget::open(&disk.path, &called, image.as_deref()).await?,
                ),
            },
            MirrorTarget::Daemon(_) => return Ok(None),
        }))
    }

    /// Where an archive that is compressed as a whole is unpacked.
    fn open_spool(&self) -> Result<Spool, Failure> {
        let folder = self.settings.folders.cache.join("spool");
        std::fs::create_dir_all(&folder).map_err(|error| {
            let shown = folder.display();
            let what = format!("source: cannot make the folder {shown}: {error}");
            Failure::new(FailureKind::Source, what)
                .with_hint("point XDG_CACHE_HOME at a folder that can be written")
        })?;
        Ok(Spool::temporary(&folder))
    }

    /// The record of what this mirror brought; `None` where it can be kept nowhere, and nothing
    /// hangs on it.
    ///
    /// # Errors
    /// It cannot be used, or pruning needs it.
    pub(super) fn open_record(&self, job: &MirrorJob) -> Result<Option<MirrorRecord>, Failure> {
        let pair = format!("{} → {}", absolute_source(job), absolute_target(job));
        let opened = match self.settings.record_location.path_for(&pair) {
            Some(path) if self.settings.is_dry_run => {
                Some(MirrorRecord::open_read_only(&path, &pair)?)
            }
            Some(path) => MirrorRecord::open(&path, &pair)?,
            None => None,
        };
        match opened {
            Some(record) => Ok(Some(record)),
            None if job.prune => {
                let what = "there is no place to keep a record of what is mirrored, and without \
                            one nothing can be pruned";
                let hint = "set HOME or XDG_STATE_HOME, or pass --state FILE";
                Err(Failure::new(FailureKind::Source, what).with_hint(hint))
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
fn absolute_source(job: &MirrorJob) -> String {
    match &job.from {
        SourceLocation::Registry(..) => job.source(),
        SourceLocation::Layout(disk, _) => absolute(disk),
    }
}

fn absolute_target(job: &MirrorJob) -> String {
    match &job.to {
        MirrorTarget::Registry(..) | MirrorTarget::Daemon(_) => job.to.to_string(),
        MirrorTarget::Layout(disk) => absolute(disk),
    }
}

fn absolute(disk: &LayoutLocation) -> String {
    let path: &Path = &disk.path;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    LayoutLocation {
        path,
        ..disk.clone()
    }
    .to_string()
}
