//! Images of whole sources: archives that real engines wrote, hostile archives, and daemons.

mod compressed;
mod daemon;
mod hostile;
mod layouts;
mod platforms;
mod recorded;

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imgsync_oci::Digest;
use imgsync_oci::media::Compression;

use super::{LayerPacking, SkipLayer};
use crate::compress::{self, LayerDigests};
use crate::image::{Error, Image, ImageBlobs, ImageContent, Layer, ManifestOrigin, Platforms};
use crate::spool::Spool;
use crate::transports::files::SourceFiles;

/// Returns the path of a recorded archive or response.
fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/archives")
        .join(name)
}

/// Skips no layer.
fn skip_nothing() -> SkipLayer {
    Box::new(|_, _| false)
}

/// Compresses layers that nobody takes.
fn packing() -> LayerPacking {
    LayerPacking {
        threads: 1,
        take_layer: Arc::new(|_, _| ()),
    }
}

/// Requests all platforms.
fn all_platforms() -> Platforms {
    Platforms::default()
}

/// Requests these platforms.
fn parse_platforms(words: &[&str]) -> Platforms {
    let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
    Platforms::parse(&words).unwrap()
}

/// The entries of a file.
fn from_file(bytes: &[u8]) -> Result<SourceFiles, Error> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    io::Seek::rewind(&mut file).unwrap();
    crate::transports::locate::open_files::read_entries(
        file,
        bytes.len() as u64,
        "the archive test.tar",
    )
}

/// The entries of a stream.
fn from_stream(bytes: impl Read) -> Result<SourceFiles, Error> {
    crate::transports::archive::staging::stage_stream(
        bytes,
        "standard input",
        &Spool::default(),
        &mut skip_nothing(),
        None,
    )
}

/// A tar archive with these files.
fn tarball(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, body) in files {
        entry(&mut bytes, b'0', name.as_bytes(), b"", body);
    }
    bytes.extend([0; 1024]);
    bytes
}

/// Appends an entry with any name, also one that no tar program writes.
fn entry(bytes: &mut Vec<u8>, kind: u8, name: &[u8], link: &[u8], body: &[u8]) {
    header(bytes, kind, name, link, body.len() as u64);
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}

/// Appends a header alone.
fn header(bytes: &mut Vec<u8>, kind: u8, name: &[u8], link: &[u8], size: u64) {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    bytes.extend(header.as_bytes());
}

/// An archive of `docker save` with these files; the diffIDs are those of the config.
fn docker_archive(layers: &[(&str, &[u8])], diff_ids: &[Digest]) -> Vec<u8> {
    let config = serde_json::json!({ "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let names: Vec<_> = layers.iter().map(|(name, _)| name).collect();
    let manifest = serde_json::json!([
        { "Config": "config.json", "RepoTags": ["app:v1"], "Layers": names },
    ]);
    let (config, manifest) = (config.to_string(), manifest.to_string());
    let mut files = layers.to_vec();
    files.push(("config.json", config.as_bytes()));
    files.push(("manifest.json", manifest.as_bytes()));
    tarball(&files)
}

/// Compresses or verifies a layer.
fn pack(layer: &Layer, blobs: &ImageBlobs) -> LayerDigests {
    let reader = blobs
        .get(layer.source_digest())
        .expect("the layer is there")
        .reader()
        .unwrap();
    match layer {
        Layer::Raw { .. } => compress::gzip(reader, &mut io::sink(), 2).unwrap(),
        Layer::Blob { descriptor, .. } => {
            let compression = Compression::of_media_type(&descriptor.media_type).unwrap();
            let packed = compress::compute_layer_digests(reader, compression).unwrap();
            assert_eq!(packed.digest, descriptor.digest);
            assert_eq!(packed.size, descriptor.size);
            packed
        }
    }
}

/// Compresses every layer and checks its digest, and that the bytes of all blobs are present.
fn check(image: &Image, blobs: &ImageBlobs) {
    match &image.content {
        ImageContent::Single(single) => {
            let config = single.config.bytes.as_ref().unwrap();
            assert_eq!(Digest::of(config), single.config.digest);
            let stated = crate::image::config::diff_ids(config).unwrap();
            let mut found = Vec::new();
            for layer in &single.layers {
                found.push(pack(layer, blobs).diff_id);
            }
            assert_eq!(found, stated);
            if let ManifestOrigin::Original(own) | ManifestOrigin::Edited(own) = &single.origin {
                assert_eq!(Digest::of(&own.bytes), own.digest);
            }
        }
        ImageContent::Graph(graph) => {
            let mut there = HashSet::new();
            for descriptor in &graph.blobs {
                let slice = blobs.get(&descriptor.digest).unwrap();
                assert_eq!(Digest::of(&slice.read_all().unwrap()), descriptor.digest);
                assert!(
                    there.insert(&descriptor.digest),
                    "a blob stands there twice"
                );
            }
            for own in &graph.manifests {
                assert_eq!(Digest::of(&own.bytes), own.digest);
                let (_, parsed) =
                    imgsync_oci::Manifest::parse(&own.bytes, Some(&own.media_type)).unwrap();
                let children = parsed.children();
                for child in children.blobs.iter().chain(&children.manifests) {
                    assert!(there.contains(&child.digest), "children come first");
                }
                there.insert(&own.digest);
            }
            assert_eq!(graph.manifests.last().unwrap().digest, graph.root);
        }
    }
}
