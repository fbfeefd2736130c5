//! The archive that each kind of daemon is sent.

use bytes::Bytes;
use imgsync_oci::{Descriptor, Digest, media};

use super::archive_stream::archive_files;
use super::platform_image::PlatformImage;
use super::responses::DaemonKind;
use crate::transports::testing;

fn image() -> PlatformImage {
    let sample = testing::image(b"layer");
    PlatformImage {
        root: Digest::of(b"an index"),
        config: testing::descriptor(media::OCI_CONFIG, &sample.blobs[0]),
        layers: vec![Descriptor::new("", Digest::of(b"layer"), 5)],
        manifest: sample.manifest,
        omitted_platforms: Vec::new(),
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
        for kind in [DaemonKind::Containerd, DaemonKind::Podman] {
            let files = archive_files_for(kind, repository);
            let file = |name: &str| &files.iter().find(|file| file.0 == name).unwrap().1;
            let entry = &file("index.json")["manifests"][0];
            assert_eq!(entry["digest"], image().manifest.digest.to_string());
            assert_eq!(entry["annotations"]["io.containerd.image.name"], whole);
            assert_eq!(file("oci-layout")["imageLayoutVersion"], "1.0.0");
            assert_eq!(
                file("manifest.json")[0]["RepoTags"][0],
                format!("{repository}:v1")
            );
        }
    }
}
