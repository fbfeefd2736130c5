//! Tests that a push never adopts a blob as its layer because somebody says so: an image in the
//! registry, a copied cache, or a file in a folder that others can write to.

mod planted_files;

use crate::support::prelude::*;
use crate::support::request_parser::ObservedRequest;
use crate::support::seed::{self, RemoteRepository};

/// Returns an image of three layers.
fn honest_image(seed: u64) -> Image {
    let layers = (0..3).map(|i| layer("bin/sh", bytes::mixed(seed + i, 30_000)));
    Image::new(layers.collect())
}

/// Returns an image whose first layer has other bytes than the config of `image` says. With
/// `is_same`, it has the same config, and so the same image ID.
fn lying_image(image: &Image, is_same: bool) -> Image {
    let mut lie = image.clone();
    lie.layers[0] = layer("bin/sh", bytes::mixed(666, 30_000));
    if !is_same {
        let diff_ids: Vec<_> = image.layers.iter().map(|layer| digest(layer)).collect();
        lie.config = image::config(&diff_ids, "made by a stranger");
    }
    lie
}

fn write_archive(scratch: &Scratch, image: &Image) -> PathBuf {
    let path = scratch.path("image.tar");
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Pushes an honest image where a stranger has published lying ones, without a cache. Panics unless
/// the layers at the registry are those of the image.
fn assert_lies_are_found_out(address: SocketAddr) {
    let scratch = Scratch::new();
    for (number, (is_same, is_stdin)) in
        [(false, false), (true, false), (false, true), (true, true)]
            .into_iter()
            .enumerate()
    {
        let image = honest_image(10 * number as u64);
        let repository = format!("team/app{number}");
        let stranger = RemoteRepository {
            address,
            repository: &repository,
        };
        // Standard input is compared only with the image under the tag itself.
        let tag = if is_same || is_stdin { "v1" } else { "latest" };
        stranger.push_image(Some(tag), &lying_image(&image, is_same));
        let archive = write_archive(&scratch, &image);
        let imgsync = Imgsync::new(&scratch.folder(&format!("home{number}")));
        let name = format!("{repository}:v1");
        let remote = format!("{address}/{name}");
        let outcome = if is_stdin {
            imgsync.push_file_on_stdin(&archive, &remote)
        } else {
            imgsync.push(text(&archive), &remote)
        };
        outcome.succeeded();
        assert_eq!(check::at_registry(address, &name).config, image.id());
    }
}

#[test]
fn a_push_does_not_adopt_the_layers_of_a_stranger() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    assert_lies_are_found_out(server.address());
    if programs_available(&["docker-registry"]) {
        let mut stock = StockRegistry::start(&scratch.folder("stock"));
        assert_lies_are_found_out(stock.address());
        stock.stop();
    }
}

/// A stranger's manifest of the same image, with the same layers, in which other programs find other
/// layers.
#[test]
fn a_push_does_not_keep_a_manifest_that_others_read_differently() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let mut addresses = vec![server.address()];
    let mut stock = programs_available(&["docker-registry"])
        .then(|| StockRegistry::start(&scratch.folder("stock")));
    addresses.extend(stock.as_ref().map(StockRegistry::address));
    let image = honest_image(5);
    let archive = write_archive(&scratch, &image);
    let other = layer("bin/sh", bytes::mixed(666, 30_000));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    for address in addresses {
        let repository = RemoteRepository {
            address,
            repository: "app",
        };
        repository.push_blob(&other);
        let remote = format!("{address}/app:v1");
        let push = || {
            imgsync.push(text(&archive), &remote).succeeded();
            check::at_registry(address, "app:v1");
            http::get(address, "/v2/app/manifests/v1")
        };
        let pushed = push();
        let media_type = pushed.header("content-type").expect("a media type");
        let mut layers = pushed.json()["layers"].clone();
        layers[0]["digest"] = digest(&other).into();
        layers[0]["size"] = other.len().into();
        let start = pushed.text();
        let start = start.strip_suffix('}').expect("an object");
        let renamed = format!("{start},\"Layers\":{layers}}}");
        let mut annotated = pushed.json();
        annotated["layers"][0]["annotations"] =
            serde_json::json!({"io.github.containers.zstd-chunked.manifest-checksum": "x"});
        for (changed, is_taken) in [
            (renamed, address != server.address()),
            (annotated.to_string(), true),
        ] {
            let target = "/v2/app/manifests/v1";
            let content_type = [("Content-Type", media_type)];
            let put = http::send(address, "PUT", target, &content_type, changed.as_bytes());
            assert_eq!(put.status == 201, is_taken, "{}: {changed}", put.text());
            assert_eq!(push().text(), pushed.text(), "{changed}");
        }
    }
    if let Some(stock) = &mut stock {
        stock.stop();
    }
}

