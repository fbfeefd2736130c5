//! Reads the bytes of a blob in order from any offset, as often as needed. A blob at a registry
//! keeps its connection between two reads, and is verified while it is read.
//!
//! This module sends nothing to the target. Start reading at [`BlobReader::read`].

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use imgsync_oci::Digest;
use imgsync_oci::client::{self, RetryVerdict};
use imgsync_oci::digest::Hasher;
use tokio::sync::OwnedSemaphorePermit;

use super::blob_source::{BlobSource, RemoteBlob};
use crate::exit::{Failure, FailureKind};
use crate::image::SliceReader;

/// Why bytes could not be read.
#[derive(Debug)]
pub enum SourceReadError {
    /// The local disk or archive failed.
    Local(io::Error),
    /// The source registry or the connection to it failed.
    Remote(client::Error),
    /// The bytes are not those of the expected blob.
    Mismatch(String),
}

impl SourceReadError {
    /// Returns whether reading again may succeed.
    pub fn retry(&self) -> RetryVerdict {
        match self {
            Self::Remote(error) => error.retry_verdict(),
            Self::Local(_) | Self::Mismatch(_) => RetryVerdict::Never,
        }
    }

    /// Converts the error to the failure of a push of the blob that is shown as `label`.
    pub fn failure(self, label: &str) -> Failure {
        match self {
            Self::Local(error) => {
                let what = format!("source: cannot read {label}: {error}");
                Failure::new(FailureKind::Source, what)
            }
            Self::Remote(error) => Failure::at_source(error),
            Self::Mismatch(what) => {
                Failure::new(FailureKind::Source, format!("source: {label}: {what}"))
            }
        }
    }
}

/// Reads the bytes of a [`BlobSource`].
pub struct BlobReader {
    source: BlobSource,
    state: ReaderState,
    hashed: Option<PrefixHash>,
}

enum ReaderState {
    Closed,
    Slice {
        reader: SliceReader,
        at: u64,
    },
    Stream {
        pieces: BoxStream<'static, Result<Bytes, client::Error>>,
        /// The bytes received from the stream and not yet returned.
        rest: Bytes,
        at: u64,
        /// Whether the stream has yielded bytes. Only then is it reopened after an error.
        has_yielded: bool,
        _permit: Option<OwnedSemaphorePermit>,
    },
}

/// The hash of the first `len` bytes.
struct PrefixHash {
    hasher: Hasher,
    len: u64,
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow")
            .field("body", &self.source)
            .finish_non_exhaustive()
    }
}

impl BlobReader {
    /// Creates a reader for a source. The source is opened later.
    pub fn new(source: BlobSource) -> Self {
        let hashed = match &source {
            // The bytes of a local blob were verified when it was packed.
            BlobSource::Local(_) => None,
            BlobSource::Remote(remote) => Some(PrefixHash {
                hasher: Hasher::new(remote.digest.algorithm()),
                len: 0,
            }),
        };
        Self {
            source,
            state: ReaderState::Closed,
            hashed,
        }
    }

    /// Opens a remote source at `offset`, so that the next read does not wait for the connection.
    /// Retries as often as the client of the source does.
    ///
    /// # Errors
    /// Fails if the source cannot be opened.
    pub async fn open_at(&mut self, offset: u64) -> Result<(), SourceReadError> {
        if let BlobSource::Remote(remote) = &self.source
            && !self.state.is_at(offset)
            && offset < remote.size
        {
            // An open stream may hold the permit that the new one would wait for.
            self.state = ReaderState::Closed;
            self.state = open(remote, offset).await?;
        }
        Ok(())
    }

    /// Returns at most `most` bytes from `offset`, and at least one unless the blob ends there.
    /// Reopens a connection that breaks after it has yielded bytes.
    ///
    /// # Errors
    /// Fails if the bytes cannot be read, or if the blob does not have the expected digest. The
    /// digest is checked at the last byte, if all bytes were read from the first one on.
    pub async fn read(&mut self, offset: u64, most: u64) -> Result<Bytes, SourceReadError> {
        let piece = match &self.source {
            BlobSource::Local(_) => self.read_local(offset, most).await?,
            BlobSource::Remote(remote) if offset >= remote.size => Bytes::new(),
            BlobSource::Remote(_) => self.read_remote(offset, most).await?,
        };
        // The permit is released at once, because this blob may have to wait for others.
        if let BlobSource::Remote(remote) = &self.source
            && offset + piece.len() as u64 == remote.size
        {
            self.state = ReaderState::Closed;
        }
        self.hash(offset, &piece)?;
        Ok(piece)
    }

