//! Every form that an image may have on this side arrives unharmed: skopeo reads it back, and every
//! digest and diffID agrees.

use crate::support::archive::{Entry, file, read_folder, read_tar};
use crate::support::check::StoredImage;
use crate::support::docker;
use crate::support::prelude::*;
use serde_json::Value;

/// What must arrive, as the source's own files tell it.
#[derive(Debug)]
enum ExpectedImage {
    /// The image's ID; the layers are not compressed, so the manifest is imgsync's own.
    Config(String),
    /// The manifest or index, unchanged.
    Manifest(String),
}

impl ExpectedImage {
    fn of(entries: &[Entry]) -> Self {
        let json = |name: &str| -> Value {
            let bytes = file(entries, name).unwrap_or_else(|| panic!("{name} is missing"));
            serde_json::from_slice(bytes).expect("JSON")
        };
        let blob = |descriptor: &Value| {
            let name = descriptor["digest"].as_str().expect("a digest");
            format!("blobs/{}", name.replace(':', "/"))
        };
        if file(entries, "index.json").is_some() {
            let top = json("index.json")["manifests"][0].clone();
            let manifest = json(&blob(&top));
            let compressed = |layer: &Value| {
                let name = layer["mediaType"].as_str().expect("a media type");
                name.ends_with("gzip") || name.ends_with("zstd")
            };
            let layers = manifest["layers"].as_array();
            if layers.is_none_or(|layers| layers.iter().all(compressed)) {
                return Self::Manifest(top["digest"].as_str().expect("a digest").to_owned());
            }
            let config = &manifest["config"]["digest"];
            return Self::Config(config.as_str().expect("a digest").to_owned());
        }
        let manifest = json("manifest.json");
        let name = manifest[0]["Config"].as_str().expect("the config's name");
        Self::Config(digest(file(entries, name).expect("the config")))
    }

    fn assert(&self, found: &StoredImage, what: &str) {
        match self {
            Self::Config(config) => assert_eq!(&found.config, config, "{what}"),
            Self::Manifest(manifest) => assert_eq!(&found.manifest, manifest, "{what}"),
        }
    }
}

/// A server, the tool, and a count of images: each goes to a repository of its own.
struct FormsFixture {
    server: Server,
    imgsync: Imgsync,
    /// Last, for it goes last: the server must be dead by then.
    scratch: Scratch,
}

impl FormsFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        Self {
            server: Server::start(&scratch.folder("root")),
            imgsync: Imgsync::new(&scratch.folder("home")),
            scratch,
        }
    }

    fn remote(&self, name: &str) -> String {
        format!("{}/{name}:v1", self.server.address())
    }

    /// Pushes, and has skopeo read it back.
    fn push(&self, name: &str, image: &str, expected: &ExpectedImage) -> StoredImage {
        self.imgsync.push(image, &self.remote(name)).succeeded();
        self.read_back(name, expected)
    }

    fn read_back(&self, name: &str, expected: &ExpectedImage) -> StoredImage {
        let tag = format!("{name}:v1");
        let folder = self
            .scratch
            .path(&format!("back-{}", name.replace('/', "-")));
        skopeo::pull(self.server.address(), &tag, &folder);
        let found = check::in_folder(&folder);
        expected.assert(&found, name);
        assert_eq!(check::at_registry(self.server.address(), &tag), found);
        let inspected = skopeo::inspect(self.server.address(), &tag);
        if found.children.is_empty() {
            assert_eq!(inspected["Digest"], *found.manifest, "{name}");
        }
        found
    }
}

fn recorded() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/archives");
    let entries = std::fs::read_dir(folder).expect("the recorded archives");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "tar"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 8, "recorded archives are missing: {paths:?}");
    paths
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn every_recorded_archive_arrives_from_its_path_and_from_standard_input() {
    if !programs_available(&["skopeo"]) {
        return;
    }
    let fixture = FormsFixture::new();
    for path in recorded() {
        let expected = ExpectedImage::of(&read_tar(&path));
        let name = path.file_stem().expect("a name").to_str().expect("a name");
        let from_path = fixture.push(&format!("path/{name}"), text(&path), &expected);

        // Nothing that was learned from the path may help: the bytes come once, front to back.
        fixture.imgsync.clear_cache();
        let on_stdin = format!("stdin/{name}");
        let remote = fixture.remote(&on_stdin);
        fixture
            .imgsync
            .push_file_on_stdin(&path, &remote)
            .succeeded();
        assert_eq!(fixture.read_back(&on_stdin, &expected), from_path, "{name}");
    }
}

#[test]
fn an_image_of_several_platforms_arrives_with_all_its_children() {
    if !programs_available(&["skopeo"]) {
        return;
    }
    let fixture = FormsFixture::new();
    let path = recorded()
        .into_iter()
        .find(|path| text(path).contains("-multi"));
    let path = path.expect("the recorded archive with two platforms");
    let entries = read_tar(&path);
    let expected = ExpectedImage::of(&entries);
    let ExpectedImage::Manifest(digest) = &expected else {
        panic!("an index stays as it is");
    };
    let index = file(&entries, &format!("blobs/{}", digest.replace(':', "/")));
    let index: Value = serde_json::from_slice(index.expect("the index")).expect("JSON");
    let children = index["manifests"].as_array().expect("children").iter();
    let children: Vec<_> = children.map(|child| child["digest"].clone()).collect();
    assert!(
        children.len() >= 4,
        "two platforms, each with an attestation"
    );

    let found = fixture.push("multi", text(&path), &expected);
    assert_eq!(
        serde_json::json!(found.children),
        serde_json::json!(children)
    );
}

