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
use crate::image::Error;
pub(in crate::transports) use input::{SeekableInput, StreamInput, TarInput, fill};
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
pub(super) struct TarEntry {
    /// The name as a key: checked, and without `.` components.
    pub(super) name: String,
    /// The kind.
    pub(super) kind: TarEntryKind,
}

/// The kind of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TarEntryKind {
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

/// A reader of the entries.
pub(super) struct TarReader<I> {
    input: I,
    source_name: String,
    /// The bytes that were read from the input.
    position: u64,
    /// The bytes of the current entry that are left, without padding.
    body_left: u64,
    padding_left: u64,
    entries: usize,
    names_bytes: usize,
}

/// The extension headers of the next entry.
#[derive(Default)]
struct ExtendedHeader {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<I: TarInput> TarReader<I> {
    /// Starts at the beginning of `input`; `from` is its name in errors.
    pub(super) fn new(input: I, from: &str) -> Self {
        Self {
            input,
            source_name: from.to_owned(),
            position: 0,
            body_left: 0,
            padding_left: 0,
            entries: 0,
            names_bytes: 0,
        }
    }

    /// Returns the next entry, skipping the rest of the current one; `None` at the end marker.
    ///
    /// # Errors
    /// Returns [`Error::Truncated`] if the end marker is missing, and an error if the archive is
    /// unsafe or unreadable.
    pub(super) fn next(&mut self) -> Result<Option<TarEntry>, Error> {
        let mut extension = ExtendedHeader::default();
        loop {
            let left = self.body_left + self.padding_left;
            self.input
                .skip(left)
                .map_err(|error| self.read_error(error))?;
            self.position += left;
            (self.body_left, self.padding_left) = (0, 0);
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            match header.entry_type().as_byte() {
                b'L' => {
                    extension.name = Some(self.read_extension_body(&header, MAX_ENTRY_NAME_BYTES)?)
                }
                b'K' => {
                    extension.link = Some(self.read_extension_body(&header, MAX_ENTRY_NAME_BYTES)?)
                }
                b'x' => {
                    let records = self.read_extension_body(&header, MAX_PAX_BYTES)?;
                    pax::read(&records, &mut extension).map_err(|reason| self.malformed(reason))?;
                }
                b'g' => {
                    // A global header applies to all later entries; in practice it has only comments.
                    let mut all = ExtendedHeader::default();
                    let records = self.read_extension_body(&header, MAX_PAX_BYTES)?;
                    pax::read(&records, &mut all).map_err(|reason| self.malformed(reason))?;
                    if all.name.is_some() || all.link.is_some() || all.size.is_some() {
                        return Err(self.malformed("names or sizes for all entries at once"));
                    }
                }
                kind => return self.entry(&header, kind, extension).map(Some),
            }
        }
    }

    /// Returns a reader of the bytes of the current entry. If the input ends early, reading fails.
    pub(super) fn body(&mut self) -> TarEntryBody<'_, I> {
        TarEntryBody(self)
    }

