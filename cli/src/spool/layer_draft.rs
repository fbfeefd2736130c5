//! Compressed layers that are still being written to the spool, and that others read meanwhile.
//!
//! This module sends nothing. Start reading at [`LayerDraft`].

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use tokio::sync::watch;

use super::{Draft, Spool, SpoolKind, SpooledLayer};
use crate::cache::BlobRef;
use crate::compress::{self, CompressError, LayerDigests};
use crate::image::Slice;

/// A layer that is compressed into the spool.
#[derive(Debug)]
pub struct LayerDraft {
    draft: Draft,
    growth: watch::Sender<Growth>,
}

/// The reading side of a [`LayerDraft`].
#[derive(Debug, Clone)]
pub struct GrowingLayer {
    file: Arc<File>,
    growth: watch::Receiver<Growth>,
}

/// How much of a layer can be read.
#[derive(Debug, Clone)]
pub enum Growth {
    /// This many bytes of the compressed layer.
    Written(u64),
    /// All of them, and the digests are right.
    Complete(SpooledLayer),
}

impl Spool {
    /// Creates a layer without any bytes.
    ///
    /// # Errors
    /// Fails if the folder is missing, full or not writable.
    pub fn create_layer(&self) -> io::Result<LayerDraft> {
        Ok(LayerDraft {
            draft: self.create_draft()?,
            growth: watch::Sender::new(Growth::Written(0)),
        })
    }
}

impl LayerDraft {
    /// Returns the reading side.
    ///
    /// # Errors
    /// Fails if the process has too many open files.
    pub fn growing(&self) -> io::Result<GrowingLayer> {
        Ok(GrowingLayer {
            file: self.draft.share_file()?,
            growth: self.growth.subscribe(),
        })
    }

    /// Compresses a whole tar with `threads`. The caller checks the digests, and then calls
    /// [`LayerDraft::complete`].
    ///
    /// # Errors
    /// As [`compress::gzip`].
    pub fn compress(
        &mut self,
        tar: impl Read + Send,
        threads: usize,
    ) -> Result<LayerDigests, CompressError> {
        Ok(compress::gzip(tar, self, threads)?)
    }

    /// Keeps the layer for this run and the next. Must be called only if the tar has the digest that
    /// the image states.
    pub fn complete(self, digests: &LayerDigests) -> SpooledLayer {
        let file = self.draft.persist(SpoolKind::Compressed, &digests.diff_id);
        let (digest, size) = (digests.digest.clone(), digests.size);
        let layer = SpooledLayer {
            blob: BlobRef { digest, size },
            bytes: Slice::part(&file, 0, size),
            raw_size: digests.raw_size,
        };
        self.growth.send_replace(Growth::Complete(layer.clone()));
        layer
    }
}

impl Write for LayerDraft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.draft.write(bytes)?;
        self.growth.send_replace(Growth::Written(self.draft.len()));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.draft.flush()
    }
}

impl GrowingLayer {
    /// Returns the bytes. Those that are not written yet cannot be read.
    pub fn bytes(&self) -> Slice {
        Slice::part(&self.file, 0, u64::MAX)
    }

    /// Waits until the layer is complete. Never returns if it is given up, as
    /// [`GrowingLayer::wait_for`].
    pub async fn complete(&mut self) -> SpooledLayer {
        loop {
            if let Growth::Complete(layer) = self.wait_for(u64::MAX).await {
                return layer;
            }
        }
    }

    /// Waits until the layer has at least `len` bytes, or is complete. Never returns if the layer is
    /// given up: the error of the program that writes it is the one to report.
    pub async fn wait_for(&mut self, len: u64) -> Growth {
        let is_enough = |growth: &Growth| match growth {
            Growth::Written(written) => *written >= len,
            Growth::Complete(_) => true,
        };
        let growth = self.growth.wait_for(is_enough).await;
        let growth = growth.ok().map(|growth| growth.clone());
        match growth {
            Some(growth) => growth,
            None => std::future::pending().await,
        }
    }
}
