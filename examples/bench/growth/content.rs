//! Generates repositories with many tags, many repositories, and manifests with many referrers.

use std::io::{self, Write as _};
use std::ops::Range;

use imgsync_oci::Digest;
use serde_json::{Value, json};

use super::store_folder::StoreFolder;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const SIGNATURE: &str = "application/vnd.example.signature";

/// The blobs and manifests of one image of [`write_images`].
const BLOBS_PER_IMAGE: usize = 10;
/// Of how many images one has no manifest.
const GARBAGE_INTERVAL: usize = 20;

/// The number of generating threads: creating files needs more CPU time than disk time.
const THREADS: usize = 4;

/// Writes a repository with `count` tags. Each tag points at an image of its own; all images share
/// their config and layer.
pub(crate) fn write_tags(folder: &StoreFolder, repository: &str, count: usize) -> io::Result<()> {
    let image = Image::store(folder)?;
    image.link(folder, repository)?;
    in_threads(count, |number| {
        let manifest = image.manifest(&format!("image {number}"));
        let digest = folder.add_manifest(repository, &manifest)?;
        folder.add_tag(repository, &format!("v{number}"), &digest)
    })
}

/// Writes `count` repositories with the tag `v1`, each with the same image. Returns a blob that only
/// the last repository has.
pub(crate) fn write_repositories(folder: &StoreFolder, count: usize) -> io::Result<Digest> {
    let image = Image::store(folder)?;
    let manifest = image.manifest("the same in all repositories");
    in_threads(count, |number| {
        let repository = repository_name(number);
        image.link(folder, &repository)?;
        let digest = folder.add_manifest(&repository, &manifest)?;
        folder.add_tag(&repository, "v1", &digest)
    })?;
    let only = folder.add_blob(b"only in the last repository")?;
    folder.link_blob(&repository_name(count - 1), &only)?;
    Ok(only)
}

/// Writes a repository with about `blobs` blobs and manifests: images with a tag each, which share
/// nothing. Each twentieth has no manifest, so that its blobs are garbage.
pub(crate) fn write_images(folder: &StoreFolder, repository: &str, blobs: usize) -> io::Result<()> {
    in_threads(blobs / BLOBS_PER_IMAGE, |number| {
        let mut layers = Vec::new();
        for layer in 0..BLOBS_PER_IMAGE - 2 {
            let bytes = format!("layer {layer} of image {number}");
            let digest = folder.add_blob(bytes.as_bytes())?;
            folder.link_blob(repository, &digest)?;
            layers.push(descriptor(LAYER, &digest, bytes.len()));
        }
        let config = json!({"architecture": "amd64", "os": "linux", "number": number});
        let config = config.to_string();
        let digest = folder.add_blob(config.as_bytes())?;
        folder.link_blob(repository, &digest)?;
        if number % GARBAGE_INTERVAL == 0 {
            return Ok(());
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &digest, config.len()),
            "layers": layers,
        });
        let digest = folder.add_manifest(repository, manifest.to_string().as_bytes())?;
        folder.add_tag(repository, &format!("v{number}"), &digest)
    })
}

/// The names sort in the order of the numbers.
fn repository_name(number: usize) -> String {
    format!("group{:03}/app{number:07}", number / 100)
}

/// Writes an image with `count` signatures that have it as their subject, and returns its digest.
pub(crate) fn write_referrers(
    folder: &StoreFolder,
    repository: &str,
    count: usize,
) -> io::Result<Digest> {
    let image = Image::store(folder)?;
    image.link(folder, repository)?;
    let manifest = image.manifest("the subject");
    let subject = folder.add_manifest(repository, &manifest)?;
    folder.add_tag(repository, "v1", &subject)?;
    let (empty, content) = (folder.add_blob(b"{}")?, folder.add_blob(b"signature")?);
    folder.link_blob(repository, &empty)?;
    folder.link_blob(repository, &content)?;
    in_threads(count, |number| {
        let referrer = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": SIGNATURE,
            "config": descriptor(EMPTY, &empty, 2),
            "layers": [descriptor(SIGNATURE, &content, "signature".len())],
            "subject": descriptor(MANIFEST, &subject, manifest.len()),
            "annotations": {"org.example.number": number.to_string()},
        });
        folder.add_manifest(repository, referrer.to_string().as_bytes())?;
        Ok(())
    })?;
    Ok(subject)
}

/// A small valid image: a config and a layer without files.
struct Image {
    config: (Digest, usize),
    layer: (Digest, usize),
}

impl Image {
    fn store(folder: &StoreFolder) -> io::Result<Self> {
        // An empty tar is its end mark: two blocks of zeros.
        let tar = [0; 1024];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar)?;
        let layer = gzip.finish()?;
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&tar)]},
        });
        let config = config.to_string();
        Ok(Self {
            config: (folder.add_blob(config.as_bytes())?, config.len()),
            layer: (folder.add_blob(&layer)?, layer.len()),
        })
    }

    fn link(&self, folder: &StoreFolder, repository: &str) -> io::Result<()> {
        folder.link_blob(repository, &self.config.0)?;
        folder.link_blob(repository, &self.layer.0)
    }

    /// Returns a manifest of the image. The title makes it different from others.
    fn manifest(&self, title: &str) -> Vec<u8> {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &self.config.0, self.config.1),
            "layers": [descriptor(LAYER, &self.layer.0, self.layer.1)],
            "annotations": {"org.opencontainers.image.title": title},
        });
        manifest.to_string().into_bytes()
    }
}

fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

/// Calls `write` with all numbers below `count`, in several threads.
fn in_threads(count: usize, write: impl Fn(usize) -> io::Result<()> + Sync) -> io::Result<()> {
    let share = count.div_ceil(THREADS);
    let write_all = &|mut numbers: Range<usize>| numbers.try_for_each(&write);
    std::thread::scope(|scope| {
        let shares = (0..THREADS).map(|thread| {
            let numbers = (thread * share).min(count)..((thread + 1) * share).min(count);
            scope.spawn(move || write_all(numbers))
        });
        let running: Vec<_> = shares.collect();
        let mut running = running.into_iter();
        running.try_for_each(|thread| {
            let result = thread.join();
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}
