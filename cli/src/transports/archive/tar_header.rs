//! Builds the headers of tar entries. Equal names and sizes yield equal bytes, so archives are
//! reproducible.

use tar::{EntryType, Header};

/// The size of a tar block in bytes.
pub(in crate::transports) const TAR_BLOCK_BYTES: u64 = 512;
/// The end marker of a tar: two zero blocks.
pub(in crate::transports) const TAR_END: [u8; 1024] = [0; 1024];
/// The longest name that fits into a header, in bytes.
const MAX_HEADER_NAME_BYTES: usize = 100;
const LONG_NAME_ENTRY: &str = "././@LongLink";

/// Returns the header of a file of `size` bytes.
pub(in crate::transports) fn header(name: &str, size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if name.len() > MAX_HEADER_NAME_BYTES {
        // GNU's way: the name as a file of its own, with a zero at its end.
        let len = name.len() as u64 + 1;
        bytes.extend_from_slice(block(LONG_NAME_ENTRY, len, EntryType::GNULongName).as_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&padding(len));
    }
    bytes.extend_from_slice(block(name, size, EntryType::Regular).as_bytes());
    bytes
}

/// Returns the padding after a file of `size` bytes.
pub(in crate::transports) fn padding(size: u64) -> Vec<u8> {
    let len = size.next_multiple_of(TAR_BLOCK_BYTES) - size;
    // Less than a block.
    vec![0; len as usize]
}

/// Returns a small file with its header and padding.
pub(in crate::transports) fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let size = content.len() as u64;
    let mut bytes = header(name, size);
    bytes.extend_from_slice(content);
    bytes.extend_from_slice(&padding(size));
    bytes
}

fn block(name: &str, size: u64, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    let short = &name.as_bytes()[..name.len().min(MAX_HEADER_NAME_BYTES)];
    header.as_old_mut().name[..short.len()].copy_from_slice(short);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn long_names_and_large_files_are_read_by_others() {
        let long = format!("blobs/sha512/{}", "0".repeat(128));
        let mut tar = file(&long, b"1");
        tar.extend_from_slice(&file("index.json", &[b'x'; 512]));
        tar.extend_from_slice(&TAR_END);
        assert_eq!(tar.len() as u64 % TAR_BLOCK_BYTES, 0);
        let mut archive = tar::Archive::new(&*tar);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            seen.push((name, content.len()));
        }
        assert_eq!(seen, [(long, 1), ("index.json".to_owned(), 512)]);
        let large = 9 << 30;
        let header = Header::from_byte_slice(&header("x", large)).clone();
        assert_eq!(header.size().unwrap(), large);
    }
}
