//! Copies images into the local Docker.

use imgsync_oci::{LocalName, Reference};

use super::{MirrorProgress, MirrorRunner};
use crate::exit::Failure;
use crate::mirror::job::{MirrorJob, MirrorTarget};
use crate::report::TagOutcome;
use crate::transports::CopySource;
use crate::transports::daemon::DaemonTarget;

impl MirrorRunner<'_> {
    /// Loads the wanted images into the local Docker, one after the other, and returns the first
    /// failure of an image. The failure of an image that `is_alone` is not reported otherwise.
    ///
    /// # Errors
    /// There is no Docker.
    pub(super) async fn load(
        &self,
        job: &MirrorJob,
        (source, wanted): (&dyn CopySource, &[Reference]),
        is_alone: bool,
        progress: &mut MirrorProgress,
    ) -> Result<Option<Failure>, Failure> {
        let MirrorTarget::Daemon(name) = &job.to else {
            return Ok(None);
        };
        let daemon = DaemonTarget::connect().await?;
        let mut first_failure = None;
        for from in wanted {
            let request = self.copy_request(job, from, None, None);
            let tag = match &request.to {
                Reference::Tag(tag) => Some(tag.clone()),
                Reference::Digest(_) => None,
            };
            let name = LocalName {
                tag,
                ..name.clone()
            };
            let copied = if self.settings.is_dry_run {
                daemon.preview(source, &request, &name).await
            } else {
                daemon
                    .copy_image(source, &request, &name, self.report)
                    .await
            };
            let names = self.image_names(job, &request);
            match copied {
                Ok(copied) => self.report_copied(progress, names, copied),
                Err(failure) => {
                    first_failure.get_or_insert_with(|| failure.clone());
                    if !is_alone {
                        self.report_tag(progress, names, TagOutcome::Failed(failure));
                    }
                }
            }
        }
        Ok(first_failure)
    }
}
