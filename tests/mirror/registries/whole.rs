//! Whole repositories, some platforms, and what is linked within a registry.

use std::collections::BTreeMap;

use super::{FROM, TO, head, version, written};
use crate::support::framing::Request;
use crate::support::prelude::*;
use crate::support::seed;
use crate::support::seed::{OCI_INDEX, Place};

const VERSIONS: usize = 50;
const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/s390x"];

/// What a test has put at the source: what each tag names there, companions included.
struct World {
    tags: BTreeMap<String, String>,
    /// What speaks about `v1.7` by its subject.
    referrer: String,
    /// What speaks so about one of the parts of `multi`.
    of_part: String,
    /// The tag that speaks about `multi`.
    signature: String,
}

/// Fifty versions, an index of three platforms, a signature by referrer and one by tag.
fn seeded(place: Place, lists_referrers: bool) -> World {
    let mut tags = BTreeMap::new();
    let mut seventh = Vec::new();
    for number in 0..VERSIONS {
        let tag = format!("v1.{number}");
        let manifest = place.image(Some(&tag), &version(number));
        if number == 7 {
            seventh = manifest.clone();
        }
        tags.insert(tag, digest(&manifest));
    }
    let children: Vec<_> = (0..PLATFORMS.len())
        .map(|number| place.image(None, &version(100 + number)))
        .collect();
    let part = children[1].clone();
    let children: Vec<_> = PLATFORMS
        .into_iter()
        .zip(children.iter().map(|it| &**it))
        .collect();
    let index = seed::index(&children);
    tags.insert(
        "multi".to_owned(),
        place.manifest("multi", OCI_INDEX, &index),
    );
    let signature = format!("{}.sig", digest(&index).replace(':', "-"));
    let signed = place.artifact(Some(&signature), &index, b"a signature by tag");
    tags.insert(signature.clone(), digest(&signed));
    let referrer = place.artifact(None, &seventh, b"a signature by referrer");
    let of_part = place.artifact(None, &part, b"a signature of a part");
    if !lists_referrers {
        for (subject, referrer) in [(&seventh, &referrer), (&part, &of_part)] {
            let (tag, list) = seed::list(subject, &[referrer]);
            place.manifest(&tag, OCI_INDEX, &list);
        }
    }
    World {
        tags,
        referrer: digest(&referrer),
        of_part: digest(&of_part),
        signature,
    }
}

/// Blobs that were read, each as often as it was.
fn blobs_read(requests: &[Request]) -> Vec<String> {
    let reads = requests.iter().filter(|request| request.reads_blob());
    let names = reads.filter_map(|request| request.target.rsplit('/').next());
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.sort();
    names
}

/// Panics if anything of these was asked for more than once, or read.
fn assert_cheap(requests: &[Request], tags: usize) {
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for request in requests {
        let is_read = request.method == "GET" && request.target.contains("/manifests/");
        assert!(!is_read && !request.reads_blob(), "{request}");
        assert!(matches!(&*request.method, "GET" | "HEAD"), "{request}");
        *asked.entry(&request.target).or_default() += 1;
    }
    let twice: Vec<_> = asked.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    // The tags, and the list of them.
    assert!(
        requests.len() <= tags + 2,
        "{} requests for {tags} tags",
        requests.len()
    );
}

fn mirrored_and_again(
    source: SocketAddr,
    is_listed: (bool, bool),
    target: SocketAddr,
    home: &Path,
) {
    let place = Place {
        address: source,
        repository: FROM,
    };
    let world = seeded(place, is_listed.0);
    let imgsync = Imgsync::new(home);
    let go = || {
        let (from, to) = (
            Relay::start(source, Cut::Never),
            Relay::start(target, Cut::Never),
        );
        let outcome = imgsync.mirror(
            &[],
            &format!("{}/{FROM}", from.address()),
            &format!("{}/{TO}", to.address()),
        );
        (outcome.succeeded(), from.requests(), to.requests())
    };
    let (_, read, _) = go();
    for (tag, digest) in &world.tags {
        assert_eq!(head(target, TO, tag).as_ref(), Some(digest), "{tag}");
    }
    check::at_registry(target, &format!("{TO}:v1.7"));
    let found = check::at_registry(target, &format!("{TO}:multi"));
    assert_eq!(found.children.len(), PLATFORMS.len());
    assert!(head(target, TO, &world.referrer).is_some(), "the referrer");
    assert!(head(target, TO, &world.of_part).is_some(), "that of a part");
    let seventh = &world.tags["v1.7"];
    let list = match is_listed.1 {
        true => http::get(target, &format!("/v2/{TO}/referrers/{seventh}")),
        false => {
            let tag = seventh.replace(':', "-");
            http::get(target, &format!("/v2/{TO}/manifests/{tag}"))
        }
    };
    assert_eq!(list.json()["manifests"][0]["digest"], *world.referrer);
    let blobs = blobs_read(&read);
    let once: BTreeSet<_> = blobs.iter().collect();
    assert_eq!(blobs.len(), once.len(), "shared blobs move once");
    // Two that are shared; a layer and a config of each image; three signatures on one config.
    assert_eq!(once.len(), 2 + 2 * (VERSIONS + PLATFORMS.len()) + 4);

    let (_, read, written) = go();
    let tags = world.tags.len();
    assert_cheap(&read, tags);
    assert_cheap(&written, tags);

    let changed = version(500);
    let manifest = place.image(Some("v1.3"), &changed);
    let (outcome, read, written) = go();
    assert_eq!(
        head(target, TO, "v1.3"),
        Some(digest(&manifest)),
        "{outcome}"
    );
    let layers = changed.compressed();
    let mut new = vec![digest(&layers[2]), digest(&changed.config)];
    new.sort();
    assert_eq!(blobs_read(&read), new);
    let puts = written.iter().filter(|request| request.puts_manifest());
    assert_eq!(puts.count(), 1);
    // Nothing of it is lost by what came later.
    assert_eq!(
        head(target, TO, &world.signature),
        world.tags.get(&world.signature).cloned()
    );
}

