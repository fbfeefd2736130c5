//! Cuts zip files (jars, wheels) into the compressed bodies of their members, and what is between
//! them: a member that did not change has the same body, but other times in its header.

use super::inflate::{Inflated, MemberInflater};

const SIGNATURE: &[u8] = b"PK\x03\x04";
const DESCRIPTOR_SIGNATURE: &[u8] = b"PK\x07\x08";
/// The size of a local header without name and extra field.
const LOCAL_HEADER_BYTES: usize = 30;
/// The bytes of a data descriptor after the first four, which can be a signature.
const DESCRIPTOR_BYTES: u64 = 8;
/// The flag of a member whose sizes are behind its body.
const HAS_DESCRIPTOR: u16 = 1 << 3;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// The cost that the zip files of one layer may have.
#[derive(Debug)]
pub(in crate::delta) struct ZipBudget {
    /// The number of members that are still looked for.
    pub(in crate::delta) members: u32,
    /// The number of bytes to which members are still inflated to find their ends.
    pub(in crate::delta) inflated: u64,
}

impl ZipBudget {
    pub(in crate::delta) fn new() -> Self {
        Self {
            members: 120_000,
            inflated: 4 * 1024 * 1024 * 1024,
        }
    }
}

/// Finds the bodies of the members of one zip file. Whatever is no member, such as the central
/// directory, ends the search.
#[derive(Debug)]
pub(in crate::delta) struct ZipSplitter(Place);

#[derive(Debug)]
enum Place {
    /// A local header. Holds the bytes of it that were seen.
    Header(Vec<u8>),
    /// Name and extra field, and the body behind them.
    Name {
        left: u64,
        body: Body,
    },
    /// A body of known size.
    Sized(u64),
    Inflate(MemberInflater),
    /// The first four bytes of a data descriptor.
    Descriptor(Vec<u8>),
    /// The bytes before the next header.
    Gap(u64),
    /// Everything after the last member.
    Rest,
}

#[derive(Debug, Clone, Copy)]
enum Body {
    Sized(u64),
    Deflated,
}

impl ZipSplitter {
    /// Returns a splitter that has seen the signature of the first header.
    pub(in crate::delta) fn after_signature() -> Self {
        Self(Place::Header(SIGNATURE.to_vec()))
    }

    /// As [`super::split::ContentSplitter::advance`]. `left` is the number of bytes to the end of the
    /// zip file.
    pub(in crate::delta) fn advance(
        &mut self,
        bytes: &[u8],
        left: u64,
        budget: &mut ZipBudget,
    ) -> (usize, bool) {
        match &mut self.0 {
            Place::Header(header) => {
                let len = collect(header, LOCAL_HEADER_BYTES, bytes);
                if header.len() == LOCAL_HEADER_BYTES {
                    let left = left - len as u64;
                    let next = if budget.members == 0 {
                        None
                    } else {
                        parse_header(header, left)
                    };
                    budget.members = budget.members.saturating_sub(1);
                    self.0 = next.unwrap_or(Place::Rest);
                }
                (len, false)
            }
            Place::Name { left, body } => {
                let (len, is_end) = count_down(left, bytes);
                if is_end {
                    self.0 = match *body {
                        Body::Sized(0) => Place::Header(Vec::new()),
                        Body::Sized(size) => Place::Sized(size),
                        Body::Deflated => Place::Inflate(MemberInflater::new(budget.inflated)),
                    };
                }
                (len, is_end)
            }
            Place::Sized(left) => {
                let (len, is_end) = count_down(left, bytes);
                if is_end {
                    self.0 = Place::Header(Vec::new());
                }
                (len, is_end)
            }
            Place::Inflate(inflater) => match inflater.advance(bytes) {
                Inflated::All => (bytes.len(), false),
                Inflated::End { len } => {
                    budget.inflated = budget.inflated.saturating_sub(inflater.cost());
                    self.0 = Place::Descriptor(Vec::new());
                    (len, true)
                }
                Inflated::Failed => {
                    budget.inflated = budget.inflated.saturating_sub(inflater.cost());
                    self.0 = Place::Rest;
                    (bytes.len(), false)
                }
            },
            Place::Descriptor(start) => {
                let len = collect(start, DESCRIPTOR_SIGNATURE.len(), bytes);
                if start.len() == DESCRIPTOR_SIGNATURE.len() {
                    let has_signature = start == DESCRIPTOR_SIGNATURE;
                    self.0 = Place::Gap(if has_signature {
                        DESCRIPTOR_BYTES + 4
                    } else {
                        DESCRIPTOR_BYTES
                    });
                }
                (len, false)
            }
            Place::Gap(left) => {
                let (len, is_end) = count_down(left, bytes);
                if is_end {
                    self.0 = Place::Header(Vec::new());
                }
                (len, false)
            }
            Place::Rest => (bytes.len(), false),
        }
    }

    /// Ends the zip file. A member without an end costs something, too.
    pub(in crate::delta) fn finish(&self, budget: &mut ZipBudget) {
        if let Place::Inflate(inflater) = &self.0 {
            budget.inflated = budget.inflated.saturating_sub(inflater.cost());
        }
    }
}

/// Returns what follows a local header, before the `left` last bytes of the zip file; `None` if this
/// is no local header, or if the size of the member is unknown.
fn parse_header(header: &[u8], left: u64) -> Option<Place> {
    let number = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let wide = |at: usize| u64::from(number(at)) | u64::from(number(at + 2)) << 16;
    let (flags, method) = (number(6), number(8));
    let (compressed, name) = (wide(18), u64::from(number(26)) + u64::from(number(28)));
    let left = left.checked_sub(name)?;
    let has_descriptor = flags & HAS_DESCRIPTOR != 0;
    let body = match method {
        _ if !header.starts_with(SIGNATURE) => return None,
        DEFLATED if has_descriptor => Body::Deflated,
        STORED | DEFLATED if !has_descriptor && compressed <= left => Body::Sized(compressed),
        _ => return None,
    };
    // A header without name is not worth a place of its own: it is no jar.
    (name > 0).then_some(Place::Name { left: name, body })
}

/// Moves bytes to `collected` until it has `len` bytes. Returns their number.
fn collect(collected: &mut Vec<u8>, len: usize, bytes: &[u8]) -> usize {
    let count = (len - collected.len()).min(bytes.len());
    collected.extend_from_slice(&bytes[..count]);
    count
}

/// Subtracts the bytes from `left`. Returns their number and whether nothing is left.
fn count_down(left: &mut u64, bytes: &[u8]) -> (usize, bool) {
    let len = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left -= len as u64;
    (len, *left == 0)
}
