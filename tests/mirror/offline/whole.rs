//! Tests complete mirrors through archives and layouts, and damaged ones, which are refused.

use super::{ArchiveFixture, FROM, TO, check_layout, push_content, stalled_source, version};
use crate::support::prelude::*;
use crate::support::seed::RemoteRepository;

/// Panics unless skopeo copies the image from a layout or archive without a change.
fn assert_skopeo_reads(local_reference: &str, tag: &str, expected: &str, scratch: &Scratch) {
    let folder = scratch.path(&format!("skopeo-{tag}"));
    skopeo::copy(
        &format!("{local_reference}:{tag}"),
        &format!("dir:{}", folder.display()),
    );
    let manifest = std::fs::read(folder.join("manifest.json")).expect("skopeo's copy");
    assert_eq!(digest(&manifest), expected, "{local_reference}:{tag}");
    std::fs::remove_dir_all(&folder).expect("skopeo's copy");
}

#[test]
fn an_archive_has_everything_and_other_programs_read_it() {
    let fixture = ArchiveFixture::new();
    let path = fixture.path("carried.tar");
    let local_reference = format!("oci-archive:{}", path.display());
    let content = fixture.mirror_through(&local_reference);
    let entries = std::fs::read_dir(path.parent().expect("a folder")).expect("a folder");
    let names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    let part = names
        .iter()
        .find(|name| name.to_string_lossy().contains("part"));
    assert_eq!(part, None);

    if programs_available(&["skopeo"]) {
        for tag in ["v1", "multi"] {
            assert_skopeo_reads(&local_reference, tag, &content.tags[tag], &fixture.scratch);
        }
    }
    if programs_available(&["podman"]) {
        // podman can load an archive with a single image, and one with several named images.
        let one = fixture.path("one.tar");
        let to = format!("oci-archive:{}:v1", one.display());
        fixture
            .mirror(&format!("{local_reference}:v1"), &to)
            .succeeded();
        for file in [&path, &one] {
            let podman = Podman::new();
            podman.load(file.to_str().expect("UTF-8"));
            let ids = podman.run(&["images", "--all", "--no-trunc", "--quiet"]);
            assert!(ids.contains(&content.id), "{}: {ids}", file.display());
        }
    }
}

#[test]
fn a_layout_has_everything_and_can_be_updated() {
    let fixture = ArchiveFixture::new();
    let folder = fixture.path("carried");
    let local_reference = format!("oci:{}", folder.display());
    let content = fixture.mirror_through(&local_reference);
    let names: BTreeSet<_> = archive::read_folder(&folder)
        .into_iter()
        .filter(|entry| !entry.name.starts_with("blobs/sha256/"))
        .map(|entry| entry.name)
        .collect();
    let expected = ["index.json", "oci-layout"].map(str::to_owned);
    assert_eq!(names, BTreeSet::from(expected));
    check_layout(&folder);
    if programs_available(&["skopeo"]) {
        for tag in ["v2", "multi"] {
            assert_skopeo_reads(&local_reference, tag, &content.tags[tag], &fixture.scratch);
        }
    }

    // One tag changes at another registry. Only its new blobs are read, and the other tags stay.
    let updated = Server::start(&fixture.scratch.folder("later"));
    let address = updated.address();
    let repository = FROM;
    let changed = version(77);
    let manifest = RemoteRepository {
        address,
        repository,
    }
    .push_image(Some("v2"), &changed);
    let relay = Relay::start(address, RelayFault::None);
    let from = format!("{}/{FROM}", relay.address());
    fixture.mirror(&from, &local_reference).succeeded();
    let requests = relay.requests();
    let blobs_read: BTreeSet<_> = requests
        .iter()
        .filter(|request| request.reads_blob())
        .filter_map(|request| request.target.rsplit('/').next())
        .map(str::to_owned)
        .collect();
    let new_layer = digest(&changed.compressed()[1]);
    assert_eq!(
        blobs_read,
        BTreeSet::from([new_layer, digest(&changed.config)])
    );
    let tags = check_layout(&folder);
    assert_eq!(tags["v2"], digest(&manifest));
    assert_eq!(tags["v1"], content.tags["v1"]);
    assert_eq!(tags.len(), content.tags.len());
}

#[test]
fn damaged_content_is_not_mirrored() {
    let fixture = ArchiveFixture::new();
    let (upstream, _) = stalled_source(0);
    upstream.configure(|settings| {
        settings.pause_blob_at = None;
        settings.corrupts_content = true;
    });
    let from = format!("{}/{FROM}:v1", upstream.address());
    for prefix in ["oci", "oci-archive"] {
        let path = fixture.path(prefix);
        let to = format!("{prefix}:{}", path.display());
        fixture.mirror(&from, &to).failed(3, &["source"]);
        assert!(!path.join("index.json").exists());
        assert!(!path.is_file());
    }

    // A layout with a blob that does not match its digest.
    let folder = fixture.path("layout");
    let entries = version(1).oci_layout("v1");
    archive::write_folder(&entries, &folder);
    let largest = entries
        .iter()
        .max_by_key(|entry| entry.bytes.len())
        .expect("a layer");
    let mut bytes = largest.bytes.clone();
    bytes[100] ^= 1;
    std::fs::write(folder.join(&largest.name), &bytes).expect("a blob");
    let server = Server::start(&fixture.scratch.folder("target"));
    let from = format!("oci:{}", folder.display());
    for to in [
        format!("{}/{TO}", server.address()),
        format!("oci:{}", fixture.path("other").display()),
        format!("oci-archive:{}", fixture.path("other.tar").display()),
    ] {
        let outcome = fixture.mirror(&from, &to);
        assert_ne!(outcome.code, Some(0), "{outcome}");
    }
    let tags = http::get(server.address(), &format!("/v2/{TO}/tags/list"));
    assert!(tags.status == 404 || tags.json()["tags"].as_array().is_none_or(Vec::is_empty));
    assert!(!fixture.path("other.tar").exists());

    // A folder or file that is no layout stays unchanged.
    let letters = fixture.scratch.folder("letters");
    std::fs::write(letters.join("letter.txt"), "dear").expect("a file");
    std::fs::write(fixture.path("no.tar"), "dear").expect("a file");
    let source = Server::start(&fixture.scratch.folder("source"));
    push_content(source.address());
    let from = format!("{}/{FROM}:v1", source.address());
    let to = format!("oci:{}", letters.display());
    fixture
        .mirror(&from, &to)
        .failed(4, &["target", "no OCI layout"]);
    let to = format!("oci-archive:{}", fixture.path("no.tar").display());
    fixture.mirror(&from, &to).failed(4, &["target", "no.tar"]);
    assert_eq!(
        std::fs::read(fixture.path("no.tar")).expect("a file"),
        b"dear"
    );
    assert_eq!(must(Command::new("ls").arg(&letters)), "letter.txt");
}
