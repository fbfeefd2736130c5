//! Sections of an index or a delta: bytes that are stored as they are, or as a zstd frame.

use std::borrow::Cow;

use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_error_name};

use super::large_buffer;
use crate::delta::DeltaError;

/// The levels that are tried.
const LEVELS: &[i32] = &[3, 9, HIGH_LEVEL];
/// The level that takes twenty times as long.
const HIGH_LEVEL: i32 = 19;
/// The most bytes of content and prefix for which it is tried in any case.
const MAX_HIGH_LEVEL_BYTES: usize = 256 * 1024;
/// The size of a section from which on it is worth it with [`Storage::CompressedWell`].
const MIN_HIGH_LEVEL_BYTES: usize = 16 * 1024;
/// The most bytes of a section as it is stored. The largest sections are headers, which compress well.
pub(in crate::delta) const MAX_STORED_BYTES: usize = 8 * 1024 * 1024;
/// If the first level yields more bytes, the others are not tried: they would not halve it.
const MAX_FIRST_BYTES: usize = 2 * MAX_STORED_BYTES;
/// Bounds for the tables of the compressor, which would have 100 MB for the largest windows.
const MAX_TABLE_LOG: u32 = 21;
/// The smallest and the largest window of the library.
const WINDOW_LOGS: std::ops::RangeInclusive<u32> = 10..=27;

/// The result of the library if the buffer has no room for the frame.
const TOO_SMALL: usize = (ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize).wrapping_neg();

/// How a section is stored.
#[derive(Debug, Clone, Copy)]
pub(in crate::delta) enum Storage<'a> {
    /// As it is.
    Raw,
    /// As a zstd frame with these bytes before it.
    Compressed(&'a [u8]),
    /// As a smaller zstd frame that takes more time, unless it is small anyway.
    CompressedWell(&'a [u8]),
}

/// Returns the content as it is stored: as it is, if compression does not make it shorter. The caller
/// checks that it has at most [`MAX_STORED_BYTES`].
pub(in crate::delta) fn compress<'a>(
    content: &'a [u8],
    storage: Storage<'_>,
) -> Result<Cow<'a, [u8]>, DeltaError> {
    let (prefix, is_worth_it) = match storage {
        Storage::Raw => return Ok(content.into()),
        Storage::Compressed(prefix) => (prefix, false),
        Storage::CompressedWell(prefix) => (prefix, true),
    };
    let mut best = Cow::Borrowed(content);
    let mut max = MAX_FIRST_BYTES;
    let is_small = content.len() + prefix.len() <= MAX_HIGH_LEVEL_BYTES;
    for level in LEVELS {
        let is_high = *level == HIGH_LEVEL;
        let is_wanted = is_small || is_worth_it && best.len() > MIN_HIGH_LEVEL_BYTES;
        if is_high && !is_wanted {
            continue;
        }
        let frame = compress_at(*level, content, prefix, max)?;
        if let Some(frame) = frame.filter(|frame| frame.len() < best.len()) {
            best = frame.into();
        }
        if best.len() > MAX_FIRST_BYTES {
            break;
        }
        max = MAX_STORED_BYTES;
    }
    Ok(best)
}

/// Returns a frame; `None` if it has more than `max` bytes. No more memory than that is taken for it.
fn compress_at(
    level: i32,
    content: &[u8],
    prefix: &[u8],
    max: usize,
) -> Result<Option<Vec<u8>>, DeltaError> {
    let total = (content.len() + prefix.len()).max(1);
    // Less than the prefix, and nothing of it is found.
    let window = (total.ilog2() + 1).clamp(*WINDOW_LOGS.start(), *WINDOW_LOGS.end());
    let table = window.min(MAX_TABLE_LOG);
    let mut context = CCtx::try_create().ok_or_else(no_memory)?;
    let parameters = [
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(window),
        CParameter::HashLog(table),
        CParameter::ChainLog(table),
        CParameter::EnableLongDistanceMatching(true),
    ];
    for parameter in parameters {
        context.set_parameter(parameter).map_err(failed)?;
    }
    context.ref_prefix(prefix).map_err(failed)?;
    let mut frame = Vec::with_capacity(compress_bound(content.len()).min(max));
    match context.compress2(&mut frame, content) {
        Ok(_) => {
            frame.shrink_to_fit();
            Ok(Some(frame))
        }
        Err(TOO_SMALL) => Ok(None),
        Err(code) => Err(failed(code)),
    }
}

/// Returns the content of a section. The caller bounds `len`, the size of the content.
pub(in crate::delta) fn decompress(
    stored: &[u8],
    len: usize,
    prefix: &[u8],
) -> Result<Vec<u8>, DeltaError> {
    let mut content = Vec::new();
    decompress_into(&mut content, stored, len, prefix)?;
    Ok(content)
}

/// Replaces `content` by the content of a section, as [`decompress`] does. Takes no memory if `content`
/// has the capacity.
pub(in crate::delta) fn decompress_into(
    content: &mut Vec<u8>,
    stored: &[u8],
    len: usize,
    prefix: &[u8],
) -> Result<(), DeltaError> {
    large_buffer::reserve(content, len);
    if stored.len() == len {
        content.clear();
        content.extend_from_slice(stored);
        return Ok(());
    }
    content.resize(len, 0);
    let mut context = DCtx::try_create().ok_or_else(no_memory)?;
    context.ref_prefix(prefix).map_err(failed)?;
    // One call writes everything into `content`, so the window of the frame needs no memory.
    let written = context.decompress(&mut content[..], stored);
    if written.map_err(failed)? != len {
        return Err(DeltaError::Invalid(
            "a section has another size than its table says".to_owned(),
        ));
    }
    Ok(())
}

fn failed(code: usize) -> DeltaError {
    DeltaError::Invalid(format!("zstd: {}", get_error_name(code)))
}

fn no_memory() -> DeltaError {
    DeltaError::Io(std::io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::tests::bytes;

    #[test]
    fn what_does_not_compress_is_given_up() {
        let noise = bytes::noise(1, MAX_FIRST_BYTES + 1);
        for level in &LEVELS[..2] {
            let frame = compress_at(*level, &noise, &[], MAX_FIRST_BYTES).unwrap();
            assert_eq!(frame, None);
        }
        let stored = compress(&noise, Storage::CompressedWell(&[])).unwrap();
        assert!(matches!(stored, Cow::Borrowed(_)), "a frame is kept");
        // The library does not use a prefix that overlaps with the content.
        let prefix = noise.clone();
        let with_prefix = compress(&noise, Storage::Compressed(&prefix)).unwrap();
        assert!(with_prefix.len() < 100_000);
        assert!(decompress(&with_prefix, noise.len(), &noise).unwrap() == noise);
    }
}
