//! Test inputs that are the same in every run.

/// A random number generator (xorshift64*), implemented here so that its numbers never change.
pub(crate) struct Xorshift(pub(crate) u64);

impl Xorshift {
    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
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
