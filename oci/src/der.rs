//! Reads values of DER (X.690), the encoding of certificates.

/// Tags of DER (X.690, section 8).
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// A value, and where it is in the encoding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DerValue<'a> {
    pub(crate) tag: u8,
    /// The value with its header.
    pub(crate) whole: &'a [u8],
    pub(crate) content: &'a [u8],
}

/// Splits the first value from the bytes after it. Values of 64 KiB and more are not read.
pub(crate) fn read_any(bytes: &[u8]) -> Option<(DerValue<'_>, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = match *first {
        len @ ..=0x7f => (usize::from(len), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => {
            let (len, rest) = rest.split_at_checked(2)?;
            (usize::from(u16::from_be_bytes(len.try_into().ok()?)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(len)?;
    let whole = &bytes[..bytes.len() - after.len()];
    let value = DerValue {
        tag: *tag,
        whole,
        content,
    };
    Some((value, after))
}

/// Splits the first value from the bytes after it, if it has this tag.
pub(crate) fn read_value(bytes: &[u8], tag: u8) -> Option<(DerValue<'_>, &[u8])> {
    read_any(bytes).filter(|(value, _)| value.tag == tag)
}

/// Returns the values that follow each other in `bytes`, up to the first malformed one.
pub(crate) fn values(bytes: &[u8]) -> impl Iterator<Item = DerValue<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (value, after) = read_any(rest)?;
        rest = after;
        Some(value)
    })
}
