//! The bytes of an index.

use crate::delta::format::section::Storage;
use crate::delta::format::{table, varint};
use crate::delta::pieces::entries::{MAX_ENTRIES, MAX_NUMBER_BYTES, TarEntries};
use crate::delta::pieces::list::{MAX_PIECES, MIN_HASHED_BYTES, PieceList};
use crate::delta::pieces::split::MAX_PIECE_BYTES;
use crate::delta::{DeltaError, LayerIndex, MAX_HEADER_BYTES, MAX_INDEX_BYTES};

const MAGIC: &[u8] = b"imgsync-index-1\n";
/// The most bytes of the length of a piece.
const MAX_LEN_BYTES: usize = 4;
const HASH_BYTES: usize = 8;

pub(in crate::delta) fn write(index: &LayerIndex) -> Result<Vec<u8>, DeltaError> {
    let (mut lens, mut hashes) = (Vec::new(), Vec::new());
    for (len, hash) in index.pieces.lens.iter().zip(&index.pieces.hashes) {
        varint::put(&mut lens, u64::from(*len));
        if *len >= MIN_HASHED_BYTES {
            hashes.extend_from_slice(&hash.to_be_bytes());
        }
    }
    let mut bytes = MAGIC.to_vec();
    varint::put(&mut bytes, index.raw_size);
    let entries = &index.entries;
    let compressed = Storage::Compressed(&[]);
    let sections = [
        (&*entries.headers, compressed),
        (&entries.flags, compressed),
        (&entries.mtimes, compressed),
        (&entries.sizes, compressed),
        (&lens, compressed),
        // Hashes do not compress.
        (&hashes, Storage::Raw),
    ];
    table::write(&mut bytes, &sections)?;
    if bytes.len() > MAX_INDEX_BYTES {
        return Err(too_large(bytes.len()));
    }
    Ok(bytes)
}

pub(in crate::delta) fn parse(bytes: &[u8]) -> Result<LayerIndex, DeltaError> {
    if bytes.len() > MAX_INDEX_BYTES {
        return Err(too_large(bytes.len()));
    }
    let mut rest = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| invalid("not the index of a layer"))?;
    let raw_size = varint::take(&mut rest)?;
    let maxima = [
        MAX_HEADER_BYTES as usize,
        MAX_ENTRIES,
        MAX_NUMBER_BYTES,
        MAX_NUMBER_BYTES,
        MAX_PIECES * MAX_LEN_BYTES,
        MAX_PIECES * HASH_BYTES,
    ];
    let mut sizes = Vec::new();
    for max in maxima {
        sizes.push(table::take_sizes(&mut rest, max)?);
    }
    let mut sections = Vec::new();
    for size in sizes {
        sections.push(size.take(&mut rest, &[])?);
    }
    let count = sections.len();
    let sections: [Vec<u8>; 6] = sections
        .try_into()
        .map_err(|_| invalid(&format!("{count} sections")))?;
    let [headers, flags, mtimes, sizes, lens, hashes] = sections;
    if !rest.is_empty() {
        return Err(invalid("bytes follow the last section"));
    }
    let entries = TarEntries {
        headers,
        flags,
        mtimes,
        sizes,
    };
    let pieces = parse_pieces(&lens, &hashes)?;
    let content: u64 = pieces.lens.iter().copied().map(u64::from).sum();
    if content != entries.content_size(raw_size)? {
        return Err(invalid("the pieces are not as long as the contents"));
    }
    Ok(LayerIndex {
        raw_size,
        entries,
        pieces,
    })
}

fn parse_pieces(mut lens: &[u8], hashes: &[u8]) -> Result<PieceList, DeltaError> {
    let (hashes, rest) = hashes.as_chunks::<HASH_BYTES>();
    let mut hashes = hashes.iter();
    let mut pieces = PieceList::default();
    while !lens.is_empty() {
        let len = varint::take(&mut lens)?;
        if len == 0 || len > MAX_PIECE_BYTES {
            return Err(invalid("a piece has a wrong length"));
        }
        let len = len as u32;
        let hash = if len < MIN_HASHED_BYTES {
            0
        } else {
            let hash = hashes.next().ok_or_else(|| invalid("a hash is missing"))?;
            u64::from_be_bytes(*hash)
        };
        pieces.push(len, hash)?;
    }
    if hashes.next().is_some() || !rest.is_empty() {
        return Err(invalid("there are more hashes than pieces"));
    }
    Ok(pieces)
}

fn too_large(len: usize) -> DeltaError {
    let text = format!("an index of {len} bytes, where {MAX_INDEX_BYTES} are allowed");
    DeltaError::TooLarge(text)
}

fn invalid(text: &str) -> DeltaError {
    DeltaError::Invalid(format!("index: {text}"))
}
