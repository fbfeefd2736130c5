//! The entries of a queue, and the lines in which they are stored.

use std::sync::Arc;

use imgsync_oci::Digest;

/// The longest text of an entry, in bytes.
pub(in crate::events) const MAX_ENTRY_BYTES: usize = 256 * 1024;
/// The most bytes of a line before the text: two numbers and spaces.
const MAX_LINE_START_BYTES: usize = 64;
/// The longest line. Longer ones are damaged.
pub(super) const MAX_LINE_BYTES: usize = MAX_ENTRY_BYTES + MAX_LINE_START_BYTES;
/// The highest number of an entry. Higher ones are damaged: no queue gets that far.
pub(super) const MAX_NUMBER: u64 = u64::MAX / 2;
/// How many hexadecimal digits of the checksum are stored.
const CHECKSUM_DIGITS: usize = 16;

/// Something that a receiver is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::events) struct QueueEntry {
    /// The number of the entry. Each entry of a queue has a higher number than those before it.
    pub(in crate::events) number: u64,
    /// One line of JSON.
    pub(in crate::events) text: Arc<str>,
}

impl QueueEntry {
    /// Formats the line in which the entry is stored: number, checksum and text.
    pub(super) fn to_line(&self) -> String {
        let Self { number, text } = self;
        format!("{number} {} {text}\n", checksum(*number, text))
    }

    /// Parses a line without its end; `None` if it is damaged, for example by a power cut.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let (number, rest) = line.split_once(' ')?;
        let (found, text) = rest.split_once(' ')?;
        let number = number.parse().ok().filter(|number| *number <= MAX_NUMBER)?;
        (found == checksum(number, text)).then(|| Self {
            number,
            text: text.into(),
        })
    }
}

fn checksum(number: u64, text: &str) -> String {
    let digest = Digest::of(format!("{number} {text}").as_bytes());
    digest.hex()[..CHECKSUM_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_and_damage_is_noticed() {
        let entry = QueueEntry {
            number: 7,
            text: "{\"a\": 1}".into(),
        };
        let line = entry.to_line();
        let line = line.strip_suffix('\n').unwrap().as_bytes();
        assert_eq!(QueueEntry::parse(line), Some(entry));
        for at in 0..line.len() {
            let mut damaged = line.to_vec();
            damaged[at] ^= 1;
            assert_eq!(QueueEntry::parse(&damaged), None, "{at}");
            assert_eq!(QueueEntry::parse(&line[..at]), None, "{at}");
        }
        assert_eq!(QueueEntry::parse(&[0; 40]), None);
        let last = QueueEntry {
            number: u64::MAX,
            text: "{}".into(),
        };
        let line = last.to_line();
        assert_eq!(QueueEntry::parse(line.trim_end().as_bytes()), None);
    }
}