    async fn read_local(&mut self, offset: u64, most: u64) -> Result<Bytes, SourceReadError> {
        let BlobSource::Local(slice) = &self.source else {
            return Ok(Bytes::new());
        };
        let slice = slice.clone();
        let reading = std::mem::replace(&mut self.state, ReaderState::Closed);
        let next = tokio::task::spawn_blocking(move || {
            let mut reader = match reading {
                ReaderState::Slice { reader, at } if at == offset => reader,
                ReaderState::Slice { .. } | ReaderState::Closed | ReaderState::Stream { .. } => {
                    slice.read_from(offset)?
                }
            };
            let mut piece = Vec::with_capacity(usize::try_from(most).unwrap_or_default());
            reader.by_ref().take(most).read_to_end(&mut piece)?;
            Ok((Bytes::from(piece), reader))
        });
        let next = next.await;
        let next = next.unwrap_or_else(|_| Err(io::Error::other("the reading thread died")));
        let (piece, reader) = next.map_err(SourceReadError::Local)?;
        let at = offset + piece.len() as u64;
        self.state = ReaderState::Slice { reader, at };
        Ok(piece)
    }

    async fn read_remote(&mut self, offset: u64, most: u64) -> Result<Bytes, SourceReadError> {
        loop {
            self.open_at(offset).await?;
            let ReaderState::Stream {
                pieces,
                rest,
                at,
                has_yielded: moved,
                ..
            } = &mut self.state
            else {
                return Ok(Bytes::new());
            };
            if rest.is_empty() {
                match pieces.next().await {
                    Some(Ok(piece)) => *rest = piece,
                    Some(Err(error)) => {
                        let again =
                            *moved && matches!(error.retry_verdict(), RetryVerdict::After(_));
                        self.state = ReaderState::Closed;
                        match again {
                            true => continue,
                            false => return Err(SourceReadError::Remote(error)),
                        }
                    }
                    None => return Err(self.too_short(offset)),
                }
                continue;
            }
            *moved = true;
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let piece = rest.split_to(rest.len().min(most));
            *at += piece.len() as u64;
            return Ok(piece);
        }
    }

    fn too_short(&mut self, offset: u64) -> SourceReadError {
        self.state = ReaderState::Closed;
        SourceReadError::Mismatch(format!("it ends after {offset} bytes"))
    }

    /// Hashes the bytes that were read, and checks the digest at the end of the blob.
    fn hash(&mut self, offset: u64, piece: &Bytes) -> Result<(), SourceReadError> {
        let (Some(hashed), BlobSource::Remote(remote)) = (&mut self.hashed, &self.source) else {
            return Ok(());
        };
        let known = hashed.len.checked_sub(offset);
        let news = known.and_then(|known| {
            let known = usize::try_from(known).ok()?;
            Some(piece.get(known..).unwrap_or_default())
        });
        let Some(news) = news else {
            // An earlier run has sent the bytes before this offset, so the registry must verify the
            // blob.
            self.hashed = None;
            return Ok(());
        };
        hashed.hasher.update(news);
        hashed.len += news.len() as u64;
        if hashed.len < remote.size {
            return Ok(());
        }
        let Some(hashed) = self.hashed.take() else {
            return Ok(());
        };
        let found: Digest = hashed.hasher.finish();
        match found == remote.digest {
            true => Ok(()),
            false => Err(SourceReadError::Mismatch(format!(
                "it sent content of {found} where {} was asked for",
                remote.digest
            ))),
        }
    }
}

impl ReaderState {
    fn is_at(&self, offset: u64) -> bool {
        match self {
            Self::Closed => false,
            Self::Slice { at, .. } | Self::Stream { at, .. } => *at == offset,
        }
    }
}

async fn open(remote: &RemoteBlob, offset: u64) -> Result<ReaderState, SourceReadError> {
    let RemoteBlob {
        client,
        repository,
        digest,
        size,
        read_permits: places,
    } = remote;
    let place = match places {
        Some(places) => Arc::clone(places).acquire_owned().await.ok(),
        None => None,
    };
    let found = client.open_blob(repository, digest, offset).await;
    let found = found.map_err(SourceReadError::Remote)?.ok_or_else(|| {
        let registry = client.registry();
        SourceReadError::Mismatch(format!("{registry}/{repository} has no {digest}"))
    })?;
    if let Some(said) = found.size.filter(|said| said != size) {
        let what = format!("it has {said} bytes where the manifest says {size}");
        return Err(SourceReadError::Mismatch(what));
    }
    Ok(ReaderState::Stream {
        pieces: found.skip_to(offset),
        rest: Bytes::new(),
        at: offset,
        has_yielded: false,
        _permit: place,
    })
}
