//! Reads the entries of untrusted tar archives one after the other.
//!
//! The `tar` crate's iterator reads names of any length into memory, accepts a missing end marker,
//! and does not report offsets, so only its parser of header fields is used. Start at
//! [`TarReader`].

mod input;
mod name;
mod pax;

use std::io::{self, Read};

use tar::Header;

use super::tar_header::TAR_BLOCK_BYTES;
use crate::compress::fill;
use crate::image::Error;
pub(in crate::transports) use input::{SeekableInput, StreamInput, TarInput};
pub(in crate::transports) use name::{entry_key, link_key};

/// The longest name or link target, in bytes.
const MAX_ENTRY_NAME_BYTES: u64 = 4096;
/// The largest extended header, in bytes.
const MAX_PAX_BYTES: u64 = 64 * 1024;
/// The most entries of an archive.
const MAX_ENTRIES: usize = 100_000;
/// The most bytes of all names together.
const MAX_TOTAL_NAME_BYTES: usize = 8 * 1024 * 1024;
/// The most bytes of an error message that are read in place of a header.
const MAX_ERROR_MESSAGE_BYTES: u64 = 16 * 1024;

/// An entry of an archive.
#[derive(Debug)]
pub(in crate::transports) struct TarEntry {
    /// The name as a key: checked, and without `.` components.
    pub(in crate::transports) name: String,
    /// The kind.
    pub(in crate::transports) kind: TarEntryKind,
}

/// The kind of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::transports) enum TarEntryKind {
    /// A file.
    File {
        /// The offset of its bytes in the archive.
        offset: u64,
        /// The number of its bytes.
        len: u64,
    },
    /// A link to the entry of this key.
    Link(String),
    /// A folder or a device, without content.
    NoBody,
}

/// A reader of the entries. As a [`Read`], it returns the bytes of the current entry.
pub(in crate::transports) struct TarReader<I> {
    input: I,
    source_name: String,
    /// The bytes that were read from the input.
    position: u64,
    /// The bytes of the current entry that are left, without padding.
    body_left: u64,
    padding_left: u64,
    entry_count: usize,
    name_bytes: usize,
}

/// The extension headers of the next entry.
#[derive(Default, PartialEq, Eq)]
struct ExtendedHeader {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<I: TarInput> TarReader<I> {
    /// Starts at the beginning of `input`; `from` is its name in errors.
    pub(in crate::transports) fn new(input: I, from: &str) -> Self {
        Self {
            input,
            source_name: from.to_owned(),
            position: 0,
            body_left: 0,
            padding_left: 0,
            entry_count: 0,
            name_bytes: 0,
        }
    }

    /// Returns the next entry, skipping the rest of the current one; `None` at the end marker.
    ///
    /// # Errors
    /// Returns [`Error::Truncated`] if the end marker is missing, and an error if the archive is
    /// unsafe or unreadable.
    pub(in crate::transports) fn next(&mut self) -> Result<Option<TarEntry>, Error> {
        let mut extension = ExtendedHeader::default();
        loop {
            let left = self.body_left + self.padding_left;
            let skipped = self.input.skip(left);
            skipped.map_err(|error| self.read_error(error))?;
            self.position += left;
            (self.body_left, self.padding_left) = (0, 0);
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            match header.entry_type().as_byte() {
                b'L' => extension.name = Some(self.read_long_name(&header)?),
                b'K' => extension.link = Some(self.read_long_name(&header)?),
                b'x' => self.read_pax(&header, &mut extension)?,
                b'g' => {
                    // A global header applies to all later entries; in practice it has only comments.
                    let mut global = ExtendedHeader::default();
                    self.read_pax(&header, &mut global)?;
                    if global != ExtendedHeader::default() {
                        return Err(self.malformed("names or sizes for all entries at once"));
                    }
                }
                kind => return self.entry(&header, kind, extension).map(Some),
            }
        }
    }

