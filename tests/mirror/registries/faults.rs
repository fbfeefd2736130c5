//! Tests mirrors that are killed, connections that are interrupted on either side, and blobs that
//! are lost.

use std::sync::{Arc, Mutex};

use super::{FROM, TO, find_digest, large_image, sent_bytes, version};
use crate::support::fake::{self, FakeServer};
use crate::support::prelude::*;
use crate::support::seed::{self, RemoteRepository};

#[test]
fn a_mirror_that_is_killed_continues_at_its_offset() {
    let scratch = Scratch::new();
    let source = Upstream::start();
    let target = Server::start(&scratch.folder("target"));
    let image = large_image(7, 40_000_000);
    let layer = source.put(FROM, "v1", &image).blobs[0].0.clone();
    let size: u64 = image
        .compressed()
        .iter()
        .map(|blob| blob.len() as u64)
        .sum();

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
            // The mirror may have ended already.
            let _ = victim.lock().unwrap().kill();
        });
        let status = wait_until("the end of a mirror", || {
            child
                .lock()
                .unwrap()
                .try_wait()
                .expect("the status of the child")
        });
        kills += usize::from(!status.success());
    }
    assert_eq!(kills, 3);
    to.run_after_bytes_sent(u64::MAX, || {});
    imgsync.mirror(&[], &remotes[0], &remotes[1]).succeeded();

    let found = check::at_registry(target.address(), &format!("{TO}:v1"));
    assert_eq!(found.config, image.id());
    let requests = to.requests();
    let broken = requests
        .iter()
        .filter(|request| request.writes_blob() && !request.complete);
    // Each kill loses at most one chunk.
    let lost: u64 = broken.filter_map(|request| request.content_length).sum();
    let sent = sent_bytes(&requests);
    eprintln!("{kills} kills: sent {sent} of {size}, {lost} may have been lost");
    assert!(
        sent <= found.size() + lost,
        "{sent} sent of {size}, {lost} lost"
    );
    assert!(sent < 2 * size, "{sent} sent of {size}");
    // The source is read from the offset of the upload, not from the start each time.
    let seen = source.requests();
    let reads = seen.iter().filter(|request| {
        request.method == "GET" && request.target.ends_with(&format!("/blobs/{layer}"))
    });
    let offsets: Vec<u64> = reads
        .map(|request| {
            let range = request.header("range").unwrap_or("bytes=0-");
            let offset = range
                .strip_prefix("bytes=")
                .and_then(|range| range.strip_suffix('-'));
            offset
                .and_then(|offset| offset.parse().ok())
                .expect("an offset")
        })
        .collect();
    assert!(offsets.is_sorted(), "{offsets:?}");
    assert!(offsets.last() > Some(&10_000_000), "{offsets:?}");
}

/// Mirrors from a source that closes the connection once after `cut` bytes of a blob.
fn assert_interrupted_read_resumes(ignores_ranges: bool) {
    let scratch = Scratch::new();
    let source = Upstream::start();
    let target = Server::start(&scratch.folder("target"));
    let image = large_image(8, 12_000_000);
    let published = source.put(FROM, "v1", &image);
    let cut = 5_000_000;
    source.configure(|settings| {
        settings.cut_blob_at = Some(cut);
        settings.ignores_ranges = ignores_ranges;
    });
    let imgsync = Imgsync::new(&scratch.folder("home"));
    // The target has the config already, so the layer is the blob that is interrupted.
    let (layer, bytes) = &published.blobs[0];
    RemoteRepository {
        address: target.address(),
        repository: TO,
    }
    .push_blob(&image.config);
    let relay = Relay::start(target.address(), RelayFault::None);
    let (from, to) = (
        format!("{}/{FROM}:v1", source.address()),
        format!("{}/{TO}:v1", relay.address()),
    );
    imgsync.mirror(&[], &from, &to).succeeded();
    let found = check::at_registry(target.address(), &format!("{TO}:v1"));
    assert_eq!(found.manifest, published.digest);
    let seen = source.requests();
    let path = format!("/blobs/{layer}");
    let reads: Vec<_> = seen
        .iter()
        .filter(|request| request.method == "GET" && request.target.ends_with(&path))
        .map(|request| request.header("range").map(str::to_owned))
        .collect();
    assert_eq!(reads, [None, Some(format!("bytes={cut}-"))]);
    // The target receives every byte once.
    assert_eq!(sent_bytes(&relay.requests()), bytes.len() as u64);
}

#[test]
fn a_source_that_closes_the_connection_is_read_from_the_offset() {
    assert_interrupted_read_resumes(false);
}

#[test]
fn a_source_without_ranges_is_read_again_from_the_start() {
    assert_interrupted_read_resumes(true);
}

#[test]
fn a_source_that_sends_wrong_bytes_is_detected() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let source_repository = RemoteRepository {
        address: source.address(),
        repository: FROM,
    };
    let image = large_image(9, 300_000);
    source_repository.push_image(Some("v1"), &image);
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
    assert_eq!(find_digest(target.address(), TO, "v1"), None);
    let blob = format!("/v2/{TO}/blobs/{layer}");
    assert_eq!(http::get(target.address(), &blob).status, 404);
}

