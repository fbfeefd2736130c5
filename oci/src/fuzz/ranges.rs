//! Byte ranges in headers.

use crate::range::{
    ContentRange, PartialContent, RequestedRange, format_upload_range, parse_requested_range,
    parse_several_ranges, parse_upload_range,
};

/// The first line of an input is the size of a blob, the second one is the header.
pub fn ranges(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (size, header) = text.split_once('\n').unwrap_or(("", text));
    let size = size.parse().unwrap_or(10);
    check_content_range(header);
    check_requested_range(header, size);
    if let Some(offset) = parse_upload_range(header) {
        // One byte and no bytes are printed the same.
        let printed = parse_upload_range(&format_upload_range(offset));
        assert_eq!(printed, Some(if offset == 1 { 0 } else { offset }));
    }
    if let Ok(PartialContent { range, size }) = PartialContent::parse(header) {
        assert!(size.is_none_or(|size| range.last < size));
        let size = size.map_or("*".to_owned(), |size| size.to_string());
        let printed = format!("bytes {range}/{size}");
        let parsed = PartialContent::parse(&printed).map(|parsed| parsed.range);
        assert_eq!(parsed, Ok(range), "{printed}");
    }
}

fn check_content_range(header: &str) {
    let Ok(range) = ContentRange::parse(header) else {
        return;
    };
    assert!(range.first <= range.last);
    assert_eq!(
        u128::from(range.len()),
        wide(range.last) + 1 - wide(range.first)
    );
    assert_eq!(ContentRange::parse(&range.to_string()), Ok(range));
}

/// Compares with a second implementation of RFC 9110, section 14.1.2, for a single range.
fn check_requested_range(header: &str, size: u64) {
    let found = parse_requested_range(Some(header), size);
    if let RequestedRange::Part { first, len } = found {
        assert!(
            len > 0 && wide(first) + wide(len) <= wide(size),
            "{found:?}"
        );
    }
    if let Some(ranges) = parse_several_ranges(Some(header), size) {
        assert_eq!(found, RequestedRange::Whole);
        let total: u128 = ranges.iter().map(|(_, len)| wide(*len)).sum();
        assert!(ranges.len() > 1 && total <= wide(size), "{ranges:?}");
        for (first, len) in &ranges {
            assert!(*len > 0 && wide(*first) + wide(*len) <= wide(size));
        }
    }
    if header.contains(',') {
        return;
    }
    let expected = match reference(header, size) {
        None => RequestedRange::Whole,
        Some((first, end)) if first >= end => RequestedRange::Unsatisfiable,
        Some((first, end)) => RequestedRange::Part {
            first,
            len: end - first,
        },
    };
    assert_eq!(found, expected);
}

/// Returns the first byte and the byte after the last one; `None` for a header that is ignored.
fn reference(header: &str, size: u64) -> Option<(u64, u64)> {
    let range = header.strip_prefix("bytes=")?.trim_matches([' ', '\t']);
    let dash = range.find('-')?;
    let (first, last) = (&range[..dash], &range[dash + 1..]);
    let last_or = |default: u64| match last {
        "" => Some(default),
        last => digits(last),
    };
    if first.is_empty() {
        let len = digits(last)?;
        return Some((size - len.min(size), size));
    }
    let (first, last) = (digits(first)?, last_or(u64::MAX)?);
    if last < first {
        return None;
    }
    Some((first, last.saturating_add(1).min(size)))
}

fn digits(text: &str) -> Option<u64> {
    let mut value = 0_u64;
    for byte in text.bytes() {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (!text.is_empty()).then_some(value)
}

fn wide(value: u64) -> u128 {
    value.into()
}
