//! Reads the small files that the operator names: configuration, users, certificates, passwords.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Reads a whole file.
///
/// # Errors
/// The file cannot be read, or has more than `max_bytes` bytes.
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(max_bytes + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let text = format!("the file is larger than {max_bytes} bytes");
        return Err(io::Error::other(text));
    }
    Ok(bytes)
}
