//! Makes a delta.

use std::io::{self, Read, Seek, Write};

use super::{DecodedBase, DeltaError, LayerIndex};

/// A base, as far as the client has it.
#[derive(Debug)]
pub enum EncodeBase<F> {
    /// Only its index: pieces can be copied.
    Index(LayerIndex),
    /// Its bytes: changed pieces can be patched, too.
    Decoded(DecodedBase<F>),
}

/// What became of the bytes of a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeltaSummary {
    /// The size of the delta in bytes.
    pub size: u64,
    /// The size of the uncompressed layer in bytes.
    pub raw_size: u64,
    /// The number of these bytes that are copied from bases.
    pub copied: u64,
    /// The number of these bytes that are in patch frames.
    pub patched: u64,
}

/// Why no delta was made.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The delta would have more than the given number of bytes.
    #[error("the delta has more than {0} bytes")]
    NotWorthwhile(u64),
    /// The layer or the bases do not allow a delta.
    #[error(transparent)]
    Delta(#[from] DeltaError),
}

/// Makes a delta of at most `max_bytes` bytes, and writes it to `delta`. `open` opens the uncompressed
/// layer, which is read twice, from start to end; `create_scratch` creates an empty file without a
/// name. The same layer and the same bases yield the same bytes. Blocks the thread.
///
/// # Errors
/// [`EncodeError`].
pub fn encode<F: Read + Write + Seek>(
    open: &dyn Fn() -> io::Result<Box<dyn Read>>,
    bases: &mut [EncodeBase<F>],
    create_scratch: &dyn Fn() -> io::Result<F>,
    max_bytes: u64,
    delta: &mut dyn Write,
) -> Result<DeltaSummary, EncodeError> {
    let _ = (open, bases, create_scratch, max_bytes, delta);
    Err(EncodeError::NotWorthwhile(max_bytes))
}
