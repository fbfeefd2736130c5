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
use super::unpacked_layer::{UnpackedLayer, is_zstd};
use crate::exit::Failure;
use crate::report::Report;
use crate::transports::archive::{
    DOCKER_MANIFEST_FILE, DockerManifestEntry, manifest_json, tar_header,
};
use crate::transports::fetch::{BlobFetch, FetchError};
use crate::transports::files::blob_path;
use crate::transports::layout::{LayoutIndex, OCI_INDEX_FILE, OCI_LAYOUT_CONTENT, OCI_LAYOUT_FILE};
use crate::transports::{ManifestRole, VerifiedManifest};
use crate::upload::PendingBlob;

/// The most chunks that wait for the daemon.
const MAX_QUEUED_CHUNKS: usize = 4;

/// The sending end of the stream.
#[derive(Debug)]
pub(super) struct ArchiveSender {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    reads_zstd: bool,
}

/// The reason why a stream ended early.
#[derive(Debug)]
pub(super) enum StreamError {
    /// The daemon stopped reading; its response tells why.
    ReceiverClosed,
    /// The source failed, or the disk on which a layer is unpacked.
    SourceFailed(Failure),
}

/// Returns a sender, and the request body that it fills. Layers that are compressed with zstd are
/// unpacked unless the daemon reads them.
pub(super) fn archive_channel(reads_zstd: bool) -> (ArchiveSender, RequestBody) {
    let (chunks, receiver) = mpsc::channel(MAX_QUEUED_CHUNKS);
    let sender = ArchiveSender { chunks, reads_zstd };
    (sender, channel_body(receiver))
}

impl ArchiveSender {
    /// Sends an archive of these blobs, each once and verified on the way, and of the files that
    /// describe it. Returns the bytes of the blobs. After an error the stream breaks off, so that
    /// the daemon rejects the archive.
    ///
    /// # Errors
    /// Returns the reason why the archive is incomplete.
    pub(super) async fn send_archive(
        self,
        blobs: &[PendingBlob],
        files: Vec<(String, Vec<u8>)>,
        report: &dyn Report,
    ) -> Result<u64, StreamError> {
        let mut bytes = 0;
        let mut seen = HashSet::new();
        for blob in blobs.iter().filter(|blob| seen.insert(&blob.digest)) {
            if let Err(error) = self.send_blob(blob, report).await {
                let aborted = io::Error::other("the archive was aborted");
                // If the daemon has already disconnected, there is nothing to abort.
                let _ = self.chunks.send(Err(aborted)).await;
                return Err(error);
            }
            bytes += blob.size;
        }
        for (name, content) in files {
            self.send(tar_header::file(&name, &content)).await?;
        }
        self.send(Bytes::from_static(&tar_header::TAR_END)).await?;
        Ok(bytes)
    }

    async fn send_blob(&self, blob: &PendingBlob, report: &dyn Report) -> Result<(), StreamError> {
        report.start_blob(&blob.digest, &blob.label, blob.size, 0);
        let path = blob_path(&blob.digest);
        let mut fetch = BlobFetch::new(blob);
        let source_failed = |error: FetchError| StreamError::SourceFailed(error.failure);
        let update = |position| report.update_blob(&blob.digest, position);
        let mut next = fetch.next_chunk().await.map_err(source_failed)?;
        if let Some(first) = next.take_if(|first| !self.reads_zstd && is_zstd(first)) {
            let layer = UnpackedLayer::unpack(&mut fetch, first, update).await;
            self.send_unpacked(&path, &layer.map_err(StreamError::SourceFailed)?)
                .await?;
        } else {
            self.send(tar_header::header(&path, blob.size)).await?;
            while let Some(chunk) = next {
                self.send(chunk).await?;
                update(fetch.position());
                next = fetch.next_chunk().await.map_err(source_failed)?;
            }
            self.send(tar_header::padding(blob.size)).await?;
        }
        report.finish_blob(&blob.digest);
        Ok(())
    }

    async fn send_unpacked(&self, path: &str, layer: &UnpackedLayer) -> Result<(), StreamError> {
        self.send(tar_header::header(path, layer.size())).await?;
        let mut offset = 0;
        while offset < layer.size() {
            let chunk = layer.read_at(offset).await;
            let chunk = chunk.map_err(StreamError::SourceFailed)?;
            offset += chunk.len() as u64;
            self.send(chunk).await?;
        }
        self.send(tar_header::padding(layer.size())).await
    }

    async fn send(&self, chunk: impl Into<Bytes>) -> Result<(), StreamError> {
        let sent = self.chunks.send(Ok(chunk.into())).await;
        sent.map_err(|_| StreamError::ReceiverClosed)
    }
}

/// Returns the small files of an image's archive: everything but the layers. A classic store reads
/// only `manifest.json`, since its archives may lack layers, and containerd's store only the OCI
/// layout, which has the whole index.
pub(super) fn archive_files(
    kind: DaemonKind,
    image: &PlatformImage,
    config: &Bytes,
    (repository, tag): (&str, &Tag),
) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![(blob_path(&image.config.digest), config.to_vec())];
    let mut add_layout = |root: &VerifiedManifest| {
        let mut index = LayoutIndex::default();
        let role = ManifestRole::Tagged(tag.clone());
        index.add_manifest(root, &role, Some(&full_name(repository)));
        files.push((OCI_INDEX_FILE.to_owned(), index.to_bytes()));
        files.push((OCI_LAYOUT_FILE.to_owned(), OCI_LAYOUT_CONTENT.to_vec()));
    };
    let manifest_file =
        |manifest: &VerifiedManifest| (blob_path(&manifest.digest), manifest.bytes.to_vec());
    match kind {
        DaemonKind::Classic => {}
        DaemonKind::Podman => {
            add_layout(&image.manifest);
            files.push(manifest_file(&image.manifest));
        }
        DaemonKind::Containerd => {
            add_layout(image.root());
            files.extend(image.manifests().map(manifest_file));
            return files;
        }
    }
    let name = format!("{repository}:{tag}");
    let entry = DockerManifestEntry::new(&image.config.digest, &image.layers, Some(name));
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
