//! Tests which layers a push finds in the registry before it reads any: with the extension, from
//! other images, without a cache.

use crate::support::prelude::*;
use crate::support::seed::{self, RemoteRepository};
use crate::support::store;

/// Returns the tar of a layer with one file of random bytes.
fn layer(seed: u64) -> Vec<u8> {
    image::layer("data", bytes::mixed(seed, 300_000))
}

/// Returns two versions of an image that share all layers but the last.
fn versions() -> [Image; 2] {
    [8, 9].map(|seed| Image::new([1, 2, 3, seed].map(layer).to_vec()))
}

fn write_archive(scratch: &Scratch, name: &str, image: &Image) -> PathBuf {
    let path = scratch.path(name);
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    path
}

/// Writes an archive in which the lowest layers have other bytes of the same size. A push that
/// reads one of them fails.
fn write_with_unreadable_layers(scratch: &Scratch, image: &Image, count: usize) -> PathBuf {
    let mut corrupted = image.clone();
    for layer in &mut corrupted.layers[..count] {
        layer.fill(0);
    }
    write_archive(scratch, "spoilt.tar", &corrupted)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Pushes a second version without a cache, and panics unless only the new layer is read. `found` is
/// what a dry run says of the other layers.
fn assert_only_the_new_layer_is_opened(address: SocketAddr, found: &str) {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let [first, second] = versions();
    let first = write_archive(&scratch, "first.tar", &first);
    imgsync
        .push(text(&first), &format!("{address}/app:v1"))
        .succeeded();
    imgsync.clear_cache();
    // The server computes diffIDs in the background.
    let changed = write_with_unreadable_layers(&scratch, &second, 3);
    let remote = format!("{address}/app:v2");
    wait_until("a plan that opens no shared layer", || {
        let plan = imgsync.push_with(&["--dry-run"], text(&changed), &remote);
        (plan.succeeded().stdout.matches(found).count() == 3).then_some(())
    });
    imgsync.push(text(&changed), &remote).succeeded();
    check::at_registry(address, "app:v2");
}

#[test]
fn our_server_reports_which_layers_it_has() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    assert_only_the_new_layer_is_opened(server.address(), "already exists");
}

#[test]
fn layers_are_found_in_other_images_of_a_stock_registry() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("root"));
    assert_only_the_new_layer_is_opened(stock.address(), "would verify");
    stock.stop();
}

/// Pushes an image that the registry has, with an empty cache. Panics if a layer is read, a blob is
/// sent or received, or more than a few requests are needed.
fn assert_few_requests(address: SocketAddr, registry: &str, options: &[&str]) {
    let scratch = Scratch::new();
    let [image, _] = versions();
    let archive = write_archive(&scratch, "image.tar", &image);
    Imgsync::new(&scratch.folder("first-home"))
        .push(text(&archive), &format!("{address}/app:v1"))
        .succeeded();
    let corrupted = write_with_unreadable_layers(&scratch, &image, image.layers.len());
    let relay = Relay::start(address, RelayFault::None);
    let remote = format!("{}/app:v1", relay.address());
    let imgsync = Imgsync::new(&scratch.folder("empty-home"));
    let outcome = imgsync.push_with(options, text(&corrupted), &remote);
    let outcome = outcome.succeeded();
    assert!(outcome.stdout.contains(": sent 0 B"), "{outcome}");
    let requests = relay.requests();
    assert!(!requests.iter().any(|request| request.writes_blob()));
    let shown: Vec<String> = requests.iter().map(ToString::to_string).collect();
    let bytes = relay.traffic();
    eprintln!("{registry}: {} requests, {bytes:?}", requests.len());
    assert!(requests.len() <= 10, "{}", shown.join("\n"));
    assert!(bytes.total() <= 20_000, "{bytes:?}\n{}", shown.join("\n"));
}

#[test]
fn an_image_that_the_registry_has_takes_few_requests() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    assert_few_requests(server.address(), "imgsync-server", &[]);
    if programs_available(&["docker-registry"]) {
        let mut stock = StockRegistry::start(&scratch.folder("stock"));
        let options = ["--trust-registry"];
        assert_few_requests(stock.address(), "docker-registry", &options);
        stock.stop();
    }
}

