//! Tests that blobs are read one by one from the content store of a Docker daemon, and that an
//! image is exported where this fails.

use std::collections::HashMap;

use super::SourcesFixture;
use crate::support::archive::Entry;
use crate::support::check::StoredImage;
use crate::support::content_service::{ContentFault, ContentService};
use crate::support::docker::DockerDaemon;
use crate::support::engine::{
    ContentAccess, FakeEngine, inspect_containerd, inspect_with_root, layout_blobs,
};
use crate::support::prelude::*;
use crate::support::seed::{OCI_INDEX, OCI_MANIFEST, index_with_attestation};
use crate::support::{Containerd, Random};

/// How often a compressed layer is read: its first member shows whether a delta of it may be possible,
/// then it is verified while it is sent.
const READS: usize = 2;

/// The diffIDs of blobs that the engine has unpacked.
fn labels(image: &Image) -> HashMap<String, String> {
    let blobs = image.compressed().into_iter().zip(&image.layers);
    blobs
        .map(|(blob, layer)| (digest(&blob), digest(layer)))
        .collect()
}

/// Returns an image with three layers of several messages each.
fn image(seeds: [u64; 3]) -> Image {
    let layer = |seed| layer("data", noise(seed, 2_500_000));
    Image::new(seeds.map(layer).to_vec())
}

fn service(image: &Image) -> ContentService {
    ContentService::new(layout_blobs(&image.oci_layout("v1")), labels(image))
}

/// Starts an engine with this image.
fn start(fixture: &SourcesFixture, image: &Image, access: ContentAccess) -> FakeEngine {
    let folder = fixture.scratch.folder(&unique("engine").replace('/', "-"));
    FakeEngine::start(
        &folder,
        &inspect_containerd(image),
        &image.oci_layout("v1"),
        access,
    )
}

/// Pushes the image of an engine with `--verbose`, and returns the outcome.
fn push(fixture: &SourcesFixture, engine: &FakeEngine, options: &[&str], name: &str) -> Outcome {
    let mut command = engine.command(&fixture.imgsync);
    command.args(["push", "--verbose"]).args(options);
    run(command.args(["app:v1", &fixture.remote(name)])).succeeded()
}

fn spooled_files(fixture: &SourcesFixture) -> usize {
    archive::read_folder(&fixture.scratch.folder("home/cache/imgsync/spool")).len()
}

#[test]
fn only_missing_blobs_are_read_by_each_way() {
    let fixture = SourcesFixture::new();
    let access: [fn(ContentService) -> ContentAccess; 2] =
        [ContentAccess::Upgrade, ContentAccess::PriorKnowledge];
    for ((name, seed), access) in [("upgrade", 1), ("prior", 5)].into_iter().zip(access) {
        let first = image([seed, seed + 1, seed + 2]);
        let second = image([seed, seed + 1, seed + 3]);
        let services = [&first, &second].map(service);
        let engine = start(&fixture, &first, access(services[0].clone()));
        let outcome = push(&fixture, &engine, &[], name);
        let all = "reading 3 of 3 layers through the engine's content store";
        assert!(outcome.stderr.contains(all), "{outcome}");
        assert_eq!(services[0].layer_reads().len(), 3 * READS, "{outcome}");
        assert_eq!(fixture.check_image(name).config, first.id());

        let engine = start(&fixture, &second, access(services[1].clone()));
        let one = "reading 1 of 3 layers through the engine's content store";
        let plan = push(&fixture, &engine, &["--dry-run"], name).stdout;
        assert!(plan.contains(one), "{plan}");
        assert_eq!(plan.matches("already exists").count(), 2, "{plan}");
        let changed = digest(&second.compressed()[2]);
        assert_eq!(services[1].layer_reads(), [], "a dry run reads no layer");
        let outcome = push(&fixture, &engine, &[], name);
        assert!(outcome.stderr.contains(one), "{outcome}");
        assert_eq!(
            services[1].layer_reads(),
            vec![(changed, 0); READS],
            "{outcome}"
        );
        assert_eq!(fixture.check_image(name).config, second.id());
        assert_eq!(engine.exports(), 0);
        assert_eq!(spooled_files(&fixture), 0);
    }
}

