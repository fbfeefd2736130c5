//! Tests every form of a local image: skopeo reads the pushed image back, and every digest and
//! diffID is checked.

use crate::support::archive::{Entry, file, read_folder, read_tar};
use crate::support::check::StoredImage;
use crate::support::docker;
use crate::support::prelude::*;
use serde_json::Value;

/// The content that the registry must have after the push, computed from the files of the source.
#[derive(Debug)]
enum ExpectedImage {
    /// The digest of the config. The layers are not compressed, so imgsync writes a new manifest.
    Config(String),
    /// The digest of the manifest or index, which must be unchanged.
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

    fn assert(&self, found: &StoredImage, name: &str) {
        match self {
            Self::Config(config) => assert_eq!(&found.config, config, "{name}"),
            Self::Manifest(manifest) => assert_eq!(&found.manifest, manifest, "{name}"),
        }
    }
}

/// A server and the tool. Each image is pushed to its own repository.
struct FormsFixture {
    server: Server,
    imgsync: Imgsync,
    /// Dropped last: the server must have stopped before its folder is deleted.
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

    /// Pushes an image and reads it back with skopeo.
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

fn recorded_archives() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/archives");
    let entries = std::fs::read_dir(folder).expect("the recorded archives");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "tar"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 8, "recorded archives are missing: {paths:?}");
    paths
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn every_recorded_archive_is_pushed_from_a_path_and_from_standard_input() {
    if !programs_available(&["skopeo"]) {
        return;
    }
    let fixture = FormsFixture::new();
    for path in recorded_archives() {
        let expected = ExpectedImage::of(&read_tar(&path));
        let name = path.file_stem().expect("a name").to_str().expect("a name");
        let from_path = fixture.push(&format!("path/{name}"), text(&path), &expected);

        // Without the cache of the first push. Standard input is read only once, from start to end.
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
fn a_multi_platform_image_is_pushed_with_all_children() {
    if !programs_available(&["skopeo"]) {
        return;
    }
    let fixture = FormsFixture::new();
    let path = recorded_archives()
        .into_iter()
        .find(|path| text(path).contains("-multi"));
    let path = path.expect("the recorded archive with two platforms");
    let entries = read_tar(&path);
    let expected = ExpectedImage::of(&entries);
    let ExpectedImage::Manifest(digest) = &expected else {
        panic!("the index must be unchanged");
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
fn the_output_of_docker_save_is_pushed_from_a_file_and_through_a_pipe() {
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
    let pipe = save.stdout.take().expect("its stdout");
    fixture
        .imgsync
        .push_stdin(pipe.into(), &fixture.remote("pipe"))
        .succeeded();
    assert!(save.wait().expect("an exit status").success());
    assert_eq!(fixture.read_back("pipe", &expected), from_file);
}

#[test]
fn the_output_of_podman_save_is_pushed() {
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
            // podman writes a new config and compresses the layers.
            _ => assert!(
                matches!(expected, ExpectedImage::Manifest(_)),
                "{expected:?}"
            ),
        }
    }
}

#[test]
fn layouts_and_archives_of_skopeo_are_pushed() {
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

/// Layers that another program compressed keep their bytes. Layers that imgsync compresses have the
/// same digest for every form of the image.
#[test]
fn compressed_layers_keep_their_digests_and_raw_layers_always_get_the_same_digest() {
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

    // Other layers, because the server offers those of the layout for raw ones, once it knows their
    // diffIDs.
    let layers = (3..6).map(|i| layer("data", bytes::mixed(i, 3_000_000)));
    let image = Image::new(layers.collect());
    let expected = ExpectedImage::Config(image.id());
    let entries = image.docker_archive("app:v1");
    let path = fixture.scratch.path("archive.tar");
    archive::write_tar(&entries, &path);
    let raw = fixture.push("raw", text(&path), &expected);

    fixture.imgsync.clear_cache();
    // In this order, the manifest comes before the layers.
    let reversed: Vec<_> = entries.into_iter().rev().collect();
    archive::write_tar(&reversed, &path);
    assert_eq!(fixture.push("reversed", text(&path), &expected), raw);

    let sizes: BTreeSet<_> = raw.blobs.iter().map(|(_, size)| *size).collect();
    let largest = sizes.last().copied().unwrap_or_default();
    assert!(
        largest < 2_500_000,
        "half of each layer must compress: {sizes:?}"
    );
}
