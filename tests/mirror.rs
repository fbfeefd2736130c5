//! Repositories in step: everything arrives as it is, nothing moves twice, and what was cut goes on.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says what it skips"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use support::bytes::{digest, noise};
use support::fake::{Fake, status};
use support::framing::Request;
use support::run::{Outcome, run};
use support::seed::{self, OCI_INDEX, OCI_MANIFEST, Place};
use support::{
    Cut, Image, Imgsync, Relay, Scratch, Server, StockRegistry, Upstream, check, http, image, peers,
};

const FROM: &str = "team/app";
const TO: &str = "copy/app";
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

/// An image on two layers that all share, and one of its own.
fn version(number: usize) -> Image {
    let shared = [1, 2].map(|seed| image::layer("shared", noise(seed, 400_000)));
    let own = image::layer("own", noise(1000 + number as u64, 2_000 + number));
    Image::new(shared.into_iter().chain([own]).collect())
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

fn head(address: SocketAddr, repository: &str, reference: &str) -> Option<String> {
    let target = format!("/v2/{repository}/manifests/{reference}");
    let reply = http::get(address, &target);
    (reply.status == 200).then(|| digest(&reply.body))
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
    if !peers::present(&["docker-registry"]) {
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
    if !peers::present(&["docker-registry"]) {
        return;
    }
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = StockRegistry::start(&scratch.folder("target"));
    let home = scratch.folder("home");
    mirrored_and_again(source.address(), (true, false), target.address(), &home);
}

fn large(seed: u64, size: usize) -> Image {
    Image::new(vec![image::layer("data", noise(seed, size))])
}

/// How many bytes of blobs a client sent.
fn written(requests: &[Request]) -> u64 {
    let writes = requests.iter().filter(|request| request.writes_blob());
    writes.map(|request| request.body).sum()
}

#[test]
fn a_mirror_that_is_killed_goes_on_where_it_was() {
    let scratch = Scratch::new();
    let source = Upstream::start();
    let target = Server::start(&scratch.folder("target"));
    let big = large(7, 40_000_000);
    let layer = source.put(FROM, "v1", &big).blobs[0].0.clone();
    let size: u64 = big.compressed().iter().map(|blob| blob.len() as u64).sum();

    let imgsync = Imgsync::new(&scratch.folder("home"));
    let to = Relay::start(target.address(), Cut::Never);
    let remotes = [
        format!("{}/{FROM}", source.address()),
        format!("{}/{TO}", to.address()),
    ];
    let mut kills = 0;
    for sent in [9_000_000, 17_000_000, 31_000_000] {
        let mut command = imgsync.command();
        command.arg("mirror").args(&remotes);
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let child = Arc::new(Mutex::new(command.spawn().expect("imgsync starts")));
        let victim = Arc::clone(&child);
        to.after(sent, move || {
            // It may have ended.
            let _ = victim.lock().unwrap().kill();
        });
        let status = support::run::until("the end of a mirror", || {
            child.lock().unwrap().try_wait().expect("a child of ours")
        });
        kills += usize::from(!status.success());
    }
    assert_eq!(kills, 3);
    to.after(u64::MAX, || {});
    imgsync.mirror(&[], &remotes[0], &remotes[1]).succeeded();

    let found = check::at_registry(target.address(), &format!("{TO}:v1"));
    assert_eq!(found.config, big.id());
    let requests = to.requests();
    let broken = requests
        .iter()
        .filter(|request| request.writes_blob() && !request.complete);
    // What a kill may cost: the chunk that was on its way.
    let wasted: u64 = broken.filter_map(|request| request.announced).sum();
    let sent = written(&requests);
    eprintln!("{kills} kills: sent {sent} of {size}, {wasted} may have been lost");
    assert!(
        sent <= found.size() + wasted,
        "{sent} sent of {size}, {wasted} lost"
    );
    assert!(sent < 2 * size, "{sent} sent of {size}");
    // The source was asked from the offset on, not from the start each time.
    let seen = source.seen();
    let reads = seen.iter().filter(|request| {
        request.method == "GET" && request.target.ends_with(&format!("/blobs/{layer}"))
    });
    let offsets: Vec<u64> = reads
        .map(|request| {
            let range = request.header("range").unwrap_or("bytes=0-");
            let offset = range
                .strip_prefix("bytes=")
                .and_then(|it| it.strip_suffix('-'));
            offset.and_then(|it| it.parse().ok()).expect("an offset")
        })
        .collect();
    assert!(offsets.is_sorted(), "{offsets:?}");
    assert!(offsets.last() > Some(&10_000_000), "{offsets:?}");
}

/// A source that breaks off one body after `cut` bytes.
fn broken_off(ignores_ranges: bool) {
    let scratch = Scratch::new();
    let source = Upstream::start();
    let target = Server::start(&scratch.folder("target"));
    let big = large(8, 12_000_000);
    let published = source.put(FROM, "v1", &big);
    let cut = 5_000_000;
    source.behave(|manners| {
        manners.cut = Some(cut);
        manners.ignores_ranges = ignores_ranges;
    });
    let imgsync = Imgsync::new(&scratch.folder("home"));
    // The layer first: it is the one that is cut.
    let (layer, bytes) = &published.blobs[0];
    Place {
        address: target.address(),
        repository: TO,
    }
    .blob(&big.config);
    let relay = Relay::start(target.address(), Cut::Never);
    let (from, to) = (
        format!("{}/{FROM}:v1", source.address()),
        format!("{}/{TO}:v1", relay.address()),
    );
    imgsync.mirror(&[], &from, &to).succeeded();
    let found = check::at_registry(target.address(), &format!("{TO}:v1"));
    assert_eq!(found.manifest, published.digest);
    let seen = source.seen();
    let end = format!("/blobs/{layer}");
    let reads: Vec<_> = seen
        .iter()
        .filter(|request| request.method == "GET" && request.target.ends_with(&end))
        .map(|request| request.header("range").map(str::to_owned))
        .collect();
    assert_eq!(reads, [None, Some(format!("bytes={cut}-"))]);
    // The target noticed nothing.
    assert_eq!(written(&relay.requests()), bytes.len() as u64);
}

#[test]
fn a_source_that_breaks_off_is_taken_up_where_it_was() {
    broken_off(false);
}

#[test]
fn so_is_one_that_knows_no_ranges() {
    broken_off(true);
}

#[test]
fn a_source_that_sends_other_bytes_is_found_out() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let place = Place {
        address: source.address(),
        repository: FROM,
    };
    let image = large(9, 300_000);
    place.image(Some("v1"), &image);
    let layer = digest(&image.compressed()[0]);
    let data = support::store::blob_data(source.root(), &layer);
    let mut bytes = std::fs::read(&data).expect("the layer on the source's disk");
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&data, bytes).expect("a damaged layer");

    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (from, to) = (
        format!("{}/{FROM}:v1", source.address()),
        format!("{}/{TO}:v1", target.address()),
    );
    let outcome = imgsync.mirror(&[], &from, &to);
    outcome.failed(3, &["source", "content of", &layer]);
    assert_eq!(head(target.address(), TO, "v1"), None);
    let blob = format!("/v2/{TO}/blobs/{layer}");
    assert_eq!(http::get(target.address(), &blob).status, 404);
}

