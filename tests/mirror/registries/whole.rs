//! Tests mirrors of whole repositories, of some platforms, and blobs that are mounted within a
//! registry.

use std::collections::BTreeMap;

use super::{FROM, TO, find_digest, sent_bytes, version};
use crate::support::prelude::*;
use crate::support::request_parser::ObservedRequest;
use crate::support::seed;
use crate::support::seed::{OCI_INDEX, RemoteRepository};

const VERSIONS: usize = 50;
const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/s390x"];

/// The content of the source: the digest of every tag, including companion tags.
struct RepositoryContent {
    tags: BTreeMap<String, String>,
    /// The digest of a referrer of `v1.7`.
    referrer: String,
    /// The digest of a referrer of a child of `multi`.
    child_referrer: String,
    /// The signature tag of `multi`.
    signature: String,
}

/// Pushes fifty versions, an index of three platforms, a signature as a referrer and one under a
/// tag.
fn push_content(source_repository: RemoteRepository, has_referrers_api: bool) -> RepositoryContent {
    let mut tags = BTreeMap::new();
    let mut seventh = Vec::new();
    for number in 0..VERSIONS {
        let tag = format!("v1.{number}");
        let manifest = source_repository.push_image(Some(&tag), &version(number));
        if number == 7 {
            seventh = manifest.clone();
        }
        tags.insert(tag, digest(&manifest));
    }
    let children: Vec<_> = (0..PLATFORMS.len())
        .map(|number| source_repository.push_image(None, &version(100 + number)))
        .collect();
    let child = children[1].clone();
    let children: Vec<_> = PLATFORMS
        .into_iter()
        .zip(children.iter().map(|manifest| &**manifest))
        .collect();
    let index = seed::index(&children);
    tags.insert(
        "multi".to_owned(),
        source_repository.push_manifest("multi", OCI_INDEX, &index),
    );
    let signature = format!("{}.sig", digest(&index).replace(':', "-"));
    let signed = source_repository.push_artifact(Some(&signature), &index, b"a signature by tag");
    tags.insert(signature.clone(), digest(&signed));
    let referrer = source_repository.push_artifact(None, &seventh, b"a signature by referrer");
    let child_referrer = source_repository.push_artifact(None, &child, b"a signature of a part");
    if !has_referrers_api {
        for (subject, referrer) in [(&seventh, &referrer), (&child, &child_referrer)] {
            let (tag, list) = seed::referrers_tag(subject, &[referrer]);
            source_repository.push_manifest(&tag, OCI_INDEX, &list);
        }
    }
    RepositoryContent {
        tags,
        referrer: digest(&referrer),
        child_referrer: digest(&child_referrer),
        signature,
    }
}

/// Returns the digests of all blob reads, sorted. A blob that was read twice is in it twice.
fn blobs_read(requests: &[ObservedRequest]) -> Vec<String> {
    let reads = requests.iter().filter(|request| request.reads_blob());
    let names = reads.filter_map(|request| request.target.rsplit('/').next());
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.sort();
    names
}

/// Panics if a request reads a manifest or a blob, or if the same request was sent twice.
fn assert_cheap(requests: &[ObservedRequest], tags: usize) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for request in requests {
        let is_read = request.method == "GET" && request.target.contains("/manifests/");
        assert!(!is_read && !request.reads_blob(), "{request}");
        assert!(matches!(&*request.method, "GET" | "HEAD"), "{request}");
        *counts.entry(&request.target).or_default() += 1;
    }
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    // One request for each tag, and the list of tags.
    assert!(
        requests.len() <= tags + 2,
        "{} requests for {tags} tags",
        requests.len()
    );
}

