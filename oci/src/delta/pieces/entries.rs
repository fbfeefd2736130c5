//! The headers of a tar as four streams: what an index and a delta have of them.

use super::header::{
    BLOCK_BYTES, Block, ChecksumStyle, LIFTED_BYTES, LiftedHeader, MAX_OCTAL, content_len, lift,
    restore,
};
use super::walk::padding;
use crate::delta::format::{large_buffer, varint};
use crate::delta::{DeltaError, MAX_HEADER_BYTES};

/// The header is in the stream as it is.
const RAW: u8 = 1;
/// The padding is part of the content, because it is not zero.
const PADDING_IS_CONTENT: u8 = 2;
/// The checksum has seven digits.
const SEVEN_DIGITS: u8 = 4;

/// The most entries.
pub(in crate::delta) const MAX_ENTRIES: usize = MAX_HEADER_BYTES as usize / LIFTED_BYTES;
/// The most bytes of a stream of numbers. A number in a header has 33 bits, and a difference 34.
pub(in crate::delta) const MAX_NUMBER_BYTES: usize = MAX_ENTRIES * 5;

/// The entries of a tar, without their contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::delta) struct TarEntries {
    /// The headers: 480 bytes of those that are lifted, 512 of the others.
    pub(in crate::delta) headers: Vec<u8>,
    /// A byte for each entry.
    pub(in crate::delta) flags: Vec<u8>,
    /// The modification times of the lifted headers, as differences to the one before.
    pub(in crate::delta) mtimes: Vec<u8>,
    /// The sizes in the lifted headers.
    pub(in crate::delta) sizes: Vec<u8>,
}

/// An entry of a tar.
#[derive(Debug)]
pub(in crate::delta) struct TarEntry {
    pub(in crate::delta) header: Block,
    /// The number of content bytes, with the padding if that is not zero.
    pub(in crate::delta) content_len: u64,
    /// The number of zero bytes after the content.
    pub(in crate::delta) padding: usize,
}

/// Writes entries.
#[derive(Debug, Default)]
pub(in crate::delta) struct EntryWriter {
    pub(in crate::delta) entries: TarEntries,
    mtime: i64,
}

impl EntryWriter {
    pub(in crate::delta) fn push(&mut self, header: &Block) -> Result<(), DeltaError> {
        if self.entries.headers.len() + BLOCK_BYTES > MAX_HEADER_BYTES as usize {
            let text = format!("the layer has more than {MAX_HEADER_BYTES} bytes of tar headers");
            return Err(DeltaError::TooLarge(text));
        }
        let headers = &mut self.entries.headers;
        large_buffer::reserve(headers, headers.len() + BLOCK_BYTES);
        let Some(lifted) = lift(header) else {
            self.entries.headers.extend_from_slice(header);
            self.entries.flags.push(RAW);
            return Ok(());
        };
        self.entries.headers.extend_from_slice(&lifted.rest);
        self.entries.flags.push(match lifted.style {
            ChecksumStyle::SixDigits => 0,
            ChecksumStyle::SevenDigits => SEVEN_DIGITS,
        });
        let mtime = lifted.mtime as i64;
        varint::put(&mut self.entries.mtimes, varint::zigzag(mtime - self.mtime));
        self.mtime = mtime;
        varint::put(&mut self.entries.sizes, lifted.size);
        Ok(())
    }

    /// Makes the padding of the last entry a part of its content.
    pub(in crate::delta) fn keep_padding(&mut self) {
        if let Some(flag) = self.entries.flags.last_mut() {
            *flag |= PADDING_IS_CONTENT;
        }
    }
}

impl TarEntries {
    /// Returns the number of content bytes of a tar of `raw_size` bytes, the tail included.
    ///
    /// # Errors
    /// [`DeltaError::Invalid`] if the streams do not fit to each other or to `raw_size`.
    pub(in crate::delta) fn content_size(&self, raw_size: u64) -> Result<u64, DeltaError> {
        let mut cursor = EntryCursor::default();
        let (mut left, mut content) = (raw_size, 0);
        while let Some(entry) = cursor.next(self)? {
            left = left
                .checked_sub(BLOCK_BYTES as u64)
                .ok_or_else(|| invalid("the headers are larger than the layer"))?;
            // The last content and padding can be cut short.
            let len = entry.content_len.min(left);
            content += len;
            left = (left - len).saturating_sub(entry.padding as u64);
        }
        Ok(content + left)
    }
}

/// Reads entries one after the other.
#[derive(Debug, Default)]
pub(in crate::delta) struct EntryCursor {
    flag: usize,
    header: usize,
    mtime: usize,
    size: usize,
    last_mtime: i64,
}

impl EntryCursor {
    /// Returns the next entry; `None` after the last one.
    pub(in crate::delta) fn next(
        &mut self,
        entries: &TarEntries,
    ) -> Result<Option<TarEntry>, DeltaError> {
        let Some(flags) = entries.flags.get(self.flag).copied() else {
            let rest = [
                entries.headers.len() - self.header,
                entries.mtimes.len() - self.mtime,
                entries.sizes.len() - self.size,
            ];
            return match rest {
                [0, 0, 0] => Ok(None),
                _ => Err(invalid("there are more headers than flags")),
            };
        };
        self.flag += 1;
        let header = match flags & !PADDING_IS_CONTENT {
            RAW => *take(&entries.headers, &mut self.header)?,
            0 => self.restore(entries, ChecksumStyle::SixDigits)?,
            SEVEN_DIGITS => self.restore(entries, ChecksumStyle::SevenDigits)?,
            _ => return Err(invalid("an entry has an unknown flag")),
        };
        let len = content_len(&header).ok_or_else(|| invalid("a header has a wrong checksum"))?;
        let padding = padding(len);
        let keeps_padding = flags & PADDING_IS_CONTENT != 0;
        Ok(Some(TarEntry {
            header,
            content_len: if keeps_padding {
                len + padding as u64
            } else {
                len
            },
            padding: if keeps_padding { 0 } else { padding },
        }))
    }

    fn restore(&mut self, entries: &TarEntries, style: ChecksumStyle) -> Result<Block, DeltaError> {
        let rest = *take(&entries.headers, &mut self.header)?;
        let step = varint::unzigzag(take_number(&entries.mtimes, &mut self.mtime)?);
        let mtime = self.last_mtime.checked_add(step);
        let mtime = mtime.filter(|mtime| (0..=MAX_OCTAL as i64).contains(mtime));
        self.last_mtime = mtime.ok_or_else(|| invalid("a time is out of range"))?;
        let header = LiftedHeader {
            rest,
            size: take_number(&entries.sizes, &mut self.size)?,
            mtime: self.last_mtime as u64,
            style,
        };
        restore(&header).ok_or_else(|| invalid("a size is out of range"))
    }
}

fn take<'a, const N: usize>(bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8; N], DeltaError> {
    let part = bytes[*at..].first_chunk();
    let part = part.ok_or_else(|| invalid("a header is missing"))?;
    *at += N;
    Ok(part)
}

fn take_number(bytes: &[u8], at: &mut usize) -> Result<u64, DeltaError> {
    let mut rest = &bytes[*at..];
    let value = varint::take(&mut rest)?;
    *at = bytes.len() - rest.len();
    Ok(value)
}

fn invalid(text: &str) -> DeltaError {
    DeltaError::Invalid(text.to_owned())
}
