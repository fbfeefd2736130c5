//! Reads into a buffer until it is full, so that the sizes of the reads do not matter.

use std::io::{self, Read};

/// Reads until `buffer` is full or the input ends, and returns the number of bytes.
///
/// # Errors
/// The error of the read.
pub fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