#[test]
fn a_broken_read_continues_at_its_offset() {
    let fixture = SourcesFixture::new();
    let image = Image::new(vec![layer("data", noise(11, 5_000_000))]);
    // After two messages of the layer.
    let fault = ContentFault::Breaks {
        connections: 2,
        bytes: 2_500_000,
    };
    let service = service(&image).with_fault(fault);
    let engine = start(&fixture, &image, ContentAccess::Upgrade(service.clone()));
    push(&fixture, &engine, &[], "app");
    assert_eq!(fixture.check_image("app").config, image.id());
    assert_eq!(engine.exports(), 0);
    let reads = service.layer_reads();
    assert!(reads.iter().any(|(_, offset)| *offset > 0), "{reads:?}");
}

/// Pushes an image from an engine whose content store cannot be read. Panics unless the image is
/// exported, with one note that has the reason.
fn assert_exported(
    fixture: &SourcesFixture,
    number: u64,
    reason: &str,
    access: impl Fn(&Image) -> ContentAccess,
) {
    let seeds = [100 + 2 * number, 101 + 2 * number];
    let image = Image::new(
        seeds
            .map(|seed| layer("data", noise(seed, 600_000)))
            .to_vec(),
    );
    let engine = start(fixture, &image, access(&image));
    let name = format!("app{number}");
    let outcome = push(fixture, &engine, &[], &name);
    let notes = outcome.stderr.matches("exporting the whole image").count();
    assert_eq!((notes, engine.exports()), (1, 1), "{reason}: {outcome}");
    assert!(outcome.stderr.contains(reason), "no {reason:?}: {outcome}");
    assert_eq!(fixture.check_image(&name).config, image.id());
    assert_eq!(spooled_files(fixture), 0);
}

#[test]
fn an_image_is_exported_after_a_fault_of_the_content_service() {
    let fixture = SourcesFixture::new();
    let no_progress = ContentFault::Breaks {
        connections: usize::MAX,
        bytes: 50_000,
    };
    let faults = [
        (
            ContentFault::Unimplemented,
            "unimplemented: a fault of the test",
        ),
        (ContentFault::EmptyList, "does not have sha256:"),
        (no_progress, "source: "),
        (ContentFault::NoStatus, "cut off"),
        (
            ContentFault::GiantMessage,
            "invalid message of 4294967295 bytes",
        ),
        (ContentFault::Garbage, "invalid message"),
        (ContentFault::WrongOffset, "offset 1"),
        (ContentFault::WrongBytes, "digest"),
        (ContentFault::Short, "ends after 50000 bytes"),
        (ContentFault::Vanished, "not found: a fault of the test"),
    ];
    for (number, (fault, reason)) in (0..).zip(faults) {
        assert_exported(&fixture, number, reason, |image| {
            ContentAccess::Upgrade(service(image).with_fault(fault))
        });
    }
}

#[test]
fn an_image_is_exported_after_a_refusal() {
    let fixture = SourcesFixture::new();
    let refusals = [
        ("401 Unauthorized", "answered 401"),
        ("403 Forbidden", "answered 403 Forbidden"),
        // Not even HTTP/2 without an upgrade.
        ("404 Not Found", "content store"),
        ("400 Bad Request", "answered 400"),
        ("501 Not Implemented", "answered 501"),
    ];
    for (number, (status, reason)) in (0..).zip(refusals) {
        assert_exported(&fixture, number, reason, |_| ContentAccess::Refused(status));
    }
}

#[test]
fn a_dry_run_without_content_service_prints_why() {
    let fixture = SourcesFixture::new();
    let image = image([31, 32, 33]);
    let engine = start(&fixture, &image, ContentAccess::Refused("403 Forbidden"));
    let plan = push(&fixture, &engine, &["--dry-run"], "app").stdout;
    assert!(plan.contains("403 Forbidden"), "{plan}");
    assert!(plan.contains("known only after an export"), "{plan}");
    assert_eq!(engine.exports(), 0);
}

