//! What a push puts aside outlives it: a daemon is not asked twice for the same export, a layer is
//! not compressed twice, and a small disk is told of in numbers.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says what it skips"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;
use support::archive::{Entry, tar_of, write_tar};
use support::bytes::{digest, noise};
use support::fake::{Fake, status};
use support::framing::Request;
use support::peers::present;
use support::run::{Outcome, run, until};
use support::{
    Cut, Image, Imgsync, Relay, Scratch, Server, SmallDisk, StockRegistry, check, http, image,
};

const SOURCE: i32 = 3;
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// A server, and the tool with a home of its own.
struct Stage {
    server: Server,
    /// What goes to the server goes through here.
    relay: Relay,
    imgsync: Imgsync,
    home: PathBuf,
    /// Last, for it goes last: the server must be dead by then.
    scratch: Scratch,
}

impl Stage {
    fn new() -> Self {
        let scratch = Scratch::new();
        let home = scratch.folder("home");
        Self::at(scratch, home)
    }

    fn at(scratch: Scratch, home: PathBuf) -> Self {
        let server = Server::start(&scratch.folder("root"));
        Self {
            relay: Relay::start(server.address(), Cut::Never),
            server,
            imgsync: Imgsync::new(&home),
            home,
            scratch,
        }
    }

    fn spool(&self) -> PathBuf {
        self.home.join("cache/imgsync/spool")
    }

    /// The files in the spool, with their sizes in bytes.
    fn spooled(&self) -> Vec<(PathBuf, u64)> {
        files(&self.spool())
    }

    fn remote(&self, name: &str) -> String {
        format!("{}/{name}:v1", self.relay.address())
    }

    fn written(&self, name: &str, entries: &[Entry]) -> PathBuf {
        let path = self.scratch.path(name);
        write_tar(entries, &path);
        path
    }

    /// Runs a push and kills it when it has sent so many bytes.
    fn killed(&self, mut command: Command, image: &str, name: &str, bytes: u64) {
        let relay = &self.relay;
        let bytes = sent(&relay.requests()) + bytes;
        let child = Arc::new(Mutex::new(None::<std::process::Child>));
        let victim = Arc::clone(&child);
        // Before the first byte, so that the moment is not missed.
        relay.after(bytes, move || {
            until("the push that is to be killed", || {
                let mut victim = victim.lock().unwrap();
                victim
                    .as_mut()
                    .map(|child| child.kill().expect("a child of ours"))
            });
        });
        // Slow enough to be in the middle then.
        command.args(["push", "--limit-rate", "4MiB", "--chunk-size", "256KiB"]);
        command.args([image, &self.remote(name)]);
        let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        *child.lock().unwrap() = Some(started.expect("imgsync starts"));
        let ended = until("the end of the push", || {
            let mut child = child.lock().unwrap();
            child.as_mut().unwrap().try_wait().expect("a child of ours")
        });
        assert_eq!(ended.code(), None, "killed in the middle");
    }

    /// Pushes to the end.
    fn push(&self, mut command: Command, image: &str, name: &str) -> Outcome {
        command.args(["push", image, &self.remote(name)]);
        run(&mut command)
    }

    fn found(&self, name: &str) -> check::Found {
        check::at_registry(self.server.address(), &format!("{name}:v1"))
    }
}

fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path, entry.metadata().expect("a file").len())),
        }
    }
    found
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn sent(requests: &[Request]) -> u64 {
    let writes = requests.iter().filter(|request| request.writes_blob());
    writes.map(|request| request.body).sum()
}

/// Three layers, and a small one that stays in memory where it can.
fn large_and_small(seed: u64) -> Image {
    let layers = (seed..seed + 3).map(|seed| image::layer("data", noise(seed, 3_000_000)));
    let small = image::layer("small", noise(seed, 30_000));
    Image::new(layers.chain([small]).collect())
}

/// A daemon with one image. What an export consists of is decided for each anew.
struct Daemon {
    fake: Fake,
}

impl Daemon {
    fn start(
        inspected: serde_json::Value,
        export: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let count = Mutex::new(0);
        let fake = Fake::start(move |request| {
            let line = request.line();
            if line.ends_with("/info") {
                status(200).body("{}")
            } else if line.ends_with("/json") {
                status(200).body(inspected.to_string())
            } else if line.ends_with("/get") {
                let mut count = count.lock().unwrap();
                *count += 1;
                status(200).body(export(*count))
            } else {
                status(404)
            }
        });
        Self { fake }
    }

