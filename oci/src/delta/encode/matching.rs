//! Finds the pieces of a new layer in its bases.

use crate::delta::LayerIndex;
use crate::delta::patch::plan::PieceSource;
use crate::delta::pieces::list::MIN_HASHED_BYTES;

/// The most pieces without hashes that are passed over to continue a copy.
const MAX_SKIPPED: usize = 2;

/// Returns, for each piece of the new layer, an equal piece of the bases; short pieces and new ones are
/// literals. Numbers count through the pieces of all bases.
///
/// Where several pieces are equal, the one after the last that was found is preferred, so that
/// neighbours become one copy; then the first one.
pub(in crate::delta) fn match_pieces(new: &LayerIndex, bases: &[&LayerIndex]) -> Vec<PieceSource> {
    let lens: Vec<u32> = bases
        .iter()
        .flat_map(|base| &base.pieces.lens)
        .copied()
        .collect();
    let hashes: Vec<u64> = bases
        .iter()
        .flat_map(|base| &base.pieces.hashes)
        .copied()
        .collect();
    let mut sorted: Vec<u32> = (0..lens.len() as u32).collect();
    sorted.retain(|piece| lens[*piece as usize] >= MIN_HASHED_BYTES);
    let key = |piece: u32| (hashes[piece as usize], lens[piece as usize]);
    sorted.sort_by_key(|piece| (key(*piece), *piece));

    let is_equal = |piece: usize, len: u32, hash: u64| {
        lens.get(piece) == Some(&len) && hashes.get(piece) == Some(&hash)
    };
    let find = |len: u32, hash: u64| {
        let start = sorted.partition_point(|piece| key(*piece) < (hash, len));
        let first = sorted.get(start).copied();
        first.filter(|piece| key(*piece) == (hash, len))
    };
    let mut next = 0_usize;
    let pieces = new.pieces.lens.iter().zip(&new.pieces.hashes);
    let matches = pieces.map(|(len, hash)| {
        if *len < MIN_HASHED_BYTES {
            return PieceSource::Literal;
        }
        let neighbour = (next..=next + MAX_SKIPPED).find(|piece| is_equal(*piece, *len, *hash));
        let found = neighbour
            .map(|piece| piece as u32)
            .or_else(|| find(*len, *hash));
        if let Some(piece) = found {
            next = piece as usize + 1;
        }
        found.map_or(PieceSource::Literal, PieceSource::Copy)
    });
    matches.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::pieces::entries::TarEntries;
    use crate::delta::pieces::list::{MAX_PIECES, PieceList};

    fn layer(hashes: &[u64]) -> LayerIndex {
        LayerIndex {
            raw_size: 0,
            entries: TarEntries::default(),
            pieces: PieceList {
                // Hash 0 stands for a short piece.
                lens: hashes.iter().map(|hash| 100.min(*hash as u32)).collect(),
                hashes: hashes.to_vec(),
            },
        }
    }

    #[test]
    fn copies_are_continued_where_pieces_repeat() {
        let bases = [&layer(&[701, 702, 0, 701, 703]), &layer(&[704, 703])];
        let new = layer(&[701, 702, 0, 701, 703, 704, 703, 705, 702]);
        let found = match_pieces(&new, &bases)
            .into_iter()
            .map(|source| match source {
                PieceSource::Copy(piece) => Some(piece),
                PieceSource::Literal | PieceSource::Patch => None,
            });
        let expected = [
            Some(0),
            Some(1),
            None,
            Some(3),
            Some(4),
            Some(5),
            Some(6),
            None,
            Some(1),
        ];
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    /// Takes hours if each piece is compared with all of its hash.
    #[test]
    fn an_index_with_equal_hashes() {
        let count = MAX_PIECES as u32;
        let lens = |start: u32| LayerIndex {
            raw_size: 0,
            entries: TarEntries::default(),
            pieces: PieceList {
                lens: (start..start + count).collect(),
                hashes: vec![7; count as usize],
            },
        };
        let found = match_pieces(&lens(100 + count / 2), &[&lens(100)]);
        let copied = found
            .iter()
            .filter(|source| matches!(source, PieceSource::Copy(_)));
        assert_eq!(copied.count() as u32, count / 2);
        assert_eq!(found[0], PieceSource::Copy(count / 2));
    }
}