/// A blob that is the layer when it is decoded as its media type says, while programs that look at
/// its first bytes read a tar.
#[test]
fn a_push_does_not_adopt_a_layer_that_others_do_not_decode() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("root"));
    let image = honest_image(6);
    let repository = RemoteRepository {
        address: stock.address(),
        repository: "app",
    };
    let mut blobs = image.compressed();
    let packed = zstd::encode_all(&image.layers[0][..], 3).expect("a frame of zstd");
    // A frame that decoders of zstd skip.
    blobs[0] = [&b"\x50\x2a\x4d\x18\x04\0\0\0evil"[..], &packed].concat();
    for blob in blobs.iter().chain([&image.config]) {
        repository.push_blob(blob);
    }
    let manifest = image.oci_manifest(&blobs);
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&manifest).expect("a manifest in JSON");
    manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd".into();
    let manifest = manifest.to_string();
    repository.push_manifest("v1", seed::OCI_MANIFEST, manifest.as_bytes());
    let archive = write_archive(&scratch, &image);
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let remote = format!("{}/app:v1", stock.address());
    let outcome = imgsync.push(text(&archive), &remote).succeeded();
    assert_eq!(
        outcome.stderr.matches("already exists").count(),
        2,
        "{outcome}"
    );
    let pushed = check::at_registry(stock.address(), "app:v1");
    assert_eq!(pushed.config, image.id());
    stock.stop();
}

/// Returns the digests of the blobs that requests read.
fn blobs_read(requests: &[ObservedRequest]) -> usize {
    requests
        .iter()
        .filter(|request| request.reads_blob())
        .count()
}

#[test]
fn a_claim_is_verified_once_by_a_download_and_never_in_a_dry_run() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("root"));
    let image = honest_image(1);
    let repository = RemoteRepository {
        address: stock.address(),
        repository: "app",
    };
    repository.push_image(Some("v1"), &image);
    // A push that reads a layer fails.
    let mut unreadable = image.clone();
    for layer in &mut unreadable.layers {
        layer.fill(0);
    }
    let archive = write_archive(&scratch, &unreadable);
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let push = |options: &[&str], tag: &str| {
        let relay = Relay::start(stock.address(), RelayFault::None);
        let remote = format!("{}/app:{tag}", relay.address());
        let outcome = imgsync.push_with(options, text(&archive), &remote);
        (outcome.succeeded(), blobs_read(&relay.requests()))
    };
    let (plan, read) = push(&["--dry-run"], "v1");
    assert_eq!(plan.stdout.matches("would verify").count(), 3, "{plan}");
    assert_eq!(read, 0, "{plan}");
    let (plan, _) = push(&["--dry-run", "--json"], "v1");
    assert_eq!(
        plan.stdout.matches(r#""step":"verify""#).count(),
        3,
        "{plan}"
    );

    let (outcome, read) = push(&[], "v1");
    assert!(outcome.stdout.contains(": sent 0 B"), "{outcome}");
    assert_eq!(read, 3, "{outcome}");
    let (outcome, read) = push(&[], "v1");
    assert!(outcome.stdout.contains(": sent 0 B"), "{outcome}");
    assert_eq!(read, 0, "verified again: {outcome}");
    stock.stop();
}

#[test]
fn manifests_that_docker_recorded_are_found_in_other_repositories() {
    if !programs_available(&["docker", "busybox", "docker-registry"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("root"));
    let name = unique("recorded");
    let first = DockerImage::build(&name, "v1");
    let tagged = first.tag(format!("{}/team/app:v1", stock.address()));
    docker(&["push", tagged.reference()]);
    let second = DockerImage::build(&name, "v2");
    let push = |options: &[&str], image: &DockerImage, name: &str| {
        let home = format!("{}{}", name.replace(['/', ':'], "-"), options.len());
        let imgsync = Imgsync::new(&scratch.folder(&home));
        let remote = format!("{}/{name}", stock.address());
        let outcome = imgsync.push_with(options, image.reference(), &remote);
        let outcome = outcome.succeeded();
        check::at_registry(stock.address(), name);
        let is_verified = outcome.stderr.contains("to verify");
        assert_eq!(is_verified, options.is_empty(), "{outcome}");
        outcome
    };
    let trust = ["--trust-registry"];
    let same = push(&trust, &first, "team/app:v1");
    assert!(same.stdout.contains(": sent 0 B"), "{same}");
    let found = "already exists";
    let layers = same.stderr.matches(found).count();
    // The second image shares all layers but the last.
    for (options, name) in [(&trust[..], "team/other:v2"), (&[], "team/more:v2")] {
        let other = push(options, &second, name);
        assert!(other.stderr.matches(found).count() >= layers - 1, "{other}");
    }
    stock.stop();
}

/// Docker pulls nothing if it has an image of the same ID, and still records the manifest.
#[test]
fn a_manifest_that_docker_did_not_look_into_is_not_believed() {
    if !programs_available(&["docker", "docker-registry"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("root"));
    let image = honest_image(4);
    let repository = RemoteRepository {
        address: stock.address(),
        repository: "app",
    };
    let reference = format!("{}/app:v1", stock.address());
    let archive = scratch.path("image.tar");
    archive::write_tar(&image.docker_archive(&reference), &archive);
    docker(&["load", "--input", text(&archive)]);
    let local = DockerImage::existing(&reference);
    repository.push_image(Some("v1"), &lying_image(&image, true));
    docker(&["pull", &reference]);
    let recorded = docker(&["inspect", "--format", "{{.RepoDigests}}", &reference]);
    assert!(recorded.contains("/app@sha256:"), "{recorded}");
    let imgsync = Imgsync::new(&scratch.folder("home"));
    imgsync.push(local.reference(), &reference).succeeded();
    let pushed = check::at_registry(stock.address(), "app:v1");
    assert_eq!(pushed.config, image.id());
    stock.stop();
}