#[test]
fn a_repository_from_our_server_to_our_server() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let home = scratch.folder("home");
    mirrored_and_again(source.address(), (true, true), target.address(), &home);
}

#[test]
fn a_repository_from_the_stock_registry_to_our_server() {
    if !present(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = StockRegistry::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let home = scratch.folder("home");
    mirrored_and_again(source.address(), (false, true), target.address(), &home);
}

#[test]
fn a_repository_from_our_server_to_the_stock_registry() {
    if !present(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = StockRegistry::start(&scratch.folder("target"));
    let home = scratch.folder("home");
    mirrored_and_again(source.address(), (true, false), target.address(), &home);
}

#[test]
fn within_a_registry_blobs_are_linked() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let place = Place {
        address: server.address(),
        repository: FROM,
    };
    let manifest = place.image(Some("v1"), &version(0));
    let relay = Relay::start(server.address(), Cut::Never);
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (from, to) = (
        format!("{}/{FROM}:v1", relay.address()),
        format!("{}/{TO}:v2", relay.address()),
    );
    let outcome = imgsync.mirror(&[], &from, &to).succeeded();
    assert_eq!(head(server.address(), TO, "v2"), Some(digest(&manifest)));
    // What did not move is not told as sent.
    assert!(outcome.stdout.contains("copied, sent 0 B"), "{outcome}");
    assert_eq!(outcome.stderr, "");
    let other = format!("{}/other:v2", relay.address());
    let outcome = imgsync.mirror(&["--json", "-v"], &from, &other);
    let told = outcome.succeeded().stdout;
    assert!(told.contains("mounted from"), "{told}");
    assert!(
        !told.contains("\"begin\"") && !told.contains("\"done\""),
        "{told}"
    );
    let requests = relay.requests();
    assert_eq!(blobs_read(&requests), Vec::<String>::new());
    assert_eq!(written(&requests), 0);
}

#[test]
fn some_platforms_of_an_index() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let place = Place {
        address: source.address(),
        repository: FROM,
    };
    let world = seeded(place, true);
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let go = || {
        let (from, to) = (
            Relay::start(source.address(), Cut::Never),
            Relay::start(target.address(), Cut::Never),
        );
        let outcome = imgsync.mirror(
            &["--platform", "linux/arm64"],
            &format!("{}/{FROM}:multi", from.address()),
            &format!("{}/{TO}:multi", to.address()),
        );
        (outcome.succeeded(), from.requests(), to.requests())
    };
    let (outcome, _, _) = go();
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(said.contains("linux/amd64"), "{outcome}");
    let found = check::at_registry(target.address(), &format!("{TO}:multi"));
    assert_ne!(found.manifest, world.tags["multi"]);
    assert_eq!(found.children.len(), 1);
    let arm = version(101);
    assert_eq!(found.config, arm.id());

    let (_, read, written) = go();
    assert_cheap(&read, 1);
    // What is there has to be read to know what it was made from.
    let asked = written
        .iter()
        .filter(|request| request.target.contains("/manifests/"));
    assert_eq!(asked.count(), 1);
    assert!(written.iter().all(|request| request.method == "GET"));
}

#[test]
fn what_is_signed_later_comes_when_it_is_asked_for() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let place = Place {
        address: source.address(),
        repository: FROM,
    };
    let manifest = place.image(Some("v1"), &version(0));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (from, to) = (
        format!("{}/{FROM}", source.address()),
        format!("{}/{TO}", target.address()),
    );
    imgsync.mirror(&[], &from, &to).succeeded();
    let tag = format!("{}.sig", digest(&manifest).replace(':', "-"));
    let by_tag = place.artifact(Some(&tag), &manifest, b"by tag");
    let by_subject = place.artifact(None, &manifest, b"by subject");
    let about = place.artifact(None, &by_subject, b"about the signature");
    // A tag is in the list, and costs what any tag does.
    imgsync.mirror(&[], &from, &to).succeeded();
    let there = |bytes: &[u8]| head(target.address(), TO, &digest(bytes)).is_some();
    assert_eq!((there(&by_tag), there(&by_subject)), (true, false));
    imgsync
        .mirror(&["--referrers", "all"], &from, &to)
        .succeeded();
    assert!(there(&by_subject) && there(&about));
    // Also what speaks about something that is at the target by now.
    let later = place.artifact(None, &by_subject, b"about the signature, later");
    imgsync
        .mirror(&["--referrers", "all"], &from, &to)
        .succeeded();
    assert!(there(&later));
    let outcome = imgsync.mirror(&["--referrers", "all", "--exit-code"], &from, &to);
    assert_eq!(outcome.code, Some(8), "{outcome}");
}

#[test]
fn what_one_repository_got_is_linked_into_the_next() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let relay = Relay::start(source.address(), Cut::Never);
    let mut config = "mirrors:\n".to_owned();
    for (repository, number) in [("one", 1), ("two", 2)] {
        let place = Place {
            address: source.address(),
            repository,
        };
        place.image(Some("v1"), &version(number));
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
    // Two layers that both have, and of each a layer and a config of its own.
    assert_eq!(blobs_read(&relay.requests()).len(), 2 + 2 * 2);
}
