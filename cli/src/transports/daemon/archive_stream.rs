//! The archive that a daemon loads: a tar that is written while it is sent, with only a few chunks
//! in memory.

use std::io;

use bytes::Bytes;
use futures::stream;
use imgsync_oci::Tag;
use tokio::sync::mpsc;

use super::DaemonKind;
use super::platform_image::PlatformImage;
use crate::exit::Failure;
use crate::report::Report;
use crate::transports::ManifestRole;
use crate::transports::archive::{
    DOCKER_MANIFEST_FILE, DockerManifestEntry, manifest_json, tar_header,
};
use crate::transports::fetch::BlobFetch;
use crate::transports::files::blob_path;
use crate::transports::layout::{LayoutIndex, OCI_INDEX_FILE, OCI_LAYOUT_CONTENT, OCI_LAYOUT_FILE};
use crate::upload::PendingBlob;

/// The most chunks that wait for the daemon.
const MAX_QUEUED_CHUNKS: usize = 4;

/// The sending end of the stream.
#[derive(Debug)]
pub(super) struct ArchiveSender {
    chunks: mpsc::Sender<io::Result<Bytes>>,
}

/// The reason why a stream ended early.
#[derive(Debug)]
pub(super) enum StreamError {
    /// The daemon stopped reading; its response tells why.
    ReceiverClosed,
    /// The source failed.
    SourceFailed(Failure),
}

/// Returns a sender, and the request body that it fills.
pub(super) fn archive_channel() -> (ArchiveSender, reqwest::Body) {
    let (chunks, receiver) = mpsc::channel(MAX_QUEUED_CHUNKS);
    let body = stream::unfold(receiver, |mut receiver| async move {
        let chunk: io::Result<Bytes> = receiver.recv().await?;
        Some((chunk, receiver))
    });
    (ArchiveSender { chunks }, reqwest::Body::wrap_stream(body))
}

impl ArchiveSender {
    async fn send(&self, chunk: Bytes) -> Result<(), StreamError> {
        let sent = self.chunks.send(Ok(chunk)).await;
        sent.map_err(|_| StreamError::ReceiverClosed)
    }

    /// Sends a blob, verified on the way, and returns its size in bytes.
    ///
    /// # Errors
    /// After an error the stream must be [`ArchiveSender::abort`]ed.
    pub(super) async fn send_blob(
        &self,
        blob: &PendingBlob,
        report: &dyn Report,
    ) -> Result<u64, StreamError> {
        report.start_blob(&blob.digest, &blob.label, blob.size);
        let head = tar_header::header(&blob_path(&blob.digest), blob.size);
        self.send(head.into()).await?;
        let mut fetch = BlobFetch::new(blob);
        loop {
            let next = fetch.next_verified().await;
            let Some(chunk) = next.map_err(StreamError::SourceFailed)? else {
                break;
            };
            self.send(chunk).await?;
            report.update_blob(&blob.digest, fetch.position());
        }
        self.send(tar_header::padding(blob.size).into()).await?;
        report.finish_blob(&blob.digest);
        Ok(blob.size)
    }

    /// Sends the files that describe the archive, and ends the stream.
    ///
    /// # Errors
    /// Returns [`StreamError::ReceiverClosed`].
    pub(super) async fn end(self, files: Vec<(String, Vec<u8>)>) -> Result<(), StreamError> {
        for (name, content) in files {
            self.send(tar_header::file(&name, &content).into()).await?;
        }
        self.send(Bytes::from_static(&tar_header::TAR_END)).await
    }

    /// Breaks the stream off, so that the daemon rejects the archive.
    pub(super) async fn abort(self) {
        let error = io::Error::other("the archive was aborted");
        // If the daemon has already disconnected, there is nothing to abort.
        let _ = self.chunks.send(Err(error)).await;
    }
}

/// Returns the small files of an image's archive: everything but the layers. For a classic store
/// `manifest.json` alone carries the name, since its archives may lack layers; the others read an
/// OCI layout.
pub(super) fn archive_files(
    kind: DaemonKind,
    image: &PlatformImage,
    config: &Bytes,
    (repository, tag): (&str, &Tag),
) -> Vec<(String, Vec<u8>)> {
    let loadable = DockerManifestEntry {
        config: image.config.digest.clone(),
        layers: image.layers.iter().map(|it| it.digest.clone()).collect(),
        names: vec![format!("{repository}:{tag}")],
    };
    let mut files = vec![(blob_path(&image.config.digest), config.to_vec())];
    match kind {
        DaemonKind::Classic => {}
        DaemonKind::Containerd | DaemonKind::Podman => {
            let manifest = &image.manifest;
            let mut index = LayoutIndex::default();
            let role = ManifestRole::Tagged(tag.clone());
            index.add_manifest(manifest, &role, Some(&full_name(repository)));
            files.push((blob_path(&manifest.digest), manifest.bytes.to_vec()));
            files.push((OCI_INDEX_FILE.to_owned(), index.to_bytes()));
            files.push((OCI_LAYOUT_FILE.to_owned(), OCI_LAYOUT_CONTENT.to_vec()));
        }
    }
    files.push((DOCKER_MANIFEST_FILE.to_owned(), manifest_json(&[loadable])));
    files
}

/// Returns the full name of a repository, with the registry and namespace that Docker omits.
fn full_name(repository: &str) -> String {
    match repository.split_once('/') {
        Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => {
            repository.to_owned()
        }
        Some(_) => format!("docker.io/{repository}"),
        None => format!("docker.io/library/{repository}"),
    }
}
