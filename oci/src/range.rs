//! Byte ranges in headers: of uploaded chunks, of upload sessions, and of downloads.

use crate::ParseError;

/// The position of a chunk in its blob, by its first and its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The offset of the first byte.
    pub first: u64,
    /// The offset of the last byte, which is not before the first.
    pub last: u64,
}

impl ContentRange {
    /// Parses the `Content-Range` of a chunk: `first-last` (OCI distribution-spec, "Pushing a blob
    /// in chunks"), or HTTP's own `bytes first-last/size`, which some clients send.
    ///
    /// # Errors
    /// Fails on any other form, and on a last byte before the first.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let invalid = || ParseError::new("Content-Range", text);
        let range = text.strip_prefix("bytes ").unwrap_or(text);
        let range = range.split_once('/').map_or(range, |(range, _size)| range);
        let (first, last) = range.split_once('-').ok_or_else(invalid)?;
        let first = parse_digits(first).ok_or_else(invalid)?;
        let last = parse_digits(last).ok_or_else(invalid)?;
        if last < first || last == u64::MAX {
            return Err(invalid());
        }
        Ok(Self { first, last })
    }

    /// Returns the number of bytes in the range, at least one.
    pub fn len(self) -> u64 {
        self.last - self.first + 1
    }

    /// Returns false, because a range has at least one byte.
    pub fn is_empty(self) -> bool {
        false
    }
}

impl std::fmt::Display for ContentRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Returns the `Range` header of an upload session that holds `offset` bytes. `0-0` stands for zero
/// bytes as well as for one, as in the stock registry; [`UPLOAD_OFFSET_HEADER`] has the exact
/// offset.
pub fn format_upload_range(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

/// The header, on every response about an upload session of our server, with the exact number of
/// bytes that the session holds durably.
pub const UPLOAD_OFFSET_HEADER: &str = "imgsync-upload-offset";

/// Parses the `Range` header of an upload session and returns the number of bytes that the session
/// holds. Registries write `0-N` or `bytes=0-N`, where N is the last byte, and some `0--1` for
/// none. `0-0` counts as none: sending a byte twice is harmless, skipping one is not.
pub fn parse_upload_range(text: &str) -> Option<u64> {
    let range = text.trim().strip_prefix("bytes=").unwrap_or(text.trim());
    let last = range.strip_prefix("0-")?;
    if last == "-1" {
        return Some(0);
    }
    match parse_digits(last)? {
        0 => Some(0),
        last => last.checked_add(1),
    }
}

/// The part of a blob that a response with status 206 has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialContent {
    /// The position of the bytes.
    pub range: ContentRange,
    /// The size of the whole blob in bytes, where the response states it.
    pub size: Option<u64>,
}

impl PartialContent {
    /// Parses the `Content-Range` of a response: `bytes first-last/size`, or `*` for the size (RFC
    /// 9110, section 14.4).
    ///
    /// # Errors
    /// Fails on any other form, and on a last byte beyond the size.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let invalid = || ParseError::new("Content-Range", text);
        let part = text.strip_prefix("bytes ").ok_or_else(invalid)?;
        let (range, size) = part.split_once('/').ok_or_else(invalid)?;
        let range = ContentRange::parse(range).map_err(|_| invalid())?;
        let size = match size {
            "*" => None,
            size => Some(parse_digits(size).ok_or_else(invalid)?),
        };
        if size.is_some_and(|size| range.last >= size) {
            return Err(invalid());
        }
        Ok(Self { range, size })
    }
}

/// The part of a blob that the `Range` header of a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedRange {
    /// The whole blob: there is no range, or one to be ignored (another unit).
    Whole,
    /// `len` bytes from `first` on; `len` is at least one.
    Part {
        /// The offset of the first byte.
        first: u64,
        /// The number of bytes.
        len: u64,
    },
    /// Bytes that the blob does not have; the response is 416.
    Unsatisfiable,
}

/// The most ranges of one request. podman's partial pulls ask for some hundreds.
const MAX_RANGES: usize = 1024;

/// Parses the `Range` header of a request for a blob of `size` bytes (RFC 9110, section 14). Ranges
/// that the blob does not have are left out, unless all of them are. A header with more than one
/// range left counts as missing here; [`parse_several_ranges`] returns those.
pub fn parse_requested_range(header: Option<&str>, size: u64) -> RequestedRange {
    match parse_ranges(header, size).as_deref() {
        None | Some([_, _, ..]) => RequestedRange::Whole,
        Some([]) => RequestedRange::Unsatisfiable,
        Some([(first, len)]) => RequestedRange::Part {
            first: *first,
            len: *len,
        },
    }
}

/// Returns the ranges of a `Range` header with two or more, as first byte and number of bytes.
/// Returns `None` also if they are more bytes than the blob has, as overlapping ranges can be, or
/// very many: the whole blob is the better answer then.
pub fn parse_several_ranges(header: Option<&str>, size: u64) -> Option<Vec<(u64, u64)>> {
    let ranges = parse_ranges(header, size)?;
    let total = ranges
        .iter()
        .try_fold(0_u64, |sum, (_, len)| sum.checked_add(*len))?;
    (ranges.len() > 1 && total <= size).then_some(ranges)
}

