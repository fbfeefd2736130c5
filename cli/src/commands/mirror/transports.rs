//! Opens the source, the target and the record of a mirror.

use std::sync::Arc;

use imgsync_oci::{Digest, Reference, Registry, Repository};

use super::MirrorRunner;
use crate::cache;
use crate::disk::System;
use crate::exit::{Failure, FailureKind};
use crate::mirror::job::{MirrorJob, MirrorTarget};
use crate::mirror::location::{LayoutLocation, SourceLocation};
use crate::mirror::record::MirrorRecord;
use crate::spool::Spool;
use crate::transports::archive::ArchiveTarget;
use crate::transports::layout::{LayoutSource, LayoutTarget};
use crate::transports::{CopySource, CopyTarget};
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
    /// Opens the source. No request is sent yet, so a repository may turn out not to exist.
    ///
    /// # Errors
    /// Fails if the registry cannot be used, or if the path is not a layout with such an image.
    pub(super) async fn open_source(&self, job: &MirrorJob) -> Result<OpenedSource, Failure> {
        let (layout, tag) = match &job.from {
            SourceLocation::Registry(registry, repository, single) => {
                let access = self.settings.access.for_source(registry);
                let client = access.connect(registry, Some(repository), false, self.report);
                return Ok(OpenedSource {
                    source: self.copier.open_source(client.await?, repository.clone()),
                    single_reference: single.clone(),
                    only_image: None,
                });
            }
            SourceLocation::Layout(layout, tag) => (layout, tag),
        };
        let name = layout.to_string();
        let (spool, description) = (self.open_spool()?, layout.description());
        let source = LayoutSource::open(&layout.path, &name, &description, &spool);
        let source = source.await?;
        let only_image = source.only_image();
        let missing = |what: String| Failure::new(FailureKind::Source, format!("source: {what}"));
        let single = if let Some(tag) = tag {
            let image = source.find_named(tag.as_str());
            Some(image.ok_or_else(|| missing(format!("{name} has no image {tag}")))?)
        } else if job.tag.is_some() {
            // The target has a tag, so one image is copied.
            Some(only_image.clone().ok_or_else(|| {
                missing(format!("{name} has more than one image, or none"))
                    .with_hint(format!("write {name}:TAG"))
            })?)
        } else if let Some(count @ 2..) = source.untagged_images() {
            let what = format!("{name} has {count} images, and none of them has a tag");
            return Err(missing(what).with_hint(
                "a mirror copies tags: push one of the images with imgsync push oci:PATH:@NUMBER \
                 REMOTE, or name them when the layout is written",
            ));
        } else {
            None
        };
        Ok(OpenedSource {
            source: Arc::new(source),
            single_reference: single.map(Reference::Digest),
            only_image,
        })
    }

    /// Opens a repository as the target.
    ///
    /// # Errors
    /// Fails if the registry cannot be used.
    pub(super) async fn open_registry(
        &self,
        registry: &Registry,
        repository: &Repository,
    ) -> Result<Arc<dyn CopyTarget>, Failure> {
        let access = self.settings.access.for_target(registry);
        let client = access.connect(registry, Some(repository), true, self.report);
        let client = client.await?;
        let folder = &self.settings.folders.cache;
        if !self.settings.is_dry_run {
            cache::sweep(folder);
        }
        let journal = Journal::new(folder, client.scheme());
        let options = self.settings.transfer_options;
        let target = self
            .copier
            .open_target(client, repository.clone(), journal, options);
        Ok(target)
    }

    /// Opens an OCI layout as the target.
    ///
    /// # Errors
    /// Fails if the path exists and is not a layout.
    pub(super) async fn open_layout(
        &self,
        job: &MirrorJob,
        layout: &LayoutLocation,
    ) -> Result<Arc<dyn CopyTarget>, Failure> {
        // The name that `docker load` and `podman load` give the images.
        let image = match &job.from {
            SourceLocation::Registry(..) => Some(job.source()),
            SourceLocation::Layout(..) => None,
        };
        let (path, name, image) = (&layout.path, layout.to_string(), image.as_deref());
        Ok(if layout.is_archive {
            Arc::new(ArchiveTarget::open(path, &name, image).await?)
        } else {
            Arc::new(LayoutTarget::open(path, &name, image).await?)
        })
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

    /// Opens the record of the tags that this mirror copied; `None` if no file can be used, and
    /// pruning does not need one.
    ///
    /// # Errors
    /// Fails if the record is invalid or in use, or if pruning needs one and no file can be used.
    pub(super) fn open_record(&self, job: &MirrorJob) -> Result<Option<MirrorRecord>, Failure> {
        let pair = format!("{} → {}", absolute_source(job), absolute_target(job));
        let record = match self.settings.record_location.path_for(&pair) {
            Some(path) if self.settings.is_dry_run => {
                Some(MirrorRecord::open_read_only(&path, &pair)?)
            }
            Some(path) => MirrorRecord::open(&path, &pair)?,
            None => None,
        };
        if record.is_none() && job.prune {
            let what = "pruning needs a record of copied tags, and there is no folder for it";
            let home = System::CURRENT.home_variable();
            let hint = format!("set {home} or XDG_STATE_HOME, or pass --state FILE");
            return Err(Failure::new(FailureKind::Source, what).with_hint(hint));
        }
        if record.is_none() {
            self.report.note(
                "copied tags are not recorded, so they cannot be pruned later; to record \
                 them, pass --state FILE",
            );
        }
        Ok(record)
    }
}

/// Returns the name of the source, independent of the working directory.
fn absolute_source(job: &MirrorJob) -> String {
    match &job.from {
        SourceLocation::Registry(..) => job.source(),
        SourceLocation::Layout(layout, _) => absolute(layout),
    }
}

/// Returns the name of the target, independent of the working directory.
fn absolute_target(job: &MirrorJob) -> String {
    match &job.to {
        MirrorTarget::Registry(..) | MirrorTarget::Daemon(_) => job.to.to_string(),
        MirrorTarget::Layout(layout) => absolute(layout),
    }
}

fn absolute(layout: &LayoutLocation) -> String {
    let path = std::path::absolute(&layout.path).unwrap_or_else(|_| layout.path.clone());
    let absolute = LayoutLocation {
        path,
        ..layout.clone()
    };
    absolute.to_string()
}
