//! Reads the bytes of a blob in order from any offset, as often as needed. A blob at a registry
//! keeps its connection between two reads. Bytes that are not verified elsewhere are verified while
//! they are read.
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

/// The hint for an image whose bytes are not those that it states.
pub(super) const DAMAGED_HINT: &str =
    "the image is damaged at its source: build it or save it again";
/// The size of the buffer for bytes that are only hashed.
const HASH_BUFFER_BYTES: usize = 256 * 1024;

/// The source of a blob's bytes.
#[derive(Debug, Clone)]
pub enum BlobSource {
    /// A file on this machine, or a part of one.
    Local(Slice),
    /// A file on this machine, or a part of one, that is verified while it is read.
    Unverified {
        /// The bytes.
        bytes: Slice,
        /// The digest that the bytes must have.
        digest: Digest,
    },
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
    /// The bytes on this machine are not those of the expected blob.
    Damaged(String),
}

impl SourceReadError {
    /// Returns whether reading again may succeed.
    pub fn retry(&self) -> RetryVerdict {
        match self {
            Self::Remote(error) => error.retry_verdict(),
            Self::Local(_) | Self::Mismatch(_) | Self::Damaged(_) => RetryVerdict::Never,
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
            Self::Damaged(what) => {
                let what = format!("source: {label} {what}");
                Failure::new(FailureKind::Source, what).with_hint(DAMAGED_HINT)
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
    /// The check of the digest. `None` for a blob whose bytes are verified elsewhere.
    check: Option<DigestCheck>,
}

/// Hashes a blob from its start while it is read.
#[derive(Debug)]
struct DigestCheck {
    expected: Digest,
    /// The size of the blob in bytes.
    size: u64,
    hasher: Hasher,
    /// The number of bytes in `hasher`.
    hashed: u64,
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
        let check = match &source {
            BlobSource::Local(_) => None,
            BlobSource::Unverified { bytes, digest } => Some(DigestCheck::new(digest, bytes.len())),
            BlobSource::Remote(remote) => Some(DigestCheck::new(&remote.digest, remote.size)),
        };
        Self {
            source,
            offset: 0,
            slice_reader: None,
            download: None,
            check,
        }
    }

    /// Creates a reader whose caller verifies the bytes.
    pub fn without_check(source: BlobSource) -> Self {
        Self {
            check: None,
            ..Self::new(source)
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
            (BlobSource::Local(slice) | BlobSource::Unverified { bytes: slice, .. }, _) => {
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
        self.verify(offset, &piece).await?;
        Ok(piece)
    }

    /// Checks the digest of a local blob, also if an earlier run has sent all of its bytes.
    ///
    /// # Errors
    /// Fails if the bytes cannot be read, or if the blob does not have the expected digest.
    pub async fn verify_rest(&mut self) -> Result<(), SourceReadError> {
        match &self.source {
            BlobSource::Unverified { bytes, .. } => {
                let end = bytes.len();
                self.verify(end, &Bytes::new()).await
            }
            BlobSource::Local(_) | BlobSource::Remote(_) => Ok(()),
        }
    }

    /// Hashes the bytes that were read at `offset`, and checks the digest at the end of the blob. If
    /// an earlier run has sent the bytes before `offset`, those of a local blob are read again; of a
    /// remote blob they are not, and the target verifies the digest.
    async fn verify(&mut self, offset: u64, piece: &Bytes) -> Result<(), SourceReadError> {
        let Some(mut check) = self.check.take() else {
            return Ok(());
        };
        match &self.source {
            BlobSource::Unverified { bytes, .. } => {
                check = check.hash_until(bytes, offset).await?;
            }
            BlobSource::Local(_) | BlobSource::Remote(_) if check.hashed < offset => return Ok(()),
            BlobSource::Local(_) | BlobSource::Remote(_) => {}
        }
        check.update(offset, piece);
        let check = self.check.insert(check);
        let found = check.digest_at_end();
        let Some(found) = found.filter(|found| *found != check.expected) else {
            return Ok(());
        };
        let expected = &check.expected;
        Err(match self.source {
            BlobSource::Remote(_) => SourceReadError::Mismatch(format!(
                "the registry sent the content of {found} instead of {expected}"
            )),
            BlobSource::Local(_) | BlobSource::Unverified { .. } => SourceReadError::Damaged(
                format!("has the digest {found}, but the image states {expected}"),
            ),
        })
    }
}

impl DigestCheck {
    fn new(expected: &Digest, size: u64) -> Self {
        Self {
            expected: expected.clone(),
            size,
            hasher: Hasher::new(expected.algorithm()),
            hashed: 0,
        }
    }

    /// Reads and hashes the bytes of a local blob before `offset`, as far as that is not done yet.
    async fn hash_until(mut self, bytes: &Slice, offset: u64) -> Result<Self, SourceReadError> {
        if self.hashed >= offset {
            return Ok(self);
        }
        let bytes = bytes.clone();
        let task = tokio::task::spawn_blocking(move || {
            let missing = offset - self.hashed;
            let mut reader = bytes.read_from(self.hashed)?.take(missing);
            let mut buffer = vec![0; HASH_BUFFER_BYTES];
            loop {
                let len = reader.read(&mut buffer)?;
                if len == 0 {
                    return Ok(self);
                }
                self.hasher.update(&buffer[..len]);
                self.hashed += len as u64;
            }
        });
        let hashed = task
            .await
            .unwrap_or_else(|_| Err(reading_thread_panicked()));
        hashed.map_err(SourceReadError::Local)
    }

    /// Hashes those of the bytes at `offset` that were not hashed yet. No bytes are missing before
    /// `offset`.
    fn update(&mut self, offset: u64, piece: &Bytes) {
        let repeated = self.hashed.saturating_sub(offset);
        let repeated = usize::try_from(repeated).unwrap_or(usize::MAX);
        let new = piece.get(repeated..).unwrap_or_default();
        self.hasher.update(new);
        self.hashed += new.len() as u64;
    }

    /// Returns the digest of the bytes, once all of them were hashed.
    fn digest_at_end(&self) -> Option<Digest> {
        (self.hashed >= self.size).then(|| self.hasher.clone().finish())
    }
}

fn reading_thread_panicked() -> io::Error {
    io::Error::other("the reading thread panicked")
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
        .unwrap_or_else(|_| Err(reading_thread_panicked()))
}
