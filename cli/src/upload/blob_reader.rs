//! Reads the bytes of a blob in order from any offset, as often as needed. A blob at a registry
//! keeps its connection between two reads, and is verified while it is read.
//!
//! This module sends nothing to the target. Start reading at [`BlobReader::read`].

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use imgsync_oci::client::{self, Client, ResumingDownload, RetryVerdict};
use imgsync_oci::{Digest, Hasher, Repository};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::exit::{Failure, FailureKind};
use crate::image::{Slice, SliceReader};

/// The source of a blob's bytes.
#[derive(Debug, Clone)]
pub enum BlobSource {
    /// A file on this machine, or a part of one.
    Local(Slice),
    /// A registry, from which the bytes are streamed.
    Remote(RemoteBlob),
}

/// A blob at a registry.
#[derive(Debug, Clone)]
pub struct RemoteBlob {
    /// The client of the registry.
    pub client: Client,
    /// The repository to read from.
    pub repository: Repository,
    /// The digest of the blob.
    pub digest: Digest,
    /// The expected size in bytes.
    pub size: u64,
    /// The permits that limit concurrent reads from that registry; `None` for no limit.
    pub read_permits: Option<Arc<Semaphore>>,
}

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
#[derive(Debug)]
pub struct BlobReader {
    source: BlobSource,
    /// The offset of the next byte of the open source.
    offset: u64,
    /// The open source, if it is local.
    slice_reader: Option<SliceReader>,
    /// The open source, if it is a registry.
    download: Option<RemoteReader>,
    /// The hash and the number of the bytes from the start of the blob on. `None` for a blob that
    /// was verified when it was packed, or that an earlier run has begun to send.
    verified: Option<(Hasher, u64)>,
}

