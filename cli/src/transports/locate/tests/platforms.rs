//! The platforms of an image that are read.

use super::*;
use crate::image::SingleImage;
use crate::transports::locate::detect_image;

const MULTI: &str = "docker28-containerd-store-multi.tar";
const INDEX_HEX: &str = "8bbc86d4701edabdf5e8ab0b8cfaafb4197220884b559f8c794a9dd27f95bece";

fn multi(platforms: &[&str]) -> Result<(Image, ImageBlobs), Error> {
    let contents = from_file(&std::fs::read(recorded(MULTI)).unwrap()).unwrap();
    detect_image(&contents, &parse_platforms(platforms))
}

#[test]
fn one_platform_goes_as_the_image_that_it_is() {
    for (platform, manifest) in [
        ("linux/amd64", "834405ef1d93"),
        ("linux/arm64/v8", "cc0bde6b3f3d"),
    ] {
        let (image, blobs) = multi(&[platform]).unwrap();
        check(&image, &blobs);
        assert!(image.notes[0].contains(platform), "{:?}", image.notes);
        let ImageContent::Single(SingleImage {
            origin: ManifestOrigin::Original(own),
            ..
        }) = image.content
        else {
            panic!("no image whose bytes are kept");
        };
        assert_eq!(own.digest.short(), manifest);
    }
}

#[test]
fn all_platforms_are_the_index_unchanged() {
    let (image, blobs) = multi(&["linux/arm64", "linux/amd64"]).unwrap();
    check(&image, &blobs);
    assert!(image.notes.is_empty());
    let ImageContent::Graph(graph) = image.content else {
        panic!("no index")
    };
    assert_eq!(graph.root.hex(), INDEX_HEX);
}

#[test]
fn a_platform_that_is_not_there_is_said_with_those_that_are() {
    let error = multi(&["linux/amd64", "windows/amd64"]).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("it has linux/amd64, linux/arm64"),
        "{error}"
    );
    for file in ["docker20-classic-store.tar", "podman4-oci-archive.tar"] {
        let contents = from_file(&std::fs::read(recorded(file)).unwrap()).unwrap();
        let (image, blobs) = detect_image(&contents, &parse_platforms(&["linux/amd64"])).unwrap();
        check(&image, &blobs);
        let error = detect_image(&contents, &parse_platforms(&["linux/arm64"])).unwrap_err();
        assert!(matches!(error, Error::PlatformNotFound { .. }), "{error}");
        assert!(error.to_string().ends_with("linux/amd64"), "{error}");
    }
}

/// An index can list a platform whose manifest is missing, as after a pull for one platform.
#[test]
fn a_platform_of_which_parts_are_missing_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    tar::Archive::new(std::fs::File::open(recorded(MULTI)).unwrap())
        .unpack(folder.path())
        .unwrap();
    let config = "9ac524f899b46ded9d356adebdb77d0d72eb57653e003a72af48b244f7c77c4f";
    std::fs::remove_file(folder.path().join("blobs/sha256").join(config)).unwrap();
    let contents = SourceFiles::folder(folder.path().to_owned());
    detect_image(&contents, &parse_platforms(&["linux/amd64"])).unwrap();
    let error = detect_image(&contents, &parse_platforms(&["linux/arm64"])).unwrap_err();
    assert!(error.to_string().ends_with("it has linux/amd64"), "{error}");
}
