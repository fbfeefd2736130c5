//! Archives as lists of files, so that a test can change one before it is written.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

/// One file of an archive.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name, as it stands in the archive.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// A file.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            bytes: bytes.into(),
        }
    }
}

/// The header of a file in a tar. Takes any name of at most 100 bytes, bad ones too.
pub fn header(name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    header
}

/// The entries as a tar.
pub fn tar_of(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let header = header(&entry.name, entry.bytes.len() as u64);
        tar.append(&header, &*entry.bytes).expect("a tar in memory");
    }
    tar.into_inner().expect("a tar in memory")
}

/// Writes the entries as a tar file.
pub fn write_tar(entries: &[Entry], path: &Path) {
    std::fs::write(path, tar_of(entries)).expect("an archive");
}

/// Writes the entries as files below a folder.
pub fn write_folder(entries: &[Entry], folder: &Path) {
    for entry in entries {
        let path = folder.join(&entry.name);
        let parent = path.parent().expect("a folder");
        std::fs::create_dir_all(parent).expect("a folder");
        std::fs::write(path, &entry.bytes).expect("a file");
    }
}

/// The files of a tar; links and folders are left out.
pub fn read_tar(path: &Path) -> Vec<Entry> {
    let mut tar = tar::Archive::new(File::open(path).expect("an archive"));
    let entries = tar.entries().expect("an archive");
    let files = entries.filter_map(|entry| {
        let mut entry = entry.expect("a good archive");
        let name = String::from_utf8(entry.path_bytes().into_owned()).expect("a name");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("a good archive");
        let is_file = entry.header().entry_type().is_file();
        is_file.then_some(Entry { name, bytes })
    });
    files.collect()
}

/// The files below a folder.
pub fn read_folder(folder: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).expect("a path below");
            let name = name.to_str().expect("a name in UTF-8");
            entries.push(Entry::new(name, std::fs::read(&path).expect("a file")));
        }
    }
    entries
}

/// The bytes of one file.
pub fn file<'a>(entries: &'a [Entry], name: &str) -> Option<&'a [u8]> {
    let entry = entries.iter().find(|entry| entry.name == name)?;
    Some(&entry.bytes)
}

/// Writes a docker-archive whose only layer holds one file of `size` bytes that do not compress.
/// Nothing but a piece of it is in memory at a time.
pub fn write_large(path: &Path, size: u64, name: &str) {
    let mut file = BufWriter::new(File::create(path).expect("an archive"));
    let mut sum = super::bytes::DigestBuilder::default();
    let mut noise = super::bytes::Noise::new(size);
    let inner = header("large", size);
    let padding = vec![0; (size.next_multiple_of(512) - size) as usize + 1024];
    let layer = 512 + size + padding.len() as u64;
    file.write_all(header("layer.tar", layer).as_bytes())
        .expect("room for the layer");
    let mut write = |bytes: &[u8]| {
        sum = std::mem::take(&mut sum).add(bytes);
        file.write_all(bytes).expect("room for the layer");
    };
    write(inner.as_bytes());
    let mut left = size;
    let mut piece = vec![0; 1 << 20];
    while left > 0 {
        let part = &mut piece[..left.min(1 << 20) as usize];
        noise.fill(part);
        write(part);
        left -= part.len() as u64;
    }
    write(&padding);
    let config = super::image::config(&[sum.digest()], name);
    let manifest = super::image::archive_manifest(name, &["layer.tar".to_owned()]);
    let rest = [
        Entry::new("config.json", config),
        Entry::new("manifest.json", manifest),
    ];
    // A layer's size is a multiple of 512: the next header follows at once.
    file.write_all(&tar_of(&rest)).expect("room for the rest");
    file.flush().expect("room for the rest");
}
