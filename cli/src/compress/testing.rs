//! Test inputs that are the same in every run, and readers that return pieces of odd sizes.

use std::io::{self, Read};

/// A random number generator (xorshift64*), implemented here so that its numbers never change.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Returns `len` bytes that are the same in every run: repetitive text and random bytes in turn.
pub(crate) fn sample(len: usize) -> Vec<u8> {
    let mut numbers = Xorshift(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(len + 8192);
    while bytes.len() < len {
        for _ in 0..numbers.next() % 64 {
            let line = numbers.next() % 50;
            bytes.extend_from_slice(format!("line {line} of a file in a layer\n").as_bytes());
        }
        for _ in 0..numbers.next() % 128 {
            bytes.extend_from_slice(&numbers.next().to_le_bytes());
        }
    }
    bytes.truncate(len);
    bytes
}

/// A reader that returns at most a given number of bytes at a time.
pub(crate) struct ChunkedReader<'a> {
    rest: &'a [u8],
    piece: Option<usize>,
    numbers: Xorshift,
}

impl<'a> ChunkedReader<'a> {
    /// Creates a reader of pieces of at most `piece` bytes.
    pub(crate) fn each(rest: &'a [u8], piece: usize) -> Self {
        Self {
            rest,
            piece: Some(piece),
            numbers: Xorshift(1),
        }
    }

    /// Creates a reader of pieces of 1 to 100,000 bytes.
    pub(crate) fn random(rest: &'a [u8]) -> Self {
        Self {
            rest,
            piece: None,
            numbers: Xorshift(1),
        }
    }
}

impl Read for ChunkedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = match self.piece {
            Some(piece) => piece,
            None => 1 + (self.numbers.next() % 100_000) as usize,
        };
        let len = piece.min(buffer.len()).min(self.rest.len());
        let (now, later) = self.rest.split_at(len);
        buffer[..len].copy_from_slice(now);
        self.rest = later;
        Ok(len)
    }
}