#[test]
fn a_dry_run_changes_nothing_anywhere() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let [first, second] = versions();
    let first = write_archive(&scratch, "first.tar", &first);
    let second = write_archive(&scratch, "second.tar", &second);
    let remote = |name: &str| format!("{}/{name}", server.address());
    imgsync.push(text(&first), &remote("app:v1")).succeeded();
    let before = store::list_files(server.root());

    let relay = Relay::start(server.address(), RelayFault::None);
    let relay_remote = format!("{}/app:v2", relay.address());
    let plan = imgsync.push_with(&["--dry-run"], text(&second), &relay_remote);
    let plan = plan.succeeded().stdout;
    let layers = plan.lines().filter(|line| line.starts_with("layer "));
    assert_eq!(layers.count(), 4, "{plan}");
    assert_eq!(plan.matches("already exists").count(), 3, "{plan}");
    let is_read = |method: &str| matches!(method, "GET" | "HEAD");
    for request in relay.requests() {
        let request = request.to_string();
        let method = request.split(' ').next().unwrap_or_default();
        assert!(is_read(method) || request.contains("resolve"), "{request}");
    }
    store::assert_unchanged(&before, server.root());
}

/// If the layers of an image do not match the diffIDs of its config, a push of the real image with
/// `--trust-registry` trusts it; `--no-reuse` replaces it.
#[test]
fn no_reuse_replaces_an_image_whose_layers_do_not_match() {
    if !programs_available(&["docker-registry", "skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let real = Image::new([1, 2].map(layer).to_vec());
    let fake = Image {
        layers: [3, 2].map(layer).to_vec(),
        config: real.config.clone(),
    };
    let layout = scratch.path("lie");
    archive::write_folder(&fake.oci_layout("v1"), &layout);
    let address = stock.address();
    skopeo::copy(
        &format!("oci:{}:v1", layout.display()),
        &format!("docker://{address}/app:v1"),
    );

    let archive = write_archive(&scratch, "honest.tar", &real);
    let remote = format!("{address}/app:v1");
    let first = imgsync.push_with(&["--trust-registry"], text(&archive), &remote);
    let first = first.succeeded();
    assert!(first.stdout.contains(": sent 0 B"), "{first}");
    imgsync
        .push_with(&["--no-reuse"], text(&archive), &remote)
        .succeeded();
    let replaced = check::at_registry(address, "app:v1");
    assert_eq!(replaced.config, real.id());
    // The damaged image is replaced, so a push without a cache finds the real one.
    imgsync.clear_cache();
    let outcome = imgsync.push(text(&archive), &remote).succeeded();
    assert!(outcome.stdout.contains(": sent 0 B"), "{outcome}");
    assert_eq!(check::at_registry(address, "app:v1"), replaced);
    stock.stop();
}

/// Docker before version 23 cannot unpack zstd, so it could not pull an image that it pushed.
#[test]
fn a_layer_that_the_registry_has_in_zstd_is_sent_in_gzip() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let registry = StockRegistry::start(&scratch.folder("root"));
    let address = registry.address();
    let image = Image::new([1, 2].map(layer).to_vec());
    let repository = RemoteRepository {
        address,
        repository: "app",
    };
    let layers = image.layers.iter().map(|layer| {
        let blob = zstd::stream::encode_all(&layer[..], 1).unwrap();
        repository.push_blob(&blob);
        seed::descriptor("application/vnd.oci.image.layer.v1.tar+zstd", &blob)
    });
    let layers: Vec<_> = layers.collect();
    repository.push_blob(&image.config);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": seed::OCI_MANIFEST,
        "config": seed::descriptor("application/vnd.oci.image.config.v1+json", &image.config),
        "layers": layers,
    });
    let manifest = manifest.to_string();
    repository.push_manifest("latest", seed::OCI_MANIFEST, manifest.as_bytes());
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let archive = write_archive(&scratch, "image.tar", &image);
    for (options, compression) in [
        (&["--trust-registry"][..], "gzip"),
        (&["--trust-registry", "--reuse-zstd"], "zstd"),
    ] {
        imgsync.clear_cache();
        let tag = format!("app:{compression}");
        let remote = format!("{address}/{tag}");
        imgsync
            .push_with(options, text(&archive), &remote)
            .succeeded();
        let pushed = http::get(address, &format!("/v2/app/manifests/{compression}")).json();
        for layer in pushed["layers"].as_array().unwrap() {
            let media_type = layer["mediaType"].as_str().unwrap();
            assert!(media_type.ends_with(compression), "{tag}: {media_type}");
        }
    }
}
