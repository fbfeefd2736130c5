//! Reads the small files that the operator names: configuration, users, certificates, passwords. All
//! of them are text, and are returned in UTF-8 without a byte order mark.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use imgsync_oci::decode_text_file;
use rustix::fs::OFlags;

/// Reads a whole file. Does not wait for a program that writes to a named pipe.
///
/// # Errors
/// The file cannot be read, is a named pipe, or has more than `max_bytes` bytes.
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut options = File::options();
    // Otherwise opening a pipe waits for a writer.
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.read(true).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other("it is a named pipe, not a file"));
    }
    read_bounded(file, max_bytes)
}

/// Reads a whole file, or a pipe until the program that writes to it closes it.
///
/// # Errors
/// The file cannot be read, or has more than `max_bytes` bytes.
pub(crate) fn read_file_or_pipe(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    read_bounded(File::open(path)?, max_bytes)
}

fn read_bounded(file: File, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let text = format!("the file is larger than {max_bytes} bytes");
        return Err(io::Error::other(text));
    }
    Ok(decode_text_file(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_pipe_is_an_error_and_only_waited_for_on_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let error = read(&pipe, 10).unwrap_err();
        assert!(error.to_string().contains("named pipe"), "{error}");
        let writing = {
            let pipe = pipe.clone();
            std::thread::spawn(move || std::fs::write(pipe, b"content").unwrap())
        };
        assert_eq!(read_file_or_pipe(&pipe, 10).unwrap(), b"content");
        writing.join().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"\xef\xbb\xbfcontent").unwrap();
        assert_eq!(read(&file, 10).unwrap(), b"content");
        std::fs::write(&file, b"content").unwrap();
        assert_eq!(read(&file, 7).unwrap(), b"content");
        assert!(read(&file, 6).is_err());
        assert!(read(folder.path(), 10).is_err());
    }
}
