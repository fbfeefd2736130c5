//! Tests `imgsync pull` into a Docker whose images are in containerd's store.

use super::{PullFixture, blobs_read, for_platform};
use crate::support::DockerSocketProxy;
use crate::support::docker::DockerDaemon;
use crate::support::prelude::*;
use crate::support::seed::{OCI_INDEX, RemoteRepository, index_with_attestation};

/// A Docker whose images are in containerd's store, with a server and the tool.
struct StoreFixture {
    engine: DockerDaemon,
    base: PullFixture,
}

impl StoreFixture {
    /// Returns `None` if there is no such Docker.
    fn new() -> Option<Self> {
        if !programs_available(&["docker"]) {
            return None;
        }
        let base = PullFixture::new();
        let folder = base.scratch.folder("docker");
        let engine = DockerDaemon::start_with_containerd_store(&folder)?;
        Some(Self { engine, base })
    }

    fn pull(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.base.imgsync.command();
        command.env("DOCKER_HOST", self.engine.address());
        run(command.arg("pull").args(arguments))
    }

    fn id(&self, name: &str) -> String {
        let inspect = ["image", "inspect", "--format", "{{.Id}}", name];
        self.engine.docker(&inspect)
    }

    fn names(&self) -> Vec<String> {
        let list = ["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"];
        let list = self.engine.docker(&list);
        list.lines().map(str::to_owned).collect()
    }

    /// Waits until the store has exactly these blobs. Containerd deletes what nothing refers to, as
    /// the index of a loaded archive, a moment later.
    fn wait_for_content(&self, expected: &BTreeSet<String>) {
        wait_until(&format!("the content {expected:?}"), || {
            (self.engine.content() == *expected).then_some(())
        });
    }

    /// Pushes an image of the engine's platform and another one, with an attestation. All versions
    /// share a layer and the attestation.
    fn push_version(&self, tag: &str) -> Version {
        let repository = RemoteRepository {
            address: self.base.server.address(),
            repository: "team/app",
        };
        let version = ["version", "--format", "{{.Server.Arch}}"];
        let architecture = self.engine.docker(&version);
        let number = tag.bytes().map(u64::from).sum();
        let images = [&*architecture, "s390x"].map(|name| for_platform(number, name));
        let push = |image: &Image| repository.push_image(None, image);
        let manifests = images.each_ref().map(push);
        let statement = Image::new(vec![layer("sbom", noise(5, 20_000))]);
        let attestation = push(&statement);
        let own = format!("linux/{architecture}");
        let platforms = [(&*own, &*manifests[0]), ("linux/s390x", &*manifests[1])];
        let index = index_with_attestation(&platforms, &attestation, &manifests[0]);
        let digests = |image: &Image| -> Vec<_> {
            image.compressed().iter().map(|blob| digest(blob)).collect()
        };
        let mut blobs = digests(&statement);
        blobs.push(statement.id());
        Version {
            index: repository.push_manifest(tag, OCI_INDEX, &index),
            manifests: [digest(&manifests[0]), digest(&attestation)],
            config: images[0].id(),
            layers: digests(&images[0]),
            attestation: blobs,
        }
    }
}

/// The digests of what a pull of one version transfers.
struct Version {
    index: String,
    manifests: [String; 2],
    config: String,
    layers: Vec<String>,
    attestation: Vec<String>,
}

#[test]
fn only_what_the_store_lacks_is_pulled_with_the_index_and_the_attestations() {
    let Some(fixture) = StoreFixture::new() else {
        return;
    };
    let [first, second] = ["v1", "v2"].map(|tag| fixture.push_version(tag));
    let relay = Relay::start(fixture.base.server.address(), RelayFault::None);
    let remote = |tag: &str| format!("{}/team/app:{tag}", relay.address());

    // The first pull fetches the platform and its attestation, but not the other platform.
    fixture.pull(&[&remote("v1"), "app:v1"]).succeeded();
    assert_eq!(fixture.id("app:v1"), first.index);
    let of_first = first.layers.iter().chain(&first.attestation);
    let of_first: BTreeSet<_> = of_first.chain([&first.config]).cloned().collect();
    assert_eq!(blobs_read(&relay), of_first);
    let stored = of_first
        .iter()
        .chain(&first.manifests)
        .chain([&first.index]);
    fixture.wait_for_content(&stored.cloned().collect());
    let container = fixture.engine.docker(&["create", "app:v1", "/none"]);
    fixture.engine.docker(&["rm", &container]);

    // Again, and by another name: nothing.
    fixture
        .pull(&["--exit-code", &remote("v1"), "app:v1"])
        .failed(8, &[]);
    fixture.pull(&[&remote("v1"), "other:v1"]).succeeded();
    assert_eq!(fixture.id("other:v1"), first.index);
    assert_eq!(blobs_read(&relay), of_first);

    // Another version: its config and one layer.
    let relay = Relay::start(fixture.base.server.address(), RelayFault::None);
    let remote = |tag: &str| format!("{}/team/app:{tag}", relay.address());
    let preview = fixture
        .pull(&["--dry-run", &remote("v2"), "app:v1"])
        .succeeded();
    assert_eq!(fixture.id("app:v1"), first.index, "{preview}");
    let relay = Relay::start(fixture.base.server.address(), RelayFault::None);
    let remote = |tag: &str| format!("{}/team/app:{tag}", relay.address());
    fixture.pull(&[&remote("v2"), "app:v1"]).succeeded();
    assert_eq!(fixture.id("app:v1"), second.index);
    let changed = [second.config.clone(), second.layers[1].clone()];
    assert_eq!(blobs_read(&relay), BTreeSet::from(changed));

    // The other platform of the same index.
    let for_s390x = ["--platform", "linux/s390x", &remote("v2"), "app:v1"];
    fixture.pull(&for_s390x).succeeded();
    assert_eq!(fixture.id("app:v1"), second.index);
    fixture
        .pull(&["--exit-code", &remote("v2"), "app:v1"])
        .failed(8, &[]);
    let names = fixture.names();
    assert!(
        !names.iter().any(|name| name.contains("imgsync/")),
        "{names:?}"
    );
}

