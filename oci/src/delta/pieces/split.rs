//! Cuts the contents of a tar into pieces: where they end depends on the first bytes of a content.

use super::zip::{ZipBudget, ZipSplitter};

/// The most bytes of a piece.
pub(in crate::delta) const MAX_PIECE_BYTES: u64 = 8 * 1024 * 1024;
/// The most bytes of a piece of the tail, of which nothing is known.
pub(in crate::delta) const MAX_TAIL_PIECE_BYTES: u64 = 1024 * 1024;

/// The number of bytes of a content that tell its kind.
const MAGIC_BYTES: usize = 4;
/// The header of compiled Python: a magic number, flags, the time and the size of the source. Only
/// the time changes when the same source is installed again.
const PYC_HEADER_BYTES: u64 = 16;

/// Finds the ends of the pieces of one content.
#[derive(Debug)]
pub(in crate::delta) struct ContentSplitter {
    /// The number of bytes to the end of the content.
    left: u64,
    /// The number of bytes of this piece so far.
    piece: u64,
    max_piece: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Unknown(Vec<u8>),
    Plain,
    /// The rest of the header of compiled Python.
    Pyc(u64),
    Zip(ZipSplitter),
}

impl ContentSplitter {
    /// Returns a splitter for a content of `len` bytes.
    pub(in crate::delta) fn new(len: u64) -> Self {
        Self {
            left: len,
            piece: 0,
            max_piece: MAX_PIECE_BYTES,
            kind: Kind::Unknown(Vec::new()),
        }
    }

    /// Returns a splitter for the tail.
    pub(in crate::delta) fn of_tail() -> Self {
        Self {
            left: u64::MAX,
            piece: 0,
            max_piece: MAX_TAIL_PIECE_BYTES,
            kind: Kind::Plain,
        }
    }

    /// Returns how many of the next bytes of the content belong to this piece, and whether the piece
    /// ends after them. A piece without bytes is none.
    pub(in crate::delta) fn advance(
        &mut self,
        bytes: &[u8],
        budget: &mut ZipBudget,
    ) -> (usize, bool) {
        let most = (self.max_piece - self.piece).min(self.left);
        let most = usize::try_from(most).map_or(bytes.len(), |most| most.min(bytes.len()));
        let bytes = &bytes[..most];
        let (len, is_end) = match &mut self.kind {
            Kind::Unknown(magic) => {
                let len = (MAGIC_BYTES - magic.len()).min(bytes.len());
                magic.extend_from_slice(&bytes[..len]);
                let kind = (magic.len() == MAGIC_BYTES).then(|| kind(magic, self.left, len as u64));
                self.kind = kind.unwrap_or_else(|| Kind::Unknown(std::mem::take(magic)));
                (len, false)
            }
            Kind::Plain => (bytes.len(), false),
            Kind::Pyc(left) => {
                let len = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= len as u64;
                let is_end = *left == 0;
                if is_end {
                    self.kind = Kind::Plain;
                }
                (len, is_end)
            }
            Kind::Zip(zip) => zip.advance(bytes, self.left, budget),
        };
        self.left -= len as u64;
        self.piece += len as u64;
        let is_end = is_end || self.piece == self.max_piece || self.left == 0;
        if is_end {
            self.piece = 0;
        }
        (len, is_end)
    }

    /// Ends the content, also before its last byte.
    pub(in crate::delta) fn finish(&mut self, budget: &mut ZipBudget) {
        if let Kind::Zip(zip) = &self.kind {
            zip.finish(budget);
        }
    }
}

/// Returns the kind of a content; `left` is the number of bytes after all but `len` of its first.
fn kind(magic: &[u8], left: u64, len: u64) -> Kind {
    let before = MAGIC_BYTES as u64 - len;
    let size = left.saturating_add(before);
    match magic {
        b"PK\x03\x04" => Kind::Zip(ZipSplitter::after_signature()),
        [_, _, b'\r', b'\n'] if size > PYC_HEADER_BYTES => {
            Kind::Pyc(PYC_HEADER_BYTES - MAGIC_BYTES as u64)
        }
        _ => Kind::Plain,
    }
}
