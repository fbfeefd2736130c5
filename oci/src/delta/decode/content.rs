//! Reads the contents of a layer: pieces of the bases, literals, and patch frames.

use std::io::{Read, Seek};

use super::read::shorter;
use crate::delta::format::literals::LiteralReader;
use crate::delta::format::ops::{DeltaOp, OpReader};
use crate::delta::patch::old_pieces::OldPieces;
use crate::delta::patch::reader::PatchReader;
use crate::delta::{DecodedBase, DeltaError};

/// Carries out the operations of a delta.
#[derive(Debug)]
pub(in crate::delta) struct ContentReader<D, F> {
    delta: D,
    bases: Vec<DecodedBase<F>>,
    ops: OpReader,
    literals: LiteralReader,
    patches: PatchReader,
    /// The operation that is being carried out.
    op: DeltaOp,
    /// The number of bytes of the first piece of a copy that were read.
    in_piece: u32,
}

impl<D: Read + Seek, F: Read + Seek> ContentReader<D, F> {
    pub(in crate::delta) fn new(
        delta: D,
        bases: Vec<DecodedBase<F>>,
        ops: OpReader,
        patches: PatchReader,
        literals: LiteralReader,
    ) -> Self {
        Self {
            delta,
            bases,
            ops,
            literals,
            patches,
            op: DeltaOp::Literal(0),
            in_piece: 0,
        }
    }

    /// Fills a part of `buffer`, which is not empty, and returns the number of bytes, at least one.
    pub(in crate::delta) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DeltaError> {
        if self.is_done() {
            self.op = self
                .ops
                .next()?
                .ok_or_else(|| invalid("has too few operations"))?;
        }
        match &mut self.op {
            DeltaOp::Literal(left) => {
                let len = shorter(*left, buffer.len());
                self.literals.read(&mut self.delta, &mut buffer[..len])?;
                *left -= len as u64;
                Ok(len)
            }
            DeltaOp::Patch(left) => {
                let len = shorter(*left, buffer.len());
                let mut old = old_pieces(&mut self.bases);
                let buffer = &mut buffer[..len];
                let len = self.patches.read(&mut self.delta, &mut old, buffer)?;
                *left -= len as u64;
                Ok(len)
            }
            DeltaOp::Copy { .. } => self.copy(buffer),
        }
    }

    fn is_done(&self) -> bool {
        match self.op {
            DeltaOp::Literal(left) | DeltaOp::Patch(left) => left == 0,
            DeltaOp::Copy { count, .. } => count == 0,
        }
    }

    /// Copies as many whole pieces as there is room for, if they are neighbours, or a part of one.
    fn copy(&mut self, buffer: &mut [u8]) -> Result<usize, DeltaError> {
        let DeltaOp::Copy { first, count } = &mut self.op else {
            return Ok(0);
        };
        let (base, piece) = locate(&mut self.bases, *first)?;
        let lens = &base.layout.index.pieces.lens[piece..];
        let starts = &base.layout.starts[piece..];
        let offset = starts[0] + u64::from(self.in_piece);
        let (mut len, mut end) = (0, offset);
        for (piece_len, start) in lens.iter().zip(starts) {
            let left = (piece_len - self.in_piece) as usize;
            if *count == 0 || len == buffer.len() || end != *start + u64::from(self.in_piece) {
                break;
            }
            let part = left.min(buffer.len() - len);
            len += part;
            end += part as u64;
            if part < left {
                self.in_piece += part as u32;
                break;
            }
            self.in_piece = 0;
            (*first, *count) = (*first + 1, *count - 1);
        }
        base.read_at(offset, &mut buffer[..len])?;
        Ok(len)
    }

    /// Checks that everything in the delta was used.
    pub(in crate::delta) fn check_end(&mut self) -> Result<(), DeltaError> {
        if !self.is_done() || self.ops.next()?.is_some() {
            return Err(invalid("describes a larger layer"));
        }
        self.literals.check_end(&mut self.delta)?;
        self.patches.check_end()
    }
}

/// Returns the base that a piece is in, and its number there.
fn locate<F>(
    bases: &mut [DecodedBase<F>],
    piece: u64,
) -> Result<(&mut DecodedBase<F>, usize), DeltaError> {
    let mut piece = piece as usize;
    for base in bases {
        let count = base.layout.starts.len();
        if piece < count {
            return Ok((base, piece));
        }
        piece -= count;
    }
    Err(invalid("copies a piece that does not exist"))
}

fn old_pieces<F: Read + Seek>(bases: &mut [DecodedBase<F>]) -> OldPieces<'_, F> {
    let mut first = 0;
    let numbered = bases.iter_mut().map(|base| {
        let number = first;
        first += base.layout.starts.len() as u32;
        (number, base)
    });
    OldPieces::new(numbered.collect())
}

fn invalid(text: &str) -> DeltaError {
    DeltaError::Invalid(format!("the delta {text}"))
}
