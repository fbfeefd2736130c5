//! Images that are damaged or lie: the error names the source.

use super::{BadInputFixture, EXIT_SOURCE, text, three_layers};
use crate::support::archive::{Entry, write_folder, write_tar};
use crate::support::prelude::*;

#[test]
fn a_missing_layout_is_not_called_an_archive() {
    let fixture = BadInputFixture::new();
    let missing = fixture.path("missing");
    let missing = text(&missing);
    let remote = format!("{}/app:v1", fixture.address());
    for (command, source, noun) in [
        ("push", format!("oci:{missing}"), "the OCI layout"),
        ("mirror", format!("oci:{missing}"), "the OCI layout"),
        ("push", format!("oci-archive:{missing}"), "the archive"),
    ] {
        let outcome = run(fixture.imgsync.command().args([command, &source, &remote]));
        outcome.failed(
            EXIT_SOURCE,
            &[&format!("cannot open {noun} {missing}: No such file")],
        );
    }
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
