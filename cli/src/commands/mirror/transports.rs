//! Opens the source, the target and the record of a mirror.

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

/// A source, and which of its images to copy.
pub(super) struct OpenedSource {
    pub(super) source: Arc<dyn CopySource>,
    /// The only image to copy; `None` for all tags.
    pub(super) single_reference: Option<Reference>,
    /// The image of a layout with a single image, which need not have a tag.
    pub(super) only_image: Option<Digest>,
}

impl MirrorRunner<'_> {
    /// Opens the source. Whether a repository exists is found out later.
    ///
    /// # Errors
    /// The registry cannot be used; the path is not a layout, or has no such image.
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
        let name = disk.to_string();
        let source = layout::LayoutSource::open(&disk.path, &name, &self.open_spool()?).await?;
        let only = source.only_image();
        let single = match (tag, &job.tag) {
            (Some(tag), _) => Some(source.find_named(tag.as_str()).ok_or_else(|| {
                Failure::new(
                    FailureKind::Source,
                    format!("source: {name} has no image {tag}"),
                )
            })?),
            // The target names a tag, so one image is copied.
            (None, Some(_)) => Some(only.clone().ok_or_else(|| {
                let what = format!("source: {name} does not hold exactly one image");
                Failure::new(FailureKind::Source, what).with_hint(format!("name one: {name}:TAG"))
            })?),
            (None, None) => None,
        };
        Ok(OpenedSource {
            source: Arc::new(source),
            single_reference: single.map(Reference::Digest),
            only_image: only,
        })
    }

    /// Opens the target; `None` for the local Docker.
    ///
    /// # Errors
    /// The registry cannot be used; the path exists and is not a layout.
    pub(super) async fn open_target(
        &self,
        job: &MirrorJob,
    ) -> Result<Option<Arc<dyn CopyTarget>>, Failure> {
        // The name that `docker load` and `podman load` give the images.
        let image = match &job.from {
            SourceLocation::Registry(..) => Some(job.source()),
            SourceLocation::Layout(..) => None,
        };
        let name = job.to.to_string();
        Ok(Some(match &job.to {
            MirrorTarget::Registry(registry, repository) => {
                let access = self.settings.access.for_target(registry);
                let client = access.connect(registry, Some(repository), true, self.report);
                let client = client.await?;
                if !self.settings.is_dry_run {
                    cache::sweep(&self.settings.folders.cache);
                }
                let journal = Journal::new(&self.settings.folders.cache, client.scheme());
                let options = self.settings.transfer_options;
                self.copier
                    .open_target(client, repository.clone(), journal, options)
            }
            MirrorTarget::Layout(disk) if disk.is_archive => {
                let image = image.as_deref();
                Arc::new(archive::ArchiveTarget::open(&disk.path, &name, image).await?)
            }
            MirrorTarget::Layout(disk) => {
                let image = image.as_deref();
                Arc::new(layout::LayoutTarget::open(&disk.path, &name, image).await?)
            }
            MirrorTarget::Daemon(_) => return Ok(None),
        }))
    }

    /// Opens a spool for archives that are compressed as a whole.
    fn open_spool(&self) -> Result<Spool, Failure> {
        let folder = self.settings.folders.cache.join("spool");
        std::fs::create_dir_all(&folder).map_err(|error| {
            let shown = folder.display();
            let what = format!("source: cannot create the folder {shown}: {error}");
            Failure::new(FailureKind::Source, what)
                .with_hint("set XDG_CACHE_HOME to a writable folder")
        })?;
        Ok(Spool::temporary(&folder))
    }

    /// Opens the record of the tags that this mirror copied; `None` where there is no place for it,
    /// and nothing needs it.
    ///
    /// # Errors
    /// The record cannot be used, or pruning needs one and there is no place for it.
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
                let what = "there is no place for the record of copied tags, and nothing can be \
                            pruned without it";
                let hint = "set HOME or XDG_STATE_HOME, or pass --state FILE";
                Err(Failure::new(FailureKind::Source, what).with_hint(hint))
            }
            None => {
                self.report.note(
                    "note: copied tags are not recorded, so they will never be pruned; name a file \
                     for the record with --state FILE",
                );
                Ok(None)
            }
        }
    }
}

/// Returns the name of the source, independent of the working directory.
fn absolute_source(job: &MirrorJob) -> String {
    match &job.from {
        SourceLocation::Registry(..) => job.source(),
        SourceLocation::Layout(disk, _) => absolute(disk),
    }
}

/// Returns the name of the target, independent of the working directory.
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
