//! Tests of content that is damaged on the disk.

use std::path::Path;

use imgsync_oci::{Algorithm, Digest, Reference, media};

use super::tests::{TestImage, has, push, push_manifest, repository, tag, tagged};
use super::{Error, Registry};

/// Replaces the bytes of a blob's file.
fn damage(root: &Path, digest: &Digest, bytes: &[u8]) {
    let hex = digest.hex();
    let blobs = root.join("docker/registry/v2/blobs/sha256");
    let path = blobs.join(&hex[..2]).join(hex).join("data");
    assert!(path.exists());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damaged_content_counts_as_absent_and_the_next_push_repairs_it() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let image = TestImage::of("word");
    push(&registry, &image).1.unwrap();
    let layer = Digest::of(&image.layer);
    // An empty file.
    damage(root.path(), &layer, b"");
    assert!(!has(&registry, &image.layer));
    push(&registry, &image).1.unwrap();
    assert!(has(&registry, &image.layer));
    // A truncated file, which only the size in a manifest reveals.
    damage(root.path(), &layer, &image.layer[..3]);
    let error = push_manifest(&registry, &image).unwrap_err();
    assert!(matches!(&error, Error::ChildrenUnknown(missing) if *missing == [layer.clone()]));
    assert!(!has(&registry, &image.layer));
    push(&registry, &image).1.unwrap();
    // A damaged manifest.
    for bytes in [&b""[..], &image.manifest[1..]] {
        damage(root.path(), &Digest::of(&image.manifest), bytes);
        let error = registry.get_manifest(&repository(), &tag()).err().unwrap();
        assert!(matches!(error, Error::ManifestDamaged(_)));
        push_manifest(&registry, &image).unwrap();
        assert_eq!(tagged(&registry), image.manifest);
    }
    // Damaged links.
    let repositories = root.path().join("docker/registry/v2/repositories/team/app");
    let hex = layer.hex();
    std::fs::write(repositories.join(format!("_layers/sha256/{hex}/link")), b"").unwrap();
    std::fs::write(
        repositories.join("_manifests/tags/v1/current/link"),
        b"sha256:",
    )
    .unwrap();
    assert!(!has(&registry, &image.layer));
    let error = registry.get_manifest(&repository(), &tag()).err().unwrap();
    assert!(matches!(error, Error::ManifestUnknown(_)));
    push(&registry, &image).1.unwrap();
    assert!(has(&registry, &image.layer));
    assert_eq!(tagged(&registry), image.manifest);
}

#[test]
fn a_link_to_other_content_counts_as_absent_and_the_next_push_repairs_it() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let (image, other) = (TestImage::of("word"), TestImage::of("other"));
    push(&registry, &other).1.unwrap();
    push(&registry, &image).1.unwrap();
    let repositories = root.path().join("docker/registry/v2/repositories/team/app");
    let pairs = [
        ("_layers", &image.layer, &other.layer),
        ("_manifests/revisions", &image.manifest, &other.manifest),
    ];
    for (folder, bytes, others) in pairs {
        let hex = Digest::of(bytes).hex().to_owned();
        let link = repositories.join(format!("{folder}/sha256/{hex}/link"));
        std::fs::write(link, Digest::of(others).to_string()).unwrap();
    }
    assert!(!has(&registry, &image.layer));
    let digest = Reference::Digest(Digest::of(&image.manifest));
    for reference in [tag(), digest] {
        let error = registry
            .get_manifest(&repository(), &reference)
            .err()
            .unwrap();
        assert!(matches!(error, Error::ManifestUnknown(_)), "{error}");
    }
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_INDEX,
        "manifests": [{
            "mediaType": media::OCI_MANIFEST,
            "digest": Digest::of(&image.manifest),
            "size": other.manifest.len(),
        }],
    });
    let index = index.to_string();
    let error = registry
        .put_manifest(&repository(), &tag(), &[], None, index.as_bytes())
        .unwrap_err();
    assert!(matches!(error, Error::ChildrenUnknown(_)), "{error}");
    push(&registry, &image).1.unwrap();
    assert!(has(&registry, &image.layer));
    assert_eq!(tagged(&registry), image.manifest);
    // A manifest under its sha512 digest is served only if its content matches.
    let alias = Digest::of_with(Algorithm::Sha512, &image.manifest);
    let folder = repositories.join(format!("_manifests/revisions/sha512/{}", alias.hex()));
    std::fs::create_dir_all(&folder).unwrap();
    for (bytes, is_served) in [(&other.manifest, false), (&image.manifest, true)] {
        std::fs::write(folder.join("link"), Digest::of(bytes).to_string()).unwrap();
        let served = registry.get_manifest(&repository(), &Reference::Digest(alias.clone()));
        assert_eq!(served.is_ok(), is_served);
    }
}

#[test]
fn a_healthy_blob_survives_a_manifest_that_lies_about_its_size() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::open(root.path()).unwrap();
    let image = TestImage::of("word");
    push(&registry, &image).1.unwrap();
    let mut lie: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    lie["layers"][0]["size"] = 1.into();
    let lie = lie.to_string();
    let error = registry
        .put_manifest(&repository(), &tag(), &[], None, lie.as_bytes())
        .unwrap_err();
    let layer = Digest::of(&image.layer);
    assert!(
        matches!(
            &error,
            Error::SizeMismatch { digest, stated: 1, actual }
                if *digest == layer && *actual == image.layer.len() as u64
        ),
        "{error}"
    );
    assert!(has(&registry, &image.layer));
    assert_eq!(tagged(&registry), image.manifest);
}
