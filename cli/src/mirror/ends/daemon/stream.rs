//! The archive that a daemon is handed: a tar that is made while it is read, of which nothing but
//! a few pieces is in memory.

use std::io;

use bytes::Bytes;
use futures::stream;
use imgsync_oci::Tag;
use tokio::sync::mpsc;

use super::image::Image;
use crate::exit::Failure;
use crate::mirror::ends::Role;
use crate::mirror::ends::archive::{Loadable, MANIFEST, header, manifest_json, path};
use crate::mirror::ends::fetch::{Fetch, Next};
use crate::mirror::ends::layout::{INDEX, Index, LAYOUT, LAYOUT_BYTES};
use crate::report::Report;
use crate::source::daemon;
use crate::transfer::Outgoing;

/// How many pieces wait for the daemon.
const PIECES: usize = 4;

/// The end of the stream that is written to.
#[derive(Debug)]
pub(super) struct Sender {
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

/// Why no more is written.
#[derive(Debug)]
pub(super) enum Ended {
    /// The daemon reads no further: it has said why.
    Unread,
    /// The source does not give what is needed.
    Failed(Failure),
}

/// A stream: what is sent at one end is the body of a request at the other.
pub(super) fn stream() -> (Sender, reqwest::Body) {
    let (pieces, receiver) = mpsc::channel(PIECES);
    let body = stream::unfold(receiver, |mut receiver| async move {
        let piece: io::Result<Bytes> = receiver.recv().await?;
        Some((piece, receiver))
    });
    (Sender { pieces }, reqwest::Body::wrap_stream(body))
}

impl Sender {
    async fn send(&self, piece: Bytes) -> Result<(), Ended> {
        let sent = self.pieces.send(Ok(piece)).await;
        sent.map_err(|_| Ended::Unread)
    }

    /// Puts a blob into the stream, checked on the way. Yields the number of its bytes.
    ///
    /// # Errors
    /// After one the stream is of no use, and must be [`Sender::spoil`]ed.
    pub(super) async fn blob(&self, blob: &Outgoing, report: &dyn Report) -> Result<u64, Ended> {
        report.begin(&blob.digest, &blob.label, blob.size);
        let head = header::header(&path(&blob.digest), blob.size);
        self.send(head.into()).await?;
        let mut fetch = Fetch::new(blob);
        loop {
            match fetch.next().await.map_err(Ended::Failed)? {
                Next::Piece(piece) => self.send(piece).await?,
                Next::Whole => break,
                Next::Wrong(failure) => return Err(Ended::Failed(failure)),
            }
            report.position(&blob.digest, fetch.at());
        }
        self.send(header::padding(blob.size).into()).await?;
        report.done(&blob.digest);
        Ok(blob.size)
    }

    /// Puts what tells the daemon what all of it is, and ends the stream.
    ///
    /// # Errors
    /// [`Ended::Unread`].
    pub(super) async fn end(self, files: Vec<(String, Vec<u8>)>) -> Result<(), Ended> {
        for (name, content) in files {
            self.send(header::file(&name, &content).into()).await?;
        }
        self.send(Bytes::from_static(&header::END)).await
    }

    /// Lets the daemon know that what it has read is no archive.
    pub(super) async fn spoil(self) {
        let error = io::Error::other("the archive broke off");
        // A daemon that has gone away need not be told.
        let _ = self.pieces.send(Err(error)).await;
    }
}

/// The small files of an image's archive, all but its layers. A classic store is told of its names
/// in `manifest.json` alone, for its archives need not be whole; the others read it as a layout.
pub(super) fn files(
    kind: daemon::Kind,
    image: &Image,
    config: &Bytes,
    (repository, tag): (&str, &Tag),
) -> Vec<(String, Vec<u8>)> {
    let loadable = Loadable {
        config: image.config.digest.clone(),
        layers: image.layers.iter().map(|it| it.digest.clone()).collect(),
        names: vec![format!("{repository}:{tag}")],
    };
    let mut files = vec![(path(&image.config.digest), config.to_vec())];
    match kind {
        daemon::Kind::Classic => {}
        daemon::Kind::Containerd | daemon::Kind::Podman => {
            let held = &image.manifest;
            let mut index = Index::default();
            let role = Role::Tagged(tag.clone());
            index.put(held, &role, Some(&whole_name(repository)));
            files.push((path(&held.digest), held.bytes.to_vec()));
            files.push((INDEX.to_owned(), index.bytes()));
            files.push((LAYOUT.to_owned(), LAYOUT_BYTES.to_vec()));
        }
    }
    files.push((MANIFEST.to_owned(), manifest_json(&[loadable])));
    files
}

/// A repository's name with all that Docker leaves out when it shows it.
fn whole_name(repository: &str) -> String {
    match repository.split_once('/') {
        Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => {
            repository.to_owned()
        }
        Some(_) => format!("docker.io/{repository}"),
        None => format!("docker.io/library/{repository}"),
    }
}
