//! Tests deltas of layers that come compressed and must keep their bytes.

use imgsync_oci::layer::gzip;

use super::{DeltaFixture, LIMITED, small_pair};
use crate::support::Trigger;
use crate::support::prelude::*;

/// Compresses a layer.
type Compress = fn(&[u8]) -> Vec<u8>;

/// Compresses a layer as the tool and the server do it.
fn own_gzip(layer: &[u8]) -> Vec<u8> {
    let mut blob = Vec::new();
    gzip(layer, &mut blob, 2).expect("writing to memory");
    blob
}

/// Compresses the first MiB of a layer as this tool does it, and the rest in another way.
fn begins_like_own(layer: &[u8]) -> Vec<u8> {
    let (start, rest) = layer.split_at(1024 * 1024);
    [own_gzip(start), archive::gzip(rest)].concat()
}

/// Writes an OCI layout with this layer, compressed by `compress`. Returns its name for a push, and the
/// digest of the manifest.
fn layout(
    fixture: &DeltaFixture,
    name: &str,
    layer: &[u8],
    compress: Compress,
) -> (PathBuf, String) {
    let image = Image::new(vec![layer.to_vec()]);
    let blobs = vec![compress(layer)];
    let manifest = image.oci_manifest(&blobs);
    let entries = image::layout(&manifest, blobs.iter().chain([&image.config]), "app");
    let folder = fixture.scratch.path(name);
    archive::write_folder(&entries, &folder);
    (folder, digest(&manifest))
}

impl DeltaFixture {
    /// Panics unless the image has this manifest. Checks every digest.
    fn check_manifest(&self, name: &str, manifest: &str) {
        let stored = check::at_registry(self.server.address(), name);
        assert_eq!(stored.manifest, manifest, "{name}");
    }
}

/// An image that this tool has pushed elsewhere, and that was mirrored to a layout.
#[test]
fn a_layer_that_this_tool_has_compressed_is_sent_as_a_delta() {
    let fixture = DeltaFixture::new();
    let pair = small_pair();
    let old = fixture.archive("old", &[&pair.old]);
    let new = fixture.archive("new", &[&pair.new]);
    fixture.push(&[], &old, "app:v1");

    let elsewhere = Server::start(&fixture.scratch.folder("elsewhere"));
    let imgsync = Imgsync::new(&fixture.scratch.folder("user"));
    let source = format!("{}/app:v2", elsewhere.address());
    let path = new.to_str().expect("a path in UTF-8");
    imgsync.push(path, &source).succeeded();
    let layout = fixture.scratch.path("layout");
    let target = format!("oci:{}", layout.display());
    imgsync.mirror(&[], &source, &target).succeeded();
    let manifest = check::at_registry(elsewhere.address(), "app:v2").manifest;

    // From a machine with the old layer, and from one without.
    for has_old_layer in [true, false] {
        let fresh = DeltaFixture::new();
        fresh.push(&[], &old, "app:v1");
        let home = if has_old_layer {
            fresh.home.clone()
        } else {
            fresh.scratch.folder("other")
        };
        let pushed = fresh.push_as(&home, &[], &layout, "app:v2");
        assert_eq!(pushed.deltas().len(), 1, "{}", pushed.outcome);
        assert!(pushed.sent() < 100_000, "{}", pushed.outcome);
        fresh.check_manifest("app:v2", &manifest);
        // The layer is kept for the next push, under its diffID.
        let name = digest(&pair.new).replace("sha256:", "imgsync-gzip-1/sha256-");
        let kept = home.join("cache/imgsync/spool").join(name);
        assert!(kept.is_file(), "{}", kept.display());
    }

    // The plan of a dry run says so, too.
    let mut command = DeltaFixture::command(&fixture.home);
    command.args(["push", "--dry-run"]).args(LIMITED);
    let plan = run(command.arg(&layout).arg(fixture.remote("app:v2"))).succeeded();
    assert!(plan.stdout.contains("as a delta against layer"), "{plan}");

    // Other programs pull the image.
    let pushed = fixture.push(&[], &layout, "app:v2");
    assert_eq!(pushed.deltas().len(), 1, "{}", pushed.outcome);
    let pulled = fixture.scratch.folder("pulled");
    skopeo::pull(fixture.server.address(), "app:v2", &pulled);
    let config = check::in_folder(&pulled).config;
    assert_eq!(config, Image::new(vec![pair.new]).id());
    if programs_available(&["docker"]) {
        let remote = format!("{}/app:v2", fixture.server.address());
        assert_eq!(DockerImage::pull(remote).id(), config);
    }
}

/// Layers of other programs, and one that only begins as this tool would write it.
#[test]
fn other_compressed_layers_are_sent_whole() {
    let pair = small_pair();
    let compressions: [(Compress, bool); 2] = [(archive::gzip, false), (begins_like_own, true)];
    for (compress, is_compressed_again) in compressions {
        let fixture = DeltaFixture::new();
        let old = fixture.archive("old", &[&pair.old]);
        fixture.push(&[], &old, "app:v1");
        let (new, manifest) = layout(&fixture, "new", &pair.new, compress);
        let mut command = DeltaFixture::command(&fixture.home);
        command.args(["push", "--verbose"]).args(LIMITED).arg(new);
        let pushed = run(command.arg(fixture.remote("app:v2"))).succeeded();
        let reason = "sent whole, because its compressed bytes cannot be made again";
        let has_reason = pushed.stderr.contains(reason);
        assert_eq!(has_reason, is_compressed_again, "{pushed}");
        assert!(!pushed.stderr.contains("based on"), "{pushed}");
        fixture.check_manifest("app:v2", &manifest);
        // Nothing of it is left but the old layer.
        let spooled = fixture.spooled();
        assert_eq!(spooled.len(), 1, "{spooled:?}");
    }
}

/// The registry does not assemble the layer: its bytes are sent.
#[test]
fn a_compressed_layer_that_is_not_assembled_is_sent_whole() {
    let fixture = DeltaFixture::new();
    let pair = small_pair();
    let (old, _) = layout(&fixture, "old", &pair.old, own_gzip);
    let (new, manifest) = layout(&fixture, "new", &pair.new, own_gzip);
    let first = fixture.push(&[], &old, "app:v1");
    assert!(first.deltas().is_empty(), "{}", first.outcome);
    let stored = check::at_registry(fixture.server.address(), "app:v1");
    let base = stored.blobs.last().expect("a layer").0.clone();
    let server = fixture.server.address();
    fixture.relay.run_at(
        Trigger::BytesReceived(fixture.relay.traffic().down + 5_000),
        move || {
            let target = format!("/v2/app/blobs/{base}");
            let deleted = http::send(server, "DELETE", &target, &[], b"");
            assert_eq!(deleted.status, 202, "{}", deleted.text());
        },
    );
    let pushed = fixture.push(&[], &new, "app:v2");
    assert!(pushed.deltas().is_empty(), "{}", pushed.outcome);
    assert!(
        pushed.has_note("the layer is sent whole"),
        "{}",
        pushed.outcome
    );
    fixture.check_manifest("app:v2", &manifest);
}
