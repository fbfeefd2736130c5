//! The name under which an image is loaded before it gets its own.

use std::time::Duration;

use imgsync_oci::{Digest, Tag};

use crate::image::Error;
use crate::transports::daemon::cleanup::clean_up;
use crate::transports::daemon::client::DaemonClient;

/// The start of the repository of the name.
const REPOSITORY_PREFIX: &str = "imgsync/pull-";
/// How often the name of a cancelled load is removed. Docker may still be creating it.
const REMOVALS: u32 = 3;
const REMOVAL_INTERVAL: Duration = Duration::from_millis(100);

/// A name for one image that is to get another name. It is removed on drop.
///
/// An image and a name have one staged name in all runs, so a run removes what a killed
/// one left.
#[derive(Debug)]
pub(super) struct StagedImage {
    engine: DaemonClient,
    repository: String,
    tag: Tag,
    is_removed: bool,
}

impl StagedImage {
    /// Returns the staged name of the image `id` that is to get the name `name`.
    pub(super) fn new(engine: &DaemonClient, id: &Digest, name: &str) -> Self {
        let key = Digest::of(format!("{id} {name}").as_bytes());
        Self {
            engine: engine.clone(),
            repository: format!("{REPOSITORY_PREFIX}{}", key.short()),
            tag: Tag::latest(),
            is_removed: false,
        }
    }

    /// Returns the repository and the tag.
    pub(super) fn repository_and_tag(&self) -> (&str, &Tag) {
        (&self.repository, &self.tag)
    }

    /// Gives the image its own name instead of the staged one.
    ///
    /// # Errors
    /// Returns the errors of the daemon.
    pub(super) async fn publish(
        mut self,
        id: &Digest,
        repository: &str,
        tag: &Tag,
    ) -> Result<(), Error> {
        self.engine.tag(id, repository, tag.as_str()).await?;
        self.engine.untag(&self.reference()).await?;
        self.is_removed = true;
        Ok(())
    }

    fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

impl Drop for StagedImage {
    fn drop(&mut self) {
        if self.is_removed {
            return;
        }
        let reference = self.reference();
        // The next run removes what cannot be removed now.
        clean_up(&self.engine, |engine| async move {
            let mut removed = engine.untag(&reference).await;
            for _ in 1..REMOVALS {
                tokio::time::sleep(REMOVAL_INTERVAL).await;
                removed = engine.untag(&reference).await;
            }
            removed.is_ok()
        });
    }
}
