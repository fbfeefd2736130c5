//! Makes a delta.

pub(super) mod layer_pass;
mod matching;
mod residue;

use std::io::{self, Read, Seek, Write};

use crate::delta::format::ops::{DeltaOp, OpWriter};
use crate::delta::format::start::{self, DeltaNumbers};
use crate::delta::patch::budget::PatchBudget;
use crate::delta::patch::plan::{OldFiles, PieceSource, plan_patches};
use crate::delta::pieces::entries::TarEntries;
use crate::delta::pieces::layout::{LayerLayout, LayoutBuilder};
use crate::delta::{DecodedBase, DeltaError, LayerIndex, check_bases};
use matching::match_pieces;
use residue::write_residue;

const BUFFER_BYTES: usize = 128 * 1024;

/// A base, as far as the client has it.
#[derive(Debug)]
pub enum EncodeBase<F> {
    /// Only its index: pieces can be copied.
    Index(LayerIndex),
    /// Its bytes: changed pieces can be patched, too.
    Decoded(DecodedBase<F>),
}

/// The numbers of bytes of a layer that were copied, patched and sent.
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
    /// Returns the index.
    pub fn index(&self) -> &LayerIndex {
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
    check_bases(bases.iter().map(EncodeBase::index))?;
    let mut new = read_layout(open()?)?;
    let indexes: Vec<_> = bases.iter().map(EncodeBase::index).collect();
    let base_sizes: Vec<_> = indexes.iter().map(|index| index.raw_size).collect();
    let mut sources = match_pieces(&new.index, &indexes);
    let raw_size = new.index.raw_size;
    let budget = PatchBudget::new(raw_size, &base_sizes);
    let frames = plan_patches(&new, &mut sources, &old_files(bases), budget);
    let mut summary = DeltaSummary {
        raw_size,
        ..DeltaSummary::default()
    };
    let ops = plan_ops(&new, &sources, &mut summary);
    // The headers are not needed any more when the patch frames need memory.
    let sections = write_sections(&std::mem::take(&mut new.index.entries), &ops, bases)?;
    let scratch = [create_scratch()?, create_scratch()?];
    let residue = write_residue(open()?, &new, &sources, frames, bases, scratch, max_bytes)?;

    let numbers = start::write_numbers(&DeltaNumbers {
        raw_size,
        base_sizes,
        patch_size: residue.patch_size,
    });
    let start = (numbers.len() + sections.len()) as u64;
    summary.size = start + residue.patch_size + residue.literal_size;
    if summary.size > max_bytes {
        return Err(EncodeError::NotWorthwhile(max_bytes));
    }
    delta.write_all(&numbers)?;
    delta.write_all(&sections)?;
    for mut file in residue.files {
        file.rewind()?;
        io::copy(&mut file, delta)?;
    }
    Ok(summary)
}

/// Returns the files of the bases whose bytes are known.
fn old_files<F>(bases: &[EncodeBase<F>]) -> OldFiles {
    let mut files = OldFiles::default();
    for base in bases {
        let layout = match base {
            EncodeBase::Index(_) => None,
            EncodeBase::Decoded(base) => Some(&base.layout),
        };
        files.add(&base.index().pieces.lens, layout);
    }
    files
}

/// Returns the sections of the delta. The entries of the bases are gone then.
fn write_sections<F>(
    new: &TarEntries,
    ops: &[u8],
    bases: &mut [EncodeBase<F>],
) -> Result<Vec<u8>, DeltaError> {
    let entries = bases
        .iter_mut()
        .map(|base| std::mem::take(&mut base.index_mut().entries));
    start::write_sections(new, ops, &start::join(entries))
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

/// Returns the operations, and counts their bytes.
fn plan_ops(new: &LayerLayout, sources: &[PieceSource], summary: &mut DeltaSummary) -> Vec<u8> {
    let mut ops = OpWriter::default();
    for (source, len) in sources.iter().zip(&new.index.pieces.lens) {
        let len = u64::from(*len);
        ops.push(match source {
            PieceSource::Copy(piece) => {
                summary.copied += len;
                DeltaOp::Copy {
                    first: u64::from(*piece),
                    count: 1,
                }
            }
            PieceSource::Patch => {
                summary.patched += len;
                DeltaOp::Patch(len)
            }
            PieceSource::Literal => DeltaOp::Literal(len),
        });
    }
    ops.finish()
}
