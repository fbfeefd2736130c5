//! Layouts as Docker 29.1 and other tools write them: several entries without names, attestations
//! beside the image, images without layers.

use serde_json::{Value, json};

use super::*;
use crate::transports::locate::detect_image;

const MULTI: &str = "docker28-containerd-store-multi.tar";
const AMD64: &str = "834405ef1d93f8121e51244f38e0d3860358ff162ba394f5a081a2693ac5adb2";
const ARM64: &str = "cc0bde6b3f3dbe29706fc58c099423cf2bbca1439b1b682bc89933a31253fb93";
const AMD64_ATTESTATION: &str = "e62841dc71e2b9915e26ad664e825d4d26a65a119400ce6c4e3791d08d9d0f65";
const INDEX: &str = "8bbc86d4701edabdf5e8ab0b8cfaafb4197220884b559f8c794a9dd27f95bece";

fn entry(hex: &str, size: usize, annotations: &Value) -> Value {
    let kind = if hex == INDEX { "index" } else { "manifest" };
    json!({
        "mediaType": format!("application/vnd.oci.image.{kind}.v1+json"),
        "digest": format!("sha256:{hex}"), "size": size, "annotations": annotations,
    })
}

/// Reads the recorded export of two platforms with these entries in its `index.json`. Without
/// names, the `manifest.json` of the export is left out.
fn read(entries: &[Value], platforms: &[&str]) -> Result<(Image, ImageBlobs), Error> {
    let folder = tempfile::tempdir().unwrap();
    let archive = std::fs::File::open(recorded(MULTI)).unwrap();
    tar::Archive::new(archive).unpack(folder.path()).unwrap();
    let index = json!({ "schemaVersion": 2, "manifests": entries });
    std::fs::write(folder.path().join("index.json"), index.to_string()).unwrap();
    let contents = SourceFiles::folder(folder.path().to_owned());
    let (image, blobs) = detect_image(&contents, &parse_platforms(platforms))?;
    check(&image, &blobs);
    Ok((image, blobs))
}

fn root(image: &Image) -> &str {
    match &image.content {
        ImageContent::Single(single) => match &single.origin {
            ManifestOrigin::Original(own) => own.digest.hex(),
            _ => panic!("not the original manifest"),
        },
        ImageContent::Graph(graph) => graph.root.hex(),
    }
}

/// Docker 29.1 and later list attestations beside the image that they are about.
#[test]
fn an_attestation_beside_the_image_is_left_out() {
    let subject = json!({ "io.containerd.manifest.subject": format!("sha256:{AMD64}") });
    let attestation = entry(AMD64_ATTESTATION, 565, &subject);
    for (image, size) in [(AMD64, 1042), (INDEX, 1609)] {
        for (name, platforms) in [
            (json!(null), &["linux/amd64"][..]),
            (
                json!({ "io.containerd.image.name": "docker.io/sample/multi:v1" }),
                &[],
            ),
            (json!(null), &[]),
        ] {
            let entries = [entry(image, size, &name), attestation.clone()];
            let (read, _) = read(&entries, platforms).unwrap();
            let expected = if platforms.is_empty() { image } else { AMD64 };
            assert_eq!(root(&read), expected, "{entries:?}");
        }
    }
}

#[test]
fn several_images_without_names_are_listed_and_a_platform_chooses() {
    let entries = [AMD64, ARM64].map(|hex| entry(hex, 1042, &json!(null)));
    for (platform, expected) in [("linux/arm64", ARM64), ("linux/amd64", AMD64)] {
        let (image, _) = read(&entries, &[platform]).unwrap();
        assert_eq!(root(&image), expected);
    }
    for platforms in [&[][..], &["linux/amd64", "linux/arm64"]] {
        let error = read(&entries, platforms).unwrap_err();
        let text = error.to_string();
        assert!(
            text.ends_with("contains several images: @0 (linux/amd64), @1 (linux/arm64)"),
            "{text}"
        );
        assert!(error.hint().unwrap().contains("oci:PATH:@NUMBER"));
    }
    let error = read(&entries, &["linux/s390x"]).unwrap_err();
    assert!(
        error.to_string().contains("linux/amd64, linux/arm64"),
        "{error}"
    );
}

/// BuildKit and other programs in Go write `null` for the layers of an image without any.
#[test]
fn an_image_without_layers_is_read() {
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "history": [{ "created_by": "LABEL a=b", "empty_layer": true }],
        "rootfs": { "type": "layers", "diff_ids": null },
    });
    let config = config.to_string();
    let name = |bytes: &str| format!("blobs/sha256/{}", Digest::of(bytes.as_bytes()).hex());
    let descriptor = |kind: &str, bytes: &str| {
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}.v1+json"),
            "digest": Digest::of(bytes.as_bytes()), "size": bytes.len(),
        })
    };
    for layers in [json!(null), json!([])] {
        let manifest = json!({
            "schemaVersion": 2, "layers": layers, "config": descriptor("config", &config),
        });
        let manifest = manifest.to_string();
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor("manifest", &manifest)] });
        let (manifest_name, config_name) = (name(&manifest), name(&config));
        let files = [
            ("index.json", index.to_string()),
            (&*manifest_name, manifest),
            (&*config_name, config.clone()),
        ];
        let files = files
            .each_ref()
            .map(|(name, text)| (*name, text.as_bytes()));
        let (image, blobs) =
            detect_image(&from_file(&tarball(&files)).unwrap(), &all_platforms()).unwrap();
        check(&image, &blobs);
    }
    let manifest = json!([{ "Config": "config.json", "RepoTags": ["app:v1"], "Layers": null }]);
    let manifest = manifest.to_string();
    let files = [
        ("config.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ];
    let (image, blobs) =
        detect_image(&from_file(&tarball(&files)).unwrap(), &all_platforms()).unwrap();
    check(&image, &blobs);
}
