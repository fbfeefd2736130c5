//! Archives that real engines wrote (tests/archives).

use std::path::Path;

use imgsync_oci::Digest;

use super::*;
use crate::compress;
use crate::image::{ImageSelector, name};
use crate::transports::layout::image_reader;
use crate::transports::locate::detect_image;

/// A summary of the content of an archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ImageSummary {
    name: Option<String>,
    /// The origin of the manifest, and its digest if it has one.
    origin: String,
    layers: usize,
}

pub(super) fn summary(image: &Image) -> ImageSummary {
    let name = image.name.as_ref().map(name::text);
    let (origin, layers) = match &image.content {
        ImageContent::Single(single) => {
            let raw = single
                .layers
                .iter()
                .filter(|it| matches!(it, Layer::Raw { .. }))
                .count();
            let origin = match &single.origin {
                ManifestOrigin::Original(own) => format!("kept {}", own.digest.short()),
                ManifestOrigin::Edited(own) => format!("edited {}", own.digest.short()),
                ManifestOrigin::Generated => format!("written {}", single.config.digest.short()),
            };
            (format!("{origin}, {raw} raw"), single.layers.len())
        }
        ImageContent::Graph(graph) => {
            let origin = format!(
                "graph {}, {} manifests",
                graph.root.short(),
                graph.manifests.len()
            );
            (origin, graph.blobs.len())
        }
    };
    ImageSummary {
        name,
        origin,
        layers,
    }
}

pub(super) const EXPECTED: [(&str, Option<&str>, &str, usize); 8] = [
    (
        "docker20-classic-store.tar",
        Some("sample/app:v1"),
        "written 49bf004a5aed, 4 raw",
        4,
    ),
    (
        "docker28-classic-store.tar",
        Some("sample/app:v1"),
        "written d729216062f0, 4 raw",
        4,
    ),
    (
        "docker28-containerd-store.tar",
        Some("sample/app:v1"),
        "kept c66113554c42, 0 raw",
        4,
    ),
    (
        "docker28-containerd-store-multi.tar",
        Some("sample/multi:v1"),
        "graph 8bbc86d4701e, 5 manifests",
        10,
    ),
    (
        "docker28-containerd-store-loaded.tar",
        Some("sample/loaded:v1"),
        "written d729216062f0, 4 raw",
        4,
    ),
    (
        "podman4-docker-archive.tar",
        Some("localhost/sample/app:v1"),
        "written 49bf004a5aed, 4 raw",
        4,
    ),
    (
        "podman4-oci-archive.tar",
        Some("localhost/sample/app:v1"),
        "kept 54f8f0846c04, 0 raw",
        4,
    ),
    (
        "skopeo1-oci-archive.tar",
        Some("sample/app:v1"),
        "kept 54f8f0846c04, 0 raw",
        4,
    ),
];

pub(super) fn expected(name: Option<&str>, origin: &str, layers: usize) -> ImageSummary {
    ImageSummary {
        name: name.map(str::to_owned),
        origin: origin.to_owned(),
        layers,
    }
}

#[test]
fn every_archive_is_read_alike_as_file_and_as_stream() {
    for (file, name, origin, layers) in EXPECTED {
        let bytes = std::fs::read(recorded(file)).unwrap();
        for contents in [from_file(&bytes).unwrap(), from_stream(&bytes[..]).unwrap()] {
            let (image, blobs) = detect_image(&contents, &all_platforms()).unwrap();
            assert_eq!(summary(&image), expected(name, origin, layers), "{file}");
            check(&image, &blobs);
        }
    }
}

/// An archive that is cut anywhere before its padding is an error.
#[test]
fn an_archive_cut_anywhere_is_never_another_image() {
    for (file, name, origin, layers) in EXPECTED {
        let bytes = std::fs::read(recorded(file)).unwrap();
        let end = 512
            * bytes
                .chunks(512)
                .rposition(|it| it.iter().any(|byte| *byte != 0))
                .unwrap();
        let whole = end + 2 * 512;
        for cut in (0..bytes.len()).filter(|cut| cut % 61 == 0 || cut % 512 < 2 || *cut >= end) {
            let cut_off = &bytes[..cut];
            for contents in [from_file(cut_off), from_stream(cut_off)] {
                match contents.and_then(|contents| detect_image(&contents, &all_platforms())) {
                    Ok((image, _)) if cut >= whole => {
                        assert_eq!(summary(&image), expected(name, origin, layers));
                    }
                    Ok(_) => panic!("{file} cut at {cut} was taken"),
                    Err(Error::Truncated { .. } | Error::Empty { .. }) if cut < whole => {}
                    // Fewer bytes than a header are not recognized as a tar.
                    Err(Error::Malformed { .. }) if cut < 512 => {}
                    Err(error) => panic!("{file} cut at {cut}: {error}"),
                }
            }
        }
    }
}

