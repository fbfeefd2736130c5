//! Copies images into the local Docker.

use imgsync_oci::{LocalName, Reference};

use super::{CopyBatch, MirrorProgress, MirrorRunner, image_names};
use crate::exit::Failure;
use crate::mirror::job::MirrorJob;
use crate::report::TagOutcome;
use crate::transports::daemon::DaemonTarget;

impl MirrorRunner<'_> {
    /// Loads the selected images into the local Docker, one after the other, and returns the first
    /// failure of an image.
    ///
    /// # Errors
    /// Fails if no Docker can be reached.
    pub(super) async fn load_batch(
        &self,
        job: &MirrorJob,
        name: &LocalName,
        batch: &CopyBatch<'_>,
        progress: &mut MirrorProgress,
    ) -> Result<Option<Failure>, Failure> {
        let daemon = DaemonTarget::connect().await?;
        let mut first_failure = None;
        for from in batch.selected {
            let request = self.copy_request(job, from, None, None);
            let tag = match &request.to {
                Reference::Tag(tag) => Some(tag.clone()),
                Reference::Digest(_) => None,
            };
            let name = LocalName {
                tag,
                ..name.clone()
            };
            let (source, report) = (batch.source, self.report);
            let copied = if self.settings.is_dry_run {
                daemon.preview(source, &request, &name).await
            } else {
                daemon.copy_image(source, &request, &name, report).await
            };
            let names = image_names(job, from, &request.to);
            match copied {
                Ok(copied) => self.report_copied(progress, names, copied),
                Err(failure) => {
                    first_failure.get_or_insert_with(|| failure.clone());
                    if !batch.is_alone {
                        self.report_tag(progress, names, TagOutcome::Failed(failure));
                    }
                }
            }
        }
        Ok(first_failure)
    }
}