#[test]
fn a_source_that_has_had_enough_is_waited_for() {
    let scratch = Scratch::new();
    let source = Upstream::start();
    let target = Server::start(&scratch.folder("target"));
    let published = source.put(FROM, "v1", &large(10, 50_000));
    source.behave(|manners| {
        manners.status = Some((429, Some(1)));
        manners.limits = Some((100, 3));
    });
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (from, to) = (
        format!("{}/{FROM}:v1", source.address()),
        format!("{}/{TO}:v1", target.address()),
    );
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            support::run::until("a request to be refused", || {
                (!source.seen().is_empty()).then_some(())
            });
            source.behave(|manners| manners.status = None);
        });
        imgsync.mirror(&[], &from, &to).succeeded()
    });
    assert!(outcome.stderr.contains("waiting for 1 s"), "{outcome}");
    let arrived = head(target.address(), TO, "v1");
    assert_eq!(arrived, Some(published.digest));

    // One that wants more patience than anybody has is an error at once, which says for how long.
    source.put(FROM, "v1", &large(11, 50_000));
    source.behave(|manners| manners.status = Some((429, Some(86_400))));
    source.forget();
    let outcome = imgsync.mirror(&[], &from, &to);
    outcome.failed(3, &["429"]);
    assert_eq!(source.seen().len(), 1);
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
    assert!(told.contains("linked from"), "{told}");
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

