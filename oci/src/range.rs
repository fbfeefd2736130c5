//! Byte ranges: of chunks on their way up, of sessions, and of blobs on their way down.

use crate::ParseError;

/// The bytes that a chunk claims to be: first and last offset, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte; not before the first.
    pub last: u64,
}

impl ContentRange {
    /// Reads the `Content-Range` of a chunk: `first-last` (OCI distribution-spec, "Pushing a blob
    /// in chunks"), and HTTP's own `bytes first-last/size`, which some clients send.
    ///
    /// # Errors
    /// Anything else, and a last byte before the first.
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

    /// How many bytes the range spans; at least one.
    pub fn len(self) -> u64 {
        self.last - self.first + 1
    }

    /// Never: a range has at least one byte.
    pub fn is_empty(self) -> bool {
        false
    }
}

impl std::fmt::Display for ContentRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// The `Range` header of an upload session that holds `offset` bytes. `0-0` stands for nothing as
/// well as for one byte, as in the stock registry; the exact offset goes in [`OFFSET_HEADER`].
pub fn format_upload_range(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

/// Our own header on every answer about an upload session: how many bytes are safely held.
pub const UPLOAD_OFFSET_HEADER: &str = "imgsync-upload-offset";

/// Reads a session's `Range` as the registries of this world write it: `0-N` or `bytes=0-N` where
/// the last byte held is N; `0--1` is none. Yields the number of bytes held; `0-0` reads as none,
/// since sending a byte again is harmless while skipping one is not.
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

/// The part of some content that an answer with status 206 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialContent {
    /// The bytes.
    pub range: ContentRange,
    /// The size of all of it in bytes, where the answer tells.
    pub size: Option<u64>,
}

impl PartialContent {
    /// Reads the `Content-Range` of an answer: `bytes first-last/size`, or `*` for the size (RFC
    /// 9110, section 14.4).
    ///
    /// # Errors
    /// Anything else, and a last byte beyond the size.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let invalid = || ParseError::new("Content-Range", text);
        let part = text.strip_prefix("bytes ").ok_or_else(invalid)?;
        let (range, size) = part.split_once('/').ok_or_else(invalid)?;
        let range = ContentRange::parse(range).map_err(|_| invalid())?;
        let size = match size {
            "*" => None,
            size => Some(parse_digits(size).ok_or_else(invalid)?),
        };
        match size.is_some_and(|size| range.last >= size) {
            true => Err(invalid()),
            false => Ok(Self { range, size }),
        }
    }
}

/// What part of a blob a `Range` request header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedRange {
    /// All of it: no range, or one that HTTP says to ignore (another unit, several ranges).
    Whole,
    /// `len` bytes from `first` on; `len` is at least one.
    Part {
        /// Offset of the first byte.
        first: u64,
        /// Number of bytes.
        len: u64,
    },
    /// Nothing that the blob has: the answer is 416.
    Unsatisfiable,
}

/// Reads a `Range` request header against a blob of `size` bytes (RFC 9110, section 14).
pub fn parse_requested_range(header: Option<&str>, size: u64) -> RequestedRange {
    let Some(range) = header.and_then(|text| text.strip_prefix("bytes=")) else {
        return RequestedRange::Whole;
    };
    let Some((first, last)) = range.split_once('-') else {
        return RequestedRange::Whole;
    };
    match (first, last) {
        ("", suffix) => match parse_digits(suffix) {
            Some(0) => RequestedRange::Unsatisfiable,
            Some(_) if size == 0 => RequestedRange::Unsatisfiable,
            Some(len) => {
                let len = len.min(size);
                let first = size - len;
                RequestedRange::Part { first, len }
            }
            None => RequestedRange::Whole,
        },
        (first, last) => {
            let Some(first) = parse_digits(first) else {
                return RequestedRange::Whole;
            };
            let last = match last {
                "" => u64::MAX,
                last => match parse_digits(last) {
                    Some(last) if last >= first => last,
                    Some(_) | None => return RequestedRange::Whole,
                },
            };
            if first >= size {
                return RequestedRange::Unsatisfiable;
            }
            let len = last.min(size - 1) - first + 1;
            RequestedRange::Part { first, len }
        }
    }
}

/// Digits only: `parse` alone would take a plus sign.
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
    fn parts_of_content() {
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
}
