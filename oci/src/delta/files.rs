//! The files of a layer, as its index tells: the paths and attributes are those in the headers of the
//! tar, the contents are known by the hashes of their pieces.
//!
//! An index does not have the contents of any entry, and so not the long paths and attributes that
//! some entries have in an entry before them. Start reading at [`LayerIndex::files`].

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::delta::pieces::entries::{EntryCursor, TarEntry};
use crate::delta::pieces::header::Block;
use crate::delta::pieces::list::{MIN_HASHED_BYTES, PieceList};
use crate::delta::pieces::paths::header_path;
use crate::delta::{DeltaError, LayerIndex};

const MODE: std::ops::Range<usize> = 100..108;
const OWNER: std::ops::Range<usize> = 108..116;
const GROUP: std::ops::Range<usize> = 116..124;
const MTIME: std::ops::Range<usize> = 136..148;
const TYPE: usize = 156;
const LINK: std::ops::Range<usize> = 157..257;

/// A file, folder or link in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedFile {
    /// The path in the header. Without the first `./`, and without the slash after a folder.
    pub path: Vec<u8>,
    /// Whether the header has only a part of the path, or can have it in another form, because an
    /// entry before it has the whole one.
    pub is_path_partial: bool,
    /// The kind.
    pub kind: FileKind,
    /// The size of the content in bytes.
    pub size: u64,
    /// The permissions.
    pub mode: u64,
    /// The user ID and the group ID.
    pub owner: (u64, u64),
    /// The time of the last change in Unix seconds.
    pub modified_at: u64,
    /// The target of a link.
    pub link: Vec<u8>,
    /// A hash of the pieces of the content. Files of the same content have the same.
    pub content: u64,
    /// Whether a part of the content has no hash in the index, because it is shorter than 64 bytes.
    pub has_unhashed_content: bool,
}

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A file with content.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    SymbolicLink,
    /// Another name of a file.
    HardLink,
    /// A device or a pipe.
    Special,
}

impl LayerIndex {
    /// Calls `visit` with each file, folder and link of the layer, in the order of the tar.
    ///
    /// # Errors
    /// [`DeltaError::Invalid`] if the parts of the index do not fit to each other; the first error of
    /// `visit`.
    pub fn files<E: From<DeltaError>>(
        &self,
        mut visit: impl FnMut(IndexedFile) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut cursor = EntryCursor::default();
        let mut contents = ContentHasher::new(&self.pieces);
        let mut has_long_path = false;
        while let Some(entry) = cursor.next(&self.entries)? {
            let (content, has_unhashed_content) = contents.take(entry.content_len)?;
            let kind = match entry.header[TYPE] {
                // The path or attributes of the next entry.
                b'x' | b'L' | b'K' => {
                    has_long_path = true;
                    continue;
                }
                // Attributes of all entries that follow.
                b'g' => continue,
                b'1' => FileKind::HardLink,
                b'2' => FileKind::SymbolicLink,
                b'3' | b'4' | b'6' => FileKind::Special,
                b'5' => FileKind::Folder,
                _ => FileKind::File,
            };
            let is_path_partial = std::mem::take(&mut has_long_path);
            let file = indexed_file(&entry, kind, (content, has_unhashed_content));
            visit(IndexedFile {
                is_path_partial,
                ..file
            })?;
        }
        Ok(())
    }
}

fn indexed_file(
    TarEntry {
        header,
        content_len,
        ..
    }: &TarEntry,
    kind: FileKind,
    (content, has_unhashed_content): (u64, bool),
) -> IndexedFile {
    let path = header_path(header);
    let path = path.strip_prefix(b"./").unwrap_or(&path);
    let is_folder = path.ends_with(b"/");
    let path = path.strip_suffix(b"/").unwrap_or(path);
    IndexedFile {
        path: path.to_vec(),
        is_path_partial: false,
        // Old programs write folders as files with a slash.
        kind: match kind {
            FileKind::File if is_folder => FileKind::Folder,
            kind => kind,
        },
        size: *content_len,
        mode: number(header, MODE),
        owner: (number(header, OWNER), number(header, GROUP)),
        modified_at: number(header, MTIME),
        link: match kind {
            FileKind::SymbolicLink | FileKind::HardLink => text(&header[LINK]).to_vec(),
            _ => Vec::new(),
        },
        content,
        has_unhashed_content,
    }
}

