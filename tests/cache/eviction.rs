//! Tests eviction in the pull-through cache, the takeover of a stock registry's proxy folder, and
//! memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::Duration;

use crate::support::bytes::DigestBuilder;
use crate::support::cache::{age_cached, push_image};
use crate::support::http::{Response, get};
use crate::support::prelude::*;
use crate::support::seed::RemoteRepository;
use crate::support::store::blob_path;
use crate::support::upstream::PublishedImage;

const HOUR: Duration = Duration::from_secs(3600);

/// Starts a cache of an upstream with the prefix `up.example`. `extra_config` is added to the
/// section `cache`, as `, key: value`.
fn start_cache(scratch: &Scratch, upstream: SocketAddr, extra_config: &str) -> Server {
    let root = scratch.path("registry");
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
         imgsync: {{cache: {{upstreams: [{{prefix: up.example, remoteurl: 'http://{upstream}'}}]{extra_config}}}}}\n"
    );
    std::fs::write(scratch.path("config.yml"), config).unwrap();
    Server::start_configured(&scratch.path("config.yml"), &root)
}

/// Returns an image whose first layer is shared with all others.
fn image(seed: u64) -> Image {
    Image::new(vec![
        layer("shared", noise(1000, 200_000)),
        layer("own", noise(seed, 300_000)),
    ])
}

/// Pulls an image and checks every byte.
fn pull(address: SocketAddr, repository: &str, published: &PublishedImage) {
    let manifest = get(address, &format!("/v2/{repository}/manifests/v1"));
    assert_eq!(manifest.status, 200, "{repository}: {}", manifest.text());
    assert!(manifest.body == published.manifest, "{repository}");
    for (name, bytes) in &published.blobs {
        let reply = get(address, &format!("/v2/{repository}/blobs/{name}"));
        assert_eq!(reply.status, 200, "{repository}: {}", reply.text());
        assert!(reply.body == *bytes, "{repository}: {name} has wrong bytes");
    }
}

/// Returns whether the blob is on the server's disk.
fn is_stored(root: &Path, digest: &str) -> bool {
    blob_path(root, digest).exists()
}

#[test]
fn a_full_cache_evicts_the_oldest_images_and_still_serves_all() {
    let upstream = Upstream::start();
    let scratch = Scratch::new();
    let repository_of = |number: usize| format!("up.example/team/app{number}");
    let images: Vec<_> = (0..6)
        .map(|number| upstream.put(&format!("team/app{number}"), "v1", &image(number as u64)))
        .collect();
    let mut server = start_cache(&scratch, upstream.address(), "");
    let root = server.root().to_owned();
    let pull_all = |server: &Server| {
        for (number, published) in images.iter().enumerate() {
            pull(server.address(), &repository_of(number), published);
        }
    };
    pull_all(&server);
    // The pushed image shares a layer with cached ones, and is alone larger than the cache may be.
    let large = Image::new(vec![
        layer("shared", noise(1000, 200_000)),
        layer("own", noise(50, 3_000_000)),
    ]);
    let (address, repository) = (server.address(), "team/ours");
    RemoteRepository {
        address,
        repository,
    }
    .push_image(Some("v1"), &large);
    let pushed = Upstream::start().put("ours", "v1", &large);
    pull(server.address(), "team/ours", &pushed);

    // The first image was used longest ago. There is space for three, with the layer that they
    // share.
    let backdate = || {
        for number in 0..6 {
            age_cached(
                &root,
                &repository_of(number),
                HOUR * (6 - u32::try_from(number).unwrap()),
            );
        }
    };
    assert!(server.stop().success());
    backdate();
    upstream.configure(|settings| settings.is_down = true);
    server = start_cache(&scratch, upstream.address(), ", maxbytes: 1100kB");
    let (old, new) = images.split_at(3);
    // The blobs of an image are deleted one after the other, in no fixed order.
    wait_until("the oldest images to be evicted", || {
        let is_stored = |published: &PublishedImage| {
            is_stored(&root, &published.blobs[1].0) || is_stored(&root, &published.digest)
        };
        (!old.iter().any(is_stored)).then_some(())
    });
    for (number, published) in old.iter().enumerate() {
        assert!(!is_stored(&root, &published.blobs[1].0), "{number}");
        assert!(!is_stored(&root, &published.digest), "{number}");
        let evicted = get(
            server.address(),
            &format!("/v2/{}/manifests/v1", repository_of(number)),
        );
        evicted.assert_error(502, "UNAVAILABLE");
    }
    for (number, published) in new.iter().enumerate() {
        pull(server.address(), &repository_of(number + 3), published);
    }
    pull(server.address(), "team/ours", &pushed);
    // Evicted images are fetched again.
    upstream.configure(|settings| settings.is_down = false);
    pull_all(&server);

    // Nearly everything must be evicted while all images are pulled, and only one image fits.
    assert!(server.stop().success());
    backdate();
    server = start_cache(
        &scratch,
        upstream.address(),
        ", maxbytes: 600kB, freshness: 0",
    );
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    pull_all(&server);
                    pull(server.address(), "team/ours", &pushed);
                }
            });
        }
    });
    upstream.configure(|settings| settings.is_down = true);
    // Images that were used just now are never evicted, and the others were not stored.
    let stored = images.iter().enumerate().filter(|(_, image)| {
        let mut blobs = image.blobs.iter();
        blobs.all(|(digest, _)| is_stored(&root, digest))
    });
    let stored: Vec<_> = stored.collect();
    assert!(stored.len() <= 1, "{} images are stored", stored.len());
    for (number, published) in stored {
        pull(server.address(), &repository_of(number), published);
    }
    pull(server.address(), "team/ours", &pushed);
}

