//! Tests the pull-through cache with logins and real clients and upstreams: Docker's daemon with
//! `registry-mirrors`, podman with a mirror in `registries.conf`, and requests like those of
//! containerd. The upstream is a stock registry or an imgsync-server.

use std::io::Write as _;

use crate::support::cache::{PASSWORD, push_image, start_cache, write_htpasswd};
use crate::support::docker::DockerDaemon;
use crate::support::http::{get, send};
use crate::support::prelude::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

fn login(daemon: &DockerDaemon, registry: &str, password: &str) -> bool {
    let mut command = daemon.command();
    command.args(["login", "--username", "alice", "--password-stdin", registry]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(password.as_bytes()).unwrap();
    drop(stdin);
    child.wait().unwrap().success()
}

#[test]
fn dockers_daemon_pulls_through_its_mirror_and_pushes_to_the_server() {
    if !programs_available(&["docker", "dockerd", "htpasswd"]) {
        return;
    }
    let _docker = serial::docker();
    let hub = Upstream::start();
    let image = Image::new(vec![
        layer("one", noise(1, 3 << 20)),
        layer("two", noise(2, 1 << 20)),
    ]);
    let published = hub.put("library/mirrored", "v1", &image);
    let scratch = Scratch::new();
    let server = start_cache(&scratch, hub.address());
    let registry = server.address().to_string();
    let mirror = format!("--registry-mirror=http://{registry}");
    let Some(daemon) = DockerDaemon::start(&scratch.folder("docker"), &[&mirror]) else {
        return;
    };

    // Docker's daemon sends neither the name of the registry nor a login.
    daemon.docker(&["pull", "mirrored:v1"]);
    let id = |name: &str| daemon.docker(&["image", "inspect", "--format", "{{.Id}}", name]);
    assert_eq!(id("mirrored:v1"), image.id());
    for (digest, _) in &published.blobs {
        assert_eq!(hub.count("GET", digest), 1, "{digest}");
    }

    // Again while the upstream is down, with a login of Docker Hub, which this server does not
    // know.
    daemon.docker(&["image", "rm", "mirrored:v1"]);
    hub.configure(|settings| settings.is_down = true);
    let config = scratch.folder("docker").join("config");
    std::fs::create_dir_all(&config).unwrap();
    let credentials = STANDARD.encode("hubuser:hubpassword");
    let auths =
        format!(r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{credentials}"}}}}}}"#);
    std::fs::write(config.join("config.json"), auths).unwrap();
    daemon.docker(&["pull", "mirrored:v1"]);
    assert_eq!(id("mirrored:v1"), image.id());
    assert!(
        hub.requests()
            .iter()
            .all(|request| request.authorization().is_empty())
    );

    // A push to the same server needs a login.
    let own_image = format!("{registry}/team/app:v1");
    daemon.docker(&["tag", "mirrored:v1", &own_image]);
    let mut push = daemon.command();
    let refused = push.args(["push", &own_image]).output().unwrap();
    assert!(!refused.status.success());
    assert!(!login(&daemon, &registry, "wrong"));
    assert!(login(&daemon, &registry, PASSWORD));
    daemon.docker(&["push", &own_image]);
    daemon.docker(&["image", "rm", &own_image, "mirrored:v1"]);
    daemon.docker(&["pull", &own_image]);
    assert_eq!(id(&own_image), image.id());
}

#[test]
fn podman_pulls_through_a_mirror_of_the_stock_registry_and_pushes_to_the_server() {
    if !programs_available(&["podman", "docker-registry", "htpasswd"]) {
        return;
    }
    let image = Image::new(vec![layer("one", noise(3, 2 << 20))]);
    let scratch = Scratch::new();
    let mut hub = StockRegistry::start(&scratch.folder("stock"));
    let remote = format!("{}/library/mirrored:v1", hub.address());
    push_image(&scratch, &image, false, &remote);
    let server = start_cache(&scratch, hub.address());
    let registry = server.address().to_string();
    let conf = scratch.path("registries.conf");
    let text = format!(
        "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\n\
         location = \"{registry}/docker.io\"\ninsecure = true\n"
    );
    std::fs::write(&conf, text).unwrap();
    let podman = Podman::new();
    let run = |arguments: &[&str]| {
        let mut command = podman.command();
        must(
            command
                .env("CONTAINERS_REGISTRIES_CONF", &conf)
                .args(arguments),
        )
    };
    let mirrored = "docker.io/library/mirrored:v1";
    run(&["pull", mirrored]);
    assert_eq!(podman.id(mirrored), image.id());
    run(&["rmi", mirrored]);
    hub.stop();
    run(&["pull", mirrored]);
    assert_eq!(podman.id(mirrored), image.id());
    assert!(server.log().contains("serving stale answers: docker.io"));

    let own_image = format!("{registry}/team/app:v1");
    run(&["tag", mirrored, &own_image]);
    let target = format!("docker://{own_image}");
    let mut push = podman.command();
    push.args(["push", "--tls-verify=false", &own_image, &target]);
    assert!(!push.output().unwrap().status.success());
    let creds = format!("--creds=alice:{PASSWORD}");
    run(&["push", "--tls-verify=false", &creds, &own_image, &target]);
    run(&["rmi", &own_image, mirrored]);
    run(&["pull", "--tls-verify=false", &creds, &own_image]);
    assert_eq!(podman.id(&own_image), image.id());
}

#[test]
fn containerd_pulls_from_an_imgsync_server_with_logins_behind_the_cache() {
    if !programs_available(&["htpasswd"]) {
        return;
    }
    let image = Image::new(vec![layer("one", noise(4, 1 << 20))]);
    for anonymous in ["", "imgsync: {anonymous: {pull: ['public/**']}}\n"] {
        let scratch = Scratch::new();
        let (users, root) = (write_htpasswd(&scratch), scratch.path("upstream"));
        // With anonymous pulls, the upstream asks for a token, otherwise for the password.
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
             auth: {{htpasswd: {{realm: there, path: {users:?}}}}}\n{anonymous}"
        );
        std::fs::write(scratch.path("upstream.yml"), config).unwrap();
        let upstream = Server::start_configured(&scratch.path("upstream.yml"), &root);
        let remote = format!("{}/team/app:v1", upstream.address());
        let digest = push_image(&scratch, &image, true, &remote);

        let (root, password) = (scratch.path("registry"), scratch.path("password"));
        std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
             imgsync: {{cache: {{upstreams: [{{prefix: registry.corp, remoteurl: 'http://{}', \
             username: alice, passwordfile: {password:?}}}]}}}}\n",
            upstream.address()
        );
        std::fs::write(scratch.path("config.yml"), config).unwrap();
        let cache = Server::start_configured(&scratch.path("config.yml"), &root);
        // Requests like those of containerd if its `hosts.toml` names the cache for registry.corp.
        let ns = "?ns=registry.corp";
        let accept = [("Accept", "application/vnd.oci.image.manifest.v1+json, */*")];
        let target = format!("/v2/team/app/manifests/v1{ns}");
        let resolved = send(cache.address(), "HEAD", &target, &accept, b"");
        assert_eq!(resolved.status, 200);
        assert_eq!(
            resolved.header("docker-content-digest"),
            Some(digest.as_str())
        );
        let manifest = get(
            cache.address(),
            &format!("/v2/team/app/manifests/{digest}{ns}"),
        );
        let manifest = manifest.json();
        let layers = manifest["layers"].as_array().unwrap().iter();
        for blob in layers.chain([&manifest["config"]]) {
            let digest = blob["digest"].as_str().unwrap();
            let reply = get(cache.address(), &format!("/v2/team/app/blobs/{digest}{ns}"));
            assert_eq!(
                (reply.status, bytes::digest(&reply.body).as_str()),
                (200, digest)
            );
        }
    }
}
