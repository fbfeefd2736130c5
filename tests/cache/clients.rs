//! The pull-through cache with more clients that people have, and logins on: containerd with its
//! `hosts.toml`, skopeo, and our own tool, which pulls, mirrors and pushes.

use std::time::Duration;

use crate::support::Containerd;
use crate::support::cache::{
    PASSWORD, age_cached, alice_authorization, push_image, start_cache, start_cache_with,
    tool_as_alice,
};
use crate::support::http::{Response, get, send};
use crate::support::prelude::*;

fn image(seed: u64) -> Image {
    Image::new(vec![
        layer("one", noise(seed, 2 << 20)),
        layer("two", noise(seed + 1, 300_000)),
    ])
}

/// The stock registry with an image.
fn hub(scratch: &Scratch, name: &str, image: &Image) -> (StockRegistry, String) {
    let hub = StockRegistry::start(&scratch.folder("stock"));
    let digest = push_image(scratch, image, false, &format!("{}/{name}", hub.address()));
    (hub, digest)
}

/// What the server itself has under a name, asked for by alice.
fn ours(server: SocketAddr, target: &str) -> Response {
    send(
        server,
        "GET",
        target,
        &[("Authorization", &alice_authorization()), ("Accept", "*/*")],
        b"",
    )
}

#[test]
fn containerd_pulls_through_its_hosts_file_and_pushes_ours() {
    if !programs_available(&["containerd", "ctr", "docker-registry", "htpasswd"]) {
        return;
    }
    let scratch = Scratch::new();
    let (mut hub, digest) = hub(&scratch, "library/mirrored:v1", &image(1));
    let server = start_cache(&scratch, hub.address());
    let registry = server.address().to_string();
    let Some(containerd) = Containerd::start(&scratch.folder("containerd")) else {
        return;
    };
    for upstream in ["docker.io", "ghcr.io"] {
        containerd.mirror(upstream, &registry);
    }
    let login = format!("alice:{PASSWORD}");
    let mirrored = "docker.io/library/mirrored:v1";
    containerd.pull(&[], mirrored);
    assert_eq!(containerd.digest(mirrored), Some(digest.clone()));
    // What is not for everybody takes a login.
    let guarded = "ghcr.io/library/mirrored:v1";
    assert_ne!(containerd.try_pull(&[], guarded).code, Some(0));
    containerd.pull(&["--user", &login], guarded);
    assert_eq!(containerd.digest(guarded), Some(digest.clone()));

    // Once more with the upstream dead; and with the Hub's login, which is none here.
    hub.stop();
    for flags in [&[][..], &["--user", "hubuser:hubpassword"]] {
        containerd.clear();
        containerd.pull(flags, mirrored);
        assert_eq!(containerd.digest(mirrored), Some(digest.clone()));
    }

    // Our own goes to the same server, with a login, which containerd shows when it is asked.
    let named = format!("{registry}/team/app:v1");
    must(
        containerd
            .command()
            .args(["images", "tag", mirrored, &named]),
    );
    let push = |login: &str| {
        let mut command = containerd.command();
        command.args(["images", "push", "--plain-http"]);
        run(command.args(["--user", login, &named]))
    };
    assert_ne!(push("alice:wrong").code, Some(0));
    assert_eq!(
        ours(server.address(), "/v2/team/app/manifests/v1").status,
        404
    );
    push(&login).succeeded();
    let pushed = ours(server.address(), "/v2/team/app/manifests/v1");
    assert_eq!(
        pushed.header("docker-content-digest"),
        Some(digest.as_str())
    );
    containerd.clear();
    containerd.pull(&["--plain-http", "--user", &login], &named);
    assert_eq!(containerd.digest(&named), Some(digest));
}