#[test]
fn eviction_does_not_break_pulls_of_other_images() {
    const COUNT: u64 = 40;
    let upstream = Upstream::start();
    let scratch = Scratch::new();
    let names: Vec<_> = (0..COUNT)
        .map(|number| format!("team/old{number}"))
        .collect();
    let old: Vec<_> = names
        .iter()
        .zip(100..)
        .map(|(name, seed)| upstream.put(name, "v1", &image(seed)))
        .collect();
    let pulled_image = upstream.put("team/wanted", "v1", &image(99));
    let mut server = start_cache(&scratch, upstream.address(), "");
    for (name, published) in names.iter().zip(&old) {
        pull(server.address(), &format!("up.example/{name}"), published);
    }
    assert!(server.stop().success());
    for name in &names {
        age_cached(server.root(), &format!("up.example/{name}"), HOUR);
    }
    server = start_cache(&scratch, upstream.address(), ", maxbytes: 1kB");
    let root = server.root().to_owned();
    // Pulls an image that shares a layer with all old ones until all of them are evicted.
    let count_stored = || {
        old.iter()
            .filter(|image| is_stored(&root, &image.blobs[1].0))
            .count()
    };
    let mut rounds = 0;
    wait_until("all old images to be evicted", || {
        pull(server.address(), "up.example/team/wanted", &pulled_image);
        rounds += 1;
        (count_stored() == 0).then_some(())
    });
    let first = &format!("up.example/{}", names[0]);
    pull(server.address(), first, &old[0]);
    pull(server.address(), "up.example/team/wanted", &pulled_image);
    eprintln!("{rounds} pulls during the eviction");
}