    /// Reads the rest of the input after the end marker. The writer of a pipe expects that, and a
    /// daemon may have put an error message there.
    ///
    /// # Errors
    /// Returns the error of the input, and [`Error::EmbeddedError`].
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let mut block = [0; TAR_BLOCK_BYTES as usize];
        loop {
            let len = fill(&mut self.input, &mut block).map_err(|error| self.read_error(error))?;
            match block[..len].iter().find(|byte| **byte != 0) {
                None if len == 0 => return Ok(()),
                None => {}
                Some(b'{') => match self.embedded_error(&block[..len])? {
                    Some(error) => return Err(error),
                    None => break,
                },
                Some(_) => break,
            }
        }
        // tar ignores everything after the end marker.
        io::copy(&mut self.input, &mut io::sink()).map_err(|error| self.read_error(error))?;
        Ok(())
    }

    /// Returns the next header; `None` at the end marker.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let len = fill(&mut self.input, block).map_err(|error| self.read_error(error))?;
        let start = self.position;
        self.position += len as u64;
        if len as u64 == TAR_BLOCK_BYTES && block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if len as u64 == TAR_BLOCK_BYTES && has_valid_checksum(&header) {
            return Ok(Some(header));
        }
        let block = &header.as_bytes()[..len];
        if let Some(error) = self.embedded_error(block)? {
            return Err(error);
        }
        if start == 0 && len > 0 {
            return Err(match compression(block) {
                Some(kind) => Error::CompressedArchive {
                    from: self.source_name.clone(),
                    kind,
                },
                None => self.malformed("it is no tar archive"),
            });
        }
        if len as u64 == TAR_BLOCK_BYTES {
            return Err(self.malformed(format!("no valid header at byte {start}")));
        }
        if self.position == 0 {
            return Err(Error::Truncated {
                from: self.source_name.clone(),
                reason: "it is empty".to_owned(),
            });
        }
        Err(self.read_error(io::ErrorKind::UnexpectedEof.into()))
    }

    /// Returns the error message that a daemon wrote in place of a header: it answers an export
    /// with status 200 before it knows whether the export succeeds.
    fn embedded_error(&mut self, start: &[u8]) -> Result<Option<Error>, Error> {
        #[derive(serde::Deserialize)]
        struct ErrorMessage {
            #[serde(alias = "error")]
            message: String,
        }
        if !start.starts_with(b"{") {
            return Ok(None);
        }
        let mut text = start.to_vec();
        self.input
            .by_ref()
            .take(MAX_ERROR_MESSAGE_BYTES)
            .read_to_end(&mut text)
            .map_err(|error| self.read_error(error))?;
        let mut values = serde_json::Deserializer::from_slice(&text).into_iter::<ErrorMessage>();
        Ok(match values.next() {
            Some(Ok(ErrorMessage { message })) => Some(Error::EmbeddedError {
                from: self.source_name.clone(),
                message,
            }),
            Some(Err(_)) | None => None,
        })
    }

    /// Reads the body of an extension header, without the zero byte that may end it.
    fn read_extension_body(&mut self, header: &Header, limit: u64) -> Result<Vec<u8>, Error> {
        let len = self.size(header)?;
        if len > limit {
            return Err(Error::TooLarge {
                from: self.source_name.clone(),
                what: format!("an entry's name or extended header of {len} bytes"),
                limit: format!("{limit} bytes"),
            });
        }
        self.begin_body(len)?;
        let mut text = Vec::new();
        self.body()
            .read_to_end(&mut text)
            .map_err(|error| self.read_error(error))?;
        if matches!(header.entry_type().as_byte(), b'L' | b'K') && text.last() == Some(&0) {
            text.pop();
        }
        Ok(text)
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: u8,
        extension: ExtendedHeader,
    ) -> Result<TarEntry, Error> {
        let name = extension
            .name
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let is_folder = name.ends_with(b"/");
        let name = entry_key(&name).ok_or_else(|| self.unsafe_name(&name))?;
        self.entries += 1;
        self.names_bytes += name.len();
        if self.entries > MAX_ENTRIES || self.names_bytes > MAX_TOTAL_NAME_BYTES {
            return Err(Error::TooLarge {
                from: self.source_name.clone(),
                what: "the number of entries".to_owned(),
                limit: format!("{MAX_ENTRIES} entries, with names of {MAX_TOTAL_NAME_BYTES} bytes"),
            });
        }
        // Only files have bodies, as in the tar package of Go, which Docker uses.
        let kind = match kind {
            b'0' | b'7' | 0 => {
                let len = match extension.size {
                    Some(size) => size,
                    None => self.size(header)?,
                };
                if is_folder && len > 0 {
                    return Err(self.malformed(format!("the folder {name} has bytes")));
                }
                let offset = self.position;
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
                let base = if kind == b'2' { Some(&*name) } else { None };
                let target = link_key(base, &link);
                TarEntryKind::Link(target.ok_or_else(|| {
                    let link = String::from_utf8_lossy(&link);
                    self.unsafe_name(format!("{name} -> {link}").as_bytes())
                })?)
            }
            b'3' | b'4' | b'5' | b'6' => TarEntryKind::NoBody,
            other => {
                let kind = other.escape_ascii();
                return Err(self.malformed(format!("{name} is an entry of type '{kind}'")));
            }
        };
        Ok(TarEntry { name, kind })
    }

    /// Notes that a body of `len` bytes begins here.
    fn begin_body(&mut self, len: u64) -> Result<(), Error> {
        // No file has more; and no sum of positions overflows.
        if self
            .position
            .checked_add(len)
            .is_none_or(|end| end > i64::MAX as u64)
        {
            return Err(self.malformed("an entry's size is impossible"));
        }
        self.body_left = len;
        self.padding_left = len.next_multiple_of(TAR_BLOCK_BYTES) - len;
        Ok(())
    }

    fn size(&self, header: &Header) -> Result<u64, Error> {
        header
            .entry_size()
            .map_err(|error| self.malformed(error.to_string()))
    }

    fn malformed(&self, reason: impl Into<String>) -> Error {
        Error::Malformed {
            from: self.source_name.clone(),
            reason: reason.into(),
        }
    }

    fn unsafe_name(&self, name: &[u8]) -> Error {
        const MAX_SHOWN_NAME_BYTES: usize = 200;
        let shown = &name[..name.len().min(MAX_SHOWN_NAME_BYTES)];
        Error::UnsafeName {
            from: self.source_name.clone(),
            name: String::from_utf8_lossy(shown).into_owned(),
        }
    }

    /// What an error in reading means here.
    pub(super) fn read_error(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::Truncated {
                from: self.source_name.clone(),
                reason: format!(
                    "it ends within or after an entry, near byte {}",
                    self.position
                ),
            },
            // Of a file that is compressed as a whole.
            io::ErrorKind::InvalidData => self.malformed(error.to_string()),
            _ => Error::Io {
                action: "read",
                from: self.source_name.clone(),
                source: error,
            },
        }
    }
}

/// The bytes of the current entry.
pub(super) struct TarEntryBody<'a, I>(&'a mut TarReader<I>);

impl<I: Read> Read for TarEntryBody<'_, I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer
            .len()
            .min(usize::try_from(self.0.body_left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        match self.0.input.read(&mut buffer[..want])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            got => {
                self.0.body_left -= got as u64;
                self.0.position += got as u64;
                Ok(got)
            }
        }
    }
}

/// Whether a header's checksum is right: the sum of its bytes, with its own field as spaces.
fn has_valid_checksum(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let sum: u32 = bytes[..148]
        .iter()
        .chain(&bytes[156..])
        .map(|byte| u32::from(*byte))
        .sum();
    header
        .cksum()
        .is_ok_and(|stated| stated == sum + 8 * u32::from(b' '))
}

/// Which program an archive that is no tar has been through.
fn compression(start: &[u8]) -> Option<&'static str> {
    [
        (&b"\x1f\x8b"[..], "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
    ]
    .into_iter()
    .find_map(|(magic, kind)| start.starts_with(magic).then_some(kind))
}
