//! Traces that a push to the loopback interface leaves in Docker while it runs: a tag, and a container that
//! is never started. The container keeps the engine from deleting the image with its tag, so the tag is
//! removed only while the container exists.
//!
//! A file in the spool's folder names both, so that the next run removes what a killed one left.
//! Start reading at [`EngineTraces::leave`].

mod names;
mod records;

pub(in crate::transports::daemon) use records::remove_leftovers;

use imgsync_oci::Digest;
use imgsync_oci::endpoint::UploadId;
use tokio::task::JoinHandle;

use super::LoopbackError;
use crate::disk::LockedFile;
use crate::spool::Spool;
use crate::transports::daemon::cleanup::clean_up;
use crate::transports::daemon::client::DaemonClient;
use names::TraceNames;
use records::write_record;

/// The tag and the container of one push.
#[derive(Debug)]
pub(in crate::transports::daemon) struct EngineTraces {
    engine: DaemonClient,
    names: TraceNames,
    /// The file that names them. It is locked while the push runs.
    record: Option<LockedFile>,
    /// The creation of the container, once the image is tagged. It takes longer than a tag, and the
    /// push need not wait for it.
    container: Option<JoinHandle<bool>>,
    are_removed: bool,
}

impl EngineTraces {
    /// Tags the image for the registry at `port`, and begins to create a container of the image.
    ///
    /// # Errors
    /// Returns an error if the engine refuses the tag; nothing is left then.
    pub(super) async fn leave(
        engine: &DaemonClient,
        image: &Digest,
        port: u16,
        spool: &Spool,
    ) -> Result<Self, LoopbackError> {
        let names = TraceNames::new(port, UploadId::random().to_string());
        let record = write_record(spool, port, &names.tag);
        let mut traces = Self {
            engine: engine.clone(),
            names,
            record: record.ok(),
            container: None,
            are_removed: false,
        };
        let TraceNames {
            repository, tag, ..
        } = &traces.names;
        if let Err(error) = engine.tag(image, repository, tag).await {
            traces.remove().await;
            return Err(LoopbackError::new(error.to_string()));
        }
        let (engine, names) = (engine.clone(), traces.names.clone());
        let create = async move { names.create_container(&engine).await.is_ok() };
        traces.container = Some(tokio::spawn(create));
        Ok(traces)
    }

    /// Returns the repository and the tag of the image at the registry.
    pub(super) fn repository_and_tag(&self) -> (&str, &str) {
        (&self.names.repository, &self.names.tag)
    }

    /// Removes the tag and the container. What cannot be removed now, the next run removes.
    pub(in crate::transports::daemon) async fn remove(mut self) {
        let has_container = match &mut self.container {
            Some(creating) => creating.await.unwrap_or(false),
            None => false,
        };
        let is_removed = if has_container {
            self.names.remove_protected(&self.engine).await
        } else {
            self.names.remove(&self.engine).await
        };
        self.are_removed = true;
        if let Some(record) = self.record.take().filter(|_| is_removed) {
            // The next run tries again.
            let _ = record.remove();
        }
    }

    /// Returns whether the engine may still be creating the tag or the container.
    fn are_pending(&self) -> bool {
        let creating = self.container.as_ref();
        creating.is_none_or(|creating| !creating.is_finished())
    }
}

impl Drop for EngineTraces {
    /// Removes the tag and the container of a push that was cancelled, for example by Ctrl-C.
    fn drop(&mut self) {
        if self.are_removed {
            return;
        }
        let (names, are_pending) = (self.names.clone(), self.are_pending());
        let remove = move |engine: DaemonClient| async move {
            if are_pending {
                names.remove_pending(&engine).await;
                // The next run looks once more.
                return false;
            }
            names.remove(&engine).await
        };
        if clean_up(&self.engine, remove)
            && let Some(record) = self.record.take()
        {
            let _ = record.remove();
        }
    }
}