#[test]
fn what_an_upstream_has_under_the_same_name_is_pushed_all_the_same() {
    if !programs_available(&["docker-registry", "htpasswd"]) {
        return;
    }
    let scratch = Scratch::new();
    let (mut hub, digest) = hub(&scratch, "library/mirrored:v1", &image(5));
    let with_logins = start_cache(&scratch, hub.address());
    let root = scratch.path("open");
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
         imgsync: {{cache: {{upstreams: [{{prefix: docker.io, remoteurl: 'http://{}'}}]}}}}\n",
        hub.address()
    );
    std::fs::write(scratch.path("open.yml"), config).unwrap();
    let open = Server::start_configured(&scratch.path("open.yml"), &root);
    let source = format!("oci:{}", scratch.path("layout").display());
    let there = format!("{}/library/mirrored", hub.address());
    for server in [&with_logins, &open] {
        // Anyone who asks the mirror finds it.
        let at = server.address();
        let mirrored = get(at, "/v2/library/mirrored/manifests/v1?ns=docker.io");
        assert_eq!(mirrored.header("docker-content-digest"), Some(&*digest));
        must(tool_as_alice(&scratch).args(["push", &source, &format!("{at}/library/mirrored:v1")]));
        let list = ours(at, "/v2/library/mirrored/tags/list").json();
        assert_eq!(list["tags"], serde_json::json!(["v1"]));
        must(tool_as_alice(&scratch).args(["mirror", &there, &format!("{at}/library/mirrored")]));
        must(tool_as_alice(&scratch).args(["mirror", &there, &format!("{at}/library/other")]));
    }
    hub.stop();
    for server in [&with_logins, &open] {
        for name in ["mirrored", "other"] {
            let target = format!("/v2/library/{name}/manifests/v1");
            let found = ours(server.address(), &target);
            assert_eq!(found.header("docker-content-digest"), Some(&*digest));
            assert_eq!(found.header("warning"), None, "{name} is the mirror's");
            for layer in found.json()["layers"].as_array().unwrap() {
                let named = layer["digest"].as_str().unwrap();
                let target = format!("/v2/library/{name}/blobs/{named}");
                let blob = ours(server.address(), &target);
                assert_eq!(bytes::digest(&blob.body), named);
            }
        }
    }
}

