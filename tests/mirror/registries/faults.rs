//! Mirrors that are killed, sources and connections that break off, and blobs that are lost.

use std::sync::{Arc, Mutex};

use super::{FROM, TO, head, large, version, written};
use crate::support::prelude::*;
use crate::support::seed::RemoteRepository;

#[test]
fn a_mirror_that_is_killed_goes_on_where_it_was() {
    let scratch = Scratch::new();
    let source = Upstream::start();
    let target = Server::start(&scratch.folder("target"));
    let big = large(7, 40_000_000);
    let layer = source.put(FROM, "v1", &big).blobs[0].0.clone();
    let size: u64 = big.compressed().iter().map(|blob| blob.len() as u64).sum();

    let imgsync = Imgsync::new(&scratch.folder("home"));
    let to = Relay::start(target.address(), RelayFault::None);
    let remotes = [
        format!("{}/{FROM}", source.address()),
        format!("{}/{TO}", to.address()),
    ];
    let mut kills = 0;
    for sent in [9_000_000, 17_000_000, 31_000_000] {
        let mut command = imgsync.command();
        command.arg("mirror").args(&remotes);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = Arc::new(Mutex::new(command.spawn().expect("imgsync starts")));
        let victim = Arc::clone(&child);
        to.run_after_bytes_sent(sent, move || {
            // It may have ended.
            let _ = victim.lock().unwrap().kill();
        });
        let status = wait_until("the end of a mirror", || {
            child.lock().unwrap().try_wait().expect("a child of ours")
        });
        kills += usize::from(!status.success());
    }
    assert_eq!(kills, 3);
    to.run_after_bytes_sent(u64::MAX, || {});
    imgsync.mirror(&[], &remotes[0], &remotes[1]).succeeded();

    let found = check::at_registry(target.address(), &format!("{TO}:v1"));
    assert_eq!(found.config, big.id());
    let requests = to.requests();
    let broken = requests
        .iter()
        .filter(|request| request.writes_blob() && !request.complete);
    // What a kill may cost: the chunk that was on its way.
    let wasted: u64 = broken.filter_map(|request| request.content_length).sum();
    let sent = written(&requests);
    eprintln!("{kills} kills: sent {sent} of {size}, {wasted} may have been lost");
    assert!(
        sent <= found.size() + wasted,
        "{sent} sent of {size}, {wasted} lost"
    );
    assert!(sent < 2 * size, "{sent} sent of {size}");
    // The source was asked from the offset on, not from the start each time.
    let seen = source.requests();
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
    source.configure(|settings| {
        settings.cut_blob_at = Some(cut);
        settings.ignores_ranges = ignores_ranges;
    });
    let imgsync = Imgsync::new(&scratch.folder("home"));
    // The layer first: it is the one that is cut.
    let (layer, bytes) = &published.blobs[0];
    RemoteRepository {
        address: target.address(),
        repository: TO,
    }
    .push_blob(&big.config);
    let relay = Relay::start(target.address(), RelayFault::None);
    let (from, to) = (
        format!("{}/{FROM}:v1", source.address()),
        format!("{}/{TO}:v1", relay.address()),
    );
    imgsync.mirror(&[], &from, &to).succeeded();
    let found = check::at_registry(target.address(), &format!("{TO}:v1"));
    assert_eq!(found.manifest, published.digest);
    let seen = source.requests();
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
    let place = RemoteRepository {
        address: source.address(),
        repository: FROM,
    };
    let image = large(9, 300_000);
    place.push_image(Some("v1"), &image);
    let layer = digest(&image.compressed()[0]);
    let data = crate::support::store::blob_path(source.root(), &layer);
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
    source.configure(|settings| {
        settings.status = Some((429, Some(1)));
        settings.rate_limit = Some((100, 3));
    });
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let (from, to) = (
        format!("{}/{FROM}:v1", source.address()),
        format!("{}/{TO}:v1", target.address()),
    );
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("a request to be refused", || {
                (!source.requests().is_empty()).then_some(())
            });
            source.configure(|settings| settings.status = None);
        });
        imgsync.mirror(&[], &from, &to).succeeded()
    });
    assert!(outcome.stderr.contains("waiting for 1 s"), "{outcome}");
    let arrived = head(target.address(), TO, "v1");
    assert_eq!(arrived, Some(published.digest));

    // One that wants more patience than anybody has is an error at once, which says for how long.
    source.put(FROM, "v1", &large(11, 50_000));
    source.configure(|settings| settings.status = Some((429, Some(86_400))));
    source.clear_requests();
    let outcome = imgsync.mirror(&[], &from, &to);
    outcome.failed(3, &["429"]);
    assert_eq!(source.requests().len(), 1);
}

#[test]
fn a_line_to_the_target_that_breaks_again_and_again() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let place = RemoteRepository {
        address: source.address(),
        repository: FROM,
    };
    let big = large(12, 30_000_000);
    place.push_image(Some("v1"), &big);
    let relay = Relay::start(
        target.address(),
        RelayFault::CutEach(vec![3_000_000, 2_111_111, 4_000_001]),
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
    let wasted: u64 = broken.filter_map(|request| request.content_length).sum();
    assert!(
        relay.fault_count() >= 5,
        "the line broke only {} times",
        relay.fault_count()
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
    let place = RemoteRepository {
        address: source.address(),
        repository: FROM,
    };
    let image = version(0);
    place.push_image(Some("v1"), &image);
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let from = format!("{}/{FROM}:v1", source.address());
    let to = |target: &Server, tag: &str| format!("{}/{TO}:{tag}", target.address());
    imgsync.mirror(&[], &from, &to(&target, "v1")).succeeded();
    let layer = digest(&image.compressed()[2]);
    target.stop();
    let data = crate::support::store::blob_path(target.root(), &layer);
    std::fs::remove_file(&data).expect("a layer on the target's disk");
    target.restart();
    imgsync.mirror(&[], &from, &to(&target, "v2")).succeeded();
    let found = check::at_registry(target.address(), &format!("{TO}:v2"));
    assert_eq!(found.config, image.id());
}

/// Neither the size of a layer nor the number of tags shows in the memory that a mirror takes.
#[test]
fn a_layer_of_300_mb_takes_less_than_50_mb_of_memory() {
    let _heavy = serial::heavy();
    const MOST: u64 = 50_000_000;
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let path = scratch.path("large.tar");
    archive::write_large(&path, 300_000_000, "app:v1");
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
