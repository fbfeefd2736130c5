//! The images that are pushed: two versions that differ in one small layer.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::archive::{Entry, header, tar_of, write_folder};
use super::bytes::{digest, mixed};
use super::image::{self, Image};

/// The layers of an image: a seed and a number of bytes.
type LayerSizes = [(u64, u64); 4];

/// An image in an archive, as `docker save` writes it, and in an OCI layout.
pub(super) struct Archive {
    pub(super) path: PathBuf,
    /// The folder of the layout, whose layers are compressed.
    pub(super) layout: PathBuf,
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
            let layers = layers(megabytes, last);
            write(&path, name, &layers);
            let layout = folder.join(format!("{megabytes}-{last}"));
            write_layout(&layout, &layers);
            Archive { path, layout, name }
        };
        Self {
            first: version("imgsync-bench:v1", 4),
            second: version("imgsync-bench:v2", 5),
        }
    }
}

/// Returns the seed and the size in bytes of each layer.
fn layers(megabytes: u64, last: u64) -> LayerSizes {
    let shares = [(1, 60), (2, 25), (3, 14), (last, 1)];
    shares.map(|(seed, percent)| (seed, megabytes * 10_000 * percent))
}

fn content((seed, size): (u64, u64)) -> Vec<u8> {
    image::layer("data", mixed(seed, usize::try_from(size).expect("a size")))
}

/// Writes an OCI layout with all layers compressed. The whole image is in memory.
fn write_layout(folder: &Path, layers: &LayerSizes) {
    let image = Image::new(layers.map(content).to_vec());
    write_folder(&image.oci_layout("v1"), folder);
}

/// Writes an archive with one layer for each pair of a seed and a size. One layer is in memory at a
/// time.
fn write(path: &Path, name: &str, layers: &[(u64, u64)]) {
    let mut file = BufWriter::new(File::create(path).expect("an archive"));
    let (mut diff_ids, mut names) = (Vec::new(), Vec::new());
    for layer in layers {
        let layer = content(*layer);
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