#[test]
fn requests_as_containerd_makes_them() {
    if !programs_available(&["htpasswd"]) {
        return;
    }
    let hub = Upstream::start();
    let published = hub.put("library/nginx", "v1", &image(10));
    let scratch = Scratch::new();
    let server = start_cache(&scratch, hub.address());
    let accept = "application/vnd.docker.distribution.manifest.v2+json, \
        application/vnd.docker.distribution.manifest.list.v2+json, \
        application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";
    let agent = ("User-Agent", "containerd/1.6.20");
    let ask = |method: &str, target: &str, more: &[(&str, &str)]| {
        let headers = [&[("Accept", accept), agent], more].concat();
        send(server.address(), method, target, &headers, b"")
    };
    // Resolved by HEAD, then fetched by digest; who asks for the Hub needs no login.
    let manifest = |name: &str, ns: &str| format!("/v2/library/nginx/manifests/{name}?ns={ns}");
    let head = ask("HEAD", &manifest("v1", "docker.io"), &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    let digest = head.header("docker-content-digest");
    assert_eq!(digest, Some(published.digest.as_str()));
    let length = published.manifest.len().to_string();
    assert_eq!(head.header("content-length"), Some(length.as_str()));
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    assert_eq!(head.header("content-type"), Some(media_type));
    let got = ask("GET", &manifest(&published.digest, "docker.io"), &[]);
    assert_eq!((got.status, &got.body), (200, &published.manifest));
    // A fetch that broke off goes on in the middle, of a blob that is not here yet.
    let (name, bytes) = &published.blobs[0];
    let blob = format!("/v2/library/nginx/blobs/{name}?ns=docker.io");
    let part = ask("GET", &blob, &[("Range", "bytes=1000-")]);
    let range = format!("bytes 1000-{}/{}", bytes.len() - 1, bytes.len());
    assert_eq!(
        (part.status, part.header("content-range")),
        (206, Some(&*range))
    );
    assert!(part.body == bytes[1000..]);
    assert!(ask("GET", &blob, &[]).body == *bytes);
    assert_eq!(hub.count("GET", name), 1);

    // What needs a login is asked for with the name in the challenge, or the one without prefix.
    let guarded = manifest("v1", "ghcr.io");
    let refused = ask("HEAD", &guarded, &[]);
    let challenge = refused.header("www-authenticate").unwrap().to_owned();
    let scope = "repository:ghcr.io/library/nginx:pull";
    assert_eq!(refused.status, 401);
    assert!(
        challenge.contains(&format!("scope=\"{scope}\"")),
        "{challenge}"
    );
    let both = format!("{scope}&scope=repository:library/nginx:pull");
    for scope in [scope, &both] {
        let target = format!("/v2/_imgsync/token?service=here&scope={scope}");
        let token = |login: &[(&str, &str)]| {
            let reply = ask("GET", &target, login);
            format!("Bearer {}", reply.json()["token"].as_str().unwrap())
        };
        let of_alice = token(&[("Authorization", &alice_authorization())]);
        let known = ask("HEAD", &guarded, &[("Authorization", &of_alice)]);
        assert_eq!(known.status, 200);
        let of_nobody = token(&[]);
        let unknown = ask("HEAD", &guarded, &[("Authorization", &of_nobody)]);
        assert_eq!(unknown.status, 401);
    }
    // Without ns it means what this server has itself.
    let plain = ask("HEAD", "/v2/library/nginx/manifests/v1", &[]);
    assert_eq!(plain.status, 401);
    for request in hub.requests() {
        assert!(!request.target.contains("ns="), "{request:?}");
        assert_eq!(request.authorization(), "");
    }
}

#[test]
fn skopeo_inspects_and_copies_by_the_name_in_full() {
    if !programs_available(&["skopeo", "docker-registry", "htpasswd"]) {
        return;
    }
    let scratch = Scratch::new();
    let (mut hub, digest) = hub(&scratch, "library/mirrored:v1", &image(20));
    let server = start_cache(&scratch, hub.address());
    let at = server.address();
    let check = |round: &str| {
        for name in ["docker.io/library/mirrored:v1", "docker.io/mirrored:v1"] {
            let inspected = skopeo::inspect(at, name);
            assert_eq!(inspected["Digest"], *digest, "{inspected}");
            assert_eq!(inspected["RepoTags"], serde_json::json!(["v1"]));
        }
        let folder = scratch.folder(round);
        skopeo::pull(at, "docker.io/library/mirrored:v1", &folder);
        let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
        assert_eq!(bytes::digest(&manifest), digest);
    };
    check("warm");
    hub.stop();
    check("dead");

    // From behind the upstream's name to one of ours, which takes a login.
    let copy = |login: &str, name: &str| {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--src-tls-verify=false"]);
        command.args(["--dest-tls-verify=false", "--dest-creds", login]);
        command.arg(format!("docker://{at}/docker.io/library/mirrored:v1"));
        run(command.arg(format!("docker://{at}/{name}")))
    };
    assert_ne!(copy("alice:wrong", "team/app:v1").code, Some(0));
    copy(&format!("alice:{PASSWORD}"), "team/app:v1").succeeded();
    let pushed = ours(at, "/v2/team/app/manifests/v1");
    assert_eq!(pushed.header("docker-content-digest"), Some(&*digest));
    let anonymous = get(at, "/v2/team/app/manifests/v1");
    assert_eq!(anonymous.status, 401);
}

#[test]
fn our_tool_mirrors_and_pulls_from_a_cache_also_with_its_upstream_dead() {
    if !programs_available(&["docker", "docker-registry", "htpasswd"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let image = image(30);
    let (mut hub, digest) = hub(&scratch, "library/mirrored:v1", &image);
    let server = start_cache(&scratch, hub.address());
    let other = StockRegistry::start(&scratch.folder("other"));
    let from = format!("{}/docker.io/library/mirrored", server.address());
    let tool = |words: &[&str]| {
        must(
            Imgsync::new(&scratch.folder("nobody"))
                .command()
                .args(words),
        )
    };
    let mirror = |name: &str| {
        let target = format!("{}/{name}", other.address());
        // Whether anything speaks about an image, only its upstream can tell.
        let said = tool(&["mirror", "--referrers", "none", &from, &target]);
        let found = get(other.address(), &format!("/v2/{name}/manifests/v1"));
        assert_eq!(
            found.header("docker-content-digest"),
            Some(&*digest),
            "{said}"
        );
    };
    let local = DockerImage::existing(format!("{}:v1", unique("cache")));
    let pull = || {
        tool(&["pull", &format!("{from}:v1"), local.reference()]);
        assert_eq!(local.id(), image.id());
    };
    mirror("cold");
    hub.stop();
    mirror("cold");
    mirror("dead");
    pull();
}

#[test]
fn what_is_pushed_on_top_of_a_cached_image_outlives_that() {
    if !programs_available(&["docker", "docker-registry", "htpasswd"]) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let (mut hub, _) = hub(&scratch, "library/base:v1", &image(40));
    let mut server = start_cache(&scratch, hub.address());
    // A container of an image that came through the cache, with one file more.
    let base = DockerImage::pull(format!("{}/docker.io/library/base:v1", server.address()));
    let app = DockerImage::existing(format!("{}:v1", unique("cache")));
    let container = docker(&["create", base.reference()]);
    std::fs::write(scratch.path("more"), noise(42, 100_000)).unwrap();
    let more = scratch.path("more").display().to_string();
    docker(&["cp", &more, &format!("{container}:/more")]);
    docker(&["commit", &container, app.reference()]);
    docker(&["rm", &container]);

    let remote = format!("{}/team/app:v1", server.address());
    let outcome =
        run(tool_as_alice(&scratch).args(["push", "-v", app.reference(), &remote])).succeeded();
    for layer in ["layer 1/3", "layer 2/3"] {
        let had = format!("{layer}: already there");
        assert!(outcome.stderr.contains(&had), "{outcome}");
    }
    // The base by another name of ours, mounted as other clients do it.
    let by_alice = alice_authorization();
    let headers = [
        ("Authorization", by_alice.as_str()),
        ("Content-Type", "application/vnd.oci.image.manifest.v1+json"),
    ];
    let from = "docker.io/library/base";
    let cached = get(server.address(), &format!("/v2/{from}/manifests/v1"));
    for named in blobs(&cached) {
        let target = format!("/v2/team/base/blobs/uploads/?mount={named}&from={from}");
        let mounted = send(server.address(), "POST", &target, &headers, b"");
        assert_eq!(mounted.status, 201, "{}", mounted.text());
    }
    // What is all ours, byte for byte, takes no room in the cache, and need not go.
    let mut manifest = cached.json();
    manifest["annotations"] = serde_json::json!({"of": "ours"});
    let (target, manifest) = ("/v2/team/base/manifests/v1", manifest.to_string());
    let put = send(
        server.address(),
        "PUT",
        target,
        &headers,
        manifest.as_bytes(),
    );
    assert_eq!(put.status, 201, "{}", put.text());
    let names = ["app", "base"].map(|name| format!("team/{name}"));
    let at = |name: &str| format!("/v2/{name}/manifests/v1");
    let manifests = names
        .each_ref()
        .map(|name| ours(server.address(), &at(name)));

    // The base goes: it was used long ago, and the cache is full.
    assert!(server.stop().success());
    hub.stop();
    age_cached(
        server.root(),
        "docker.io/library/base",
        Duration::from_secs(3600),
    );
    server = start_cache_with(&scratch, hub.address(), ", maxbytes: 1");
    wait_until("the base to be evicted", || {
        server
            .log()
            .contains("evicted from the cache")
            .then_some(())
    });
    wait_until("its tag to be gone", || {
        let reply = get(server.address(), "/v2/docker.io/library/base/manifests/v1");
        (reply.status == 502).then_some(())
    });
    for (name, manifest) in names.iter().zip(manifests) {
        let found = ours(server.address(), &at(name));
        assert_eq!((found.status, &found.body), (200, &manifest.body));
        for named in blobs(&found) {
            let reply = ours(server.address(), &format!("/v2/{name}/blobs/{named}"));
            let found = digest(&reply.body);
            assert_eq!((reply.status, found), (200, named), "{name}");
        }
    }
}

/// What a manifest names.
fn blobs(manifest: &Response) -> Vec<String> {
    let manifest = manifest.json();
    let layers = manifest["layers"].as_array().unwrap();
    let all = layers.iter().chain([&manifest["config"]]);
    all.map(|blob| blob["digest"].as_str().unwrap().to_owned())
        .collect()
}
