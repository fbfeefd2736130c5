//! What the pull-through cache keeps, with the real server: a full one lets go of the right images
//! while it serves, a stock registry's proxy volume is gone on with, and memory stays small.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::Duration;

use crate::support::bytes::Sum;
use crate::support::cache::{age, publish};
use crate::support::http::{Reply, get};
use crate::support::prelude::*;
use crate::support::seed::Place;
use crate::support::store::blob_data;
use crate::support::upstream::Published;

const HOUR: Duration = Duration::from_secs(3600);

/// A cache of an upstream called `up.example`, with more in its section, as `, key: value`.
fn cache(scratch: &Scratch, upstream: SocketAddr, more: &str) -> Server {
    let root = scratch.path("registry");
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
         imgsync: {{cache: {{upstreams: [{{prefix: up.example, remoteurl: 'http://{upstream}'}}]{more}}}}}\n"
    );
    std::fs::write(scratch.path("config.yml"), config).unwrap();
    Server::configured(&scratch.path("config.yml"), &root)
}

/// An image whose first layer others have too.
fn image(seed: u64) -> Image {
    Image::new(vec![
        layer("shared", noise(1000, 200_000)),
        layer("own", noise(seed, 300_000)),
    ])
}

/// Pulls an image as a client does, and checks every byte.
fn pull(address: SocketAddr, repository: &str, published: &Published) {
    let manifest = get(address, &format!("/v2/{repository}/manifests/v1"));
    assert_eq!(manifest.status, 200, "{repository}: {}", manifest.text());
    assert!(manifest.body == published.manifest, "{repository}");
    for (name, bytes) in &published.blobs {
        let reply = get(address, &format!("/v2/{repository}/blobs/{name}"));
        assert_eq!(reply.status, 200, "{repository}: {}", reply.text());
        assert!(reply.body == *bytes, "{repository}: {name} has other bytes");
    }
}

fn is_here(root: &Path, digest: &str) -> bool {
    blob_data(root, digest).exists()
}

#[test]
fn a_full_cache_lets_go_of_the_oldest_and_serves_everything_meanwhile() {
    let upstream = Upstream::start();
    let scratch = Scratch::new();
    let here = |number: usize| format!("up.example/team/app{number}");
    let images: Vec<_> = (0..6)
        .map(|number| upstream.put(&format!("team/app{number}"), "v1", &image(number as u64)))
        .collect();
    let mut server = cache(&scratch, upstream.address(), "");
    let root = server.root().to_owned();
    let all = |server: &Server| {
        for (number, published) in images.iter().enumerate() {
            pull(server.address(), &here(number), published);
        }
    };
    all(&server);
    // Ours has a layer that was fetched as well, and alone more bytes than the cache may have.
    let large = Image::new(vec![
        layer("shared", noise(1000, 200_000)),
        layer("own", noise(50, 3_000_000)),
    ]);
    let (address, repository) = (server.address(), "team/ours");
    Place {
        address,
        repository,
    }
    .image(Some("v1"), &large);
    let ours = Upstream::start().put("ours", "v1", &large);
    pull(server.address(), "team/ours", &ours);

    // The first was used longest ago. There is room for three, with the layer that they share.
    let backdate = || {
        for number in 0..6 {
            age(
                &root,
                &here(number),
                HOUR * (6 - u32::try_from(number).unwrap()),
            );
        }
    };
    assert!(server.stop().success());
    backdate();
    upstream.behave(|manners| manners.is_down = true);
    server = cache(&scratch, upstream.address(), ", maxbytes: 1100kB");
    until("the oldest to go", || {
        (!is_here(&root, &images[2].blobs[1].0)).then_some(())
    });
    let (old, new) = images.split_at(3);
    for (number, published) in old.iter().enumerate() {
        assert!(!is_here(&root, &published.blobs[1].0), "{number}");
        assert!(!is_here(&root, &published.digest), "{number}");
        let gone = get(
            server.address(),
            &format!("/v2/{}/manifests/v1", here(number)),
        );
        gone.refused(502, "UNAVAILABLE");
    }
    for (number, published) in new.iter().enumerate() {
        pull(server.address(), &here(number + 3), published);
    }
    pull(server.address(), "team/ours", &ours);
    // What went comes again.
    upstream.behave(|manners| manners.is_down = false);
    all(&server);

    // Nearly everything has to go, while all of it is asked for.
    assert!(server.stop().success());
    backdate();
    server = cache(
        &scratch,
        upstream.address(),
        ", maxbytes: 1kB, freshness: 0",
    );
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    all(&server);
                    pull(server.address(), "team/ours", &ours);
                }
            });
        }
    });
    upstream.behave(|manners| manners.is_down = true);
    // What was just used stays, whatever the bound.
    all(&server);
    pull(server.address(), "team/ours", &ours);
}