#[test]
fn the_folder_of_a_stock_registrys_proxy_is_taken_over() {
    if !programs_available(&["docker-registry", "skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let hub_root = scratch.folder("hub");
    let mut hub = StockRegistry::start(&hub_root);
    let relay = Relay::start(hub.address(), RelayFault::None);
    let push = |hub: &StockRegistry, tag: &str, image: &Image| {
        push_image(
            &scratch,
            image,
            false,
            &format!("{}/library/app:{tag}", hub.address()),
        )
    };
    let (first, second) = (
        push(&hub, "latest", &image(60)),
        push(&hub, "other", &image(61)),
    );

    // Debian's stock registry as a proxy, with two images pulled through it.
    let root = scratch.folder("registry");
    let remote = format!("proxy: {{remoteurl: 'http://{}'}}\n", relay.address());
    let mut stock = StockRegistry::start_configured(&root, "", "", &remote);
    for tag in ["latest", "other"] {
        let folder = scratch.folder(&format!("by-stock-{tag}"));
        skopeo::pull(stock.address(), &format!("library/app:{tag}"), &folder);
    }
    // The proxy writes its state every few seconds.
    wait_until("the state of the proxy", || {
        let state = std::fs::read_to_string(root.join("scheduler-state.json")).ok()?;
        (state.contains(&first) && state.contains(&second)).then_some(())
    });
    stock.stop();

    // imgsync-server with the same configuration file and folder, while the upstream is down.
    hub.stop();
    let mut server = Server::start_configured(&stock.config(), &root);
    assert!(
        server
            .log()
            .contains("imported the cache of a stock registry"),
        "{}",
        server.log()
    );
    let served = |server: &Server, tag: &str, digest: &str| -> Response {
        let reply = get(
            server.address(),
            &format!("/v2/library/app/manifests/{tag}"),
        );
        assert_eq!(reply.status, 200, "{tag}: {}", reply.text());
        assert_eq!(reply.header("docker-content-digest"), Some(digest), "{tag}");
        let manifest = reply.json();
        let layers = manifest["layers"].as_array().unwrap();
        for blob in layers.iter().chain([&manifest["config"]]) {
            let blob_digest = blob["digest"].as_str().unwrap();
            let blob = get(
                server.address(),
                &format!("/v2/library/app/blobs/{blob_digest}"),
            );
            assert_eq!(bytes::digest(&blob.body), blob_digest);
        }
        reply
    };
    for (tag, digest) in [("latest", &first), ("other", &second)] {
        let stale = served(&server, tag, digest);
        assert!(stale.header("warning").is_some(), "{tag} is stale");
    }
    // The server accepts a push.
    let layout = scratch.folder("ours");
    archive::write_folder(&image(62).oci_layout("v1"), &layout);
    skopeo::copy(
        &format!("oci:{}:v1", layout.display()),
        &format!("docker://{}/team/app:v1", server.address()),
    );
    let blobs = image(62).compressed();
    let pushed = digest(&image(62).oci_manifest(&blobs));
    let found = get(server.address(), "/v2/team/app/manifests/v1");
    assert_eq!(found.header("docker-content-digest"), Some(&*pushed));

    // The upstream is up again. A HEAD request shows what did not change, and only the rest is
    // fetched.
    hub = StockRegistry::start(&hub_root);
    let changed = push(&hub, "latest", &image(63));
    relay.forward_to(hub.address());
    assert!(server.stop().success());
    server = Server::start_configured(&stock.config(), &root);
    let before = relay.requests().len();
    assert_eq!(served(&server, "other", &second).header("warning"), None);
    let requests: Vec<_> = relay.requests()[before..]
        .iter()
        .filter(|request| request.target.contains("/manifests/") || request.reads_blob())
        .map(|request| format!("{} {}", request.method, request.target))
        .collect();
    assert_eq!(requests, ["HEAD /v2/library/app/manifests/other"]);
    served(&server, "latest", &changed);
    let found = get(server.address(), "/v2/team/app/manifests/v1");
    assert_eq!(found.header("docker-content-digest"), Some(&*pushed));
    assert_eq!(found.header("warning"), None);
}

/// Reads a blob in pieces and returns its digest.
fn digest_of(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let timeout = Some(Duration::from_secs(120));
    stream.set_read_timeout(timeout).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200 "), "{target}: {line}");
    while !line.trim().is_empty() {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    let (mut sum, mut buffer) = (DigestBuilder::default(), vec![0; 1 << 18]);
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            return sum.digest();
        }
        sum = sum.add(&buffer[..count]);
    }
}

#[test]
fn eight_cold_pulls_of_layers_of_200_mb_take_less_than_50_mb_of_memory() {
    let _heavy = serial::heavy();
    let scratch = Scratch::new();
    let upstream = Server::start(&scratch.folder("upstream"));
    let relay = Relay::start(upstream.address(), RelayFault::None);
    let place = RemoteRepository {
        address: upstream.address(),
        repository: "team/app",
    };
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let parts = [200_000_000, 200_000_512].map(|size| {
        let path = scratch.path("large.tar");
        archive::write_large(&path, size, "app:v1");
        let remote = format!("{}/team/app:part", upstream.address());
        let path = path.to_str().unwrap();
        imgsync.push(path, &remote).succeeded();
        let manifest = get(upstream.address(), "/v2/team/app/manifests/part");
        manifest.json()
    });
    // One image with both layers.
    let mut manifest = parts[0].clone();
    let second = parts[1]["layers"][0].clone();
    manifest["layers"].as_array_mut().unwrap().push(second);
    let manifest = manifest.to_string();
    let media_type = parts[0]["mediaType"].as_str().unwrap();
    place.push_manifest("v1", media_type, manifest.as_bytes());

    let server = start_cache(&scratch, relay.address(), "");
    let (start, address) = (Barrier::new(8), server.address());
    std::thread::scope(|scope| {
        for puller in 0..8 {
            let (start, manifest) = (&start, &manifest);
            scope.spawn(move || {
                start.wait();
                let found = get(address, "/v2/up.example/team/app/manifests/v1");
                assert_eq!(found.text(), *manifest);
                let found = found.json();
                let layers = found["layers"].as_array().unwrap();
                // Several layers at a time like real clients, and not all in the same order.
                std::thread::scope(|scope| {
                    for index in 0..layers.len() {
                        let layer = &layers[(index + puller) % layers.len()];
                        let layer_digest = layer["digest"].as_str().unwrap().to_owned();
                        scope.spawn(move || {
                            let target = format!("/v2/up.example/team/app/blobs/{layer_digest}");
                            assert_eq!(digest_of(address, &target), layer_digest);
                        });
                    }
                });
            });
        }
    });
    let peak = server.peak_memory();
    eprintln!("at most {peak} bytes of memory");
    assert!(peak < 50_000_000, "{peak} bytes of memory");
    let reads = relay.requests();
    let reads: Vec<_> = reads
        .iter()
        .filter(|request| request.reads_blob())
        .collect();
    assert_eq!(reads.len(), 2, "{reads:?}");
}