/// Returns the blobs of an index of two platforms, one of them with an attestation, and its root.
fn multi_platform(images: &[Image; 2]) -> (HashMap<String, Vec<u8>>, String) {
    let manifests = images
        .each_ref()
        .map(|image| image.oci_manifest(&image.compressed()));
    let attestation = Image::new(vec![layer("sbom", noise(7, 200_000))]);
    let statement = attestation.oci_manifest(&attestation.compressed());
    let platforms = [
        ("linux/amd64", &*manifests[0]),
        ("linux/arm64", &*manifests[1]),
    ];
    let top = index_with_attestation(&platforms, &statement, &manifests[0]);
    let mut blobs: HashMap<_, _> = [(digest(&top), top.clone())].into();
    for image in images.iter().chain([&attestation]) {
        blobs.extend(layout_blobs(&image.oci_layout("v1")));
    }
    (blobs, digest(&top))
}

fn start_multi(
    fixture: &SourcesFixture,
    first: &Image,
    root: &str,
    service: ContentService,
) -> FakeEngine {
    let folder = fixture.scratch.folder(&unique("engine").replace('/', "-"));
    let inspected = inspect_with_root(first, OCI_INDEX, root);
    let nothing: &[Entry] = &[];
    FakeEngine::start(
        &folder,
        &inspected,
        nothing,
        ContentAccess::Upgrade(service),
    )
}

#[test]
fn an_index_goes_with_attestations_and_single_platforms_without() {
    let fixture = SourcesFixture::new();
    let images = [image([41, 42, 43]), image([44, 45, 46])];
    let (blobs, root) = multi_platform(&images);
    let service = ContentService::new(blobs.clone(), HashMap::new());
    let engine = start_multi(&fixture, &images[0], &root, service);
    let outcome = push(&fixture, &engine, &[], "all");
    let stated = "reading 10 of 10 blobs through the engine's content store";
    assert!(outcome.stderr.contains(stated), "{outcome}");
    let all = fixture.check_image("all");
    assert_eq!((all.manifest, all.children.len()), (root.clone(), 3));
    for (image, platform) in images.iter().zip(["linux/amd64", "linux/arm64"]) {
        let name = platform.replace("linux/", "");
        let outcome = push(&fixture, &engine, &["--platform", platform], &name);
        let found: StoredImage = fixture.check_image(&name);
        assert_eq!(found.config, image.id(), "{outcome}");
        assert!(found.children.is_empty());
    }
    let mut command = engine.command(&fixture.imgsync);
    command.args([
        "push",
        "--platform",
        "linux/s390x",
        "app:v1",
        &fixture.remote("none"),
    ]);
    run(&mut command).failed(3, &["linux/s390x", "linux/amd64, linux/arm64"]);

    // As after docker pull: the index names what the store does not have.
    let pulled = layout_blobs(&images[1].oci_layout("v1"));
    let is_pulled = |digest: &String| pulled.contains_key(digest) || *digest == root;
    let blobs = blobs
        .into_iter()
        .filter(|(digest, _)| is_pulled(digest))
        .collect();
    let engine = start_multi(
        &fixture,
        &images[1],
        &root,
        ContentService::new(blobs, HashMap::new()),
    );
    let outcome = push(&fixture, &engine, &[], "pulled");
    assert!(outcome.stderr.contains("linux/arm64"), "{outcome}");
    assert_eq!(fixture.check_image("pulled").config, images[1].id());
    assert_eq!(engine.exports(), 0);
}

