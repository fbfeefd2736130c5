//! Tests pushes of rebuilt layers: only a delta is sent, and the registry gets the bytes of a full
//! push.

mod answers;
mod compressed;
mod fallbacks;
mod kills;

use serde_json::Value;

use crate::support::layer_pairs::{self, LayerPair};
use crate::support::prelude::*;

/// A rate at which deltas are made, whatever the rate of the last push was.
const LIMITED: [&str; 2] = ["--limit-rate", "6MB"];

/// A server behind a relay, and the tool of a user who pushes there again and again.
struct DeltaFixture {
    server: Server,
    relay: Relay,
    home: PathBuf,
    /// Dropped last: the server must have stopped before its folder is deleted.
    scratch: Scratch,
}

/// The result of a push, from its JSON.
struct PushResult {
    outcome: Outcome,
    events: Vec<Value>,
}

impl DeltaFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let server = Server::start(&scratch.folder("root"));
        Self {
            relay: Relay::start(server.address(), RelayFault::None),
            home: scratch.folder("home"),
            server,
            scratch,
        }
    }

    fn remote(&self, name: &str) -> String {
        format!("{}/{name}", self.relay.address())
    }

    /// Returns the command `imgsync` of a user with this home folder, whose spool keeps layers.
    fn command(home: &Path) -> Command {
        let mut command = Imgsync::new(home).command();
        command.env("IMGSYNC_KEEP_LAYERS", "500MB");
        command
    }

    fn push(&self, options: &[&str], image: &Path, name: &str) -> PushResult {
        self.push_as(&self.home, options, image, name)
    }

    fn push_as(&self, home: &Path, options: &[&str], image: &Path, name: &str) -> PushResult {
        let mut command = Self::command(home);
        command.args(["push", "--json"]).args(LIMITED).args(options);
        let outcome = run(command.arg(image).arg(self.remote(name)));
        PushResult::of(outcome)
    }

    /// Writes an archive of `docker save` with these layers.
    fn archive(&self, name: &str, layers: &[&[u8]]) -> PathBuf {
        let image = Image::new(layers.iter().map(|layer| layer.to_vec()).collect());
        let path = self.scratch.path(&format!("{name}.tar"));
        archive::write_tar(&image.docker_archive("app:v1"), &path);
        path
    }

    /// Pushes an archive to an empty server, whole. Returns the digest of the manifest.
    fn push_whole(&self, image: &Path) -> String {
        let scratch = Scratch::new();
        let server = Server::start(&scratch.folder("root"));
        let imgsync = Imgsync::new(&scratch.folder("home"));
        let remote = format!("{}/app:v1", server.address());
        let image = image.to_str().expect("a path in UTF-8");
        imgsync
            .push_with(&["--no-delta"], image, &remote)
            .succeeded();
        check::at_registry(server.address(), "app:v1").manifest
    }

    /// Panics unless the image is what a full push makes of it. Checks every digest.
    fn check_image(&self, name: &str, image: &Path) {
        let stored = check::at_registry(self.server.address(), name);
        assert_eq!(stored.manifest, self.push_whole(image), "{name}");
    }

    /// Returns the files in the spool.
    fn spooled(&self) -> Vec<PathBuf> {
        let spool = self.home.join("cache/imgsync/spool");
        let files = archive::read_folder(&spool);
        files.iter().map(|file| spool.join(&file.name)).collect()
    }
}

impl PushResult {
    fn of(outcome: Outcome) -> Self {
        let outcome = outcome.succeeded();
        let lines = outcome.stdout.lines();
        let events = lines.map(|line| serde_json::from_str(line).expect("JSON"));
        let events = events.collect();
        Self { outcome, events }
    }

    fn events(&self, name: &str) -> Vec<&Value> {
        let events = self.events.iter();
        events.filter(|event| event["event"] == name).collect()
    }

    fn sent(&self) -> u64 {
        self.events("outcome")[0]["sent"]
            .as_u64()
            .expect("a number")
    }

    /// Returns the sizes of the deltas.
    fn deltas(&self) -> Vec<u64> {
        let deltas = self.events("delta");
        let sizes = deltas.iter().map(|delta| delta["sent"].as_u64());
        sizes.map(|size| size.expect("a number")).collect()
    }

    fn has_note(&self, words: &str) -> bool {
        let notes = self.events("note");
        let texts = notes.iter().filter_map(|note| note["text"].as_str());
        texts.into_iter().any(|text| text.contains(words))
    }
}

