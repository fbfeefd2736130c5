//! Traces that a push to the loopback interface leaves in Docker while it runs: a tag, and a container that
//! is never started. The container keeps the engine from deleting the image with its tag.
//!
//! A file in the spool's folder names both, so that the next run removes what a killed one left.
//! Start reading at [`EngineTraces::leave`].

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use imgsync_oci::Digest;
use imgsync_oci::endpoint::UploadId;

use super::LoopbackError;
use crate::disk::{LockedFile, create_private_folder};
use crate::spool::Spool;
use crate::transports::daemon::cleanup::clean_up;
use crate::transports::daemon::client::DaemonClient;

/// The folder with one file for each push.
const FOLDER: &str = "loopback";
/// The repository of the tag, below the registry.
const REPOSITORY: &str = "imgsync/push";
/// The start of the name of the container.
const CONTAINER_PREFIX: &str = "imgsync-push-";
/// The largest file that is read, in bytes.
const MAX_RECORD_BYTES: u64 = 1024;
/// The most leftovers that one run removes.
const MAX_LEFTOVERS: usize = 16;
/// The age of a record below which the engine may still be creating what it names, although the
/// push that asked for it was killed.
const MAX_PENDING_AGE: Duration = Duration::from_secs(10);
/// How often the names of such a record are removed.
const PENDING_REMOVALS: u32 = 5;
const PENDING_INTERVAL: Duration = Duration::from_millis(100);

/// The tag and the container of one push.
#[derive(Debug)]
pub(super) struct EngineTraces {
    engine: DaemonClient,
    names: TraceNames,
    /// The file that names them. It is locked while the push runs.
    record: Option<LockedFile>,
    are_removed: bool,
}

/// The names of a tag and of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TraceNames {
    /// `127.0.0.1:PORT/imgsync/push`
    repository: String,
    /// A name that no other push has.
    tag: String,
    reference: String,
}

impl TraceNames {
    fn new(port: u16, tag: String) -> Self {
        let repository = format!("127.0.0.1:{port}/{REPOSITORY}");
        let reference = format!("{repository}:{tag}");
        Self {
            repository,
            tag,
            reference,
        }
    }

    /// Parses the content of a record: the port and the tag.
    fn parse(text: &str) -> Option<Self> {
        let (port, tag) = text.trim_end().split_once(' ')?;
        let tag: UploadId = tag.parse().ok()?;
        Some(Self::new(port.parse().ok()?, tag.to_string()))
    }

    fn container(&self) -> String {
        format!("{CONTAINER_PREFIX}{}", self.tag)
    }

    /// Removes the tag and the container from the engine. Returns whether neither is left.
    async fn remove(&self, engine: &DaemonClient) -> bool {
        let untagged = engine.untag(&self.reference).await;
        let removed = engine.remove_container(&self.container()).await;
        untagged.is_ok() && removed.is_ok()
    }
}

impl EngineTraces {
    /// Creates a container of the image, and tags the image for the registry at `port`.
    ///
    /// # Errors
    /// Returns an error if the engine refuses; nothing is left then.
    pub(super) async fn leave(
        engine: &DaemonClient,
        image: &Digest,
        port: u16,
        spool: &Spool,
    ) -> Result<Self, LoopbackError> {
        let names = TraceNames::new(port, UploadId::random().to_string());
        let record = write_record(spool, port, &names.tag);
        let traces = Self {
            engine: engine.clone(),
            names,
            record: record.ok(),
            are_removed: false,
        };
        let left = traces.create(image).await;
        if let Err(error) = left {
            traces.remove().await;
            return Err(LoopbackError::new(error.to_string()));
        }
        Ok(traces)
    }

    async fn create(&self, image: &Digest) -> Result<(), crate::image::Error> {
        let TraceNames {
            repository, tag, ..
        } = &self.names;
        self.engine
            .create_container(&self.names.container(), image)
            .await?;
        self.engine.tag(image, repository, tag).await
    }

    /// Returns the repository and the tag of the image at the registry.
    pub(super) fn repository_and_tag(&self) -> (&str, &str) {
        (&self.names.repository, &self.names.tag)
    }

    /// Removes the tag and the container. What cannot be removed now, the next run removes.
    pub(super) async fn remove(mut self) {
        let is_removed = self.names.remove(&self.engine).await;
        self.are_removed = true;
        if let Some(record) = self.record.take().filter(|_| is_removed) {
            // The next run tries again.
            let _ = record.remove();
        }
    }
}

impl Drop for EngineTraces {
    /// Removes the tag and the container of a push that was cancelled, for example by Ctrl-C.
    fn drop(&mut self) {
        if self.are_removed {
            return;
        }
        let names = self.names.clone();
        let remove = |engine: DaemonClient| async move { names.remove(&engine).await };
        if clean_up(&self.engine, remove)
            && let Some(record) = self.record.take()
        {
            let _ = record.remove();
        }
    }
}

/// Writes the record of a push, and locks it.
fn write_record(spool: &Spool, port: u16, tag: &str) -> std::io::Result<LockedFile> {
    let folder = spool.folder().join(FOLDER);
    create_private_folder(&folder)?;
    let record = LockedFile::try_open_private(&folder.join(tag))?;
    let mut record = record.ok_or(std::io::ErrorKind::WouldBlock)?;
    record
        .file
        .write_all(format!("{port} {tag}\n").as_bytes())?;
    Ok(record)
}

/// Removes what pushes left that were killed. Errors are ignored: the next run tries again.
pub(in crate::transports::daemon) async fn remove_leftovers(engine: &DaemonClient, spool: &Spool) {
    let folder = std::fs::read_dir(spool.folder().join(FOLDER));
    let paths = folder
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for path in paths.take(MAX_LEFTOVERS).collect::<Vec<PathBuf>>() {
        // The record of a push that still runs is locked.
        let Ok(Some(mut record)) = LockedFile::try_open_private(&path) else {
            continue;
        };
        let mut text = String::new();
        let read = (&mut record.file)
            .take(MAX_RECORD_BYTES)
            .read_to_string(&mut text);
        let is_removed = match TraceNames::parse(&text).filter(|_| read.is_ok()) {
            Some(names) => remove_leftover(engine, &names, &record).await,
            // The push was killed before it left anything.
            None => true,
        };
        if is_removed {
            let _ = record.remove();
        }
    }
}

/// Removes the tag and the container that a killed push left, or that the engine is still creating
/// for it. Returns whether neither is left, nor can still appear.
async fn remove_leftover(engine: &DaemonClient, names: &TraceNames, record: &LockedFile) -> bool {
    let written = record.file.metadata().and_then(|data| data.modified());
    let age = written.map(|time| time.elapsed().unwrap_or_default());
    if age.is_ok_and(|age| age < MAX_PENDING_AGE) {
        for _ in 0..PENDING_REMOVALS {
            names.remove(engine).await;
            tokio::time::sleep(PENDING_INTERVAL).await;
        }
        // A later run looks once more.
        return false;
    }
    names.remove(engine).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_the_tag_and_the_container() {
        let tag = UploadId::random().to_string();
        let names = TraceNames::parse(&format!("4711 {tag}\n")).unwrap();
        assert_eq!(names, TraceNames::new(4711, tag.clone()));
        assert_eq!(
            names.reference,
            format!("127.0.0.1:4711/imgsync/push:{tag}")
        );
        assert_eq!(names.container(), format!("imgsync-push-{tag}"));
        for text in ["", "4711", "4711 latest\n", "x 1", &format!("70000 {tag}")] {
            assert_eq!(TraceNames::parse(text), None, "{text}");
        }
    }
}
