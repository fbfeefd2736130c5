//! The bytes of a blob on their way into a file or a stream: read from any kind of source, taken
//! up again after faults, and checked.

use bytes::Bytes;
use imgsync_oci::client::{Retry, backoff};
use imgsync_oci::{Digest, Hasher};

use crate::exit::{Failure, Kind};
use crate::transfer::{Flow, Outgoing, Unreadable};

/// The most bytes that are read at a time.
const PIECE: u64 = 256 * 1024;
/// How often in a row the source may fail before that counts.
const TRIES: u32 = 7;

/// A blob that is being read.
pub(super) struct Fetch<'a> {
    blob: &'a Outgoing,
    flow: Flow,
    at: u64,
    hashed: Hasher,
}

/// What comes of reading on.
pub(super) enum Next {
    /// The next bytes.
    Piece(Bytes),
    /// That was all, and it has its digest.
    Whole,
    /// These are not the blob's bytes, or not all of them are; if all were read from the first on,
    /// the source is to blame.
    Wrong(Failure),
}

impl<'a> Fetch<'a> {
    /// From the beginning.
    pub(super) fn new(blob: &'a Outgoing) -> Self {
        Self::after(blob, 0, Hasher::new(blob.digest.algorithm()))
    }

    /// From `at` on: the bytes before are there, and `hashed`.
    pub(super) fn after(blob: &'a Outgoing, at: u64, hashed: Hasher) -> Self {
        Self {
            blob,
            flow: Flow::new(blob.body.clone()),
            at,
            hashed,
        }
    }

    /// How many bytes were read so far, those before included.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next bytes.
    ///
    /// # Errors
    /// The source does not give them, and asking again did not help.
    pub(super) async fn next(&mut self) -> Result<Next, Failure> {
        let left = self.blob.size - self.at;
        if left == 0 {
            let found = self.hashed.clone().finish();
            return Ok(match found == self.blob.digest {
                true => Next::Whole,
                false => Next::Wrong(mismatch(&self.blob.digest, &found)),
            });
        }
        let mut failures = 0;
        let piece = loop {
            let error = match self.flow.read(self.at, left.min(PIECE)).await {
                Ok(piece) => break piece,
                Err(error) => error,
            };
            failures += 1;
            match error.retry() {
                Retry::After(asked) if failures < TRIES => {
                    tokio::time::sleep(backoff(failures, asked)).await;
                }
                Retry::After(_) | Retry::Never => return self.unreadable(error),
            }
        };
        if piece.is_empty() {
            let what = format!("it ends after {} bytes", self.at);
            return self.unreadable(Unreadable::Wrong(what));
        }
        self.hashed.update(&piece);
        self.at += piece.len() as u64;
        Ok(Next::Piece(piece))
    }

    fn unreadable(&self, error: Unreadable) -> Result<Next, Failure> {
        let is_wrong = matches!(error, Unreadable::Wrong(_));
        let failure = error.failure(&self.blob.label);
        match is_wrong {
            true => Ok(Next::Wrong(failure)),
            false => Err(failure),
        }
    }
}

/// What to say of a blob whose bytes are not its own.
fn mismatch(expected: &Digest, found: &Digest) -> Failure {
    let what = format!("source: the blob {expected} is damaged: its bytes are {found}");
    Failure::new(Kind::Source, what).hint("nothing of it was kept; the source has to be repaired")
}
