//! Into the local Docker.

use imgsync_oci::{LocalName, Reference};

use super::{Mirrors, Told, named};
use crate::exit::Failure;
use crate::mirror::ends::Source;
use crate::mirror::ends::daemon::Daemon;
use crate::mirror::job::{Goal, Job};
use crate::report::Fate;

impl Mirrors<'_> {
    /// Brings the wanted images into the local Docker, one after the other; yields the first one's
    /// failure. Of one that `is_alone`, that is all that is told of it.
    ///
    /// # Errors
    /// There is no Docker.
    pub(super) async fn load(
        &self,
        job: &Job,
        (source, wanted): (&dyn Source, &[Reference]),
        is_alone: bool,
        told: &mut Told,
    ) -> Result<Option<Failure>, Failure> {
        let Goal::Daemon(name) = &job.to else {
            return Ok(None);
        };
        let daemon = Daemon::connect().await?;
        let mut failure = None;
        for from in wanted {
            let wish = self.wish(job, from, None, None);
            let name = LocalName {
                tag: match &wish.to {
                    Reference::Tag(tag) => Some(tag.clone()),
                    Reference::Digest(_) => None,
                },
                ..name.clone()
            };
            let copied = match self.settings.is_dry {
                true => daemon.preview(source, &wish, &name, self.report).await,
                false => daemon.bring(source, &wish, &name, self.report).await,
            };
            let names = (
                named(&job.source(), from),
                named(&job.to.to_string(), &wish.to),
            );
            match copied {
                Ok(copied) => {
                    for note in &copied.notes {
                        self.report.note(&format!("{}: {note}", names.1));
                    }
                    self.tell(told, names, Fate::There(Box::new(copied)));
                }
                Err(error) => {
                    failure.get_or_insert_with(|| error.clone());
                    if !is_alone {
                        self.tell(told, names, Fate::Failed(error));
                    }
                }
            }
        }
        Ok(failure)
    }
}
