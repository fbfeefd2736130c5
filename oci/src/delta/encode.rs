//! Makes a delta.

use std::io::{self, Read, Seek, Write};

use super::delta_bytes::{self, DeltaStart};
use super::layer_pass::LayerPass;
use super::layout::{LayerLayout, LayoutBuilder};
use super::literals;
use super::matching::match_pieces;
use super::ops::{DeltaOp, OpWriter};
use super::read::check_header_bytes;
use super::{DecodedBase, DeltaError, LayerIndex};

const BUFFER_BYTES: usize = 128 * 1024;

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

impl<F> EncodeBase<F> {
    fn index(&self) -> &LayerIndex {
        match self {
            Self::Index(index) => index,
            Self::Decoded(base) => &base.layout.index,
        }
    }

    fn index_mut(&mut self) -> &mut LayerIndex {
        match self {
            Self::Index(index) => index,
            Self::Decoded(base) => &mut base.layout.index,
        }
    }
}

impl From<io::Error> for EncodeError {
    fn from(error: io::Error) -> Self {
        DeltaError::from(error).into()
    }
}

/// Makes a delta of at most `max_bytes` bytes, and writes it to `delta`. `open` opens the uncompressed
/// layer, which is read twice, from start to end; `create_scratch` creates an empty file without a
/// name. The same layer and the same bases yield the same bytes. Blocks the thread. The bases cannot
/// be used again.
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
    check_header_bytes(bases.iter().map(|base| base.index().header_bytes()).sum())?;
    let new = read_layout(open()?)?;
    let indexes: Vec<_> = bases.iter().map(EncodeBase::index).collect();
    let matches = match_pieces(&new.index, &indexes);
    let (ops, copied) = plan(&new, &matches);
    let raw_size = new.index.raw_size;
    let mut literals = write_literals(open()?, &new, &matches, create_scratch()?, max_bytes)?;

    let start = DeltaStart {
        raw_size,
        base_sizes: indexes.iter().map(|index| index.raw_size).collect(),
        entries: new.index.entries,
        ops,
        patch_size: 0,
    };
    let joined = bases
        .iter_mut()
        .map(|base| std::mem::take(&mut base.index_mut().entries));
    let start = delta_bytes::write(&start, &delta_bytes::join(joined))?;
    let size = start.len() as u64 + literals.stream_position()?;
    if size > max_bytes {
        return Err(EncodeError::NotWorthwhile(max_bytes));
    }
    delta.write_all(&start)?;
    literals.rewind()?;
    io::copy(&mut literals, delta)?;
    Ok(DeltaSummary {
        size,
        raw_size,
        copied,
        patched: 0,
    })
}

fn read_layout(mut layer: Box<dyn Read>) -> Result<LayerLayout, EncodeError> {
    let mut layout = LayoutBuilder::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match layer.read(&mut buffer) {
            Ok(0) => return Ok(layout.finish()?),
            Ok(len) => layout.update(&buffer[..len])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the operations, and the number of bytes that are copied.
fn plan(new: &LayerLayout, matches: &[Option<u32>]) -> (Vec<u8>, u64) {
    let mut ops = OpWriter::default();
    let mut copied = 0;
    for (found, len) in matches.iter().zip(&new.index.pieces.lens) {
        let len = u64::from(*len);
        match found {
            Some(piece) => {
                ops.push(DeltaOp::Copy {
                    first: u64::from(*piece),
                    count: 1,
                });
                copied += len;
            }
            None => ops.push(DeltaOp::Literal(len)),
        }
    }
    (ops.finish(), copied)
}

fn write_literals<F: Read + Write + Seek>(
    layer: Box<dyn Read>,
    new: &LayerLayout,
    matches: &[Option<u32>],
    scratch: F,
    max_bytes: u64,
) -> Result<F, EncodeError> {
    let pieces = new.starts.iter().zip(&new.index.pieces.lens).zip(matches);
    let literals = pieces
        .filter(|(_, found)| found.is_none())
        .map(|(piece, _)| piece);
    let total = literals.clone().map(|(_, len)| u64::from(*len)).sum();
    if total == 0 {
        return Ok(scratch);
    }
    let mut pass = LayerPass::new(layer);
    let mut encoder = literals::compressor(scratch, total)?;
    for (start, len) in literals {
        pass.read(*start, u64::from(*len), |bytes| encoder.write_all(bytes))?;
        if encoder.get_mut().stream_position()? > max_bytes {
            return Err(EncodeError::NotWorthwhile(max_bytes));
        }
    }
    Ok(encoder.finish()?)
}
