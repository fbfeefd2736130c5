//! A blob in the content store, as the storage of a [`Slice`]: read from any offset, without a copy
//! on this machine's disk.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use imgsync_oci::Digest;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::error::ContentError;
use super::store::ContentStore;
use crate::image::{RangeSource, Slice};
use crate::transports::daemon::chunk_reader::chunk_channel;

/// The most chunks that wait for the reader; a chunk has 1 MiB.
const MAX_QUEUED_CHUNKS: usize = 2;
/// The failures in a row without progress after which a read fails.
const MAX_READ_FAILURES: u32 = 4;
/// The delay after the first failure; it doubles with each further one.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(50);

/// A blob of a known size.
#[derive(Debug)]
struct StoredBlob {
    store: Arc<ContentStore>,
    digest: Digest,
    size: u64,
    runtime: Handle,
}

/// Returns a blob of the store. Call this within the runtime.
pub(super) fn stored_blob(store: &Arc<ContentStore>, digest: &Digest, size: u64) -> Slice {
    let blob = StoredBlob {
        store: Arc::clone(store),
        digest: digest.clone(),
        size,
        runtime: Handle::current(),
    };
    Slice::streamed(Arc::new(blob), size)
}

impl RangeSource for StoredBlob {
    fn read_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let (sender, reader) = chunk_channel(MAX_QUEUED_CHUNKS);
        let (store, digest, size) = (Arc::clone(&self.store), self.digest.clone(), self.size);
        self.runtime.spawn(async move {
            if let Err(error) = stream(&store, &digest, offset..size, &sender).await {
                // The reader may be gone.
                let _ = sender.send(Err(io::Error::other(error))).await;
            }
        });
        Ok(Box::new(reader))
    }
}

/// Sends a range of a blob to a reader. After a break, goes on at the offset of the last chunk.
///
/// # Errors
/// Returns an error if the store cannot be read any more, or if the blob ends early.
async fn stream(
    store: &ContentStore,
    digest: &Digest,
    mut range: std::ops::Range<u64>,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), ContentError> {
    let mut failures = 0;
    while !range.is_empty() {
        let before = range.start;
        let error = match stream_once(store, digest, &mut range, sender).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_transient() => error,
            Err(error) => return Err(error),
        };
        if range.start > before {
            failures = 0;
        }
        failures += 1;
        if failures == MAX_READ_FAILURES {
            return Err(error);
        }
        tokio::time::sleep(FIRST_RETRY_DELAY * 2_u32.pow(failures - 1)).await;
    }
    Ok(())
}

/// Sends a range of a blob until it ends or the connection breaks, and moves its start.
async fn stream_once(
    store: &ContentStore,
    digest: &Digest,
    range: &mut std::ops::Range<u64>,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), ContentError> {
    let mut stream = store.read_from(digest, range.start).await?;
    while let Some(data) = stream.next().await? {
        range.start += data.len() as u64;
        if range.start > range.end {
            let what = format!("{digest} is longer than {} bytes", range.end);
            return Err(ContentError::Malformed(what));
        }
        if sender.send(Ok(data)).await.is_err() {
            range.start = range.end;
            return Ok(());
        }
    }
    if range.is_empty() {
        return Ok(());
    }
    let what = format!("{digest} ends after {} bytes", range.start);
    Err(ContentError::Malformed(what))
}