#[test]
fn a_rate_limit_of_the_source_is_waited_for() {
    let scratch = Scratch::new();
    let source = Upstream::start();
    let target = Server::start(&scratch.folder("target"));
    let published = source.put(FROM, "v1", &large_image(10, 50_000));
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
            wait_until("a refused request", || {
                (!source.requests().is_empty()).then_some(())
            });
            source.configure(|settings| settings.status = None);
        });
        imgsync.mirror(&[], &from, &to).succeeded()
    });
    assert!(outcome.stderr.contains("waiting for 1 s"), "{outcome}");
    let arrived = find_digest(target.address(), TO, "v1");
    assert_eq!(arrived, Some(published.digest));

    // A delay that is too long is an error at once, with only one request.
    source.put(FROM, "v1", &large_image(11, 50_000));
    source.configure(|settings| settings.status = Some((429, Some(86_400))));
    source.clear_requests();
    let outcome = imgsync.mirror(&[], &from, &to);
    outcome.failed(3, &["429"]);
    assert_eq!(source.requests().len(), 1);
}

#[test]
fn a_mirror_survives_repeated_cuts_of_the_connection_to_the_target() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let source_repository = RemoteRepository {
        address: source.address(),
        repository: FROM,
    };
    let image = large_image(12, 30_000_000);
    source_repository.push_image(Some("v1"), &image);
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
    assert_eq!(found.config, image.id());
    let requests = relay.requests();
    let broken = requests
        .iter()
        .filter(|request| request.writes_blob() && !request.complete);
    let lost: u64 = broken.filter_map(|request| request.content_length).sum();
    assert!(
        relay.fault_count() >= 5,
        "the connection broke only {} times",
        relay.fault_count()
    );
    assert!(sent_bytes(&requests) <= found.size() + lost);
}

/// The target has the manifest, but lost one of its blobs. This is not checked for a tag that is
/// right. For a new tag, all blobs are checked.
#[test]
fn a_blob_that_the_target_has_lost_is_sent_again() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let mut target = Server::start(&scratch.folder("target"));
    let source_repository = RemoteRepository {
        address: source.address(),
        repository: FROM,
    };
    let image = version(0);
    source_repository.push_image(Some("v1"), &image);
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

/// The size of a layer does not affect the memory of a mirror.
#[test]
fn a_layer_of_300_mb_takes_less_than_50_mb_of_memory() {
    let _heavy = serial::heavy();
    const MAX_MEMORY_BYTES: u64 = 50_000_000;
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let path = scratch.path("large.tar");
    archive::write_large(&path, 300_000_000, "app:v1");
    let remote = format!("{}/{FROM}:v1", source.address());
    imgsync.push(path.to_str().unwrap(), &remote).succeeded();
    let to = format!("{}/{TO}:v1", target.address());
    let (outcome, peak) = imgsync.mirror_measured(&[], &remote, &to);
    outcome.succeeded();
    assert_eq!(
        find_digest(target.address(), TO, "v1"),
        find_digest(source.address(), FROM, "v1")
    );
    eprintln!("at most {peak} bytes of memory");
    assert!(
        peak > 0 && peak < MAX_MEMORY_BYTES,
        "imgsync took {peak} bytes of memory"
    );
}

/// Starts a registry with the content of another one that answers HEAD requests of manifests with
/// 404.
fn without_head(source: SocketAddr) -> FakeServer {
    FakeServer::start(move |request| {
        if request.method == "HEAD" && request.target.contains("/manifests/") {
            return fake::status(404);
        }
        let found = http::get(source, &request.target);
        let reply = match found.header("content-type") {
            Some(media_type) => fake::status(found.status).header("Content-Type", media_type),
            None => fake::status(found.status),
        };
        reply.body(found.body)
    })
}

/// BuildKit's cache, as older versions write it: an index of layers and the config of the cache. And
/// a registry that answers HEAD requests of manifests with 404.
#[test]
fn a_cache_of_buildkit_is_copied_from_a_registry_without_head() {
    let scratch = Scratch::new();
    let source = Server::start(&scratch.folder("source"));
    let target = Server::start(&scratch.folder("target"));
    let repository = RemoteRepository {
        address: source.address(),
        repository: FROM,
    };
    let image = version(1);
    repository.push_image(Some("v1"), &image);
    let config = br#"{"layers":[]}"#;
    repository.push_blob(config);
    let layers = image.compressed();
    let mut listed: Vec<_> = layers
        .iter()
        .map(|layer| seed::descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer))
        .collect();
    let config_type = "application/vnd.buildkit.cacheconfig.v0";
    listed.push(seed::descriptor(config_type, config));
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": seed::OCI_INDEX, "manifests": listed,
    });
    let index = index.to_string();
    let expected = repository.push_manifest("buildcache", seed::OCI_INDEX, index.as_bytes());
    let without_head = without_head(source.address());
    let imgsync = Imgsync::new(&scratch.folder("home"));
    imgsync
        .mirror(
            &[],
            &format!("{}/{FROM}", without_head.address()),
            &format!("{}/{TO}", target.address()),
        )
        .succeeded();
    let found = find_digest(target.address(), TO, "buildcache");
    assert_eq!(found, Some(expected));
    let remote = format!("{}/{TO}:buildcache", target.address());
    let mut inspect = imgsync.command();
    let outcome = run(inspect.args(["inspect", &remote])).succeeded();
    assert_eq!(outcome.stdout.matches("(a blob)").count(), 4, "{outcome}");
}
