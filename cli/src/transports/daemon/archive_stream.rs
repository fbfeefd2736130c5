//! The archive that a daemon loads: a tar that is written while it is sent, with only a few chunks
//! in memory.

use std::collections::HashSet;
use std::io;

use bytes::Bytes;
use imgsync_oci::Tag;
use tokio::sync::mpsc;

use super::platform_image::PlatformImage;
use super::request::{RequestBody, channel_body};
use super::responses::DaemonKind;
use crate::exit::Failure;
use crate::report::Report;
use crate::transports::ManifestRole;
use crate::transports::archive::{
    DOCKER_MANIFEST_FILE, DockerManifestEntry, manifest_json, tar_header,
};
use crate::transports::fetch::{BlobFetch, FetchError};
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
pub(super) fn archive_channel() -> (ArchiveSender, RequestBody) {
    let (chunks, receiver) = mpsc::channel(MAX_QUEUED_CHUNKS);
    (ArchiveSender { chunks }, channel_body(receiver))
}

impl ArchiveSender {
    /// Sends an archive of these layers, each once and verified on the way, and of the files that
    /// describe it. Returns the bytes of the layers. After an error the stream breaks off, so that
    /// the daemon rejects the archive.
    ///
    /// # Errors
    /// Returns the reason why the archive is incomplete.
    pub(super) async fn send_archive(
        self,
        layers: &[PendingBlob],
        files: Vec<(String, Vec<u8>)>,
        report: &dyn Report,
    ) -> Result<u64, StreamError> {
        let mut bytes = 0;
        let mut seen = HashSet::new();
        for layer in layers.iter().filter(|layer| seen.insert(&layer.digest)) {
            if let Err(error) = self.send_blob(layer, report).await {
                let aborted = io::Error::other("the archive was aborted");
                // If the daemon has already disconnected, there is nothing to abort.
                let _ = self.chunks.send(Err(aborted)).await;
                return Err(error);
            }
            bytes += layer.size;
        }
        for (name, content) in files {
            self.send(tar_header::file(&name, &content)).await?;
        }
        self.send(Bytes::from_static(&tar_header::TAR_END)).await?;
        Ok(bytes)
    }

    async fn send_blob(&self, blob: &PendingBlob, report: &dyn Report) -> Result<(), StreamError> {
        report.start_blob(&blob.digest, &blob.label, blob.size, 0);
        self.send(tar_header::header(&blob_path(&blob.digest), blob.size))
            .await?;
        let mut fetch = BlobFetch::new(blob);
        let source_failed = |error: FetchError| StreamError::SourceFailed(error.failure);
        while let Some(chunk) = fetch.next_chunk().await.map_err(source_failed)? {
            self.send(chunk).await?;
            report.update_blob(&blob.digest, fetch.position());
        }
        self.send(tar_header::padding(blob.size)).await?;
        report.finish_blob(&blob.digest);
        Ok(())
    }

    async fn send(&self, chunk: impl Into<Bytes>) -> Result<(), StreamError> {
        let sent = self.chunks.send(Ok(chunk.into())).await;
        sent.map_err(|_| StreamError::ReceiverClosed)
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
    let name = format!("{repository}:{tag}");
    let entry = DockerManifestEntry::new(&image.config.digest, &image.layers, Some(name));
    let mut files = vec![(blob_path(&image.config.digest), config.to_vec())];
    if kind != DaemonKind::Classic {
        let manifest = &image.manifest;
        let mut index = LayoutIndex::default();
        let role = ManifestRole::Tagged(tag.clone());
        index.add_manifest(manifest, &role, Some(&full_name(repository)));
        files.push((blob_path(&manifest.digest), manifest.bytes.to_vec()));
        files.push((OCI_INDEX_FILE.to_owned(), index.to_bytes()));
        files.push((OCI_LAYOUT_FILE.to_owned(), OCI_LAYOUT_CONTENT.to_vec()));
    }
    files.push((DOCKER_MANIFEST_FILE.to_owned(), manifest_json(&[entry])));
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
