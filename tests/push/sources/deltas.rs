//! Tests that layers are sent as deltas from every source of uncompressed layers, and that other
//! programs pull the result.

use super::podman::PodmanService;
use super::{SourcesFixture, text};
use crate::support::check::StoredImage;
use crate::support::docker::DockerDaemon;
use crate::support::image::archive_manifest;
use crate::support::layer_pairs::compiled_python;
use crate::support::prelude::*;

/// The size of a layer that both versions share, in bytes. With it, less than 15 % of the image are
/// missing, so the daemon is asked for single layers.
const SHARED_LAYER_BYTES: usize = 24_000_000;

/// Writes an image before and after its upper layer was built again, as archives of `docker save`.
fn archives(scratch: &Scratch, name: &str, shared: usize) -> [PathBuf; 2] {
    [false, true].map(|is_new| {
        let version = if is_new { "v2" } else { "v1" };
        // A large layer is shared by both versions; a small one is not.
        let seed = if shared < 1_000_000 {
            u64::from(is_new)
        } else {
            7
        };
        let layers = vec![
            layer("data", noise(seed, shared)),
            compiled_python(is_new, 250),
        ];
        let image = Image::new(layers);
        let path = scratch.path(&format!("{version}-{shared}.tar"));
        let mut entries = image.docker_archive("app:v1");
        let files: Vec<_> = (0..2).map(|layer| format!("{layer}.tar")).collect();
        let manifest = archive_manifest(&format!("{name}:{version}"), &files);
        entries.last_mut().expect("a manifest").bytes = manifest;
        archive::write_tar(&entries, &path);
        path
    })
}

/// Pushes the second version as [`push_delta`] does, and checks the whole manifest.
fn assert_delta(fixture: &SourcesFixture, archives: &[PathBuf; 2], words: &str, command: Command) {
    let [stored, whole] = push_delta(fixture, archives, words, command);
    assert_eq!(stored, whole);
}

/// Pushes the second version with `command`, after the first one was pushed from its archive. Panics
/// unless a delta is sent. Returns what the registry has then, and what it has after the archive of the
/// second version is pushed whole. Checks every digest.
fn push_delta(
    fixture: &SourcesFixture,
    [first, second]: &[PathBuf; 2],
    words: &str,
    mut command: Command,
) -> [StoredImage; 2] {
    let remote = |tag: &str| format!("{}/app:{tag}", fixture.server.address());
    fixture.imgsync.push(text(first), &remote("v1")).succeeded();
    let outcome = run(command.arg(remote("v2"))).succeeded();
    assert!(outcome.stderr.contains("MB, based on v1"), "{outcome}");
    assert!(outcome.stderr.contains(words), "{outcome}");
    let stored = check::at_registry(fixture.server.address(), "app:v2");
    let scratch = Scratch::new();
    let other = Server::start(&scratch.folder("root"));
    let whole = format!("{}/app:v2", other.address());
    let options = ["--no-delta"];
    let outcome = fixture.imgsync.push_with(&options, text(second), &whole);
    outcome.succeeded();
    [stored, check::at_registry(other.address(), "app:v2")]
}

/// Returns `imgsync push` of an image, without the target.
fn push(fixture: &SourcesFixture, image: &str) -> Command {
    let mut command = fixture.imgsync.command();
    command.args(["push", "--verbose", "--limit-rate", "10MB", image]);
    command
}

#[test]
fn docker_archives_and_standard_input() {
    for is_stdin in [false, true] {
        // A layer in another repository would be mounted.
        let fixture = SourcesFixture::new();
        let archives = archives(&fixture.scratch, "app", 100_000);
        let file = std::fs::File::open(&archives[1]).expect("an archive");
        let image = if is_stdin { "-" } else { text(&archives[1]) };
        let mut command = push(&fixture, image);
        command.stdin(file);
        assert_delta(&fixture, &archives, "", command);
    }
}

#[test]
fn docker_and_its_export() {
    for (shared, words) in [
        (SHARED_LAYER_BYTES, "which pushes them to imgsync"),
        (100_000, "exporting"),
    ] {
        let (fixture, name) = (SourcesFixture::new(), unique("delta"));
        let archives = archives(&fixture.scratch, &name, shared);
        docker(&["load", "--input", text(&archives[1])]);
        let image = DockerImage::existing(format!("{name}:v2"));
        let command = push(&fixture, image.reference());
        assert_delta(&fixture, &archives, words, command);
        // Docker and skopeo get the image.
        let id = image.id();
        image.remove();
        let remote = format!("{}/app:v2", fixture.server.address());
        assert_eq!(DockerImage::pull(remote).id(), id);
        let pulled = fixture.scratch.folder("pulled");
        skopeo::pull(fixture.server.address(), "app:v2", &pulled);
        assert_eq!(check::in_folder(&pulled).config, id);
    }
}

#[test]
fn podman() {
    if !programs_available(&["podman"]) {
        return;
    }
    let fixture = SourcesFixture::new();
    let service = PodmanService::start(&fixture.scratch);
    let archives = archives(&fixture.scratch, "localhost/delta", SHARED_LAYER_BYTES);
    service.load(&archives[1]);
    let mut command = push(&fixture, "localhost/delta:v2");
    command.env("CONTAINER_HOST", service.host());
    command.env_remove("DOCKER_HOST");
    assert_delta(&fixture, &archives, "which pushes them to imgsync", command);
}

/// Docker keeps the layers of an archive as they are, and those of `imgsync pull` are compressed as the
/// server compresses them.
#[test]
fn docker_with_containerd_store() {
    if !programs_available(&["docker"]) {
        return;
    }
    for is_pulled in [false, true] {
        let fixture = SourcesFixture::new();
        let folder = fixture.scratch.folder("docker");
        let Some(engine) = DockerDaemon::start_with_containerd_store(&folder) else {
            return;
        };
        let archives = archives(&fixture.scratch, "app", SHARED_LAYER_BYTES);
        if is_pulled {
            let scratch = Scratch::new();
            let elsewhere = Server::start(&scratch.folder("root"));
            let source = format!("{}/app:v2", elsewhere.address());
            fixture
                .imgsync
                .push(text(&archives[1]), &source)
                .succeeded();
            let mut command = fixture.imgsync.command();
            command.env("DOCKER_HOST", engine.address());
            run(command.args(["pull", &source, "app:v2"])).succeeded();
            fixture.imgsync.clear_cache();
        } else {
            engine.docker(&["load", "--input", text(&archives[1])]);
        }
        let mut command = push(&fixture, "app:v2");
        command.env("DOCKER_HOST", engine.address());
        let words = "through the engine's content store";
        let [stored, whole] = push_delta(&fixture, &archives, words, command);
        // Docker has written a manifest of its own for the archive.
        assert_eq!(stored.blobs, whole.blobs);
        assert_eq!(stored.manifest == whole.manifest, is_pulled);
    }
}
