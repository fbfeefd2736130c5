//! The paths of the entries of a tar, by which the encoder finds the old version of a file.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::header::Block;

/// The most bytes of a long path, or of the pax records with it.
const MAX_PATH_BYTES: usize = 64 * 1024;

const TYPE: usize = 156;
const NAME: std::ops::Range<usize> = 0..100;
const MAGIC: std::ops::Range<usize> = 257..262;
const PREFIX: std::ops::Range<usize> = 345..500;

/// Finds the path of each entry, as a hash. Two paths with the same hash make a delta larger, not
/// wrong.
#[derive(Debug, Default)]
pub(in crate::delta) struct PathReader {
    /// The path of the next file, from the entry before it.
    long: Option<u64>,
    /// The content of an entry with a long path, and how it is written.
    content: Vec<u8>,
    format: Option<LongFormat>,
}

#[derive(Debug, Clone, Copy)]
enum LongFormat {
    Gnu,
    Pax,
}

impl PathReader {
    /// Returns the path of the entry with this header.
    pub(in crate::delta) fn read_header(&mut self, header: &Block) -> u64 {
        let path = match self.format.take() {
            Some(LongFormat::Gnu) => Some(text(&self.content)),
            Some(LongFormat::Pax) => pax_path(&self.content),
            None => None,
        };
        self.long = path.map(|path| hash(0, b"", path)).or(self.long);
        self.content.clear();
        self.format = match header[TYPE] {
            b'L' => Some(LongFormat::Gnu),
            b'x' => Some(LongFormat::Pax),
            _ => None,
        };
        let (prefix, name) = prefix_and_name(header);
        match header[TYPE] {
            kind @ (b'L' | b'K' | b'x' | b'g') => hash(kind, prefix, name),
            _ => self.long.take().unwrap_or_else(|| hash(0, prefix, name)),
        }
    }

    /// Adds the next bytes of the content of that entry.
    pub(in crate::delta) fn read_content(&mut self, bytes: &[u8]) {
        if self.format.is_some() {
            let len = bytes.len().min(MAX_PATH_BYTES - self.content.len());
            self.content.extend_from_slice(&bytes[..len]);
        }
    }
}

/// Returns the path in a header.
pub(in crate::delta) fn header_path(header: &Block) -> Vec<u8> {
    let (prefix, name) = prefix_and_name(header);
    match prefix {
        b"" => name.to_vec(),
        _ => [prefix, b"/", name].concat(),
    }
}

fn prefix_and_name(header: &Block) -> (&[u8], &[u8]) {
    // Only ustar headers have a prefix. GNU tar has other fields there.
    let is_ustar = &header[MAGIC] == b"ustar" && header[MAGIC.end] == 0;
    let prefix = if is_ustar { text(&header[PREFIX]) } else { b"" };
    (prefix, text(&header[NAME]))
}

/// Returns the bytes before the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn hash(kind: u8, prefix: &[u8], name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    if !prefix.is_empty() {
        hasher.write(prefix);
        hasher.write(b"/");
    }
    hasher.write(name);
    hasher.finish()
}

/// Returns the path in pax records: `LEN KEY=VALUE\n`, where LEN counts the whole record.
fn pax_path(mut records: &[u8]) -> Option<&[u8]> {
    loop {
        let blank = records.iter().position(|byte| *byte == b' ')?;
        let len = std::str::from_utf8(&records[..blank]).ok()?;
        let (record, rest) = records.split_at_checked(len.parse().ok()?)?;
        if let Some(path) = record.get(blank + 1..)?.strip_prefix(b"path=") {
            return path.strip_suffix(b"\n");
        }
        // A record of no bytes would be read for ever.
        records = (rest.len() < records.len()).then_some(rest)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_records() {
        assert_eq!(pax_path(b"11 mtime=1\n13 path=a/b c\n"), None);
        assert_eq!(
            pax_path(b"11 mtime=1\n14 path=a/b c\n"),
            Some(&b"a/b c"[..])
        );
        for records in [
            &b""[..],
            b"0 path=a\n",
            b" path=a\n",
            b"9 path=a",
            b"x path=a\n",
        ] {
            assert_eq!(pax_path(records), None);
        }
    }

    #[test]
    fn long_paths_are_those_of_the_next_file() {
        let mut file = [0; 512];
        file[..4].copy_from_slice(b"file");
        file[TYPE] = b'0';
        let mut long = file;
        long[TYPE] = b'L';
        let mut paths = PathReader::default();
        let short = paths.read_header(&file);
        paths.read_header(&long);
        paths.read_content(b"fi");
        paths.read_content(b"le\0");
        assert_eq!(paths.read_header(&file), short);
        paths.read_header(&long);
        paths.read_content(b"another\0");
        assert_ne!(paths.read_header(&file), short);
        assert_eq!(paths.read_header(&file), short);
    }
}