#[test]
fn raw_layers_are_compressed_while_they_are_read() {
    let fixture = SourcesFixture::new();
    let image = image([51, 52, 53]);
    let manifest = image.oci_manifest(&image.layers);
    let manifest = String::from_utf8(manifest)
        .expect("JSON")
        .replace("+gzip", "");
    let blobs = image.layers.iter().chain([&image.config]);
    let entries = image::layout(manifest.as_bytes(), blobs, "v1");
    let service = ContentService::new(layout_blobs(&entries), HashMap::new());
    let root = digest(manifest.as_bytes());
    let folder = fixture.scratch.folder("raw");
    let inspected = inspect_with_root(&image, OCI_MANIFEST, &root);
    let access = ContentAccess::Upgrade(service.clone());
    let engine = FakeEngine::start(&folder, &inspected, &entries, access);
    push(&fixture, &engine, &[], "app");
    assert_eq!(fixture.check_image("app").config, image.id());
    assert_eq!(engine.exports(), 0);
    // Each layer was read once, and packed while it was read.
    assert_eq!(service.layer_reads().len(), 3);
    assert_eq!(spooled_files(&fixture), 0);
}

/// Returns an image with duplicate, empty and random layers.
fn image_of_many_layers() -> Image {
    let mut random = Random::new();
    let layers = (0..127).map(|number| match number % 8 {
        0 => layer("same", b"the same".to_vec()),
        1 => vec![0; 1024],
        _ => layer("data", noise(number, random.below(40_000) as usize)),
    });
    Image::new(layers.collect())
}

#[test]
fn the_content_of_a_real_containerd_is_read() {
    if !programs_available(&["containerd", "ctr"]) {
        return;
    }
    let fixture = SourcesFixture::new();
    let Some(containerd) = Containerd::start(&fixture.scratch.folder("containerd")) else {
        return;
    };
    let large = Image::new(vec![
        layer("large", noise(61, 20_000_000)),
        layer("b", noise(62, 10)),
    ]);
    for (name, image) in [("large", large), ("many", image_of_many_layers())] {
        let entries = image.oci_layout("v1");
        containerd.import(
            "moby",
            &fixture.scratch.path(&format!("{name}.tar")),
            &entries,
        );
        let access = ContentAccess::Containerd(containerd.socket());
        let engine = start(&fixture, &image, access);
        let outcome = push(&fixture, &engine, &[], name);
        assert!(
            outcome
                .stderr
                .contains("through the engine's content store"),
            "{outcome}"
        );
        assert_eq!(engine.exports(), 0);
        assert_eq!(fixture.check_image(name).config, image.id());
    }
}

#[test]
fn the_content_of_a_real_docker_is_read() {
    if !programs_available(&["docker"]) {
        return;
    }
    let fixture = SourcesFixture::new();
    let Some(engine) = DockerDaemon::start_with_containerd_store(&fixture.scratch.folder("docker"))
    else {
        return;
    };
    let [first, second] = [63, 64].map(|seed| image([61, 62, seed]));
    for (name, image, layers) in [("v1", &first, 3), ("v2", &second, 1)] {
        let archive = fixture.scratch.path("app.tar");
        archive::write_tar(&image.oci_layout("v1"), &archive);
        let file = archive.to_str().expect("a path in UTF-8");
        engine.docker(&["load", "--input", file]);
        let root = digest(&image.oci_manifest(&image.compressed()));
        engine.docker(&["tag", &root, "app:v1"]);
        let mut command = fixture.imgsync.command();
        command.env("DOCKER_HOST", engine.address());
        command.args(["push", "--verbose", "app:v1", &fixture.remote(name)]);
        let outcome = run(&mut command).succeeded();
        let stated = format!("reading {layers} of 3 layers through the engine's content store");
        assert!(outcome.stderr.contains(&stated), "{outcome}");
        // As docker push has it.
        let own = format!("{}/own:{name}", fixture.server.address());
        engine.docker(&["tag", "app:v1", &own]);
        engine.docker(&["push", &own]);
        let pushed = check::at_registry(fixture.server.address(), &format!("own:{name}"));
        assert_eq!(fixture.check_image(name).manifest, pushed.manifest);
        assert_eq!(pushed.manifest, root);
    }
}