/// Returns a pair of layers of two megabytes that compress to more than one, of which little changes.
fn small_pair() -> LayerPair {
    LayerPair {
        name: "compiled Python",
        old: layer_pairs::compiled_python(false, 400),
        new: layer_pairs::compiled_python(true, 400),
    }
}

/// Every kind of layer at once, from a machine with the old layers and from one without.
#[test]
fn of_rebuilt_layers_only_a_part_is_sent() {
    let fixture = DeltaFixture::new();
    let pairs = layer_pairs::all();
    for pair in &pairs {
        eprintln!("{}: {} bytes", pair.name, pair.new.len());
    }
    let old: Vec<&[u8]> = pairs.iter().map(|pair| &*pair.old).collect();
    let new: Vec<&[u8]> = pairs.iter().map(|pair| &*pair.new).collect();
    let (old, new) = (fixture.archive("old", &old), fixture.archive("new", &new));
    let first = fixture.push(&[], &old, "app:v1");
    assert!(first.deltas().is_empty(), "{}", first.outcome);
    let other = fixture.scratch.folder("other");
    let without = fixture.push_as(&other, &[], &new, "app:v2");
    fixture.check_image("app:v2", &new);
    assert_eq!(without.deltas().len(), 2, "{}", without.outcome);
    let fresh = DeltaFixture::new();
    fresh.push(&[], &old, "app:v1");
    let with = fresh.push(&[], &new, "app:v2");
    fresh.check_image("app:v2", &new);
    assert_eq!(with.deltas().len(), 4, "{}", with.outcome);
    assert!(with.sent() < without.sent() / 10, "{}", with.outcome);
    for pushed in [&without, &with] {
        let saved = pushed.events("outcome")[0]["saved"].as_u64();
        assert!(saved > Some(3_900_000), "{}", pushed.outcome);
    }
    // Another push has nothing to do.
    let again = fresh.push(&[], &new, "app:v2");
    assert_eq!(again.sent(), 0, "{}", again.outcome);
}

#[test]
fn a_delta_is_announced_and_summed_up() {
    let fixture = DeltaFixture::new();
    let pair = small_pair();
    let old = fixture.archive("old", &[&pair.old]);
    let new = fixture.archive("new", &[&pair.new]);
    fixture.push(&[], &old, "app:v1");
    let mut command = DeltaFixture::command(&fixture.home);
    command.args(["push", "--dry-run"]).args(LIMITED);
    let plan = run(command.arg(&new).arg(fixture.remote("app:v2"))).succeeded();
    let base = digest(&pair.old);
    let base = &base["sha256:".len()..][..12];
    let expected = format!("as a delta against layer {base} of v1 if that is smaller");
    assert!(plan.stdout.contains(&expected), "{plan}");

    let mut command = DeltaFixture::command(&fixture.home);
    command.args(["push", "--verbose"]).args(LIMITED);
    let pushed = run(command.arg(&new).arg(fixture.remote("app:v2"))).succeeded();
    let layer = digest(&pair.new);
    let layer = &layer["sha256:".len()..][..12];
    for words in [
        format!("layer {layer}: delta against layer {base} of v1"),
        format!("delta of layer {layer}: sent "),
        "MB, based on v1".to_owned(),
    ] {
        assert!(pushed.stderr.contains(&words), "{words}: {pushed}");
    }
    fixture.check_image("app:v2", &new);
}

/// The tag itself has moved on: its image is the earlier version.
#[test]
fn a_moved_tag_is_its_own_base() {
    let fixture = DeltaFixture::new();
    let pair = small_pair();
    let base = layer("base", noise(1, 300_000));
    let old = fixture.archive("old", &[&base, &pair.old]);
    let new = fixture.archive("new", &[&base, &pair.new]);
    fixture.push(&[], &old, "app:latest");
    let pushed = fixture.push(&[], &new, "app:latest");
    assert_eq!(pushed.deltas().len(), 1, "{}", pushed.outcome);
    fixture.check_image("app:latest", &new);
    let delta = pushed.events("delta")[0];
    assert_eq!(delta["tag"], "latest");
    assert!(delta["instead"].as_u64() > Some(1_000_000), "{delta}");
    // The delta is not left behind; the layers are.
    let spooled = fixture.spooled();
    assert_eq!(spooled.len(), 2, "{spooled:?}");
    let is_layer = |path: &PathBuf| path.to_string_lossy().contains("imgsync-gzip-1");
    assert!(spooled.iter().all(is_layer), "{spooled:?}");
}