/// A download, and the permit of its registry.
#[derive(Debug)]
struct RemoteReader {
    download: ResumingDownload,
    /// The bytes that were received and not yet returned.
    unread: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl BlobReader {
    /// Creates a reader for a source. The source is opened later.
    pub fn new(source: BlobSource) -> Self {
        let verified = match &source {
            BlobSource::Local(_) => None,
            BlobSource::Remote(remote) => Some((Hasher::new(remote.digest.algorithm()), 0)),
        };
        Self {
            source,
            offset: 0,
            slice_reader: None,
            download: None,
            verified,
        }
    }

    /// Opens a remote source at `offset`, so that the next read does not wait for the connection.
    /// Retries as often as the client of the source does.
    ///
    /// # Errors
    /// Fails if the source cannot be opened.
    pub async fn open_at(&mut self, offset: u64) -> Result<(), SourceReadError> {
        if self.offset != offset {
            // Also releases a permit that the new download would wait for.
            (self.slice_reader, self.download) = (None, None);
            self.offset = offset;
        }
        if let BlobSource::Remote(remote) = &self.source
            && self.download.is_none()
            && offset < remote.size
        {
            self.download = Some(RemoteReader::open(remote, offset).await?);
        }
        Ok(())
    }

    /// Returns at most `max_bytes` bytes from `offset`, and at least one unless the blob ends
    /// there. Reopens a connection that breaks after it has yielded bytes.
    ///
    /// # Errors
    /// Fails if the bytes cannot be read, or if the blob does not have the expected digest. The
    /// digest is checked at the last byte, if all bytes were read from the first one on.
    pub async fn read(&mut self, offset: u64, max_bytes: u64) -> Result<Bytes, SourceReadError> {
        self.open_at(offset).await?;
        let piece = match (&self.source, &mut self.download) {
            (BlobSource::Local(slice), _) => {
                let read = read_slice(slice, self.slice_reader.take(), offset, max_bytes).await;
                let (piece, reader) = read.map_err(SourceReadError::Local)?;
                self.slice_reader = Some(reader);
                piece
            }
            (BlobSource::Remote(remote), Some(download)) => {
                let read = download.read(max_bytes).await;
                let len = read.as_ref().map_or(0, Bytes::len) as u64;
                // At the end the permit is released at once, because this blob may have to wait for
                // others before it is finished.
                if read.is_err() || offset + len == remote.size {
                    self.download = None;
                }
                read?
            }
            (BlobSource::Remote(_), None) => Bytes::new(),
        };
        self.offset = offset + piece.len() as u64;
        self.verify(offset, &piece)?;
        Ok(piece)
    }

    /// Hashes the bytes that were read, and checks the digest at the end of the blob.
    fn verify(&mut self, offset: u64, piece: &Bytes) -> Result<(), SourceReadError> {
        let (Some((hasher, hashed)), BlobSource::Remote(remote)) =
            (&mut self.verified, &self.source)
        else {
            return Ok(());
        };
        let Some(repeated) = hashed.checked_sub(offset) else {
            // An earlier run has sent the bytes before this offset, so the registry must verify the
            // blob.
            self.verified = None;
            return Ok(());
        };
        let repeated = usize::try_from(repeated).unwrap_or(usize::MAX);
        let new = piece.get(repeated..).unwrap_or_default();
        hasher.update(new);
        *hashed += new.len() as u64;
        if *hashed < remote.size {
            return Ok(());
        }
        let (found, expected) = (hasher.clone().finish(), &remote.digest);
        if found == *expected {
            return Ok(());
        }
        let what = format!("the registry sent the content of {found} instead of {expected}");
        Err(SourceReadError::Mismatch(what))
    }
}

impl RemoteReader {
    async fn open(remote: &RemoteBlob, offset: u64) -> Result<Self, SourceReadError> {
        let RemoteBlob {
            client,
            repository,
            digest,
            size,
            read_permits,
        } = remote.clone();
        let permit = match read_permits {
            Some(permits) => permits.acquire_owned().await.ok(),
            None => None,
        };
        let missing = format!("{}/{repository} does not have {digest}", client.registry());
        let download = ResumingDownload::new(client, repository, digest, offset);
        let mut download = download.with_max_faults(1);
        if !download.open().await.map_err(SourceReadError::Remote)? {
            return Err(SourceReadError::Mismatch(missing));
        }
        if let Some(stated) = download.size().filter(|stated| *stated != size) {
            let what = format!("the registry has {stated} bytes, but the manifest states {size}");
            return Err(SourceReadError::Mismatch(what));
        }
        Ok(Self {
            download,
            unread: Bytes::new(),
            _permit: permit,
        })
    }

    async fn read(&mut self, max_bytes: u64) -> Result<Bytes, SourceReadError> {
        if self.unread.is_empty() {
            let next = self.download.next().await.map_err(|error| {
                if self.download.has_changed() {
                    SourceReadError::Mismatch(error.to_string())
                } else {
                    SourceReadError::Remote(error)
                }
            });
            self.unread = next?.ok_or_else(|| {
                let offset = self.download.offset();
                SourceReadError::Mismatch(format!("the blob ends after {offset} bytes"))
            })?;
        }
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        Ok(self.unread.split_to(self.unread.len().min(max_bytes)))
    }
}

/// Reads at most `max_bytes` bytes of a slice from `offset`, with the open reader if there is one.
async fn read_slice(
    slice: &Slice,
    reader: Option<SliceReader>,
    offset: u64,
    max_bytes: u64,
) -> io::Result<(Bytes, SliceReader)> {
    let slice = slice.clone();
    let task = tokio::task::spawn_blocking(move || {
        let mut reader = match reader {
            Some(reader) => reader,
            None => slice.read_from(offset)?,
        };
        let mut piece = Vec::with_capacity(usize::try_from(max_bytes).unwrap_or_default());
        reader.by_ref().take(max_bytes).read_to_end(&mut piece)?;
        Ok((Bytes::from(piece), reader))
    });
    task.await
        .unwrap_or_else(|_| Err(io::Error::other("the reading thread panicked")))
}