/// Returns the ranges of a header that the blob has; `None` for a header that is ignored.
fn parse_ranges(header: Option<&str>, size: u64) -> Option<Vec<(u64, u64)>> {
    let list = header?.strip_prefix("bytes=")?;
    let mut ranges = Vec::new();
    for (count, range) in list.split(',').enumerate() {
        if count >= MAX_RANGES {
            return None;
        }
        // A list may have spaces and tabs (RFC 9110, section 5.6.1).
        ranges.extend(parse_range(range.trim_matches([' ', '\t']), size)?);
    }
    Some(ranges)
}

/// Parses one range. Returns `None` if it is malformed, and `Some(None)` if the blob does not have
/// it.
#[expect(clippy::option_option, reason = "malformed and missing are different")]
fn parse_range(range: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (first, last) = range.split_once('-')?;
    if first.is_empty() {
        let len = parse_digits(last)?.min(size);
        return Some((len > 0).then(|| (size - len, len)));
    }
    let first = parse_digits(first)?;
    let last = match last {
        "" => u64::MAX,
        last => parse_digits(last).filter(|last| *last >= first)?,
    };
    Some((first < size).then(|| (first, last.min(size - 1) - first + 1)))
}

/// Parses digits alone, because `parse` also accepts a plus sign.
fn parse_digits(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let range = ContentRange::parse("5-9").unwrap();
        assert_eq!((range.first, range.len()), (5, 5));
        assert_eq!(ContentRange::parse("bytes 5-9/100").unwrap(), range);
        assert_eq!(ContentRange::parse("bytes 5-9/*").unwrap(), range);
        assert_eq!(range.to_string(), "5-9");
        for bad in [
            "",
            "5",
            "9-5",
            "-5",
            "5-",
            "+5-9",
            "a-b",
            "0-18446744073709551615",
        ] {
            assert!(ContentRange::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn partial_content() {
        let part = PartialContent::parse("bytes 5-9/100").unwrap();
        assert_eq!((part.range.first, part.range.len()), (5, 5));
        assert_eq!(part.size, Some(100));
        assert_eq!(PartialContent::parse("bytes 5-9/*").unwrap().size, None);
        for bad in [
            "5-9/100",
            "bytes 5-9",
            "bytes 5-9/9",
            "bytes */100",
            "bytes 9-5/100",
        ] {
            assert!(PartialContent::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn upload_ranges() {
        assert_eq!(format_upload_range(0), "0-0");
        assert_eq!(format_upload_range(10), "0-9");
        assert_eq!(parse_upload_range("0-9"), Some(10));
        assert_eq!(parse_upload_range("bytes=0-9"), Some(10));
        assert_eq!(parse_upload_range("0-0"), Some(0));
        assert_eq!(parse_upload_range("0--1"), Some(0));
        for bad in ["", "0--2", "5-9", "x", "0-18446744073709551615"] {
            assert_eq!(parse_upload_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn requested_ranges() {
        let part = |first, len| RequestedRange::Part { first, len };
        assert_eq!(parse_requested_range(None, 10), RequestedRange::Whole);
        assert_eq!(parse_requested_range(Some("bytes=0-0"), 10), part(0, 1));
        assert_eq!(parse_requested_range(Some("bytes=3-"), 10), part(3, 7));
        assert_eq!(parse_requested_range(Some("bytes=3-100"), 10), part(3, 7));
        assert_eq!(parse_requested_range(Some("bytes=-4"), 10), part(6, 4));
        assert_eq!(parse_requested_range(Some("bytes=-40"), 10), part(0, 10));
        assert_eq!(
            parse_requested_range(Some("bytes=10-"), 10),
            RequestedRange::Unsatisfiable
        );
        assert_eq!(
            parse_requested_range(Some("bytes=0-"), 0),
            RequestedRange::Unsatisfiable
        );
        for ignored in [
            "lines=0-1",
            "bytes=0-1,3-4",
            "bytes=x-y",
            "bytes=5-3",
            "bytes=",
        ] {
            assert_eq!(
                parse_requested_range(Some(ignored), 10),
                RequestedRange::Whole,
                "{ignored}"
            );
        }
    }

    #[test]
    fn several_requested_ranges() {
        let parse = |header| parse_several_ranges(Some(header), 100);
        assert_eq!(parse("bytes=0-9,20-29"), Some(vec![(0, 10), (20, 10)]));
        assert_eq!(parse("bytes=0-0, -5"), Some(vec![(0, 1), (95, 5)]));
        assert_eq!(parse("bytes=9-9,3-4"), Some(vec![(9, 1), (3, 2)]));
        // A range that the blob does not have is left out.
        assert_eq!(parse("bytes=0-9,100-,98-"), Some(vec![(0, 10), (98, 2)]));
        let single = |header| parse_requested_range(Some(header), 100);
        let part = RequestedRange::Part { first: 0, len: 10 };
        assert_eq!(single("bytes=0-9,100-"), part);
        assert_eq!(single("bytes=100-,200-"), RequestedRange::Unsatisfiable);
        for ignored in [
            "bytes=0-9",
            "bytes=0-9,x",
            "bytes=0-,0-",
            "bytes=0-9,,20-29",
            "lines=0-1,3-4",
        ] {
            assert_eq!(parse(ignored), None, "{ignored}");
        }
        let many = |count: usize| format!("bytes={}", vec!["0-0"; count].join(","));
        assert_eq!(
            parse_several_ranges(Some(&many(1024)), 2000).map(|ranges| ranges.len()),
            Some(1024)
        );
        assert_eq!(parse_several_ranges(Some(&many(1025)), 2000), None);
    }
}
