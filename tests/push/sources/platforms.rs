//! Tests multi-platform images and `--platform`.

use super::{SourcesFixture, recorded_archive, text};
use crate::support::prelude::*;

const ARCHIVE: &str = "docker28-containerd-store-multi.tar";
const INDEX: &str = "sha256:8bbc86d4701edabdf5e8ab0b8cfaafb4197220884b559f8c794a9dd27f95bece";
const AMD64: &str = "sha256:834405ef1d93f8121e51244f38e0d3860358ff162ba394f5a081a2693ac5adb2";
const ARM64: &str = "sha256:cc0bde6b3f3dbe29706fc58c099423cf2bbca1439b1b682bc89933a31253fb93";

#[test]
fn only_the_selected_platforms_are_pushed() {
    let fixture = SourcesFixture::new();
    let path = recorded_archive(ARCHIVE);
    assert_eq!(fixture.push("all", &[], text(&path)).manifest, INDEX);
    let both = ["--platform", "linux/amd64", "--platform", "linux/arm64"];
    assert_eq!(fixture.push("both", &both, text(&path)).manifest, INDEX);
    for (name, platform, manifest) in [("amd", "linux/amd64", AMD64), ("arm", "linux/arm64", ARM64)]
    {
        let found = fixture.push(name, &["--platform", platform], text(&path));
        assert_eq!(found.manifest, manifest);
        assert!(found.children.is_empty(), "{found:?}");
    }
    let platform = ["--platform", "linux/s390x"];
    let outcome = fixture
        .imgsync
        .push_with(&platform, text(&path), &fixture.remote("none"));
    outcome.failed(3, &["linux/s390x", "linux/amd64, linux/arm64"]);
    let platform = ["--platform", "arm64"];
    let outcome = fixture
        .imgsync
        .push_with(&platform, text(&path), &fixture.remote("none"));
    outcome.failed(2, &["--platform", "linux/arm64"]);
}

/// With two of three platforms, the target gets a new index of these two and of their attestations.
/// A note says that the digest changes.
#[test]
fn some_platforms_of_an_index_become_a_new_index() {
    let fixture = SourcesFixture::new();
    let mut entries = archive::read_tar(&recorded_archive(ARCHIVE));
    let json = |entries: &[archive::Entry], name: &str| -> serde_json::Value {
        serde_json::from_slice(archive::file(entries, name).expect(name)).expect("JSON")
    };
    let name = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
    // The manifest of a third platform, with the layers of the second one.
    let mut third = json(&entries, &name(ARM64));
    third["annotations"] = serde_json::json!({"made-by": "a test"});
    let third = third.to_string().into_bytes();
    let mut index = json(&entries, &name(INDEX));
    let mut entry = index["manifests"][1].clone();
    entry["digest"] = digest(&third).into();
    entry["size"] = third.len().into();
    entry["platform"] = serde_json::json!({"os": "linux", "architecture": "riscv64"});
    index["manifests"]
        .as_array_mut()
        .expect("a list")
        .insert(1, entry);
    let index = index.to_string().into_bytes();
    let mut top = json(&entries, "index.json");
    top["manifests"][0]["digest"] = digest(&index).into();
    top["manifests"][0]["size"] = index.len().into();
    entries.retain(|entry| !["index.json", "manifest.json"].contains(&&*entry.name));
    entries.push(archive::Entry::new("index.json", top.to_string()));
    for blob in [third.clone(), index.clone()] {
        entries.push(archive::Entry::new(name(&digest(&blob)), blob));
    }
    let folder = fixture.scratch.path("layout");
    archive::write_folder(&entries, &folder);

    let whole = fixture.push("whole", &[], text(&folder));
    assert_eq!((whole.manifest, whole.children.len()), (digest(&index), 5));
    let options = ["--platform", "linux/riscv64", "--platform", "linux/amd64"];
    let remote = fixture.remote("two");
    let outcome = fixture.imgsync.push_with(&options, text(&folder), &remote);
    let stderr = outcome.succeeded().stderr;
    assert!(stderr.contains("its digest changes"), "{stderr}");
    let two = fixture.check_image("two");
    // Two images, and the attestation of the first one.
    assert_eq!(two.children.len(), 3, "{two:?}");
    assert!(two.children.contains(&AMD64.to_owned()), "{two:?}");
    assert!(two.children.contains(&digest(&third)), "{two:?}");
    assert!(!two.children.contains(&ARM64.to_owned()), "{two:?}");
    // Equal platforms give an equal index.
    assert_eq!(fixture.push("again", &options, text(&folder)), two);
}
