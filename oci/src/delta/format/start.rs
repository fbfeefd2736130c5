//! The start of a delta: everything but patch frames and literals, which are read as they are needed.

use std::io::Read;

use super::ops::MAX_OPS_BYTES;
use super::section::Storage;
use super::{table, varint};
use crate::delta::pieces::entries::{MAX_ENTRIES, MAX_NUMBER_BYTES, TarEntries};
use crate::delta::{DeltaError, MAX_BASES, MAX_HEADER_BYTES};

const MAGIC: &[u8] = b"imgsync-delta-1\n";
/// The most bytes of magic line and numbers: 1 + 1 + 3 + 10 + 3, of ten bytes each.
const MAX_START_BYTES: u64 = 256;

/// The numbers at the start of a delta.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::delta) struct DeltaNumbers {
    pub(in crate::delta) raw_size: u64,
    pub(in crate::delta) base_sizes: Vec<u64>,
    /// The number of bytes of the patch frames.
    pub(in crate::delta) patch_size: u64,
}

/// The start of a delta, without the numbers that the reader knows.
#[derive(Debug)]
pub(in crate::delta) struct DeltaStart {
    pub(in crate::delta) entries: TarEntries,
    pub(in crate::delta) ops: Vec<u8>,
    /// The number of bytes of the patch frames, which follow.
    pub(in crate::delta) patch_size: u64,
    /// The number of bytes that were read.
    pub(in crate::delta) len: u64,
}

/// Joins the streams of several bases. The first one is not copied.
pub(in crate::delta) fn join(bases: impl IntoIterator<Item = TarEntries>) -> TarEntries {
    let mut bases = bases.into_iter();
    let mut joined = bases.next().unwrap_or_default();
    for base in bases {
        joined.headers.extend_from_slice(&base.headers);
        joined.flags.extend_from_slice(&base.flags);
        joined.mtimes.extend_from_slice(&base.mtimes);
        joined.sizes.extend_from_slice(&base.sizes);
    }
    joined
}

/// Returns everything before the sections.
pub(in crate::delta) fn write_numbers(numbers: &DeltaNumbers) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    varint::put(&mut bytes, numbers.raw_size);
    varint::put(&mut bytes, numbers.base_sizes.len() as u64);
    for size in &numbers.base_sizes {
        varint::put(&mut bytes, *size);
    }
    varint::put(&mut bytes, numbers.patch_size);
    bytes
}

/// Returns the sections. `bases` are the joined streams of the bases.
pub(in crate::delta) fn write_sections(
    entries: &TarEntries,
    ops: &[u8],
    bases: &TarEntries,
) -> Result<Vec<u8>, DeltaError> {
    let mut bytes = Vec::new();
    let sections = [
        (&*entries.headers, Storage::Compressed(&bases.headers)),
        (&entries.flags, Storage::Compressed(&bases.flags)),
        (&entries.mtimes, Storage::Compressed(&bases.mtimes)),
        (&entries.sizes, Storage::Compressed(&bases.sizes)),
        (ops, Storage::Compressed(&[])),
    ];
    table::write(&mut bytes, &sections)?;
    Ok(bytes)
}

/// Reads the start of a delta, and nothing after it.
/// `bases` are the joined streams of the bases.
///
/// # Errors
/// Also if the delta is for another raw size, or for bases of other sizes.
pub(in crate::delta) fn read(
    mut delta: impl Read,
    expected_raw_size: u64,
    expected_base_sizes: &[u64],
    bases: &TarEntries,
) -> Result<DeltaStart, DeltaError> {
    let mut bytes = Vec::new();
    delta
        .by_ref()
        .take(MAX_START_BYTES)
        .read_to_end(&mut bytes)?;
    let mut rest = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| DeltaError::Invalid("not a delta".to_owned()))?;
    let raw_size = varint::take(&mut rest)?;
    let count = varint::take(&mut rest)?;
    if count > MAX_BASES as u64 {
        let text = format!("the delta has {count} bases, where {MAX_BASES} are allowed");
        return Err(DeltaError::TooLarge(text));
    }
    let mut base_sizes = Vec::new();
    for _ in 0..count {
        base_sizes.push(varint::take(&mut rest)?);
    }
    if raw_size != expected_raw_size {
        return Err(unfit("a layer of another size"));
    }
    if base_sizes != expected_base_sizes {
        return Err(unfit("other bases"));
    }
    let patch_size = varint::take(&mut rest)?;
    let mut sizes = Vec::new();
    for max in [
        MAX_HEADER_BYTES as usize,
        MAX_ENTRIES,
        MAX_NUMBER_BYTES,
        MAX_NUMBER_BYTES,
        MAX_OPS_BYTES,
    ] {
        sizes.push(table::take_sizes(&mut rest, max)?);
    }
    let used = bytes.len() - rest.len();
    let mut source = rest.chain(delta);
    let prefixes = [
        &*bases.headers,
        &bases.flags,
        &bases.mtimes,
        &bases.sizes,
        &[],
    ];
    let mut sections = Vec::new();
    let mut len = used as u64;
    for (size, prefix) in sizes.into_iter().zip(prefixes) {
        len += size.stored as u64;
        sections.push(size.read(&mut source, prefix)?);
    }
    let mut sections = sections.into_iter();
    let mut next = || sections.next().unwrap_or_default();
    let entries = TarEntries {
        headers: next(),
        flags: next(),
        mtimes: next(),
        sizes: next(),
    };
    Ok(DeltaStart {
        entries,
        ops: next(),
        patch_size,
        len,
    })
}

fn unfit(what: &str) -> DeltaError {
    DeltaError::Invalid(format!("the delta is for {what}"))
}
