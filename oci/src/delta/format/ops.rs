//! The operations of a delta: where the next bytes of the contents come from.

use super::varint;
use crate::delta::DeltaError;
use crate::delta::pieces::list::MAX_PIECES;

/// The most bytes of all operations.
pub(in crate::delta) const MAX_OPS_BYTES: usize = 4 * 1024 * 1024;

/// The number of bits for the code of an operation. Five codes are free.
const CODE_BITS: u32 = 3;
const COPY: u64 = 0;
const LITERAL: u64 = 1;
const PATCH: u64 = 2;

/// Where the next bytes of the contents come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::delta) enum DeltaOp {
    /// Pieces of the bases. `first` counts through the pieces of all bases.
    Copy { first: u64, count: u64 },
    /// This number of bytes of the literals.
    Literal(u64),
    /// This number of bytes of the patch frames.
    Patch(u64),
}

/// Writes operations. Joins those that continue the one before.
#[derive(Debug, Default)]
pub(in crate::delta) struct OpWriter {
    bytes: Vec<u8>,
    pending: Option<DeltaOp>,
    /// The piece after the last copy.
    next: u64,
}

impl OpWriter {
    pub(in crate::delta) fn push(&mut self, op: DeltaOp) {
        let joined = match (self.pending, op) {
            (
                Some(DeltaOp::Copy { first, count }),
                DeltaOp::Copy {
                    first: next,
                    count: more,
                },
            ) if first + count == next => Some(DeltaOp::Copy {
                first,
                count: count + more,
            }),
            (Some(DeltaOp::Literal(len)), DeltaOp::Literal(more)) => {
                Some(DeltaOp::Literal(len + more))
            }
            (Some(DeltaOp::Patch(len)), DeltaOp::Patch(more)) => Some(DeltaOp::Patch(len + more)),
            _ => None,
        };
        if joined.is_none() {
            self.flush();
        }
        self.pending = Some(joined.unwrap_or(op));
    }

    fn flush(&mut self) {
        let Some(op) = self.pending.take() else {
            return;
        };
        let (code, count) = match op {
            DeltaOp::Copy { count, .. } => (COPY, count),
            DeltaOp::Literal(len) => (LITERAL, len),
            DeltaOp::Patch(len) => (PATCH, len),
        };
        varint::put(&mut self.bytes, count << CODE_BITS | code);
        if let DeltaOp::Copy { first, count } = op {
            let step = first as i64 - self.next as i64;
            varint::put(&mut self.bytes, varint::zigzag(step));
            self.next = first + count;
        }
    }

    pub(in crate::delta) fn finish(mut self) -> Vec<u8> {
        self.flush();
        self.bytes
    }
}

/// Reads operations.
#[derive(Debug)]
pub(in crate::delta) struct OpReader {
    bytes: Vec<u8>,
    at: usize,
    next: u64,
    /// The number of pieces of all bases.
    piece_count: u64,
    /// The number of pieces that can still be copied. Each is one of the new layer.
    copies: u64,
}

impl OpReader {
    pub(in crate::delta) fn new(bytes: Vec<u8>, piece_count: u64) -> Self {
        Self {
            bytes,
            at: 0,
            next: 0,
            piece_count,
            copies: MAX_PIECES as u64,
        }
    }

    /// Returns the next operation, which has at least one piece or byte; `None` after the last one.
    pub(in crate::delta) fn next(&mut self) -> Result<Option<DeltaOp>, DeltaError> {
        let mut rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        let value = varint::take(&mut rest)?;
        let count = value >> CODE_BITS;
        if count == 0 {
            return Err(invalid("an operation for nothing"));
        }
        let op = match value & ((1 << CODE_BITS) - 1) {
            COPY => {
                let step = varint::unzigzag(varint::take(&mut rest)?);
                let first = self.next.checked_add_signed(step);
                let end = first.and_then(|first| first.checked_add(count));
                let (Some(first), Some(end)) = (first, end) else {
                    return Err(invalid("a piece that does not exist"));
                };
                if end > self.piece_count {
                    return Err(invalid("a piece that does not exist"));
                }
                let copies = self.copies.checked_sub(count);
                self.copies = copies.ok_or_else(|| invalid("too many copies"))?;
                self.next = end;
                DeltaOp::Copy { first, count }
            }
            LITERAL => DeltaOp::Literal(count),
            PATCH => DeltaOp::Patch(count),
            _ => return Err(invalid("an unknown operation")),
        };
        self.at = self.bytes.len() - rest.len();
        Ok(Some(op))
    }
}

fn invalid(text: &str) -> DeltaError {
    DeltaError::Invalid(format!("the delta has {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined() {
        let ops = [
            DeltaOp::Copy { first: 5, count: 1 },
            DeltaOp::Copy { first: 6, count: 2 },
            DeltaOp::Literal(1),
            DeltaOp::Literal(9),
            DeltaOp::Copy { first: 2, count: 1 },
            DeltaOp::Patch(3),
        ];
        let mut writer = OpWriter::default();
        ops.into_iter().for_each(|op| writer.push(op));
        let mut reader = OpReader::new(writer.finish(), 8);
        let found: Vec<_> = std::iter::from_fn(|| reader.next().unwrap()).collect();
        let expected = [
            DeltaOp::Copy { first: 5, count: 3 },
            DeltaOp::Literal(10),
            DeltaOp::Copy { first: 2, count: 1 },
            DeltaOp::Patch(3),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn pieces_outside_of_the_bases_and_unknown_codes_are_errors() {
        let check = |bytes: &[u8]| OpReader::new(bytes.to_vec(), 8).next().map(|_| ());
        let copy = |count: u64, step: i64| {
            let mut bytes = Vec::new();
            varint::put(&mut bytes, count << CODE_BITS | COPY);
            varint::put(&mut bytes, varint::zigzag(step));
            bytes
        };
        assert!(check(&copy(8, 0)).is_ok());
        for (count, step) in [
            (9, 0),
            (1, 8),
            (1, -1),
            (1, i64::MIN),
            (u64::MAX >> 3, i64::MAX),
        ] {
            assert!(check(&copy(count, step)).is_err(), "{count} {step}");
        }
        assert!(check(&[1 << CODE_BITS | 3]).is_err());
        assert!(check(&[LITERAL as u8]).is_err());
        assert!(check(&[0x80]).is_err());
    }
}