#[test]
fn a_failed_pull_leaves_the_name_and_the_store_as_they_were() {
    let Some(fixture) = StoreFixture::new() else {
        return;
    };
    let upstream = Upstream::start();
    let old = for_platform(1, "amd64");
    upstream.put("team/app", "old", &old);
    let large = layer("large", noise(9, 3_000_000));
    let new = Image::new(vec![layer("small", noise(8, 5_000)), large]);
    upstream.put("team/app", "new", &new);
    let remote = |tag: &str| format!("{}/team/app:{tag}", upstream.address());
    fixture.pull(&[&remote("old"), "app:v1"]).succeeded();
    let old_id = fixture.id("app:v1");
    let old_blobs = old.compressed();
    let manifest = digest(&old.oci_manifest(&old_blobs));
    let stored = old_blobs.iter().map(|blob| digest(blob));
    let content = stored.chain([manifest, old.id()]).collect();
    let assert_same_names = |outcome: &dyn std::fmt::Display| {
        assert_eq!(fixture.id("app:v1"), old_id, "{outcome}");
        assert_eq!(fixture.names(), ["app:v1"], "{outcome}");
    };
    let assert_unchanged = |outcome: &dyn std::fmt::Display| {
        assert_same_names(outcome);
        fixture.wait_for_content(&content);
    };

    // Layers that Docker cannot unpack.
    let mut wrong = new.clone();
    let diff_id = digest(&new.layers[0]);
    let config = String::from_utf8(wrong.config).expect("JSON");
    wrong.config = config.replace(&diff_id, &digest(b"another")).into_bytes();
    upstream.put("team/app", "wrong", &wrong);
    let outcome = fixture.pull(&[&remote("wrong"), "app:v1"]);
    assert_unchanged(&outcome.failed(4, &["target", "rejected the image"]));

    // Bytes that are not those of the digest.
    upstream.configure(|settings| settings.corrupts_content = true);
    let outcome = fixture.pull(&[&remote("new"), "app:v1"]);
    assert_unchanged(&outcome.failed(3, &["source"]));

    // Ctrl-C in the middle of a layer.
    upstream.configure(|settings| {
        settings.corrupts_content = false;
        settings.pause_blob_at = Some(1_000_000);
    });
    upstream.clear_requests();
    let mut command = fixture.base.imgsync.command();
    command.env("DOCKER_HOST", fixture.engine.address());
    command.args(["pull", &remote("new"), "app:v1"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("imgsync starts");
    let large = digest(&new.compressed()[1]);
    wait_until("the large layer", || {
        (upstream.count("GET", &large) > 0).then_some(())
    });
    must(Command::new("kill").args(["-INT", &child.id().to_string()]));
    child.wait().expect("an exit status");
    assert_same_names(&"Ctrl-C");

    // The next run does not fetch what Docker keeps of that for a day. After a broken connection,
    // the layer continues at its offset.
    upstream.configure(|settings| {
        settings.pause_blob_at = None;
        settings.cut_blob_at = Some(1_500_000);
    });
    upstream.clear_requests();
    let outcome = fixture.pull(&[&remote("new"), "app:v1"]).succeeded();
    let manifest = digest(&new.oci_manifest(&new.compressed()));
    assert_eq!(fixture.id("app:v1"), manifest, "{outcome}");
    let small = digest(&new.compressed()[0]);
    assert_eq!(upstream.count("GET", &small), 0, "{outcome}");
    let requests = upstream.requests();
    let ranges = requests
        .iter()
        .filter_map(|request| request.header("range"));
    assert_eq!(ranges.collect::<Vec<_>>(), ["bytes=1500000-"]);
}

#[test]
fn all_blobs_are_sent_if_a_proxy_refuses_the_content_service() {
    let Some(fixture) = StoreFixture::new() else {
        return;
    };
    let version = fixture.push_version("v1");
    let proxy =
        DockerSocketProxy::start_without_grpc(fixture.base.scratch.root(), fixture.engine.socket());
    let remote = format!("{}/team/app:v1", fixture.base.server.address());
    let pull = |options: &[&str]| {
        let mut command = fixture.base.imgsync.command();
        command.env("DOCKER_HOST", proxy.host()).arg("pull");
        run(command.args(options).args([&*remote, "app:v1"]))
    };
    let outcome = pull(&[]).succeeded();
    let note = "sending all layers, because Docker does not tell which it has";
    assert_eq!(outcome.stderr.matches(note).count(), 1, "{outcome}");
    assert!(outcome.stderr.contains("403 Forbidden"), "{outcome}");
    assert_eq!(fixture.id("app:v1"), version.index);
    pull(&["--exit-code"]).failed(8, &[]);
    pull(&["--exit-code", "--platform", "linux/s390x"]).succeeded();
}