#[test]
fn what_docker_saves_arrives_from_a_file_and_through_a_pipe() {
    if !programs_available(&["skopeo", "docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = FormsFixture::new();
    let image = DockerImage::build(&unique("saved"), "v1");
    let expected = ExpectedImage::Config(image.id());
    let file = image.save(fixture.scratch.path("saved.tar"));
    let from_file = fixture.push("file", text(&file), &expected);
    let explicit = format!("docker-archive:{}", text(&file));
    assert_eq!(fixture.push("explicit", &explicit, &expected), from_file);
    let daemon = format!("docker-daemon:{}", image.reference());
    assert_eq!(fixture.push("daemon", &daemon, &expected), from_file);

    fixture.imgsync.clear_cache();
    let mut save = docker::save(image.reference());
    let mut save = save.stdout(Stdio::piped()).spawn().expect("docker save");
    let pipe = save.stdout.take().expect("its output");
    fixture
        .imgsync
        .push_stdin(pipe.into(), &fixture.remote("pipe"))
        .succeeded();
    assert!(save.wait().expect("its end").success());
    assert_eq!(fixture.read_back("pipe", &expected), from_file);
}

#[test]
fn what_podman_saves_arrives() {
    if !programs_available(&["skopeo", "docker", "busybox", "podman"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = FormsFixture::new();
    let image = DockerImage::build(&unique("podman-saved"), "v1");
    let id = image.id();
    let podman = Podman::new();
    podman.load(text(&image.save(fixture.scratch.path("saved.tar"))));
    for format in ["docker-archive", "oci-archive"] {
        let path = fixture.scratch.path(format);
        podman.run(&["save", "--format", format, "--output", text(&path), &id]);
        let expected = ExpectedImage::of(&read_tar(&path));
        let found = fixture.push(format, text(&path), &expected);
        let explicit = format!("{format}:{}", text(&path));
        let again = format!("{format}-explicit");
        assert_eq!(fixture.push(&again, &explicit, &expected), found);
        match format {
            "docker-archive" => assert_eq!(found.config, id),
            // podman writes the config anew, and compresses the layers.
            _ => assert!(
                matches!(expected, ExpectedImage::Manifest(_)),
                "{expected:?}"
            ),
        }
    }
}

#[test]
fn what_skopeo_writes_arrives_from_a_folder_and_from_an_archive() {
    if !programs_available(&["skopeo", "docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = FormsFixture::new();
    let image = DockerImage::build(&unique("skopeo-copied"), "v1");
    let saved = image.save(fixture.scratch.path("saved.tar"));
    let source = format!("docker-archive:{}", text(&saved));

    let folder = fixture.scratch.path("layout");
    skopeo::copy(&source, &format!("oci:{}:v1", text(&folder)));
    let expected = ExpectedImage::of(&read_folder(&folder));
    assert!(
        matches!(expected, ExpectedImage::Manifest(_)),
        "{expected:?}"
    );
    let found = fixture.push("folder", text(&folder), &expected);
    let explicit = format!("oci:{}:v1", text(&folder));
    assert_eq!(fixture.push("folder-explicit", &explicit, &expected), found);

    let path = fixture.scratch.path("layout.tar");
    skopeo::copy(&source, &format!("oci-archive:{}:v1", text(&path)));
    let expected = ExpectedImage::of(&read_tar(&path));
    let found = fixture.push("archive", text(&path), &expected);
    let explicit = format!("oci-archive:{}:v1", text(&path));
    assert_eq!(
        fixture.push("archive-explicit", &explicit, &expected),
        found
    );
}

/// Another program's gzip keeps its bytes, and what imgsync compresses has one digest whatever
/// form it came in.
#[test]
fn compressed_layers_keep_their_digests_and_raw_ones_get_the_same_everywhere() {
    if !programs_available(&["skopeo"]) {
        return;
    }
    let fixture = FormsFixture::new();
    let layers = (0..3).map(|i| layer("data", bytes::mixed(i, 3_000_000)));
    let image = Image::new(layers.collect());

    let folder = fixture.scratch.path("layout");
    archive::write_folder(&image.oci_layout("v1"), &folder);
    let manifest = digest(&image.oci_manifest(&image.compressed()));
    fixture.push("layout", text(&folder), &ExpectedImage::Manifest(manifest));

    let expected = ExpectedImage::Config(image.id());
    let entries = image.docker_archive("app:v1");
    let path = fixture.scratch.path("archive.tar");
    archive::write_tar(&entries, &path);
    let raw = fixture.push("raw", text(&path), &expected);

    fixture.imgsync.clear_cache();
    // The other way round: what names the layers comes first.
    let reversed: Vec<_> = entries.into_iter().rev().collect();
    archive::write_tar(&reversed, &path);
    assert_eq!(fixture.push("reversed", text(&path), &expected), raw);

    let sizes: BTreeSet<_> = raw.blobs.iter().map(|(_, size)| *size).collect();
    let largest = sizes.last().copied().unwrap_or_default();
    assert!(
        largest < 2_500_000,
        "half of each layer compresses away: {sizes:?}"
    );
}