fn assert_mirrored_once(
    source: SocketAddr,
    has_referrers_api: (bool, bool),
    target: SocketAddr,
    home: &Path,
) {
    let source_repository = RemoteRepository {
        address: source,
        repository: FROM,
    };
    let content = push_content(source_repository, has_referrers_api.0);
    let imgsync = Imgsync::new(home);
    let mirror_once = || {
        let (from, to) = (
            Relay::start(source, RelayFault::None),
            Relay::start(target, RelayFault::None),
        );
        let outcome = imgsync.mirror(
            &[],
            &format!("{}/{FROM}", from.address()),
            &format!("{}/{TO}", to.address()),
        );
        (outcome.succeeded(), from.requests(), to.requests())
    };
    let (_, source_requests, _) = mirror_once();
    for (tag, digest) in &content.tags {
        assert_eq!(find_digest(target, TO, tag).as_ref(), Some(digest), "{tag}");
    }
    check::at_registry(target, &format!("{TO}:v1.7"));
    let found = check::at_registry(target, &format!("{TO}:multi"));
    assert_eq!(found.children.len(), PLATFORMS.len());
    assert!(
        find_digest(target, TO, &content.referrer).is_some(),
        "the referrer"
    );
    assert!(
        find_digest(target, TO, &content.child_referrer).is_some(),
        "the referrer of a child"
    );
    let seventh = &content.tags["v1.7"];
    let path = if has_referrers_api.1 {
        format!("/v2/{TO}/referrers/{seventh}")
    } else {
        format!("/v2/{TO}/manifests/{}", seventh.replace(':', "-"))
    };
    let list = http::get(target, &path);
    assert_eq!(list.json()["manifests"][0]["digest"], *content.referrer);
    let blobs = blobs_read(&source_requests);
    let once: BTreeSet<_> = blobs.iter().collect();
    assert_eq!(blobs.len(), once.len(), "shared blobs are copied once");
    // Two shared layers; a layer and a config for each image; three signatures with the same
    // config.
    assert_eq!(once.len(), 2 + 2 * (VERSIONS + PLATFORMS.len()) + 4);

    let (_, source_requests, target_requests) = mirror_once();
    let tags = content.tags.len();
    assert_cheap(&source_requests, tags);
    assert_cheap(&target_requests, tags);

    let changed = version(500);
    let manifest = source_repository.push_image(Some("v1.3"), &changed);
    let (outcome, source_requests, target_requests) = mirror_once();
    assert_eq!(
        find_digest(target, TO, "v1.3"),
        Some(digest(&manifest)),
        "{outcome}"
    );
    let layers = changed.compressed();
    let mut new = vec![digest(&layers[2]), digest(&changed.config)];
    new.sort();
    assert_eq!(blobs_read(&source_requests), new);
    let puts = target_requests
        .iter()
        .filter(|request| request.puts_manifest());
    assert_eq!(puts.count(), 1);
    // The signature is still there after the later runs.
    assert_eq!(
        find_digest(target, TO, &content.signature),
        content.tags.get(&content.signature).cloned()
    );
}

#[test]
fn a_repository_from_our_server_to_our_server() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let home = scratch.folder("home");
    assert_mirrored_once(source.address(), (true, true), target.address(), &home);
}

#[test]
fn a_repository_from_the_stock_registry_to_our_server() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = StockRegistry::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let home = scratch.folder("home");
    assert_mirrored_once(source.address(), (false, true), target.address(), &home);
}

#[test]
fn a_repository_from_our_server_to_the_stock_registry() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = StockRegistry::start(&scratch.folder("target"));
    let home = scratch.folder("home");
    assert_mirrored_once(source.address(), (true, false), target.address(), &home);
}

#[test]
fn blobs_within_a_registry_are_mounted() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let source_repository = RemoteRepository {
        address: server.address(),
        repository: FROM,
    };
    let manifest = source_repository.push_image(Some("v1"), &version(0));
    let relay = Relay::start(server.address(), RelayFault::None);
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (from, to) = (
        format!("{}/{FROM}:v1", relay.address()),
        format!("{}/{TO}:v2", relay.address()),
    );
    let outcome = imgsync.mirror(&[], &from, &to).succeeded();
    assert_eq!(
        find_digest(server.address(), TO, "v2"),
        Some(digest(&manifest))
    );
    // Mounted blobs are not reported as sent.
    assert!(outcome.stdout.contains("copied, sent 0 B"), "{outcome}");
    assert_eq!(outcome.stderr, "");
    let other = format!("{}/other:v2", relay.address());
    let outcome = imgsync.mirror(&["--json", "-v"], &from, &other);
    let output = outcome.succeeded().stdout;
    assert!(output.contains("mounted from"), "{output}");
    assert!(
        !output.contains("\"begin\"") && !output.contains("\"done\""),
        "{output}"
    );
    let requests = relay.requests();
    assert_eq!(blobs_read(&requests), Vec::<String>::new());
    assert_eq!(sent_bytes(&requests), 0);
}