/// `imgsync mirror SOURCE REMOTE`, logged in at the source.
fn logged_in(imgsync: &Imgsync, from: &str, to: &str) -> Outcome {
    let mut command = imgsync.command();
    command.env("IMGSYNC_SOURCE_USERNAME", "reader");
    command.env("IMGSYNC_SOURCE_PASSWORD", "pass");
    run(command.args(["mirror", from, to]))
}

#[test]
fn tokens_that_run_out_on_the_way_are_renewed() {
    let scratch = Scratch::new();
    let source = Upstream::start();
    let target = Server::start(&scratch.folder("target"));
    source.behave(|manners| manners.tokens = Some(("reader", "pass", 30)));
    let tags: Vec<_> = (0..8).map(|number| format!("v{number}")).collect();
    let published = tags.iter().zip(0..);
    let published: Vec<_> = published
        .map(|(tag, number)| source.put(FROM, tag, &version(number)).digest)
        .collect();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (from, to) = (
        format!("{}/{FROM}", source.address()),
        format!("{}/{TO}", target.address()),
    );
    logged_in(&imgsync, &from, &to).succeeded();
    for (tag, digest) in tags.iter().zip(&published) {
        assert_eq!(head(target.address(), TO, tag).as_ref(), Some(digest));
    }
}

/// A registry that sends its readers on to a store, whose addresses hold for one request each. The
/// store is another server, and no business of the password's.
#[test]
fn a_store_whose_addresses_run_out_gets_no_password() {
    const CUT: usize = 30_000;
    let layer: String = (0..20_000).map(|line| format!("{line}\n")).collect();
    let (config, len) = ("{}".to_owned(), layer.len());
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": seed::descriptor("application/vnd.oci.empty.v1+json", config.as_bytes()),
        "layers": [seed::descriptor("text/plain", layer.as_bytes())],
    })
    .to_string();
    let content = layer.clone();
    let asked = AtomicUsize::new(0);
    let store = Fake::start(move |request| {
        if request.target.starts_with("/small") {
            return status(200).body("{}");
        }
        // The first address has run out, the second ends early, the third is asked for the rest.
        match asked.fetch_add(1, Ordering::SeqCst) {
            0 => status(403).body("<Error>Request has expired</Error>"),
            1 => status(200)
                .header("Content-Length", len.to_string())
                .body(&content[..CUT]),
            _ => {
                let range = format!("bytes {CUT}-{}/{len}", len - 1);
                let reply = status(206).header("Content-Range", range);
                reply.body(&content[CUT..])
            }
        }
    });
    let (address, small) = (store.address(), digest(config.as_bytes()));
    let manifest_digest = digest(manifest.as_bytes());
    let named = manifest_digest.clone();
    let addresses = AtomicUsize::new(0);
    let registry = Fake::start(move |request| {
        if request.authorization().is_empty() {
            return status(401).header("WWW-Authenticate", "Basic realm=\"here\"");
        }
        if request.target.contains("/manifests/sha256-") {
            return status(404);
        }
        if request.target.contains("/manifests/") {
            return status(200)
                .header("Content-Type", OCI_MANIFEST)
                .header("Docker-Content-Digest", &named)
                .body(&*manifest);
        }
        if request.target.contains("/blobs/") {
            let kind = match request.target.ends_with(&small) {
                true => "small",
                false => "large",
            };
            let number = addresses.fetch_add(1, Ordering::SeqCst);
            let next = format!("http://{address}/{kind}?signature={number}");
            return status(307).header("Location", next);
        }
        status(404)
    });
    let scratch = Scratch::new();
    let target = Server::start(&scratch.folder("target"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let from = format!("{}/{FROM}:v1", registry.address());
    let to = format!("{}/{TO}:v1", target.address());
    logged_in(&imgsync, &from, &to).succeeded();
    let arrived = head(target.address(), TO, "v1");
    assert_eq!(arrived, Some(manifest_digest));
    let blob = format!("/v2/{TO}/blobs/{}", digest(layer.as_bytes()));
    assert_eq!(http::get(target.address(), &blob).text(), layer);
    let seen = store.seen();
    let large = seen
        .iter()
        .filter(|request| request.target.starts_with("/large"));
    let large: Vec<_> = large.collect();
    assert_eq!(large.len(), 3);
    let once: BTreeSet<_> = seen.iter().map(|request| &request.target).collect();
    assert_eq!(once.len(), seen.len(), "an address was used twice");
    assert_eq!(large[2].header("range"), Some(&*format!("bytes={CUT}-")));
    assert!(
        seen.iter()
            .all(|request| request.authorization().is_empty())
    );
}

#[test]
fn a_line_to_the_target_that_breaks_again_and_again() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let place = Place {
        address: source.address(),
        repository: FROM,
    };
    let big = large(12, 30_000_000);
    place.image(Some("v1"), &big);
    let relay = Relay::start(
        target.address(),
        Cut::Each(vec![3_000_000, 2_111_111, 4_000_001]),
    );
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (from, to) = (
        format!("{}/{FROM}", source.address()),
        format!("{}/{TO}", relay.address()),
    );
    imgsync.mirror(&[], &from, &to).succeeded();
    let found = check::at_registry(target.address(), &format!("{TO}:v1"));
    assert_eq!(found.config, big.id());
    let requests = relay.requests();
    let broken = requests
        .iter()
        .filter(|request| request.writes_blob() && !request.complete);
    let wasted: u64 = broken.filter_map(|request| request.announced).sum();
    assert!(
        relay.cuts() >= 5,
        "the line broke only {} times",
        relay.cuts()
    );
    assert!(written(&requests) <= found.size() + wasted);
}