    /// Reads the rest of the input after the end marker. The writer of a pipe expects that, and a
    /// daemon may have put an error message there.
    ///
    /// # Errors
    /// Returns the error of the input, and [`Error::EmbeddedError`].
    pub(in crate::transports) fn finish(mut self) -> Result<(), Error> {
        let mut block = [0; TAR_BLOCK_BYTES as usize];
        loop {
            let len = fill(&mut self.input, &mut block).map_err(|error| self.read_error(error))?;
            if len == 0 {
                return Ok(());
            }
            if block[..len].iter().any(|byte| *byte != 0) {
                self.check_embedded_error(&block[..len])?;
                break;
            }
        }
        // tar ignores everything after the end marker.
        let rest = io::copy(&mut self.input, &mut io::sink());
        rest.map(drop).map_err(|error| self.read_error(error))
    }

    /// Returns the next header; `None` at the end marker.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let len = fill(&mut self.input, block).map_err(|error| self.read_error(error))?;
        let offset = self.position;
        self.position += len as u64;
        let is_complete = len as u64 == TAR_BLOCK_BYTES;
        if is_complete && block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if is_complete && has_valid_checksum(&header) {
            return Ok(Some(header));
        }
        let block = &header.as_bytes()[..len];
        self.check_embedded_error(block)?;
        Err(match (offset, len) {
            (0, 0) => Error::Empty {
                from: self.source_name.clone(),
            },
            (0, _) => match compression(block) {
                Some(kind) => Error::CompressedArchive {
                    from: self.source_name.clone(),
                    kind,
                },
                None => self.malformed("it is not a tar archive"),
            },
            _ if is_complete => self.malformed(format!("no valid header at byte {offset}")),
            _ => self.read_error(io::ErrorKind::UnexpectedEof.into()),
        })
    }

    /// Checks for the error message that a daemon writes in place of a header: it answers an export
    /// with status 200 before it knows whether the export succeeds.
    fn check_embedded_error(&mut self, start: &[u8]) -> Result<(), Error> {
        #[derive(serde::Deserialize)]
        struct ErrorMessage {
            #[serde(alias = "error")]
            message: String,
        }
        if !start.starts_with(b"{") {
            return Ok(());
        }
        let mut text = start.to_vec();
        let mut rest = self.input.by_ref().take(MAX_ERROR_MESSAGE_BYTES);
        let read = rest.read_to_end(&mut text);
        read.map_err(|error| self.read_error(error))?;
        let mut values = serde_json::Deserializer::from_slice(&text).into_iter();
        match values.next() {
            Some(Ok(ErrorMessage { message })) => Err(Error::EmbeddedError {
                from: self.source_name.clone(),
                message,
            }),
            _ => Ok(()),
        }
    }

    /// Reads a long name in the format of GNU tar, without the zero byte that may end it.
    fn read_long_name(&mut self, header: &Header) -> Result<Vec<u8>, Error> {
        let mut name = self.read_extension_body(header, MAX_ENTRY_NAME_BYTES)?;
        name.pop_if(|byte| *byte == 0);
        Ok(name)
    }

    fn read_pax(&mut self, header: &Header, extension: &mut ExtendedHeader) -> Result<(), Error> {
        let records = self.read_extension_body(header, MAX_PAX_BYTES)?;
        pax::read(&records, extension).map_err(|reason| self.malformed(reason))
    }