    /// With a classic store.
    fn classic(image: &Image) -> Self {
        let export = tar_of(&image.docker_archive("app:v1"));
        Self::start(classic(image), move |_| export.clone())
    }

    /// With containerd's store: layers come compressed, and go as they are.
    fn containerd(image: &Image) -> Self {
        Self::layout(containerd(image), image.oci_layout("v1"))
    }

    /// The same, with another layout to export.
    fn layout(inspected: serde_json::Value, mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let export = tar_of(&entries);
        Self::start(inspected, move |_| export.clone())
    }

    fn exports(&self) -> usize {
        let lines = self.fake.lines();
        lines.iter().filter(|line| line.ends_with("/get")).count()
    }

    /// The tool, on this daemon; without a scheme, as Docker's own client takes it.
    fn command(&self, imgsync: &Imgsync) -> Command {
        let mut command = imgsync.command();
        command.env("DOCKER_HOST", self.fake.address());
        command
    }
}

fn classic(image: &Image) -> serde_json::Value {
    let diff_ids: Vec<_> = image.layers.iter().map(|layer| digest(layer)).collect();
    json!({
        "Id": image.id(), "RepoTags": ["app:v1"], "Os": "linux", "Architecture": "amd64",
        "Size": image.layers.iter().map(Vec::len).sum::<usize>(),
        "RootFS": {"Type": "layers", "Layers": diff_ids},
    })
}

fn containerd(image: &Image) -> serde_json::Value {
    let manifest = digest(&image.oci_manifest(&image.compressed()));
    rooted(image, MANIFEST_TYPE, &manifest)
}

fn rooted(image: &Image, media_type: &str, root: &str) -> serde_json::Value {
    let mut inspected = classic(image);
    inspected["Id"] = json!(root);
    inspected["Descriptor"] = json!({"mediaType": media_type, "digest": root});
    inspected
}

/// As containerd's store has an image that was loaded: its layers are not compressed.
fn loaded(image: &Image) -> Daemon {
    let manifest = image.oci_manifest(&image.layers);
    let manifest = String::from_utf8(manifest)
        .expect("JSON")
        .replace("+gzip", "");
    let blobs = image.layers.iter().chain([&image.config]);
    let entries = image::layout(manifest.as_bytes(), blobs, "v1");
    let root = digest(manifest.as_bytes());
    Daemon::layout(rooted(image, MANIFEST_TYPE, &root), entries)
}

