//! The streams of an assembly. Each of them ends with an error when the assembly must stop.
//!
//! Start reading at [`StopCheck`].

use std::io::{self, Read, Seek, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use imgsync_oci::delta::DeltaReader;
use imgsync_oci::layer::{LayerError, LayerReader};

use super::jobs::AssemblyProgress;
use crate::registry::Registry;
use crate::registry::blobs::OpenBlob;
use crate::registry::error::{Error, Result};
use crate::registry::space::ScratchClaim;
use crate::registry::uploads::SealedUpload;
use crate::store::{BlobDraft, ObjectCursor, ScratchFile};

/// The room for temporary files that is claimed at a time, if their size is not known before.
const SCRATCH_CLAIM_BYTES: u64 = 16 * 1024 * 1024;

/// Decides when an assembly must stop.
#[derive(Clone)]
pub(super) struct StopCheck {
    registry: Registry,
    /// Set when somebody waits to cancel the session.
    is_interrupted: Arc<AtomicBool>,
    deadline: Instant,
}

/// Why an assembly must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopReason {
    /// The server stops, or it became read-only, or deltas were turned off.
    Disabled,
    /// Somebody cancels the session.
    Cancelled,
    /// The assembly takes too long.
    TooLate,
}

impl StopCheck {
    pub(super) fn new(registry: &Registry, delta: &SealedUpload, deadline: Instant) -> Self {
        Self {
            registry: registry.clone(),
            is_interrupted: delta.interrupted_flag(),
            deadline,
        }
    }

    /// Returns why the assembly must stop, if it must.
    pub(super) fn reason(&self) -> Option<StopReason> {
        let is_open = self.registry.assemblies.jobs().is_open();
        if !is_open || !self.registry.is_assembly_enabled() {
            return Some(StopReason::Disabled);
        }
        if self.is_interrupted.load(Ordering::Relaxed) {
            return Some(StopReason::Cancelled);
        }
        (Instant::now() > self.deadline).then_some(StopReason::TooLate)
    }

    fn check(&self) -> io::Result<()> {
        match self.reason() {
            Some(_) => Err(io::Error::other("interrupted")),
            None => Ok(()),
        }
    }
}

/// The bytes of a stored blob.
pub(super) struct BlobSource<'a> {
    pub(super) blob: &'a OpenBlob,
    pub(super) offset: u64,
    pub(super) stop: StopCheck,
}

impl Read for BlobSource<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.check()?;
        let rest = self.blob.size().saturating_sub(self.offset);
        let len = usize::try_from(rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        self.blob.read_into(self.offset, &mut buffer[..len])?;
        self.offset += len as u64;
        Ok(len)
    }
}

/// The bytes of a delta. Some of them make no bytes of the layer, so reading them ends by itself, too.
pub(super) struct DeltaSource {
    pub(super) bytes: ObjectCursor,
    pub(super) stop: StopCheck,
}

impl Read for DeltaSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.check()?;
        self.bytes.read(buffer)
    }
}

impl Seek for DeltaSource {
    fn seek(&mut self, target: io::SeekFrom) -> io::Result<u64> {
        self.bytes.seek(target)
    }
}

/// The uncompressed bytes of a layer. The first error is kept.
pub(super) struct LayerSource<'a> {
    pub(super) layer: LayerReader<BlobSource<'a>>,
    pub(super) error: Option<LayerError>,
}

impl Read for &mut LayerSource<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.layer.read(buffer).map_err(|error| {
            let text = error.to_string();
            self.error.get_or_insert(error);
            io::Error::other(text)
        })
    }
}

/// A temporary file that claims the room that it takes.
pub(super) struct ClaimedScratch {
    file: ScratchFile,
    claim: ScratchClaim,
}

impl ClaimedScratch {
    /// Claims room for a file, if possible of `len` bytes, and creates it. There must also be room for
    /// `planned` bytes.
    pub(super) fn create(registry: &Registry, len: Option<u64>, planned: u64) -> Result<Self> {
        let mut claim = ScratchClaim::new(registry);
        claim.extend(len.unwrap_or(SCRATCH_CLAIM_BYTES), planned)?;
        let file = registry.store.create_scratch()?;
        Ok(Self { file, claim })
    }
}

impl Read for ClaimedScratch {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Write for ClaimedScratch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len() as u64;
        if self.claim.unwritten() < len {
            let claimed = self.claim.extend(SCRATCH_CLAIM_BYTES.max(len), 0);
            claimed.map_err(|error| io::Error::new(io::ErrorKind::StorageFull, error))?;
        }
        let count = self.file.write(bytes)?;
        self.claim.release(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for ClaimedScratch {
    fn seek(&mut self, target: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(target)
    }
}

/// The new layer, uncompressed. Counts the bytes for those who ask how far the assembly is.
pub(super) struct CountedLayer<D, F> {
    pub(super) reader: DeltaReader<D, F>,
    pub(super) progress: AssemblyProgress,
    pub(super) stop: StopCheck,
}

impl<D: Read + Seek, F: Read + Seek> Read for CountedLayer<D, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.check()?;
        let count = self.reader.read(buffer)?;
        self.progress.add(count as u64);
        Ok(count)
    }
}

/// Writes the new blob, and claims room for it. The first error is kept.
pub(super) struct DraftWriter<'a> {
    pub(super) draft: BlobDraft,
    pub(super) delta: &'a mut SealedUpload,
    pub(super) error: Option<Error>,
}

impl DraftWriter<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.draft.len().saturating_add(bytes.len() as u64);
        self.delta.claim_result(end)?;
        self.draft.write(bytes)?;
        self.delta.set_result_written(end);
        Ok(())
    }
}

impl Write for DraftWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(|error| {
            let text = error.to_string();
            self.error.get_or_insert(error);
            io::Error::other(text)
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