/// A registry may have a manifest and have lost a blob of it. Nobody looks for that where a tag is
/// right; but a tag that is put anew stands for everything again.
#[test]
fn a_blob_that_the_target_has_lost_is_sent_again() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let mut target = Server::start(&scratch.folder("target"));
    let place = Place {
        address: source.address(),
        repository: FROM,
    };
    let image = version(0);
    place.image(Some("v1"), &image);
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let from = format!("{}/{FROM}:v1", source.address());
    let to = |target: &Server, tag: &str| format!("{}/{TO}:{tag}", target.address());
    imgsync.mirror(&[], &from, &to(&target, "v1")).succeeded();
    let layer = digest(&image.compressed()[2]);
    target.stop();
    let data = support::store::blob_data(target.root(), &layer);
    std::fs::remove_file(&data).expect("a layer on the target's disk");
    target.start_again();
    imgsync.mirror(&[], &from, &to(&target, "v2")).succeeded();
    let found = check::at_registry(target.address(), &format!("{TO}:v2"));
    assert_eq!(found.config, image.id());
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

/// Neither the size of a layer nor the number of tags shows in the memory that a mirror takes.
#[test]
fn a_layer_of_300_mb_takes_less_than_50_mb_of_memory() {
    const MOST: u64 = 50_000_000;
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let path = scratch.path("large.tar");
    support::archive::write_large(&path, 300_000_000, "app:v1");
    let remote = format!("{}/{FROM}:v1", source.address());
    imgsync.push(path.to_str().unwrap(), &remote).succeeded();
    let to = format!("{}/{TO}:v1", target.address());
    let (outcome, tool) = imgsync.mirror_measured(&[], &remote, &to);
    outcome.succeeded();
    assert_eq!(
        head(target.address(), TO, "v1"),
        head(source.address(), FROM, "v1")
    );
    eprintln!("at most {tool} bytes of memory");
    assert!(
        tool > 0 && tool < MOST,
        "imgsync took {tool} bytes of memory"
    );
}
