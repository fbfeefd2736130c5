//! What a push knows before it reads: from the registry, from other images there, without a cache.

use crate::support::prelude::*;
use crate::support::store;

/// A layer's tar with one file of random bytes.
fn layer(seed: u64) -> Vec<u8> {
    image::layer("data", bytes::mixed(seed, 300_000))
}

/// Two versions that share all layers but the last.
fn versions() -> [Image; 2] {
    [8, 9].map(|seed| Image::new([1, 2, 3, seed].map(layer).to_vec()))
}

fn written(scratch: &Scratch, name: &str, image: &Image) -> PathBuf {
    let path = scratch.path(name);
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    path
}

/// The image as an archive in which the bytes of the lowest layers are others of the same size: a
/// push that opened one would fail.
fn unreadable_below(scratch: &Scratch, image: &Image, above: usize) -> PathBuf {
    let mut spoilt = image.clone();
    for layer in &mut spoilt.layers[..above] {
        layer.fill(0);
    }
    written(scratch, "spoilt.tar", &spoilt)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// With nothing remembered, only the layer that is new is opened.
fn assert_only_the_new_layer_is_opened(address: SocketAddr) {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let [first, second] = versions();
    let first = written(&scratch, "first.tar", &first);
    imgsync
        .push(text(&first), &format!("{address}/app:v1"))
        .succeeded();
    imgsync.forget();
    // Our server computes diffIDs in the background.
    let changed = unreadable_below(&scratch, &second, 3);
    let remote = format!("{address}/app:v2");
    until("a plan that opens no shared layer", || {
        let plan = imgsync.push_with(&["--dry-run"], text(&changed), &remote);
        (plan.succeeded().stdout.matches("already there").count() == 3).then_some(())
    });
    imgsync.push(text(&changed), &remote).succeeded();
    check::at_registry(address, "app:v2");
}

#[test]
fn our_server_is_asked_which_layers_it_has() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    assert_only_the_new_layer_is_opened(server.address());
}

#[test]
fn another_registry_s_images_say_which_layers_they_have() {
    if !present(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("root"));
    assert_only_the_new_layer_is_opened(stock.address());
    stock.stop();
}

/// The image is there, and this user's home is empty: no layer is opened, no blob is sent, and few
/// requests and bytes go over the line.
fn assert_a_handful(address: SocketAddr, what: &str) {
    let scratch = Scratch::new();
    let [image, _] = versions();
    let archive = written(&scratch, "image.tar", &image);
    Imgsync::new(&scratch.folder("first-home"))
        .push(text(&archive), &format!("{address}/app:v1"))
        .succeeded();
    let spoilt = unreadable_below(&scratch, &image, image.layers.len());
    let relay = Relay::start(address, Cut::Never);
    let remote = format!("{}/app:v1", relay.address());
    let outcome = Imgsync::new(&scratch.folder("empty-home")).push(text(&spoilt), &remote);
    let outcome = outcome.succeeded();
    assert!(outcome.stdout.contains(": sent 0 B"), "{outcome}");
    let requests = relay.requests();
    assert!(!requests.iter().any(|request| request.writes_blob()));
    let shown: Vec<String> = requests.iter().map(ToString::to_string).collect();
    let bytes = relay.traffic();
    eprintln!("{what}: {} requests, {bytes:?}", requests.len());
    assert!(requests.len() <= 10, "{}", shown.join("\n"));
    assert!(bytes.total() <= 20_000, "{bytes:?}\n{}", shown.join("\n"));
}

#[test]
fn an_image_that_is_there_takes_a_handful_of_requests() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    assert_a_handful(server.address(), "imgsync-server");
    if present(&["docker-registry"]) {
        let mut stock = StockRegistry::start(&scratch.folder("stock"));
        assert_a_handful(stock.address(), "docker-registry");
        stock.stop();
    }
}

#[test]
fn a_dry_run_changes_nothing_anywhere() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let [first, second] = versions();
    let first = written(&scratch, "first.tar", &first);
    let second = written(&scratch, "second.tar", &second);
    let remote = |name: &str| format!("{}/{name}", server.address());
    imgsync.push(text(&first), &remote("app:v1")).succeeded();
    let before = store::listing(server.root());

    let relay = Relay::start(server.address(), Cut::Never);
    let there = format!("{}/app:v2", relay.address());
    let plan = imgsync.push_with(&["--dry-run"], text(&second), &there);
    let plan = plan.succeeded().stdout;
    assert_eq!(plan.matches("/4 ").count(), 4, "{plan}");
    assert_eq!(plan.matches("already there").count(), 3, "{plan}");
    assert!(plan.contains("layer 4/4"), "{plan}");
    let asked_only = |method: &str| matches!(method, "GET" | "HEAD");
    for request in relay.requests() {
        let line = request.to_string();
        let method = line.split(' ').next().unwrap_or_default();
        assert!(asked_only(method) || line.contains("resolve"), "{line}");
    }
    store::assert_unchanged(&before, server.root());
}

/// An image whose manifest names other blobs than its config's diffIDs misleads a push of the very
/// image that the config describes; `--no-reuse` mends it.
#[test]
fn a_lying_image_misleads_once_and_no_reuse_mends() {
    if !present(&["docker-registry", "skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let honest = Image::new([1, 2].map(layer).to_vec());
    let lie = Image {
        layers: [3, 2].map(layer).to_vec(),
        config: honest.config.clone(),
    };
    let layout = scratch.path("lie");
    archive::write_folder(&lie.oci_layout("v1"), &layout);
    let address = stock.address();
    skopeo::copy(
        &format!("oci:{}:v1", layout.display()),
        &format!("docker://{address}/app:v1"),
    );

    let archive = written(&scratch, "honest.tar", &honest);
    let remote = format!("{address}/app:v1");
    let misled = imgsync.push(text(&archive), &remote).succeeded();
    assert!(misled.stdout.contains(": sent 0 B"), "{misled}");
    imgsync
        .push_with(&["--no-reuse"], text(&archive), &remote)
        .succeeded();
    let mended = check::at_registry(address, "app:v1");
    assert_eq!(mended.config, honest.id());
    // Mended for good: who knows nothing, and believes what is there, is not misled any more.
    imgsync.forget();
    let outcome = imgsync.push(text(&archive), &remote).succeeded();
    assert!(outcome.stdout.contains(": sent 0 B"), "{outcome}");
    assert_eq!(check::at_registry(address, "app:v1"), mended);
    stock.stop();
}
