//! The table of the sections of an index or a delta: the size of each before and after compression.

use std::io::Read;

use super::section::{self, MAX_STORED_BYTES, Storage};
use super::{large_buffer, varint};
use crate::delta::DeltaError;

/// Appends the table and the stored bytes of sections.
pub(in crate::delta) fn write(
    bytes: &mut Vec<u8>,
    sections: &[(&[u8], Storage<'_>)],
) -> Result<(), DeltaError> {
    let mut all = Vec::new();
    for (content, storage) in sections {
        let stored = section::compress(content, *storage)?;
        if stored.len() > MAX_STORED_BYTES {
            let text = "the tar headers of the layer do not compress well enough";
            return Err(DeltaError::TooLarge(text.to_owned()));
        }
        varint::put(bytes, content.len() as u64);
        varint::put(bytes, stored.len() as u64);
        all.push(stored);
    }
    for stored in all {
        bytes.extend_from_slice(&stored);
    }
    Ok(())
}

/// The sizes of a section.
#[derive(Debug, Clone, Copy)]
pub(in crate::delta) struct SectionSizes {
    pub(in crate::delta) content: usize,
    pub(in crate::delta) stored: usize,
}

/// Removes the sizes of a section of at most `max` content bytes from the front of `bytes`.
pub(in crate::delta) fn take_sizes(
    bytes: &mut &[u8],
    max: usize,
) -> Result<SectionSizes, DeltaError> {
    let content = varint::take(bytes)?;
    let stored = varint::take(bytes)?;
    let max = max as u64;
    if content > max || stored > MAX_STORED_BYTES as u64 {
        let text = format!("a section of {content} bytes, stored as {stored}: too large");
        return Err(DeltaError::TooLarge(text));
    }
    if stored > content {
        return Err(DeltaError::Invalid(
            "a section is larger than its content".to_owned(),
        ));
    }
    Ok(SectionSizes {
        content: content as usize,
        stored: stored as usize,
    })
}

impl SectionSizes {
    /// Reads the section, and returns its content.
    pub(in crate::delta) fn read(
        self,
        source: impl Read,
        prefix: &[u8],
    ) -> Result<Vec<u8>, DeltaError> {
        let (mut stored, mut content) = (Vec::new(), Vec::new());
        self.read_into(source, prefix, &mut stored, &mut content)?;
        Ok(content)
    }

    /// Reads the section into `stored`, and replaces `content` by its content. Both take no memory if
    /// they have the capacity.
    pub(in crate::delta) fn read_into(
        self,
        source: impl Read,
        prefix: &[u8],
        stored: &mut Vec<u8>,
        content: &mut Vec<u8>,
    ) -> Result<(), DeltaError> {
        stored.clear();
        large_buffer::reserve(stored, self.stored);
        source.take(self.stored as u64).read_to_end(stored)?;
        if stored.len() < self.stored {
            return Err(cut_short());
        }
        section::decompress_into(content, stored, self.content, prefix)
    }

    /// Removes the section from the front of `bytes`, and returns its content.
    pub(in crate::delta) fn take(
        self,
        bytes: &mut &[u8],
        prefix: &[u8],
    ) -> Result<Vec<u8>, DeltaError> {
        let (stored, rest) = bytes.split_at_checked(self.stored).ok_or_else(cut_short)?;
        *bytes = rest;
        section::decompress(stored, self.content, prefix)
    }
}

fn cut_short() -> DeltaError {
    DeltaError::Invalid("a section is cut short".to_owned())
}
