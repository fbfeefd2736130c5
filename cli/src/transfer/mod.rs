//! Carries out a plan: what is missing is packed, and goes through upload sessions, several at a
//! time.

mod body;
mod flow;
mod gate;
mod host;
mod jobs;
mod journal;
mod limit;
mod line;
mod pace;
mod pack;
mod pieces;
mod refusal;
mod sending;
mod ship;
mod slots;
mod upload;

pub use body::{BlobSource, RemoteBlob};
pub use flow::{BlobReader, SourceReadError};
pub use journal::Journal;
pub use line::{PendingBlob, RepositoryWriter, TransferOptions};
pub use pace::ChunkSizer;
pub use pack::QueuedContent;
pub use ship::{QueuedBlob, UploadContext, upload_all};
pub use upload::{UploadOutcome, upload_blob};