    fn read_extension_body(&mut self, header: &Header, limit: u64) -> Result<Vec<u8>, Error> {
        let len = self.size(header)?;
        if len > limit {
            let what = format!("an entry's name or extended header of {len} bytes");
            return Err(Error::too_large(
                &self.source_name,
                what,
                format!("{limit} bytes"),
            ));
        }
        self.begin_body(len)?;
        let mut body = Vec::new();
        self.read_to_end(&mut body)
            .map_err(|error| self.read_error(error))?;
        Ok(body)
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: u8,
        extension: ExtendedHeader,
    ) -> Result<TarEntry, Error> {
        let name = extension.name.unwrap_or_else(|| header.path_bytes().into());
        let is_folder = name.ends_with(b"/");
        let name = entry_key(&name).ok_or_else(|| self.unsafe_name(&name))?;
        self.entry_count += 1;
        self.name_bytes += name.len();
        if self.entry_count > MAX_ENTRIES || self.name_bytes > MAX_TOTAL_NAME_BYTES {
            let limit =
                format!("{MAX_ENTRIES} entries, with names of {MAX_TOTAL_NAME_BYTES} bytes");
            return Err(Error::too_large(
                &self.source_name,
                "the number of entries",
                limit,
            ));
        }
        // Only files have bodies, as in the tar package of Go, which Docker uses.
        let kind = match kind {
            b'0' | b'7' | 0 => {
                let len = extension.size.map_or_else(|| self.size(header), Ok)?;
                let offset = self.position;
                if is_folder && len > 0 {
                    return Err(self.malformed(format!("the folder {name} has content")));
                }
                self.begin_body(len)?;
                if is_folder {
                    TarEntryKind::NoBody
                } else {
                    TarEntryKind::File { offset, len }
                }
            }
            b'1' | b'2' => {
                let link = extension
                    .link
                    .or_else(|| header.link_name_bytes().map(Into::into));
                let link = link.unwrap_or_default();
                let base = (kind == b'2').then_some(&*name);
                let target = link_key(base, &link).ok_or_else(|| {
                    let link = String::from_utf8_lossy(&link);
                    self.unsafe_name(format!("{name} -> {link}").as_bytes())
                });
                TarEntryKind::Link(target?)
            }
            b'3' | b'4' | b'5' | b'6' => TarEntryKind::NoBody,
            other => {
                let kind = other.escape_ascii();
                return Err(self.malformed(format!("{name} is an entry of type '{kind}'")));
            }
        };
        Ok(TarEntry { name, kind })
    }

    /// Records that a body of `len` bytes begins here.
    fn begin_body(&mut self, len: u64) -> Result<(), Error> {
        // No file has more bytes, and no sum of positions overflows.
        let end = self.position.checked_add(len);
        if end.is_none_or(|end| end > i64::MAX as u64) {
            return Err(self.malformed("an entry has an invalid size"));
        }
        self.body_left = len;
        self.padding_left = len.next_multiple_of(TAR_BLOCK_BYTES) - len;
        Ok(())
    }

    fn size(&self, header: &Header) -> Result<u64, Error> {
        let size = header.entry_size();
        size.map_err(|error| self.malformed(error.to_string()))
    }

    fn malformed(&self, reason: impl Into<String>) -> Error {
        Error::malformed(&self.source_name, reason)
    }

    fn unsafe_name(&self, name: &[u8]) -> Error {
        const MAX_SHOWN_NAME_BYTES: usize = 200;
        let shown = &name[..name.len().min(MAX_SHOWN_NAME_BYTES)];
        Error::UnsafeName {
            from: self.source_name.clone(),
            name: String::from_utf8_lossy(shown).into_owned(),
        }
    }

    /// Converts an error of the input.
    pub(in crate::transports) fn read_error(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::Truncated {
                from: self.source_name.clone(),
                reason: format!(
                    "it ends within or after an entry, near byte {}",
                    self.position
                ),
            },
            // The decoder of an archive that is compressed as a whole reports this kind.
            io::ErrorKind::InvalidData => self.malformed(error.to_string()),
            _ => Error::read(&self.source_name, error),
        }
    }
}

/// Reads the body of the current entry. Fails if the input ends early.
impl<I: Read> Read for TarReader<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.body_left).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        if len == 0 {
            return Ok(0);
        }
        match self.input.read(&mut buffer[..len])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => {
                self.body_left -= len as u64;
                self.position += len as u64;
                Ok(len)
            }
        }
    }
}

/// Returns whether a header's checksum is right: the sum of its bytes, with its own field as spaces.
fn has_valid_checksum(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let others = bytes[..148].iter().chain(&bytes[156..]);
    let sum: u32 = others.map(|byte| u32::from(*byte)).sum();
    header
        .cksum()
        .is_ok_and(|stated| stated == sum + 8 * u32::from(b' '))
}

/// Returns the program that has compressed a file, by the first bytes.
fn compression(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        _ => None,
    }
}