/// Returns a number in a header; 0 if it is none.
fn number(header: &Block, field: std::ops::Range<usize>) -> u64 {
    crate::delta::pieces::header::parse_number(&header[field]).unwrap_or_default()
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Hashes the pieces of one content after the other.
struct ContentHasher<'a> {
    pieces: &'a PieceList,
    position: usize,
}

impl<'a> ContentHasher<'a> {
    fn new(pieces: &'a PieceList) -> Self {
        Self {
            pieces,
            position: 0,
        }
    }

    /// Returns the hash of the next pieces, which have `len` bytes, and whether some have no hash. The
    /// last content of a layer can be cut short.
    fn take(&mut self, len: u64) -> Result<(u64, bool), DeltaError> {
        let (mut left, mut is_partial) = (len, false);
        let mut hasher = DefaultHasher::new();
        while left > 0
            && let Some(len) = self.pieces.lens.get(self.position)
        {
            let hash = self.pieces.hashes.get(self.position);
            (*len, hash).hash(&mut hasher);
            is_partial |= *len < MIN_HASHED_BYTES;
            left = left.checked_sub(u64::from(*len)).ok_or_else(|| {
                DeltaError::Invalid("a piece is longer than its content".to_owned())
            })?;
            self.position += 1;
        }
        Ok((hasher.finish(), is_partial))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::IndexBuilder;

    fn header(path: &str, kind: u8, len: usize, mtime: u64) -> Vec<u8> {
        let mut block = vec![0_u8; 512];
        block[..path.len()].copy_from_slice(path.as_bytes());
        block[MODE.start..MODE.end - 1].copy_from_slice(b"0000644");
        block[OWNER.start..OWNER.end - 1].copy_from_slice(b"0001750");
        block[124..135].copy_from_slice(format!("{len:011o}").as_bytes());
        block[136..147].copy_from_slice(format!("{mtime:011o}").as_bytes());
        block[TYPE] = kind;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    fn entry(path: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = header(path, kind, content.len(), 7);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn files(tar: &[u8]) -> Vec<IndexedFile> {
        let mut builder = IndexBuilder::default();
        builder.update(tar).unwrap();
        let index = LayerIndex::parse(&builder.finish().unwrap().to_bytes().unwrap()).unwrap();
        let mut files = Vec::new();
        index
            .files(|file| {
                files.push(file);
                Ok::<(), DeltaError>(())
            })
            .unwrap();
        files
    }

    #[test]
    fn files_are_listed_with_their_attributes() {
        let large = vec![9; 9 << 20];
        let tar = [
            entry("./app/", b'5', b""),
            entry("app/large", b'0', &large),
            entry("app/copy", b'0', &large),
            entry("app/small", b'0', b"few bytes"),
            entry("app/empty", b'0', b""),
            vec![0; 1024],
        ];
        let files = files(&tar.concat());
        let paths: Vec<_> = files.iter().map(|file| &*file.path).collect();
        let expected: [&[u8]; 5] = [
            b"app",
            b"app/large",
            b"app/copy",
            b"app/small",
            b"app/empty",
        ];
        assert_eq!(paths, expected);
        assert_eq!(files[0].kind, FileKind::Folder);
        assert_eq!((files[1].size, files[1].mode), (9 << 20, 0o644));
        assert_eq!((files[1].owner.0, files[1].modified_at), (0o1750, 7));
        assert_eq!(files[1].content, files[2].content);
        assert_ne!(files[1].content, files[3].content);
        let unhashed: Vec<_> = files.iter().map(|file| file.has_unhashed_content).collect();
        assert_eq!(unhashed, [false, false, false, true, false]);
    }

    #[test]
    fn a_path_in_another_entry_is_partial() {
        let tar = [
            entry("PaxHeaders/x", b'x', b"20 path=a/long/path\n"),
            entry("a/lo", b'0', b"content"),
            entry("b", b'0', b"content"),
        ];
        let files = files(&tar.concat());
        let partial: Vec<_> = files.iter().map(|file| file.is_path_partial).collect();
        assert_eq!(partial, [true, false]);
    }

    #[test]
    fn a_layer_that_is_cut_short_or_no_tar_has_the_files_that_can_be_read() {
        let whole = entry("a", b'0', &[1; 5000]);
        assert_eq!(files(&whole[..2000]).len(), 1);
        assert!(files(&[7; 5000]).is_empty());
        assert!(files(b"").is_empty());
    }
}
