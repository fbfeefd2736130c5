//! The bytes that no base has: one zstd frame at the end of a delta.

use std::io::{self, Read, Seek, SeekFrom, Write};

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use crate::delta::DeltaError;

/// The largest window, as a power of two. The reader holds it in memory.
const WINDOW_LOG: u32 = 22;
const BUFFER_BYTES: usize = 64 * 1024;
/// The level, and that for many bytes: a delta of that kind is rarely worth it.
const LEVEL: i32 = 9;
const FAST_LEVEL: i32 = 3;
const MAX_LEVEL_BYTES: u64 = 512 * 1024 * 1024;

/// Returns a compressor for `len` bytes of literals.
pub(in crate::delta) fn compressor<W: Write>(
    target: W,
    len: u64,
) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let level = if len > MAX_LEVEL_BYTES {
        FAST_LEVEL
    } else {
        LEVEL
    };
    let mut encoder = zstd::stream::write::Encoder::new(target, level)?;
    encoder.set_pledged_src_size(Some(len))?;
    encoder.window_log(WINDOW_LOG)?;
    Ok(encoder)
}

/// Decompresses literals. The delta is passed to each call, since its patch frames are read as well.
pub(in crate::delta) struct LiteralReader {
    context: DCtx<'static>,
    buffer: Vec<u8>,
    /// The bytes in `buffer` that are not decompressed yet.
    unread: std::ops::Range<usize>,
    /// The place of the bytes after those in `buffer`.
    offset: u64,
    end: u64,
    /// Whether the frame was read to its end.
    is_complete: bool,
}

impl LiteralReader {
    /// Returns a reader of the literals that are from `offset` to `end` in the delta.
    pub(in crate::delta) fn new(offset: u64, end: u64) -> Result<Self, DeltaError> {
        let no_memory = || io::Error::from(io::ErrorKind::OutOfMemory);
        let mut context = DCtx::try_create().ok_or_else(no_memory)?;
        let limit = DParameter::WindowLogMax(WINDOW_LOG);
        context.set_parameter(limit).map_err(failed)?;
        Ok(Self {
            context,
            buffer: vec![0; BUFFER_BYTES],
            unread: 0..0,
            offset,
            end,
            is_complete: false,
        })
    }

    /// Fills the buffer.
    pub(in crate::delta) fn read(
        &mut self,
        delta: &mut (impl Read + Seek),
        buffer: &mut [u8],
    ) -> Result<(), DeltaError> {
        let mut filled = 0;
        while filled < buffer.len() {
            filled += self.decompress(delta, &mut buffer[filled..])?;
            if self.is_complete && filled < buffer.len() {
                return Err(invalid("there are too few literals"));
            }
        }
        Ok(())
    }

    /// Decompresses some bytes; none if the frame is complete.
    fn decompress(
        &mut self,
        delta: &mut (impl Read + Seek),
        buffer: &mut [u8],
    ) -> Result<usize, DeltaError> {
        if self.is_complete {
            return Ok(0);
        }
        let is_end = self.unread.is_empty() && self.offset == self.end;
        self.refill(delta)?;
        let mut output = OutBuffer::around(buffer);
        let mut input = InBuffer::around(&self.buffer[self.unread.clone()]);
        let result = self.context.decompress_stream(&mut output, &mut input);
        self.is_complete = result.map_err(failed)? == 0;
        let (consumed, produced) = (input.pos(), output.pos());
        self.unread.start += consumed;
        // Without input, the library can still have output of before.
        if is_end && produced == 0 && !self.is_complete {
            return Err(invalid("they are cut short"));
        }
        Ok(produced)
    }

    fn refill(&mut self, delta: &mut (impl Read + Seek)) -> Result<(), DeltaError> {
        if self.unread.is_empty() {
            let left = self.end - self.offset;
            let len = usize::try_from(left).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
            delta.seek(SeekFrom::Start(self.offset))?;
            delta.read_exact(&mut self.buffer[..len])?;
            self.offset += len as u64;
            self.unread = 0..len;
        }
        Ok(())
    }

    /// Checks that no literals are left, and that nothing follows their frame.
    pub(in crate::delta) fn check_end(
        &mut self,
        delta: &mut (impl Read + Seek),
    ) -> Result<(), DeltaError> {
        while !self.is_complete {
            if self.decompress(delta, &mut [0])? > 0 {
                return Err(invalid("there are too many literals"));
            }
        }
        if !self.unread.is_empty() || self.offset < self.end {
            return Err(invalid("bytes follow them"));
        }
        Ok(())
    }
}

impl std::fmt::Debug for LiteralReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiteralReader").finish_non_exhaustive()
    }
}

fn failed(code: usize) -> DeltaError {
    invalid(get_error_name(code))
}

fn invalid(text: &str) -> DeltaError {
    DeltaError::Invalid(format!("the delta has wrong literals: {text}"))
}