#[test]
fn some_platforms_of_an_index() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let source_repository = RemoteRepository {
        address: source.address(),
        repository: FROM,
    };
    let content = push_content(source_repository, true);
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let mirror_once = || {
        let (from, to) = (
            Relay::start(source.address(), RelayFault::None),
            Relay::start(target.address(), RelayFault::None),
        );
        let outcome = imgsync.mirror(
            &["--platform", "linux/arm64"],
            &format!("{}/{FROM}:multi", from.address()),
            &format!("{}/{TO}:multi", to.address()),
        );
        (outcome.succeeded(), from.requests(), to.requests())
    };
    let (outcome, _, _) = mirror_once();
    let output = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(output.contains("linux/amd64"), "{outcome}");
    let found = check::at_registry(target.address(), &format!("{TO}:multi"));
    assert_ne!(found.manifest, content.tags["multi"]);
    assert_eq!(found.children.len(), 1);
    let arm = version(101);
    assert_eq!(found.config, arm.id());

    let (_, source_requests, target_requests) = mirror_once();
    assert_cheap(&source_requests, 1);
    // The manifest at the target is read to find out which index it was made from.
    let manifest_requests = target_requests
        .iter()
        .filter(|request| request.target.contains("/manifests/"));
    assert_eq!(manifest_requests.count(), 1);
    assert!(
        target_requests
            .iter()
            .all(|request| request.method == "GET")
    );
}

#[test]
fn later_signatures_are_copied_with_referrers_all() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let source_repository = RemoteRepository {
        address: source.address(),
        repository: FROM,
    };
    let manifest = source_repository.push_image(Some("v1"), &version(0));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (from, to) = (
        format!("{}/{FROM}", source.address()),
        format!("{}/{TO}", target.address()),
    );
    imgsync.mirror(&[], &from, &to).succeeded();
    let tag = format!("{}.sig", digest(&manifest).replace(':', "-"));
    let by_tag = source_repository.push_artifact(Some(&tag), &manifest, b"by tag");
    let by_subject = source_repository.push_artifact(None, &manifest, b"by subject");
    let referrer_of_referrer =
        source_repository.push_artifact(None, &by_subject, b"about the signature");
    // A signature under a tag is in the list of tags and is copied like any other tag.
    imgsync.mirror(&[], &from, &to).succeeded();
    let is_at_target = |bytes: &[u8]| find_digest(target.address(), TO, &digest(bytes)).is_some();
    assert_eq!(
        (is_at_target(&by_tag), is_at_target(&by_subject)),
        (true, false)
    );
    imgsync
        .mirror(&["--referrers", "all"], &from, &to)
        .succeeded();
    assert!(is_at_target(&by_subject) && is_at_target(&referrer_of_referrer));
    // A referrer of a manifest that the target already has is copied too.
    let later_referrer =
        source_repository.push_artifact(None, &by_subject, b"about the signature, later");
    imgsync
        .mirror(&["--referrers", "all"], &from, &to)
        .succeeded();
    assert!(is_at_target(&later_referrer));
    let outcome = imgsync.mirror(&["--referrers", "all", "--exit-code"], &from, &to);
    assert_eq!(outcome.code, Some(8), "{outcome}");
}

#[test]
fn blobs_of_the_first_repository_are_mounted_into_the_second() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let relay = Relay::start(source.address(), RelayFault::None);
    let mut config = "mirrors:\n".to_owned();
    for (repository, number) in [("one", 1), ("two", 2)] {
        let source_repository = RemoteRepository {
            address: source.address(),
            repository,
        };
        source_repository.push_image(Some("v1"), &version(number));
        config += &format!(
            "  - source: {}/{repository}\n    target: {}/{repository}\n",
            relay.address(),
            target.address()
        );
    }
    let path = scratch.path("mirrors.yaml");
    std::fs::write(&path, config).expect("a configuration");
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let mut command = imgsync.command();
    run(command.args(["mirror", "--config"]).arg(&path)).succeeded();
    for (name, number) in [("one:v1", 1), ("two:v1", 2)] {
        let found = check::at_registry(target.address(), name);
        assert_eq!(found.config, version(number).id());
    }
    // Two shared layers, and a layer and a config for each image.
    assert_eq!(blobs_read(&relay.requests()).len(), 2 + 2 * 2);
}
