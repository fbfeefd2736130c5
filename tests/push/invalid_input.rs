//! Tests invalid input and a full disk at the server: each causes a clear error and leaves the
//! store unchanged.

use crate::support::archive::{Entry, write_folder, write_tar};
use crate::support::bytes::mixed;
use crate::support::prelude::*;
use crate::support::{SmallDisk, store};

const EXIT_USAGE: i32 = 2;
const EXIT_SOURCE: i32 = 3;
const EXIT_TARGET: i32 = 4;
const MANIFEST_HEADER: (&str, &str) =
    ("Content-Type", "application/vnd.oci.image.manifest.v1+json");

/// A server with one good image, and the content of its folder at that time.
struct BadInputFixture {
    server: Server,
    imgsync: Imgsync,
    good: Image,
    before: BTreeSet<String>,
    /// Dropped last: the server must have stopped before its folder is deleted.
    scratch: Scratch,
}

impl BadInputFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let root = scratch.folder("root");
        Self::with_root(scratch, &root)
    }

    fn with_root(scratch: Scratch, root: &Path) -> Self {
        let server = Server::start(root);
        let imgsync = Imgsync::new(&scratch.folder("home"));
        let good = Image::new(vec![layer("good", mixed(1, 300_000))]);
        let path = scratch.path("good.tar");
        write_tar(&good.docker_archive("good:v1"), &path);
        let remote = format!("{}/good:v1", server.address());
        imgsync.push(text(&path), &remote).succeeded();
        let before = store::list_files(root);
        Self {
            scratch,
            server,
            imgsync,
            good,
            before,
        }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Returns the path of an input file.
    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    fn push(&self, path: &Path) -> Outcome {
        let remote = format!("{}/bad:v1", self.address());
        self.imgsync.push(text(path), &remote)
    }

    fn push_on_stdin(&self, path: &Path) -> Outcome {
        let remote = format!("{}/bad:v1", self.address());
        self.imgsync.push_file_on_stdin(path, &remote)
    }

    /// Panics unless the folder is unchanged and the good image is complete.
    fn assert_unharmed(&self) {
        store::assert_unchanged(&self.before, self.server.root());
        let found = check::at_registry(self.address(), "good:v1");
        assert_eq!(found.config, self.good.id());
    }

    /// Opens an upload session and sends the bytes in a `PATCH`. Returns the location for the final
    /// `PUT`.
    fn upload(&self, repository: &str, bytes: &[u8]) -> String {
        let target = format!("/v2/{repository}/blobs/uploads/");
        let opened = http::send(self.address(), "POST", &target, &[], b"");
        assert_eq!(opened.status, 202, "{}", opened.text());
        let location = opened.header("location").expect("a Location").to_owned();
        assert!(location.starts_with('/'), "not relative: {location}");
        let sent = http::send(self.address(), "PATCH", &location, &[], bytes);
        assert_eq!(sent.status, 202, "{}", sent.text());
        sent.header("location").expect("a Location").to_owned()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Returns an image of three layers.
fn three_layers() -> Image {
    let layers = (0..3).map(|i| layer("data", mixed(10 + i, 700_000)));
    Image::new(layers.collect())
}

#[test]
fn a_truncated_archive_is_the_sources_fault() {
    let fixture = BadInputFixture::new();
    let image = three_layers();
    let forms = [
        ("docker", image.docker_archive("app:v1")),
        ("oci", image.oci_layout("v1")),
    ];
    for (form, entries) in forms {
        // The manifest can come before or after the layers.
        for (order, entries) in [
            ("forwards", entries.clone()),
            ("backwards", entries.into_iter().rev().collect()),
        ] {
            let whole = archive::tar_of(&entries);
            let end_of_entries = whole.len() - 1024;
            // In a header, in a layer, between two entries, in the last entry.
            for cut in [
                1,
                100,
                512,
                700,
                10_000,
                end_of_entries / 2,
                end_of_entries / 512 / 3 * 512,
                end_of_entries - 700,
                end_of_entries - 512,
            ] {
                let path = fixture.path("truncated.tar");
                std::fs::write(&path, &whole[..cut]).expect("an archive");
                let case = format!("{form} {order}, the first {cut} of {} bytes", whole.len());
                eprintln!("{case}");
                fixture.push(&path).failed(EXIT_SOURCE, &["error: source"]);
                fixture
                    .push_on_stdin(&path)
                    .failed(EXIT_SOURCE, &["error: source"]);
                fixture.assert_unharmed();
            }
        }
    }
}

#[test]
fn input_that_is_no_image_is_the_sources_fault() {
    let fixture = BadInputFixture::new();
    let path = fixture.path("noise");
    for (case, bytes) in [
        ("nothing", Vec::new()),
        ("noise", noise(3, 100_000)),
        (
            "no manifest",
            archive::tar_of(&[Entry::new("hello", "world")]),
        ),
        ("gzip", vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3]),
    ] {
        eprintln!("{case}");
        std::fs::write(&path, bytes).expect("a file");
        fixture.push(&path).failed(EXIT_SOURCE, &["error: source"]);
        fixture
            .push_on_stdin(&path)
            .failed(EXIT_SOURCE, &["error: source"]);
    }
    let empty = fixture.scratch.folder("empty");
    fixture.push(&empty).failed(EXIT_SOURCE, &["error: source"]);
    fixture
        .push(&fixture.path("absent.tar"))
        .failed(EXIT_SOURCE, &["error: source"]);
    fixture.assert_unharmed();
}

/// Names with `..` can select neither a file outside nor a layer.
#[test]
fn an_archive_with_names_outside_of_it_is_refused() {
    let fixture = BadInputFixture::new();
    let image = three_layers();
    std::fs::write(fixture.path("outside"), b"secret").expect("a file");
    let mut entries = image.docker_archive("app:v1");
    let names: Vec<_> = (0..3).map(|i| format!("../{i}.tar")).collect();
    for (entry, name) in entries.iter_mut().zip(&names) {
        entry.name.clone_from(name);
    }
    let manifest = entries.last_mut().expect("manifest.json");
    manifest.bytes = image::archive_manifest("app:v1", &names);
    let path = fixture.path("names.tar");
    write_tar(&entries, &path);
    fixture
        .push(&path)
        .failed(EXIT_SOURCE, &["error: source", "../"]);

    // The name is only in the manifest, and the file exists next to the archive.
    for name in ["../outside", "/etc/hostname", "blobs/../../outside"] {
        let mut entries = image.docker_archive("app:v1");
        let layers = ["0.tar", "1.tar", name].map(str::to_owned);
        let manifest = entries.last_mut().expect("manifest.json");
        manifest.bytes = image::archive_manifest("app:v1", &layers);
        write_tar(&entries, &path);
        fixture.push(&path).failed(EXIT_SOURCE, &["error: source"]);
    }

    // A digest in a layout must not be used as a path either.
    let layers = image.compressed();
    let manifest = String::from_utf8(image.oci_manifest(&layers)).expect("JSON");
    let manifest = manifest.replace(&digest(&layers[2]), "sha256:../../../outside");
    let entries = image::layout(
        manifest.as_bytes(),
        layers.iter().chain([&image.config]),
        "v1",
    );
    let folder = fixture.path("layout");
    write_folder(&entries, &folder);
    fixture
        .push(&folder)
        .failed(EXIT_SOURCE, &["error: source"]);
    write_tar(&entries, &path);
    fixture.push(&path).failed(EXIT_SOURCE, &["error: source"]);
    fixture.assert_unharmed();
}

#[test]
fn a_layer_that_does_not_match_its_diff_id_is_the_sources_fault() {
    let fixture = BadInputFixture::new();
    let image = three_layers();
    let path = fixture.path("bad.tar");
    for index in 0..3 {
        // One byte in the middle of a layer is changed.
        let mut entries = image.docker_archive("app:v1");
        entries[index].bytes[350_000] ^= 1;
        write_tar(&entries, &path);
        let words = ["error: source", &digest(&image.layers[index])];
        fixture.push(&path).failed(EXIT_SOURCE, &words);
        fixture.push_on_stdin(&path).failed(EXIT_SOURCE, &words);
        fixture.assert_unharmed();
    }
}

#[test]
fn a_blob_that_does_not_match_its_digest_is_the_sources_fault() {
    let fixture = BadInputFixture::new();
    let image = three_layers();
    for (index, blob) in image.compressed().iter().enumerate() {
        // A change in the middle breaks the gzip stream. A change of the time in the gzip header
        // does not change the tar, so only the digest shows it.
        for (offset, word) in [(blob.len() / 2, "hint:"), (4, &*digest(blob))] {
            let mut entries = image.oci_layout("v1");
            let name = image::blob_name(blob);
            let entry = entries.iter_mut().find(|entry| entry.name == name);
            entry.expect("the layer's blob").bytes[offset] ^= 1;
            let folder = fixture.path(&format!("layout-{index}-{offset}"));
            write_folder(&entries, &folder);
            let words = ["error: source", word];
            fixture.push(&folder).failed(EXIT_SOURCE, &words);
            let path = fixture.path("layout.tar");
            write_tar(&entries, &path);
            fixture.push(&path).failed(EXIT_SOURCE, &words);
            fixture.push_on_stdin(&path).failed(EXIT_SOURCE, &words);
            fixture.assert_unharmed();
        }
    }
}

/// Every blob matches its digest, but the config lists another diffID. Docker could not pull such
/// an image.
#[test]
fn a_config_that_lists_another_diff_id_is_the_sources_fault() {
    let fixture = BadInputFixture::new();
    for index in 0..3 {
        let mut image = three_layers();
        let mut diff_ids: Vec<_> = image.layers.iter().map(|layer| digest(layer)).collect();
        diff_ids[index] = digest(b"something else");
        image.config = image::config(&diff_ids, "a lie");
        let folder = fixture.path(&format!("layout-{index}"));
        write_folder(&image.oci_layout("v1"), &folder);
        fixture
            .push(&folder)
            .failed(EXIT_SOURCE, &["error: source", "diffid"]);
        fixture.assert_unharmed();
    }
}

#[test]
fn a_layout_that_lacks_a_blob_is_the_sources_fault() {
    let fixture = BadInputFixture::new();
    let image = three_layers();
    let mut missing = image.compressed();
    missing.push(image.config.clone());
    for (index, blob) in missing.iter().enumerate() {
        let mut entries = image.oci_layout("v1");
        let name = image::blob_name(blob);
        entries.retain(|entry| entry.name != name);
        let words = ["error: source", &name];
        let folder = fixture.path(&format!("layout-{index}"));
        write_folder(&entries, &folder);
        fixture.push(&folder).failed(EXIT_SOURCE, &words);
        let path = fixture.path("layout.tar");
        write_tar(&entries, &path);
        fixture.push(&path).failed(EXIT_SOURCE, &words);
        fixture.push_on_stdin(&path).failed(EXIT_SOURCE, &words);
        fixture.assert_unharmed();
    }
}

#[test]
fn a_manifest_with_a_missing_blob_is_refused() {
    let fixture = BadInputFixture::new();
    let image = three_layers();
    let manifest = image.oci_manifest(&image.compressed());
    for target in [
        "/v2/good/manifests/v2".to_owned(),
        "/v2/good/manifests/v1".to_owned(),
        format!("/v2/new/manifests/{}", digest(&manifest)),
    ] {
        let reply = http::send(
            fixture.address(),
            "PUT",
            &target,
            &[MANIFEST_HEADER],
            &manifest,
        );
        assert!([400, 404].contains(&reply.status), "{}", reply.text());
        reply.assert_error(reply.status, "MANIFEST_BLOB_UNKNOWN");
        assert!(
            reply.text().contains(&digest(&image.config)),
            "{}",
            reply.text()
        );
    }
    // A blob in another repository does not count.
    let good = fixture.good.oci_manifest(&fixture.good.compressed());
    let reply = http::send(
        fixture.address(),
        "PUT",
        "/v2/new/manifests/v1",
        &[MANIFEST_HEADER],
        &good,
    );
    reply.assert_error(reply.status, "MANIFEST_BLOB_UNKNOWN");
    fixture.assert_unharmed();
}

#[test]
fn bytes_that_do_not_match_the_digest_are_refused() {
    let fixture = BadInputFixture::new();
    let bytes = noise(5, 200_000);
    let wrong = digest(b"other bytes");

    let location = fixture.upload("good", &bytes);
    let separator = if location.contains('?') { '&' } else { '?' };
    let target = format!("{location}{separator}digest={wrong}");
    http::send(fixture.address(), "PUT", &target, &[], b"").assert_error(400, "DIGEST_INVALID");

    let single = format!("/v2/new/blobs/uploads/?digest={wrong}");
    let reply = http::send(fixture.address(), "POST", &single, &[], &bytes);
    reply.assert_error(400, "DIGEST_INVALID");

    let target = format!("/v2/good/manifests/{wrong}");
    let manifest = fixture.good.oci_manifest(&fixture.good.compressed());
    let reply = http::send(
        fixture.address(),
        "PUT",
        &target,
        &[MANIFEST_HEADER],
        &manifest,
    );
    reply.assert_error(400, "DIGEST_INVALID");

    for name in [&wrong, &digest(&bytes)] {
        let reply = http::get(fixture.address(), &format!("/v2/good/blobs/{name}"));
        reply.assert_error(404, "BLOB_UNKNOWN");
    }
    fixture.assert_unharmed();
}

#[test]
fn invalid_repository_names_are_refused() {
    let fixture = BadInputFixture::new();
    let path = fixture.path("good.tar");
    for name in [
        "Upper", "a//b", "a/../b", "..", "a/", "-a", "a..b", "a b", "ü", "%2e%2e/a",
    ] {
        let remote = format!("{}/{name}:v1", fixture.address());
        let outcome = fixture.imgsync.push(text(&path), &remote);
        outcome.failed(EXIT_USAGE, &["error:", "repository name"]);
    }
    for name in [
        "Upper",
        "a//b",
        "a/../b",
        "%2e%2e",
        "a/%2e%2e/b",
        "-a",
        "a..b",
        "a%00b",
    ] {
        for (method, rest) in [
            ("GET", "tags/list"),
            ("GET", "manifests/v1"),
            ("PUT", "manifests/v1"),
            ("POST", "blobs/uploads/"),
        ] {
            let target = format!("/v2/{name}/{rest}");
            let reply = http::send(
                fixture.address(),
                method,
                &target,
                &[MANIFEST_HEADER],
                b"{}",
            );
            assert_eq!(reply.status, 400, "{method} {target}: {}", reply.text());
            reply.assert_error(400, "NAME_INVALID");
        }
    }
    fixture.assert_unharmed();
}

#[test]
fn a_manifest_of_5_mib_is_refused() {
    let fixture = BadInputFixture::new();
    let mut manifest = fixture.good.oci_manifest(&fixture.good.compressed());
    manifest.resize(5 * 1024 * 1024, b' ');
    let put = |headers: &[(&str, &str)]| {
        http::send(
            fixture.address(),
            "PUT",
            "/v2/good/manifests/v1",
            headers,
            &manifest,
        )
    };
    put(&[MANIFEST_HEADER]).assert_error(413, "MANIFEST_INVALID");
    fixture.assert_unharmed();
}

#[test]
fn a_full_disk_at_the_server_is_reported_and_harms_nothing() {
    let Some(disk) = SmallDisk::mount("12m") else {
        return;
    };
    let fixture = BadInputFixture::with_root(Scratch::new(), &disk.folder("root"));

    let large = Image::new(vec![
        layer("first", noise(70, 4_000_000)),
        layer("second", noise(71, 30_000_000)),
    ]);
    let path = fixture.path("large.tar");
    write_tar(&large.docker_archive("large:v1"), &path);
    let words = ["error: target", "disk", "full"];
    fixture.push(&path).failed(EXIT_TARGET, &words);
    fixture.assert_unharmed();

    // The disk has space again for an image that fits.
    let small = Image::new(vec![layer("small", mixed(72, 100_000))]);
    write_tar(&small.docker_archive("small:v1"), &path);
    let remote = format!("{}/small:v1", fixture.address());
    fixture.imgsync.push(text(&path), &remote).succeeded();
    let found = check::at_registry(fixture.address(), "small:v1");
    assert_eq!(found.config, small.id());
    let found = check::at_registry(fixture.address(), "good:v1");
    assert_eq!(found.config, fixture.good.id());
}
