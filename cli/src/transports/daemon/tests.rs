//! The archive that each kind of daemon is sent.

use bytes::Bytes;
use imgsync_oci::{Descriptor, Digest, media};

use super::archive_stream::archive_files;
use super::attestations::Attestation;
use super::platform_image::PlatformImage;
use super::responses::DaemonKind;
use crate::transports::testing;

fn image() -> PlatformImage {
    let sample = testing::image(b"layer");
    let attestation = Attestation {
        manifest: testing::image(b"statement").manifest,
        blobs: Vec::new(),
    };
    PlatformImage {
        indexes: vec![testing::index(&[&sample])],
        config: testing::descriptor(media::OCI_CONFIG, &sample.blobs[0]),
        layers: vec![Descriptor::new("", Digest::of(b"layer"), 5)],
        manifest: sample.manifest,
        omitted_platforms: Vec::new(),
        platform: None,
        attestations: vec![attestation],
    }
}

fn archive_files_for(kind: DaemonKind, repository: &str) -> Vec<(String, serde_json::Value)> {
    let config = Bytes::from_static(b"{}");
    let files = archive_files(kind, &image(), &config, (repository, &testing::tag("v1")));
    let parsed = |bytes: Vec<u8>| serde_json::from_slice(&bytes).unwrap();
    let files = files.into_iter();
    files.map(|(name, bytes)| (name, parsed(bytes))).collect()
}

#[test]
fn a_classic_store_is_told_of_no_layout_that_lacks_layers() {
    let files = archive_files_for(DaemonKind::Classic, "app");
    let names: Vec<_> = files.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names.len(), 2);
    assert_eq!(names[1], "manifest.json");
    let entry = &files[1].1[0];
    assert_eq!(entry["Config"], names[0]);
    assert_eq!(entry["RepoTags"][0], "app:v1");
    let layer = format!("blobs/sha256/{}", Digest::of(b"layer").hex());
    assert_eq!(entry["Layers"][0], *layer);
}

#[test]
fn the_others_read_a_layout_and_the_whole_name_in_it() {
    for (repository, whole) in [
        ("app", "docker.io/library/app:v1"),
        ("team/app", "docker.io/team/app:v1"),
        ("localhost/app", "localhost/app:v1"),
        ("ghcr.io/team/app", "ghcr.io/team/app:v1"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app:v1"),
    ] {
        let image = image();
        for (kind, root) in [
            (DaemonKind::Containerd, image.root()),
            (DaemonKind::Podman, &image.manifest),
        ] {
            let files = archive_files_for(kind, repository);
            let file = |name: &str| files.iter().find(|file| file.0 == name).map(|file| &file.1);
            let entry = &file("index.json").unwrap()["manifests"][0];
            assert_eq!(entry["digest"], root.digest.to_string());
            assert_eq!(entry["annotations"]["io.containerd.image.name"], whole);
            assert_eq!(file("oci-layout").unwrap()["imageLayoutVersion"], "1.0.0");
            let names = file("manifest.json").map(|images| &images[0]["RepoTags"][0]);
            let name = serde_json::Value::from(format!("{repository}:v1"));
            let is_podman = kind == DaemonKind::Podman;
            assert_eq!(names, Some(&name).filter(|_| is_podman));
            for manifest in image.manifests() {
                let path = format!("blobs/sha256/{}", manifest.digest.hex());
                let is_needed = !is_podman || *manifest == image.manifest;
                assert_eq!(file(&path).is_some(), is_needed, "{path}");
            }
        }
    }
}