/// One byte of a layer is changed, and every reader must report it.
#[test]
fn a_changed_layer_is_noticed() {
    for (file, ..) in EXPECTED {
        let bytes = std::fs::read(recorded(file)).unwrap();
        let (image, _) = detect_image(&from_file(&bytes).unwrap(), &all_platforms()).unwrap();
        let ImageContent::Single(single) = image.content else {
            continue;
        };
        for place in 0..single.layers.len() {
            let mut changed = bytes.clone();
            change(&mut changed, single.layers[place].source_digest());
            let read =
                from_file(&changed).and_then(|contents| detect_image(&contents, &all_platforms()));
            let (image, blobs) = read.unwrap();
            let ImageContent::Single(single) = image.content else {
                panic!("{file} has become an index");
            };
            let layer = &single.layers[place];
            let reader = blobs.get(layer.source_digest()).unwrap().reader().unwrap();
            let noticed = match layer {
                Layer::Raw { diff_id, .. } => {
                    compress::gzip(reader, &mut io::sink(), 1).unwrap().diff_id != *diff_id
                }
                Layer::Blob { descriptor, .. } => {
                    let packed = compress::compute_layer_digests(reader, Compression::Gzip);
                    packed.is_err() || packed.unwrap().digest != descriptor.digest
                }
            };
            assert!(noticed, "{file}, layer {place}");
        }
    }
}

/// Changes one byte in the middle of the entry whose bytes have this digest.
fn change(bytes: &mut [u8], digest: &Digest) {
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut places = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let start = entry.raw_file_position() as usize;
        let mut body = Vec::new();
        entry.read_to_end(&mut body).unwrap();
        if Digest::of(&body) == *digest {
            places.push(start + body.len() / 2);
        }
    }
    assert!(!places.is_empty());
    for place in places {
        bytes[place] ^= 1;
    }
}

#[test]
fn the_selected_image_is_read() {
    let bytes = std::fs::read(recorded("docker28-containerd-store.tar")).unwrap();
    let contents = from_file(&bytes).unwrap();
    for selector in [
        ImageSelector::Only,
        ImageSelector::Position(0),
        ImageSelector::Named("sample/app:v1".into()),
    ] {
        // `manifest.json` names compressed layers; their digests are computed from the bytes.
        let (image, blobs) = crate::transports::archive::docker_archive::read_image(
            &contents,
            &selector,
            &all_platforms(),
        )
        .unwrap();
        assert_eq!(
            summary(&image),
            expected(Some("sample/app:v1"), "written 4b3a4a36d970, 0 raw", 4)
        );
        check(&image, &blobs);
    }
    for selector in [
        ImageSelector::Only,
        ImageSelector::Named("v1".into()),
        ImageSelector::Position(0),
    ] {
        let (image, _) = image_reader::read_image(&contents, &selector, &all_platforms()).unwrap();
        assert_eq!(summary(&image).origin, "kept c66113554c42, 0 raw");
    }
    for selector in [
        ImageSelector::Position(1),
        ImageSelector::Named("other:v1".into()),
    ] {
        let not_there = crate::transports::archive::docker_archive::read_image(
            &contents,
            &selector,
            &all_platforms(),
        )
        .unwrap_err();
        assert!(
            not_there.to_string().contains("sample/app:v1"),
            "{not_there}"
        );
        assert!(matches!(
            image_reader::read_image(&contents, &selector, &all_platforms()),
            Err(Error::ImageNotFound { .. })
        ));
    }
}

#[test]
fn a_layout_with_raw_layers_is_edited() {
    let bytes = std::fs::read(recorded("docker28-containerd-store-loaded.tar")).unwrap();
    let contents = from_file(&bytes).unwrap();
    let (image, blobs) =
        image_reader::read_image(&contents, &ImageSelector::Only, &all_platforms()).unwrap();
    assert_eq!(summary(&image).origin, "edited efbe15671388, 4 raw");
    check(&image, &blobs);
}

#[test]
fn a_folder_is_read_as_its_archive() {
    for (file, name, origin, layers) in [EXPECTED[7], EXPECTED[3]] {
        let folder = tempfile::tempdir().unwrap();
        unpack(&recorded(file), folder.path());
        let contents = SourceFiles::folder(folder.path().to_owned());
        let (image, blobs) =
            image_reader::read_image(&contents, &ImageSelector::Only, &all_platforms()).unwrap();
        assert_eq!(summary(&image), expected(name, origin, layers));
        check(&image, &blobs);
    }
}

fn unpack(archive: &Path, folder: &Path) {
    tar::Archive::new(std::fs::File::open(archive).unwrap())
        .unpack(folder)
        .unwrap();
}

/// The index lists two platforms and one is present, as after a pull for one platform.
#[test]
fn of_an_index_the_one_whole_platform_goes() {
    let folder = tempfile::tempdir().unwrap();
    unpack(
        &recorded("docker28-containerd-store-multi.tar"),
        folder.path(),
    );
    let blobs = folder.path().join("blobs/sha256");
    let arm_config = "9ac524f899b46ded9d356adebdb77d0d72eb57653e003a72af48b244f7c77c4f";
    std::fs::remove_file(blobs.join(arm_config)).unwrap();
    let contents = SourceFiles::folder(folder.path().to_owned());
    let (image, blobs_here) =
        image_reader::read_image(&contents, &ImageSelector::Only, &all_platforms()).unwrap();
    assert_eq!(summary(&image).origin, "kept 834405ef1d93, 0 raw");
    assert!(image.notes[0].contains("linux/amd64"), "{:?}", image.notes);
    check(&image, &blobs_here);
    let amd_config = "4b3a4a36d97011502728835982ae1a5a854e2053c831e0b91c4f19fd2c29e4d9";
    std::fs::remove_file(blobs.join(amd_config)).unwrap();
    assert!(matches!(
        image_reader::read_image(&contents, &ImageSelector::Only, &all_platforms()),
        Err(Error::Missing { .. })
    ));
}
