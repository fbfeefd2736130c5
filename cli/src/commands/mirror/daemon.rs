//! Into the local Docker.

use imgsync_oci::{LocalName, Reference};

use super::{MirrorProgress, MirrorRunner, image_name};
use crate::exit::Failure;
use crate::mirror::job::{MirrorJob, MirrorTarget};
use crate::report::TagOutcome;
use crate::transports::CopySource;
use crate::transports::daemon::DaemonTarget;

impl MirrorRunner<'_> {
    /// Brings the wanted images into the local Docker, one after the other; yields the first one's
    /// failure. Of one that `is_alone`, that is all that is told of it.
    ///
    /// # Errors
    /// There is no Docker.
    pub(super) async fn load(
        &self,
        job: &MirrorJob,
        (source, wanted): (&dyn CopySource, &[Reference]),
        is_alone: bool,
        told: &mut MirrorProgress,
    ) -> Result<Option<Failure>, Failure> {
        let MirrorTarget::Daemon(name) = &job.to else {
            return Ok(None);
        };
        let daemon = DaemonTarget::connect().await?;
        let mut failure = None;
        for from in wanted {
            let wish = self.copy_request(job, from, None, None);
            let name = LocalName {
                tag: match &wish.to {
                    Reference::Tag(tag) => Some(tag.clone()),
                    Reference::Digest(_) => None,
                },
                ..name.clone()
            };
            let copied = match self.settings.is_dry_run {
                true => daemon.preview(source, &wish, &name, self.report).await,
                false => daemon.copy_image(source, &wish, &name, self.report).await,
            };
            let names = (
                image_name(&job.source(), from),
                image_name(&job.to.to_string(), &wish.to),
            );
            match copied {
                Ok(copied) => {
                    for note in &copied.notes {
                        self.report.note(&format!("{}: {note}", names.1));
                    }
                    self.report_tag(told, names, TagOutcome::Present(Box::new(copied)));
                }
                Err(error) => {
                    failure.get_or_insert_with(|| error.clone());
                    if !is_alone {
                        self.report_tag(told, names, TagOutcome::Failed(error));
                    }
                }
            }
        }
        Ok(failure)
    }
}