#[test]
fn an_image_that_is_evicted_while_others_are_pulled_breaks_no_pull() {
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
    let wanted = upstream.put("team/wanted", "v1", &image(99));
    let mut server = cache(&scratch, upstream.address(), "");
    for (name, published) in names.iter().zip(&old) {
        pull(server.address(), &format!("up.example/{name}"), published);
    }
    assert!(server.stop().success());
    for name in &names {
        age(server.root(), &format!("up.example/{name}"), HOUR);
    }
    server = cache(&scratch, upstream.address(), ", maxbytes: 1kB");
    let root = server.root().to_owned();
    // Cold pulls of one that shares a layer with all that go, until they are gone.
    let left = || {
        old.iter()
            .filter(|it| is_here(&root, &it.blobs[1].0))
            .count()
    };
    let mut rounds = 0;
    until("all the old ones to go", || {
        pull(server.address(), "up.example/team/wanted", &wanted);
        rounds += 1;
        (left() == 0).then_some(())
    });
    let first = &format!("up.example/{}", names[0]);
    pull(server.address(), first, &old[0]);
    pull(server.address(), "up.example/team/wanted", &wanted);
    eprintln!("{rounds} pulls meanwhile");
}

#[test]
fn a_stock_registrys_proxy_volume_is_gone_on_with() {
    if !present(&["docker-registry", "skopeo"]) {
        return;
    }
    let scratch = Scratch::new();
    let hub_root = scratch.folder("hub");
    let mut hub = StockRegistry::start(&hub_root);
    let relay = Relay::start(hub.address(), Cut::Never);
    let put = |hub: &StockRegistry, tag: &str, image: &Image| {
        publish(
            &scratch,
            image,
            false,
            &format!("{}/library/app:{tag}", hub.address()),
        )
    };
    let (first, second) = (
        put(&hub, "latest", &image(60)),
        put(&hub, "other", &image(61)),
    );

    // Debian's as people run it, with two images pulled through.
    let root = scratch.folder("registry");
    let remote = format!("proxy: {{remoteurl: 'http://{}'}}\n", relay.address());
    let mut stock = StockRegistry::configured(&root, "", "", &remote);
    for tag in ["latest", "other"] {
        let folder = scratch.folder(&format!("by-stock-{tag}"));
        skopeo::pull(stock.address(), &format!("library/app:{tag}"), &folder);
    }
    // It writes down what it fetched every few seconds.
    until("its notes", || {
        let notes = std::fs::read_to_string(root.join("scheduler-state.json")).ok()?;
        (notes.contains(&first) && notes.contains(&second)).then_some(())
    });
    stock.stop();

    // Ours, with its file and folder, and the upstream dead.
    hub.stop();
    let mut server = Server::configured(&stock.config(), &root);
    assert!(
        server
            .log()
            .contains("imported the cache of a stock registry"),
        "{}",
        server.log()
    );
    let served = |server: &Server, tag: &str, digest: &str| -> Reply {
        let reply = get(
            server.address(),
            &format!("/v2/library/app/manifests/{tag}"),
        );
        assert_eq!(reply.status, 200, "{tag}: {}", reply.text());
        assert_eq!(reply.header("docker-content-digest"), Some(digest), "{tag}");
        let manifest = reply.json();
        let layers = manifest["layers"].as_array().unwrap();
        for blob in layers.iter().chain([&manifest["config"]]) {
            let named = blob["digest"].as_str().unwrap();
            let blob = get(server.address(), &format!("/v2/library/app/blobs/{named}"));
            assert_eq!(bytes::digest(&blob.body), named);
        }
        reply
    };
    for (tag, digest) in [("latest", &first), ("other", &second)] {
        let stale = served(&server, tag, digest);
        assert!(stale.header("warning").is_some(), "{tag} is stale");
    }
    // It takes a push all the same.
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

    // The upstream is back: what did not change is asked for by HEAD, and what did is fetched.
    hub = StockRegistry::start(&hub_root);
    let changed = put(&hub, "latest", &image(63));
    relay.forward_to(hub.address());
    assert!(server.stop().success());
    server = Server::configured(&stock.config(), &root);
    let before = relay.requests().len();
    assert_eq!(served(&server, "other", &second).header("warning"), None);
    let asked: Vec<_> = relay.requests()[before..]
        .iter()
        .filter(|request| request.target.contains("/manifests/") || request.reads_blob())
        .map(|request| format!("{} {}", request.method, request.target))
        .collect();
    assert_eq!(asked, ["HEAD /v2/library/app/manifests/other"]);
    served(&server, "latest", &changed);
    let found = get(server.address(), "/v2/team/app/manifests/v1");
    assert_eq!(found.header("docker-content-digest"), Some(&*pushed));
    assert_eq!(found.header("warning"), None);
}

/// Reads a blob bit by bit, and yields its digest.
fn digest_of(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(120));
    stream.set_read_timeout(patience).unwrap();
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
    let (mut sum, mut buffer) = (Sum::default(), vec![0; 1 << 18]);
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
    let relay = Relay::start(upstream.address(), Cut::Never);
    let place = Place {
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
    // Both as layers of one image.
    let mut manifest = parts[0].clone();
    let second = parts[1]["layers"][0].clone();
    manifest["layers"].as_array_mut().unwrap().push(second);
    let manifest = manifest.to_string();
    let media_type = parts[0]["mediaType"].as_str().unwrap();
    place.manifest("v1", media_type, manifest.as_bytes());

    let server = cache(&scratch, relay.address(), "");
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
                // As clients do, several at a time; and not all in the same order.
                std::thread::scope(|scope| {
                    for at in 0..layers.len() {
                        let layer = &layers[(at + puller) % layers.len()];
                        let named = layer["digest"].as_str().unwrap().to_owned();
                        scope.spawn(move || {
                            let target = format!("/v2/up.example/team/app/blobs/{named}");
                            assert_eq!(digest_of(address, &target), named);
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
