//! Tests garbage collections in one folder: the server's, and that of the stock registry, which runs
//! while neither serves.

use serde_json::Value;

use crate::support::prelude::*;
use crate::support::seed::{OCI_INDEX, RemoteRepository, index, referrers_tag};
use crate::support::{peers, server};

const REPOSITORY: &str = "team/app";

fn image(number: u64) -> Image {
    Image::new(vec![layer("file", noise(number, 4_000))])
}

/// The content that [`push_all`] has pushed.
struct Pushed {
    /// Tags and digests of what must stay.
    kept: Vec<String>,
    /// The digest of a blob that must go.
    garbage: String,
}

fn repository(address: SocketAddr) -> RemoteRepository<'static> {
    RemoteRepository {
        address,
        repository: REPOSITORY,
    }
}

/// Pushes images with everything that collectors have lost in the past, and some garbage.
fn push_all(address: SocketAddr) -> Pushed {
    let app = repository(address);
    let overwritten = app.push_image(Some("v1"), &image(1));
    let current = app.push_image(Some("v1"), &image(2));
    let children = [3, 4].map(|number| app.push_image(None, &image(number)));
    let platforms = [
        ("linux/amd64", &*children[0]),
        ("linux/s390x", &children[1]),
    ];
    app.push_manifest("multi", OCI_INDEX, &index(&platforms));
    let signature = app.push_artifact(None, &current, b"signature");
    let (tag, list) = referrers_tag(&current, &[&signature]);
    app.push_manifest(&tag, OCI_INDEX, &list);
    let cosign = format!("{tag}.sig");
    app.push_artifact(Some(&cosign), &current, b"another signature");
    let tags = ["v1", "multi", &tag, &cosign].map(str::to_owned);
    let digests = [overwritten, signature].map(|manifest| digest(&manifest));
    Pushed {
        kept: tags.into_iter().chain(digests).collect(),
        garbage: app.push_blob(b"nothing names this"),
    }
}

/// Pulls a manifest with everything below it.
fn assert_complete(address: SocketAddr, reference: &str) {
    let get = |kind: &str, reference: &str| {
        let target = format!("/v2/{REPOSITORY}/{kind}/{reference}");
        let response = http::get(address, &target);
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        response.body
    };
    let manifest: Value = serde_json::from_slice(&get("manifests", reference)).expect("JSON");
    let entries = |name: &str| manifest[name].as_array().into_iter().flatten();
    let digest_of = |entry: &Value| entry["digest"].as_str().expect("a digest").to_owned();
    for child in entries("manifests") {
        assert_complete(address, &digest_of(child));
    }
    let config = manifest.get("config");
    for blob in entries("layers").chain(config).map(digest_of) {
        assert_eq!(digest(&get("blobs", &blob)), blob);
    }
}

fn assert_kept(address: SocketAddr, pushed: &Pushed) {
    for reference in &pushed.kept {
        assert_complete(address, reference);
    }
}

/// Returns the file with the bytes of a blob.
fn data(root: &Path, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").expect("sha256");
    let blobs = root.join("docker/registry/v2/blobs/sha256");
    blobs.join(&hex[..2]).join(hex).join("data")
}

fn collect(root: &Path) -> Outcome {
    let mut command = Command::new(server::binary());
    command.args(["garbage-collect", "--root"]).arg(root);
    run(command.env("REGISTRY_IMGSYNC_GC_GRACE", "0s"))
}

fn stock_collect(config: &Path) -> Outcome {
    let mut command = Command::new(peers::program("docker-registry"));
    run(command.arg("garbage-collect").arg(config))
}

#[test]
fn after_a_collection_the_stock_collector_finds_nothing_to_delete() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.folder("root");
    let mut stock = StockRegistry::start(&root);
    let pushed = push_all(stock.address());
    stock.stop();
    // An empty link stops the stock collector for good.
    let links = root.join("docker/registry/v2/repositories/team/app/_manifests/revisions/sha256");
    let damaged = links.join("00".repeat(32));
    std::fs::create_dir_all(&damaged).expect("a folder");
    std::fs::write(damaged.join("link"), "").expect("a file");
    let config = stock.config();
    let outcome = stock_collect(&config);
    assert!(data(&root, &pushed.garbage).exists(), "{}", outcome.stderr);

    let outcome = collect(&root).succeeded();
    assert!(!data(&root, &pushed.garbage).exists(), "{outcome}");
    let mut server = Server::start(&root);
    assert_kept(server.address(), &pushed);
    server.stop();

    std::fs::remove_dir_all(&damaged).expect("the folder");
    let outcome = stock_collect(&config).succeeded();
    let nothing = "0 blobs and 0 manifests eligible for deletion";
    assert!(outcome.stdout.contains(nothing), "{outcome}");
    let stock = StockRegistry::start(&root);
    assert_kept(stock.address(), &pushed);
}

#[test]
fn a_folder_is_collected_by_both_in_turn() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.folder("root");
    let mut server = Server::start(&root);
    let pushed = push_all(server.address());
    server.stop();
    let mut stock = StockRegistry::start(&root);
    stock.stop();
    stock_collect(&stock.config()).succeeded();
    assert!(!data(&root, &pushed.garbage).exists());

    collect(&root).succeeded();
    let server = Server::start(&root);
    assert_kept(server.address(), &pushed);
    let subject = http::get(server.address(), &format!("/v2/{REPOSITORY}/manifests/v1"));
    let path = format!("/v2/{REPOSITORY}/referrers/{}", digest(&subject.body));
    let referrers = http::get(server.address(), &path).json();
    assert_eq!(referrers["manifests"].as_array().map(Vec::len), Some(1));
    // Content that the other collector has removed can be pushed again.
    let garbage = repository(server.address()).push_blob(b"nothing names this");
    assert_eq!(garbage, pushed.garbage);
    assert!(data(&root, &garbage).exists());
}
