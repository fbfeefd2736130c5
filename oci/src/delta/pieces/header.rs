//! The 512-byte headers of tar archives: which blocks are headers, and how the fields that change
//! with each build are lifted out of them.

/// The size of headers, and the unit of everything in a tar.
pub(in crate::delta) const BLOCK_BYTES: usize = 512;
/// The number of bytes that stay of a lifted header.
pub(in crate::delta) const LIFTED_BYTES: usize = BLOCK_BYTES - (LIFTED.end - LIFTED.start);
/// The largest number in eleven octal digits.
pub(in crate::delta) const MAX_OCTAL: u64 = (1 << 33) - 1;

/// A block of a tar.
pub(in crate::delta) type Block = [u8; BLOCK_BYTES];

/// Size, time and checksum, one after the other.
const LIFTED: std::ops::Range<usize> = 124..156;
const SIZE: std::ops::Range<usize> = 124..136;
const MTIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;

/// The two common ways to write a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::delta) enum ChecksumStyle {
    /// Six octal digits, NUL, blank: GNU tar, Go, Python.
    SixDigits,
    /// Seven octal digits, NUL: the Rust crate `tar`, and others.
    SevenDigits,
}

/// The parts of a header.
#[derive(Debug)]
pub(in crate::delta) struct LiftedHeader {
    pub(in crate::delta) rest: [u8; LIFTED_BYTES],
    pub(in crate::delta) size: u64,
    pub(in crate::delta) mtime: u64,
    pub(in crate::delta) style: ChecksumStyle,
}

/// Returns the number of content bytes after a header; `None` if the block is no header: its
/// checksum is wrong, or its size is no number below 2^63.
pub(in crate::delta) fn content_len(block: &Block) -> Option<u64> {
    if parse_number(&block[CHECKSUM])? != checksum(block) {
        return None;
    }
    let size = parse_number(&block[SIZE])?;
    // Links, devices, folders and pipes have no content, as in Go's archive/tar.
    let has_content = !matches!(block[TYPE], b'1'..=b'6');
    Some(if has_content { size } else { 0 })
}

/// Takes the fields out of a header; `None` if they are not written in the usual way.
pub(in crate::delta) fn lift(block: &Block) -> Option<LiftedHeader> {
    let mut rest = [0; LIFTED_BYTES];
    rest[..LIFTED.start].copy_from_slice(&block[..LIFTED.start]);
    rest[LIFTED.start..].copy_from_slice(&block[LIFTED.end..]);
    let size = parse_number(&block[SIZE])?;
    let mtime = parse_number(&block[MTIME])?;
    [ChecksumStyle::SixDigits, ChecksumStyle::SevenDigits]
        .map(|style| LiftedHeader {
            rest,
            size,
            mtime,
            style,
        })
        .into_iter()
        .find(|header| restore(header).as_ref() == Some(block))
}

/// Puts a header together; `None` if a number is too large for its field.
pub(in crate::delta) fn restore(header: &LiftedHeader) -> Option<Block> {
    let mut block = [0; BLOCK_BYTES];
    block[..LIFTED.start].copy_from_slice(&header.rest[..LIFTED.start]);
    block[LIFTED.end..].copy_from_slice(&header.rest[LIFTED.start..]);
    write_octal(&mut block[SIZE.start..SIZE.end - 1], header.size)?;
    write_octal(&mut block[MTIME.start..MTIME.end - 1], header.mtime)?;
    let sum = checksum(&block);
    let digits = match header.style {
        ChecksumStyle::SixDigits => {
            block[CHECKSUM.end - 1] = b' ';
            CHECKSUM.start..CHECKSUM.end - 2
        }
        ChecksumStyle::SevenDigits => CHECKSUM.start..CHECKSUM.end - 1,
    };
    write_octal(&mut block[digits], sum)?;
    Some(block)
}

/// Returns the sum of all bytes, with those of the checksum as blanks.
fn checksum(block: &Block) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let blanks = u64::from(b' ') * CHECKSUM.len() as u64;
    sum(&block[..CHECKSUM.start]) + blanks + sum(&block[CHECKSUM.end..])
}

fn write_octal(digits: &mut [u8], mut value: u64) -> Option<()> {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
    (value == 0).then_some(())
}

/// Parses octal digits between blanks and NULs, or the base-256 numbers of GNU tar.
pub(in crate::delta) fn parse_number(field: &[u8]) -> Option<u64> {
    let value = match field.split_first()? {
        (first, rest) if first & 0x80 != 0 => {
            // 0xff begins a negative number.
            let start = (*first != 0xff).then_some(u64::from(first & 0x7f))?;
            rest.iter().try_fold(start, |value, byte| {
                Some(value.checked_mul(256)? | u64::from(*byte))
            })?
        }
        _ => {
            let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
            let start = field.iter().take_while(|byte| is_blank(byte)).count();
            let mut value = 0_u64;
            for byte in field[start..].iter().take_while(|byte| !is_blank(byte)) {
                let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
                // At most twelve digits have at most 36 bits.
                value = value << 3 | u64::from(digit);
            }
            value
        }
    };
    (value < 1 << 63).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(style: ChecksumStyle) -> Block {
        let mut rest = [0; LIFTED_BYTES];
        rest[..4].copy_from_slice(b"name");
        let (size, mtime) = (7, 1_700_000_000);
        restore(&LiftedHeader {
            rest,
            size,
            mtime,
            style,
        })
        .unwrap()
    }

    #[test]
    fn usual_headers_are_lifted_and_restored() {
        for style in [ChecksumStyle::SixDigits, ChecksumStyle::SevenDigits] {
            let block = header(style);
            assert_eq!(content_len(&block), Some(7));
            let lifted = lift(&block).unwrap();
            assert_eq!((lifted.size, lifted.mtime), (7, 1_700_000_000));
            assert_eq!(restore(&lifted), Some(block));
        }
    }

    #[test]
    fn unusual_headers_stay_whole() {
        let mut block = header(ChecksumStyle::SixDigits);
        block[SIZE].copy_from_slice(b"\x80\0\0\0\0\0\0\0\0\0\x01\0");
        let sum = checksum(&block);
        write_octal(&mut block[CHECKSUM.start..CHECKSUM.end - 2], sum).unwrap();
        assert_eq!(content_len(&block), Some(256));
        assert!(lift(&block).is_none());
    }

    #[test]
    fn other_blocks_are_no_headers() {
        assert_eq!(content_len(&[0; BLOCK_BYTES]), None);
        assert_eq!(content_len(&[b' '; BLOCK_BYTES]), None);
        let mut block = header(ChecksumStyle::SixDigits);
        block[0] ^= 1;
        assert_eq!(content_len(&block), None);
    }

    #[test]
    fn numbers_in_headers() {
        assert_eq!(parse_number(b" 017 \0"), Some(15));
        assert_eq!(parse_number(b"\0\0\0"), Some(0));
        assert_eq!(parse_number(b"018"), None);
        assert_eq!(parse_number(b"\xff\xff"), None);
        assert_eq!(parse_number(&[0xfe; 12]), None);
        assert_eq!(parse_number(b"777777777777"), Some((MAX_OCTAL << 3) | 7));
    }

    #[test]
    fn folders_and_links_have_no_content() {
        let mut block = header(ChecksumStyle::SixDigits);
        block[TYPE] = b'5';
        let sum = checksum(&block);
        write_octal(&mut block[CHECKSUM.start..CHECKSUM.end - 2], sum).unwrap();
        assert_eq!(content_len(&block), Some(0));
        assert_eq!(lift(&block).unwrap().size, 7);
    }
}