/// As containerd's store has an image for two platforms.
fn indexed(images: &[Image; 2]) -> Daemon {
    let mut entries = Vec::new();
    let mut children = Vec::new();
    for (image, architecture) in images.iter().zip(["amd64", "arm64"]) {
        let layers = image.compressed();
        let manifest = image.oci_manifest(&layers);
        let blobs = layers.iter().chain([&image.config, &manifest]);
        entries.extend(blobs.map(|bytes| Entry::new(image::blob_name(bytes), bytes.clone())));
        children.push(json!({
            "mediaType": MANIFEST_TYPE, "digest": digest(&manifest), "size": manifest.len(),
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": children});
    let index = index.to_string();
    entries.push(Entry::new(
        image::blob_name(index.as_bytes()),
        index.clone(),
    ));
    let root = digest(index.as_bytes());
    Daemon::layout(rooted(&images[0], INDEX_TYPE, &root), entries)
}

/// Killed while uploading, then run again: nothing is exported or sent twice, and nothing stays.
fn assert_goes_on(stage: &Stage, daemon: &Daemon, name: &str) {
    let command = || daemon.command(&stage.imgsync);
    stage.killed(command(), "app:v1", name, 5_000_000);
    assert_eq!(daemon.exports(), 1);
    let spooled = stage.spooled();
    assert!(!spooled.is_empty());
    if name == "classic" {
        let mut dry = command();
        dry.args(["push", "--dry-run", "app:v1", &stage.remote(name)]);
        let plan = run(&mut dry).succeeded().stdout;
        assert!(
            plan.contains("kept from an earlier run: send ") && !plan.contains("compress"),
            "{plan}"
        );
        assert_eq!(stage.spooled(), spooled);
    }
    let outcome = stage.push(command(), "app:v1", name).succeeded();
    assert_eq!(daemon.exports(), 1, "{outcome}");
    let size = stage.found(name).size();
    let requests = stage.relay.requests();
    let path = format!("/v2/{name}/");
    let own = requests
        .into_iter()
        .filter(|it| it.target.starts_with(&path));
    let own: Vec<_> = own.collect();
    // Of each open upload the chunk that was on its way.
    let broken = own.iter().filter(|request| !request.complete);
    let wasted: u64 = broken.filter_map(|request| request.announced).sum();
    let sent = sent(&own);
    assert!(
        sent <= size + wasted,
        "{sent} sent of {size}, {wasted} lost"
    );
    assert_eq!(stage.spooled(), [], "{outcome}");
}

#[test]
fn a_killed_push_from_a_daemon_goes_on_without_another_export() {
    let stage = Stage::new();
    let image = large_and_small(10);
    assert_goes_on(&stage, &Daemon::classic(&image), "classic");
    assert_eq!(stage.found("classic").config, image.id());
    let image = large_and_small(20);
    assert_goes_on(&stage, &Daemon::containerd(&image), "stored");
    assert_eq!(stage.found("stored").config, image.id());
    let image = large_and_small(180);
    assert_goes_on(&stage, &loaded(&image), "loaded");
    assert_eq!(stage.found("loaded").config, image.id());
    let images = [large_and_small(190), large_and_small(200)];
    assert_goes_on(&stage, &indexed(&images), "indexed");
    assert_eq!(stage.found("indexed").children.len(), 2);
}

/// All layers as they come, and one of them packed: so much is on the disk at a time.
#[test]
fn a_raw_layer_gives_its_room_back_once_it_is_packed() {
    let Some(disk) = SmallDisk::mount("14m") else {
        return;
    };
    let stage = Stage::at(Scratch::new(), disk.folder("home"));
    let image = large_and_small(210);
    let daemon = Daemon::classic(&image);
    let outcome = stage.push(daemon.command(&stage.imgsync), "app:v1", "app");
    outcome.succeeded();
    assert_eq!(stage.found("app").config, image.id());
    assert_eq!(stage.spooled(), []);
}

#[test]
fn what_was_damaged_in_the_spool_is_found_out_and_read_anew() {
    let stage = Stage::new();
    for (name, image) in [
        ("classic", large_and_small(30)),
        ("stored", large_and_small(40)),
    ] {
        let daemon = match name {
            "classic" => Daemon::classic(&image),
            _ => Daemon::containerd(&image),
        };
        let command = || daemon.command(&stage.imgsync);
        stage.killed(command(), "app:v1", name, 5_000_000);
        let spooled = stage.spooled();
        assert!(!spooled.is_empty());
        for (path, len) in spooled {
            let mut bytes = std::fs::read(&path).expect("a spool file");
            bytes[len as usize / 2] ^= 1;
            std::fs::write(&path, bytes).expect("a spool file");
        }
        let outcome = stage.push(command(), "app:v1", name);
        outcome.succeeded();
        assert_eq!(daemon.exports(), 2);
        assert_eq!(stage.found(name).config, image.id());
        assert_eq!(stage.spooled(), []);
    }
}

/// The second export lacks the first layer's bytes: whoever needed them again would fail.
#[test]
fn layers_of_an_export_that_broke_off_are_kept() {
    let stage = Stage::new();
    let image = large_and_small(50);
    let whole = tar_of(&image.docker_archive("app:v1"));
    let mut spoilt = image.clone();
    spoilt.layers[0].fill(0);
    let spoilt = tar_of(&spoilt.docker_archive("app:v1"));
    let daemon = Daemon::start(classic(&image), move |count| match count {
        1 => whole[..5_000_000].to_vec(),
        _ => spoilt.clone(),
    });
    let outcome = stage.push(daemon.command(&stage.imgsync), "app:v1", "app");
    outcome.failed(SOURCE, &["error: source", "cut short"]);
    let outcome = stage.push(daemon.command(&stage.imgsync), "app:v1", "app");
    outcome.succeeded();
    assert_eq!(daemon.exports(), 2);
    assert_eq!(stage.found("app").config, image.id());
    assert_eq!(stage.spooled(), []);
}

#[test]
fn two_pushes_from_one_daemon_at_once_do_not_hurt_one_another() {
    let stage = Stage::new();
    let image = large_and_small(60);
    let daemon = Daemon::classic(&image);
    let mut pushes = ["one", "two"].map(|name| {
        let mut command = daemon.command(&stage.imgsync);
        command.args(["push", "app:v1", &stage.remote(name)]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.expect("imgsync starts")
    });
    for push in &mut pushes {
        assert!(push.wait().expect("a child of ours").success());
    }
    for name in ["one", "two"] {
        assert_eq!(stage.found(name).config, image.id());
    }
    assert_eq!(stage.spooled(), []);
}

/// The text of a disk that is too small, and what makes way before it comes to that.
#[test]
fn a_full_spool_disk_is_told_in_numbers_after_leftovers_have_made_way() {
    let Some(disk) = SmallDisk::mount("16m") else {
        return;
    };
    let stage = Stage::at(Scratch::new(), disk.folder("home"));
    let leftover = stage.written(
        "leftover.tar",
        &large_and_small(70).docker_archive("left:v1"),
    );
    stage.killed(stage.imgsync.command(), text(&leftover), "left", 5_000_000);
    let left = stage.spooled();
    let size: u64 = left.iter().map(|(_, len)| len).sum();
    assert!(size > 3_000_000, "{left:?}");

    let fits = Image::new(vec![image::layer("data", noise(80, 13_000_000))]);
    let path = stage.written("fits.tar", &fits.docker_archive("fits:v1"));
    stage
        .imgsync
        .push(text(&path), &stage.remote("fits"))
        .succeeded();
    assert_eq!(stage.found("fits").config, fits.id());
    // It took the room of some.
    assert!(stage.spooled().len() < left.len(), "{left:?}");

    let large = Image::new(vec![image::layer("data", noise(90, 25_000_000))]);
    let path = stage.written("large.tar", &large.docker_archive("large:v1"));
    let folder = stage.spool();
    let words = [
        "error: source",
        "the disk is full",
        "MB or more are needed in",
        text(&folder),
        "are free there",
        "hint: make room",
    ];
    let outcome = stage.imgsync.push(text(&path), &stage.remote("large"));
    outcome.failed(SOURCE, &words);
    assert_eq!(stage.spooled(), []);

    // Of an export the size is known before it is asked for: about, of all of it; of single
    // layers in it exactly.
    let daemon = Daemon::classic(&large);
    let outcome = stage.push(daemon.command(&stage.imgsync), "app:v1", "large");
    outcome.failed(SOURCE, &["MB or more are needed in", "are free there"]);
    assert_eq!(daemon.exports(), 0);
    let daemon = Daemon::containerd(&large);
    let outcome = stage.push(daemon.command(&stage.imgsync), "app:v1", "large");
    let needed = large.compressed()[0].len() as f64 / 1e6;
    let needed = format!("{needed:.1} MB or more are needed in");
    outcome.failed(SOURCE, &["error: source", &needed, "are free there"]);
    assert_eq!(stage.spooled(), []);
}

/// An export that ends behind the last blob, and one that ends in it.
#[test]
fn an_export_is_read_no_further_than_needed() {
    let stage = Stage::new();
    let image = large_and_small(170);
    let mut entries = image.oci_layout("v1");
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let is_blob = |entry: &&Entry| entry.name.starts_with("blobs/");
    let blobs: Vec<_> = entries.iter().filter(is_blob).cloned().collect();
    assert!(blobs.len() < entries.len(), "the index comes last");
    // Without the two blocks of zeros at the end.
    let needed = tar_of(&blobs).len() - 1024;
    for (name, len, is_enough) in [("enough", needed, true), ("short", needed - 2048, false)] {
        let export = tar_of(&entries)[..len].to_vec();
        let daemon = Daemon::start(containerd(&image), move |_| export.clone());
        let outcome = stage.push(daemon.command(&stage.imgsync), "app:v1", name);
        if is_enough {
            outcome.succeeded();
            assert_eq!(stage.found(name).config, image.id());
        } else {
            outcome.failed(SOURCE, &["error: source", "cut short"]);
        }
    }
}

/// The same image under the names that engines give to its layers.
fn flavours(image: &Image) -> Vec<Vec<Entry>> {
    let plain = image.docker_archive("app:v1");
    let renamed = |name: &dyn Fn(&[u8]) -> String| {
        let names: Vec<_> = image.layers.iter().map(|layer| name(layer)).collect();
        let mut entries: Vec<_> = names
            .iter()
            .zip(&image.layers)
            .map(|(name, layer)| Entry::new(name.clone(), layer.clone()))
            .collect();
        entries.push(Entry::new(image::CONFIG, image.config.clone()));
        let manifest = image::archive_manifest("app:v1", &names);
        entries.push(Entry::new("manifest.json", manifest));
        entries
    };
    let docker25 = renamed(&|layer| image::blob_name(layer));
    let podman = renamed(&|layer| format!("{}.tar", digest(layer).replace("sha256:", "")));
    vec![plain, docker25, podman, image.oci_layout("v1")]
}

#[test]
fn of_an_archive_on_standard_input_nothing_is_kept_that_the_target_holds() {
    let Some(disk) = SmallDisk::mount("2m") else {
        return;
    };
    let stage = Stage::at(Scratch::new(), disk.folder("home"));
    let roomy = Imgsync::new(&stage.scratch.folder("roomy"));
    for at in 0..4 {
        // Each is new to the server, which finds a layer in any of its repositories.
        let image = large_and_small(100 + 10 * at as u64);
        let path = stage.written("image.tar", &flavours(&image)[at]);
        let name = format!("flavour{at}");
        let remote = stage.remote(&name);
        // Without a single layer at the target it does not fit.
        let outcome = stage.imgsync.push_file_on_stdin(&path, &remote);
        outcome.failed(SOURCE, &["the disk is full", "are free there"]);
        roomy.push(text(&path), &remote).succeeded();
        // Our server computes diffIDs in the background.
        until("a push that keeps nothing", || {
            let outcome = stage.imgsync.push_file_on_stdin(&path, &remote);
            (outcome.code == Some(0)).then_some(())
        });
        assert_eq!(stage.found(&name).config, image.id());
        assert_eq!(stage.spooled(), []);
    }
}

/// The image under the tag says which layers the registry has.
#[test]
fn another_registry_is_asked_too_what_need_not_be_kept() {
    if !present(&["docker-registry"]) {
        return;
    }
    let Some(disk) = SmallDisk::mount("2m") else {
        return;
    };
    let scratch = Scratch::new();
    let mut stock = StockRegistry::start(&scratch.folder("root"));
    let image = large_and_small(220);
    for (at, entries) in flavours(&image).iter().enumerate() {
        let path = scratch.path("image.tar");
        write_tar(entries, &path);
        let remote = format!("{}/flavour{at}:v1", stock.address());
        let roomy = Imgsync::new(&scratch.folder("roomy"));
        roomy.push(text(&path), &remote).succeeded();
        let small = Imgsync::new(&disk.folder(&format!("home{at}")));
        let outcome = small.push_file_on_stdin(&path, &remote).succeeded();
        assert!(outcome.stdout.contains(": sent 0 B"), "{outcome}");
        check::at_registry(stock.address(), &format!("flavour{at}:v1"));
    }
    stock.stop();
}

/// In the second stream the layers that were packed are others of the same size.
#[test]
fn a_killed_push_of_standard_input_goes_on_with_what_it_packed() {
    let stage = Stage::new();
    let image = large_and_small(150);
    let docker25 = flavours(&image).swap_remove(1);
    let path = stage.written("image.tar", &docker25);
    let mut command = stage.imgsync.command();
    command.stdin(std::fs::File::open(&path).expect("an archive"));
    let bytes = 5_000_000;
    stage.killed(command, "-", "app", bytes);
    let packed = stage.spooled();
    let packed = |entry: &Entry| {
        let hex = entry.name.rsplit('/').next().unwrap();
        packed.iter().any(|(path, _)| {
            let path = path.display().to_string();
            path.contains("imgsync-gzip-1") && path.ends_with(hex)
        })
    };
    let mut spoilt = docker25.clone();
    let mut count = 0;
    // Small ones are read in any case.
    let is_large = |entry: &&mut Entry| entry.bytes.len() > 1_000_000;
    for entry in spoilt.iter_mut().filter(is_large) {
        if packed(entry) {
            entry.bytes.fill(0);
            count += 1;
        }
    }
    assert!(count > 0);
    let path = stage.written("spoilt.tar", &spoilt);
    let remote = stage.remote("app");
    stage.imgsync.push_file_on_stdin(&path, &remote).succeeded();
    assert_eq!(stage.found("app").config, image.id());
    assert_eq!(stage.spooled(), []);
}

#[test]
fn an_image_without_layers_goes_from_everywhere() {
    let stage = Stage::new();
    let image = Image::new(Vec::new());
    for (name, daemon) in [
        ("classic", Daemon::classic(&image)),
        ("stored", Daemon::containerd(&image)),
    ] {
        let outcome = stage.push(daemon.command(&stage.imgsync), "app:v1", name);
        outcome.succeeded();
        assert_eq!(stage.found(name).config, image.id());
    }
    let path = stage.written("image.tar", &image.docker_archive("app:v1"));
    let remote = stage.remote("archive");
    let plan = stage
        .imgsync
        .push_with(&["--dry-run"], text(&path), &remote);
    let plan = plan.succeeded().stdout;
    assert!(plan.contains("the image has no layers"), "{plan}");
    stage.imgsync.push(text(&path), &remote).succeeded();
    assert_eq!(stage.found("archive").config, image.id());
}

/// As Docker's classic store has it.
#[test]
fn an_image_without_layers_that_a_daemon_does_not_export_is_explained() {
    let stage = Stage::new();
    let inspected = classic(&Image::new(Vec::new())).to_string();
    let fake = Fake::start(move |request| match request.line().rsplit('/').next() {
        Some("info") => status(200).body("{}"),
        Some("json") => status(200).body(inspected.clone()),
        _ => status(500).body(r#"{"message":"empty export - not implemented"}"#),
    });
    let mut command = stage.imgsync.command();
    command.env("DOCKER_HOST", format!("tcp://{}", fake.address()));
    let outcome = stage.push(command, "app:v1", "app");
    let words = [
        "an image without layers",
        "not implemented",
        "hint: let the build",
    ];
    outcome.failed(SOURCE, &words);
}

#[test]
fn a_dry_run_tells_what_it_can_without_an_export() {
    let stage = Stage::new();
    let image = large_and_small(160);
    let daemon = Daemon::containerd(&image);
    let plan = |tags: &[&str]| {
        let mut command = daemon.command(&stage.imgsync);
        command.args(["push", "--dry-run"]).args(tags);
        command.args(["app:v1", &stage.remote("app")]);
        run(&mut command).succeeded().stdout
    };
    let before = plan(&["--tag", "latest", "--tag", "v1.2"]);
    assert!(before.contains("is not there"), "{before}");
    assert!(before.contains("only by exporting"), "{before}");
    assert!(before.contains("tagged too: latest, v1.2"), "{before}");
    assert_eq!(before.matches("layer ").count(), 4, "{before}");
    assert_eq!(daemon.exports(), 0);
    assert_eq!(stage.spooled(), []);
    let tags = http::get(stage.server.address(), "/v2/app/tags/list");
    assert_eq!(tags.status, 404, "{}", tags.text());

    let outcome = stage.push(daemon.command(&stage.imgsync), "app:v1", "app");
    outcome.succeeded();
    let after = plan(&[]);
    assert!(after.contains("v1 names the manifest sha256:"), "{after}");
    assert!(after.contains("send 0 B"), "{after}");
    assert_eq!(daemon.exports(), 1);
}

/// What cannot be kept is no reason not to push: a cache is a hint, and the spool a convenience.
#[test]
fn a_cache_that_cannot_be_written_stops_no_push() {
    let stage = Stage::new();
    let image = large_and_small(900);
    let path = stage.written("image.tar", &image.docker_archive("app:v1"));
    let file = stage.scratch.path("no folder");
    std::fs::write(&file, "").unwrap();
    let command = || {
        let mut command = stage.imgsync.command();
        command.env("XDG_CACHE_HOME", file.join("cache"));
        command
    };
    for _ in ["everything", "nothing is missing"] {
        let outcome = stage.push(command(), text(&path), "app").succeeded();
        let told = "nothing can be kept in";
        assert_eq!(outcome.stderr.matches(told).count(), 1, "{outcome}");
    }
    assert_eq!(stage.found("app").config, image.id());
}
