//! Uploads the blobs that the target lacks: compresses and verifies layers, and sends them through
//! several upload sessions at a time.
//!
//! This module does not decide which blobs are missing; the plan does. Start reading at
//! [`upload_all()`].

mod barrier;
mod blob_reader;
mod blob_sender;
mod blob_upload;
mod byte_stream;
mod chunk_sizer;
mod concurrency;
mod concurrency_limiter;
mod delta;
mod host_profile;
mod journal;
mod outgoing_blob;
mod pack;
mod rate_limiter;
mod refusal;
mod repository_writer;
mod resumable;
mod upload_all;
mod verify;

pub use blob_reader::{BlobReader, BlobSource, RemoteBlob, SourceReadError};
pub use blob_upload::{UploadOutcome, upload_blob};
pub use chunk_sizer::{ChunkSizer, MIN_CHUNK_BYTES};
pub use journal::Journal;
pub use pack::QueuedContent;
pub use repository_writer::{PendingBlob, RepositoryWriter, TransferOptions, transfer_rates};
pub use upload_all::{QueuedBlob, UploadContext, upload_all};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose data is valid even if another thread panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
