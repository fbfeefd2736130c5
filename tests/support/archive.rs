//! Reads and writes archives as lists of files, which a test can modify before it writes them.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

/// A file in an archive.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub bytes: Vec<u8>,
}

impl Entry {
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            bytes: bytes.into(),
        }
    }
}

/// Returns the tar header of a file. The name has at most 100 bytes and is not checked.
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

/// Returns a tar with these entries.
pub fn tar_of(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let header = header(&entry.name, entry.bytes.len() as u64);
        tar.append(&header, &*entry.bytes).expect("a tar in memory");
    }
    tar.into_inner().expect("a tar in memory")
}

/// Compresses bytes with gzip, as other tools do.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

/// Writes a tar file with these entries.
pub fn write_tar(entries: &[Entry], path: &Path) {
    std::fs::write(path, tar_of(entries)).expect("an archive");
}

/// Writes the entries as files into a folder.
pub fn write_folder(entries: &[Entry], folder: &Path) {
    for entry in entries {
        let path = folder.join(&entry.name);
        let parent = path.parent().expect("a folder");
        std::fs::create_dir_all(parent).expect("a folder");
        std::fs::write(path, &entry.bytes).expect("a file");
    }
}

/// Returns the files of a tar, without links and folders.
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

/// Returns all files below a folder.
pub fn read_folder(folder: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).expect("a path below");
            let name = name.to_str().expect("a name in UTF-8");
            entries.push(Entry::new(name, std::fs::read(&path).expect("a file")));
        }
    }
    entries
}

/// Returns the content of a file.
pub fn file<'a>(entries: &'a [Entry], name: &str) -> Option<&'a [u8]> {
    let entry = entries.iter().find(|entry| entry.name == name)?;
    Some(&entry.bytes)
}

/// Writes a docker-archive with one layer that contains a file of `size` incompressible bytes.
/// Keeps only 1 MiB of it in memory.
pub fn write_large(path: &Path, size: u64, name: &str) {
    let mut file = BufWriter::new(File::create(path).expect("an archive"));
    let mut layer_digest = super::bytes::DigestBuilder::default();
    let mut noise = super::bytes::Noise::new(size);
    let file_header = header("large", size);
    let padding = vec![0; (size.next_multiple_of(512) - size) as usize + 1024];
    let layer_size = 512 + size + padding.len() as u64;
    file.write_all(header("layer.tar", layer_size).as_bytes())
        .expect("room for the layer");
    let mut write = |bytes: &[u8]| {
        layer_digest = std::mem::take(&mut layer_digest).add(bytes);
        file.write_all(bytes).expect("room for the layer");
    };
    write(file_header.as_bytes());
    let mut left = size;
    let mut piece = vec![0; 1 << 20];
    while left > 0 {
        let part = &mut piece[..left.min(1 << 20) as usize];
        noise.fill(part);
        write(part);
        left -= part.len() as u64;
    }
    write(&padding);
    let config = super::image::config(&[layer_digest.digest()], name);
    let manifest = super::image::archive_manifest(name, &["layer.tar".to_owned()]);
    let rest = [
        Entry::new("config.json", config),
        Entry::new("manifest.json", manifest),
    ];
    // The size of the layer is a multiple of 512, so the next header follows without padding.
    file.write_all(&tar_of(&rest)).expect("room for the rest");
    file.flush().expect("room for the rest");
}
