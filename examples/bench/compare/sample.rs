//! The images that are pushed: two versions that differ in one small layer.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::archive::{Entry, header, tar_of};
use super::bytes::{digest, mixed};
use super::image;

/// An image in an archive, as `docker save` writes it.
pub(super) struct Archive {
    pub(super) path: PathBuf,
    /// The name of the image in the archive.
    pub(super) name: &'static str,
}

/// Two versions of an image.
pub(super) struct Sample {
    pub(super) first: Archive,
    pub(super) second: Archive,
}

impl Sample {
    /// Writes both versions, each with `megabytes` MB of layers that compress to about half.
    pub(super) fn make(folder: &Path, megabytes: u64) -> Self {
        eprintln!("making two images of {megabytes} MB");
        let version = |name: &'static str, last: u64| {
            let path = folder.join(format!("{megabytes}-{last}.tar"));
            let layers = [(1, 60), (2, 25), (3, 14), (last, 1)];
            let layers = layers.map(|(seed, percent)| (seed, megabytes * 10_000 * percent));
            write(&path, name, &layers);
            Archive { path, name }
        };
        Self {
            first: version("imgsync-bench:v1", 4),
            second: version("imgsync-bench:v2", 5),
        }
    }
}

/// Writes an archive with one layer for each pair of a seed and a size. One layer is in memory at a
/// time.
fn write(path: &Path, name: &str, layers: &[(u64, u64)]) {
    let mut file = BufWriter::new(File::create(path).expect("an archive"));
    let (mut diff_ids, mut names) = (Vec::new(), Vec::new());
    for (seed, size) in layers {
        let content = mixed(*seed, usize::try_from(*size).expect("a size"));
        let layer = image::layer("data", content);
        let name = format!("{}.tar", names.len());
        let header = header(&name, layer.len() as u64);
        file.write_all(header.as_bytes()).expect("room for it");
        file.write_all(&layer).expect("room for it");
        diff_ids.push(digest(&layer));
        names.push(name);
    }
    let rest = [
        Entry::new("config.json", image::config(&diff_ids, name)),
        Entry::new("manifest.json", image::archive_manifest(name, &names)),
    ];
    // The size of a layer is a multiple of 512, so no padding is needed before the next header.
    file.write_all(&tar_of(&rest)).expect("room for it");
    file.flush().expect("room for it");
}
