//! Writes the bytes of a new layer that are not copied: literals and patch frames.

use std::io::{Read, Seek, Write};

use super::layer_pass::LayerPass;
use crate::delta::format::literals;
use crate::delta::patch::old_pieces::OldPieces;
use crate::delta::patch::plan::{PatchFrame, PieceSource};
use crate::delta::patch::writer::PatchWriter;
use crate::delta::pieces::layout::LayerLayout;
use crate::delta::{EncodeBase, EncodeError};

/// The files with patch frames and literals, in the order in which they are in a delta.
#[derive(Debug)]
pub(in crate::delta) struct Residue<F> {
    pub(in crate::delta) files: [F; 2],
    pub(in crate::delta) patch_size: u64,
    pub(in crate::delta) literal_size: u64,
}

/// Reads the layer, and writes the pieces that are not copied to the scratch files.
///
/// # Errors
/// [`EncodeError::NotWorthwhile`] for more than `max_bytes`.
pub(in crate::delta) fn write_residue<F: Read + Write + Seek>(
    layer: Box<dyn Read>,
    new: &LayerLayout,
    sources: &[PieceSource],
    frames: Vec<PatchFrame>,
    bases: &mut [EncodeBase<F>],
    [patch_file, literal_file]: [F; 2],
    max_bytes: u64,
) -> Result<Residue<F>, EncodeError> {
    let pieces = new.starts.iter().zip(&new.index.pieces.lens).zip(sources);
    let literals = pieces
        .clone()
        .filter(|(_, source)| **source == PieceSource::Literal);
    let literal_len = literals.map(|((_, len), _)| u64::from(*len)).sum();
    let mut old = old_pieces(bases);
    let mut pass = LayerPass::new(layer);
    let mut patches = PatchWriter::new(frames, patch_file);
    let mut encoder = literals::compressor(literal_file, literal_len)?;
    for ((start, len), source) in pieces {
        let len = u64::from(*len);
        match source {
            PieceSource::Copy(_) => continue,
            PieceSource::Literal => pass.read(*start, len, |bytes| encoder.write_all(bytes))?,
            PieceSource::Patch => {
                pass.read(*start, len, |bytes| {
                    patches.add(bytes);
                    Ok(())
                })?;
                patches.end_piece(&mut old)?;
            }
        }
        if encoder.get_mut().stream_position()? + patches.size > max_bytes {
            return Err(EncodeError::NotWorthwhile(max_bytes));
        }
    }
    let mut literal_file = encoder.finish()?;
    Ok(Residue {
        literal_size: literal_file.stream_position()?,
        patch_size: patches.size,
        files: [patches.finish()?, literal_file],
    })
}

/// Returns the bases whose bytes are known.
fn old_pieces<F: Read + Seek>(bases: &mut [EncodeBase<F>]) -> OldPieces<'_, F> {
    let mut first = 0;
    let mut decoded = Vec::new();
    for base in bases {
        let number = first;
        first += base.index().pieces.lens.len() as u32;
        if let EncodeBase::Decoded(base) = base {
            decoded.push((number, base));
        }
    }
    OldPieces::new(decoded)
}
