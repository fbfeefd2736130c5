//! Two versions of a layer, each as an image in an archive.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::archive::{Entry, header, tar_of};
use super::bytes::DigestBuilder;
use super::image;

/// Two versions of a layer.
pub(super) struct Pair {
    pub(super) kind: String,
    /// The tars of the layer.
    tars: [PathBuf; 2],
    /// Archives as `docker save` writes them, each with one of these layers.
    pub(super) archives: [PathBuf; 2],
}

/// The names of the images in the archives.
pub(super) const IMAGES: [&str; 2] = ["imgsync-delta:v1", "imgsync-delta:v2"];

impl Pair {
    /// Returns the pairs in a folder, all or those of some kinds. Writes their archives to `scratch`.
    pub(super) fn find(folder: &Path, kinds: &[String], scratch: &Path) -> Vec<Self> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str());
            let kind = name.unwrap_or_default().to_owned();
            let tars = ["old.tar", "new.tar"].map(|name| path.join(name));
            let is_chosen = kinds.is_empty() || kinds.contains(&kind);
            if is_chosen && tars.iter().all(|tar| tar.exists()) {
                found.push((kind, tars));
            }
        }
        found.sort();
        let pairs = found.into_iter().map(|(kind, tars)| {
            let archives = [0, 1].map(|version| {
                let path = scratch.join(format!("{kind}-{version}.tar"));
                write_archive(&tars[version], IMAGES[version], &path);
                path
            });
            Self {
                kind,
                tars,
                archives,
            }
        });
        pairs.collect()
    }

    /// Returns the size of the new tar in bytes.
    pub(super) fn raw_bytes(&self) -> u64 {
        std::fs::metadata(&self.tars[1]).expect("a tar").len()
    }

    /// Returns how many bytes a client would send that leaves out the files which the old layer has,
    /// and compresses the rest.
    pub(super) fn bytes_of_new_files(&self) -> u64 {
        let mut old = HashSet::new();
        for_each_file(&self.tars[0], |bytes| {
            old.insert(Sha256::digest(bytes));
        });
        let level = flate2::Compression::default();
        let mut compressed = flate2::write::GzEncoder::new(CountingWriter(0), level);
        for_each_file(&self.tars[1], |bytes| {
            if !old.contains(&Sha256::digest(bytes)) {
                compressed.write_all(bytes).expect("counting never fails");
            }
        });
        compressed.finish().expect("counting never fails").0
    }
}

fn for_each_file(tar: &Path, mut visit: impl FnMut(&[u8])) {
    let file = BufReader::new(File::open(tar).expect("a tar"));
    let mut bytes = Vec::new();
    for entry in tar::Archive::new(file).entries().expect("a tar") {
        bytes.clear();
        let mut entry = entry.expect("a good tar");
        entry.read_to_end(&mut bytes).expect("a good tar");
        visit(&bytes);
    }
}

struct CountingWriter(u64);

impl Write for CountingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes an archive with one layer.
fn write_archive(tar: &Path, name: &str, archive: &Path) {
    let mut layer = BufReader::new(File::open(tar).expect("a tar"));
    let size = layer.get_ref().metadata().expect("a tar").len();
    let mut archive = BufWriter::new(File::create(archive).expect("an archive"));
    let layer_header = header("0.tar", size);
    archive.write_all(layer_header.as_bytes()).expect("room");
    let mut digest = DigestBuilder::default();
    let mut part = vec![0; 1 << 20];
    loop {
        let count = layer.read(&mut part).expect("a tar");
        if count == 0 {
            break;
        }
        digest = digest.add(&part[..count]);
        archive.write_all(&part[..count]).expect("room");
    }
    let rest = [
        Entry::new(image::CONFIG, image::config(&[digest.digest()], name)),
        Entry::new(
            "manifest.json",
            image::archive_manifest(name, &["0.tar".to_owned()]),
        ),
    ];
    // The size of a tar is a multiple of 512, so no padding is needed before the next header.
    archive.write_all(&tar_of(&rest)).expect("room");
    archive.flush().expect("room");
}
