//! The archive that a daemon is handed: a tar that is made while it is read, of which nothing but
//! a few pieces is in memory.

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
use crate::transports::fetch::{BlobFetch, FetchEvent};
use crate::transports::files::blob_path;
use crate::transports::layout::{LayoutIndex, OCI_INDEX_FILE, OCI_LAYOUT_CONTENT, OCI_LAYOUT_FILE};
use crate::upload::PendingBlob;

/// How many pieces wait for the daemon.
const MAX_QUEUED_CHUNKS: usize = 4;

/// The end of the stream that is written to.
#[derive(Debug)]
pub(super) struct ArchiveSender {
    chunks: mpsc::Sender<io::Result<Bytes>>,
}

/// Why no more is written.
#[derive(Debug)]
pub(super) enum StreamError {
    /// The daemon reads no further: it has said why.
    ReceiverClosed,
    /// The source does not give what is needed.
    SourceFailed(Failure),
}

/// A stream: what is sent at one end is the body of a request at the other.
pub(super) fn archive_channel() -> (ArchiveSender, reqwest::Body) {
    let (pieces, receiver) = mpsc::channel(MAX_QUEUED_CHUNKS);
    let body = stream::unfold(receiver, |mut receiver| async move {
        let piece: io::Result<Bytes> = receiver.recv().await?;
        Some((piece, receiver))
    });
    (
        ArchiveSender { chunks: pieces },
        reqwest::Body::wrap_stream(body),
    )
}

impl ArchiveSender {
    async fn send(&self, piece: Bytes) -> Result<(), StreamError> {
        let sent = self.chunks.send(Ok(piece)).await;
        sent.map_err(|_| StreamError::ReceiverClosed)
    }

    /// Puts a blob into the stream, checked on the way. Yields the number of its bytes.
    ///
    /// # Errors
    /// After one the stream is of no use, and must be [`Sender::spoil`]ed.
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
            match fetch
                .next_chunk()
                .await
                .map_err(StreamError::SourceFailed)?
            {
                FetchEvent::Chunk(piece) => self.send(piece).await?,
                FetchEvent::Complete => break,
                FetchEvent::Corrupt(failure) => return Err(StreamError::SourceFailed(failure)),
            }
            report.update_blob(&blob.digest, fetch.position());
        }
        self.send(tar_header::padding(blob.size).into()).await?;
        report.finish_blob(&blob.digest);
        Ok(blob.size)
    }

    /// Puts what tells the daemon what all of it is, and ends the stream.
    ///
    /// # Errors
    /// [`Ended::Unread`].
    pub(super) async fn end(self, files: Vec<(String, Vec<u8>)>) -> Result<(), StreamError> {
        for (name, content) in files {
            self.send(tar_header::file(&name, &content).into()).await?;
        }
        self.send(Bytes::from_static(&tar_header::TAR_END)).await
    }

    /// Lets the daemon know that what it has read is no archive.
    pub(super) async fn abort(self) {
        let error = io::Error::other("the archive broke off");
        // A daemon that has gone away need not be told.
        let _ = self.chunks.send(Err(error)).await;
    }
}

/// The small files of an image's archive, all but its layers. A classic store is told of its names
/// in `manifest.json` alone, for its archives need not be whole; the others read it as a layout.
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
            let held = &image.manifest;
            let mut index = LayoutIndex::default();
            let role = ManifestRole::Tagged(tag.clone());
            index.add_manifest(held, &role, Some(&full_name(repository)));
            files.push((blob_path(&held.digest), held.bytes.to_vec()));
            files.push((OCI_INDEX_FILE.to_owned(), index.to_bytes()));
            files.push((OCI_LAYOUT_FILE.to_owned(), OCI_LAYOUT_CONTENT.to_vec()));
        }
    }
    files.push((DOCKER_MANIFEST_FILE.to_owned(), manifest_json(&[loadable])));
    files
}

/// A repository's name with all that Docker leaves out when it shows it.
fn full_name(repository: &str) -> String {
    match repository.split_once('/') {
        Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => {
            repository.to_owned()
        }
        Some(_) => format!("docker.io/{repository}"),
        None => format!("docker.io/library/{repository}"),
    }
}
