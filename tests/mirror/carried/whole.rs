//! Archives and layouts that carry everything, and damaged ones that are refused.

use super::{ArchiveFixture, FROM, TO, assert_whole, held_up, seeded, version};
use crate::support::prelude::*;
use crate::support::seed::RemoteRepository;

/// Panics unless skopeo takes an image out of a layout or archive, byte by byte.
fn assert_skopeo_reads(place: &str, tag: &str, expected: &str, scratch: &Scratch) {
    let folder = scratch.path(&format!("skopeo-{tag}"));
    skopeo::copy(
        &format!("{place}:{tag}"),
        &format!("dir:{}", folder.display()),
    );
    let manifest = std::fs::read(folder.join("manifest.json")).expect("skopeo's copy");
    assert_eq!(digest(&manifest), expected, "{place}:{tag}");
    std::fs::remove_dir_all(&folder).expect("skopeo's copy");
}

#[test]
fn an_archive_carries_everything_and_others_read_it() {
    let fixture = ArchiveFixture::new();
    let path = fixture.path("carried.tar");
    let place = format!("oci-archive:{}", path.display());
    let content = fixture.carried(&place);
    let left = std::fs::read_dir(path.parent().expect("a folder")).expect("a folder");
    let names: Vec<_> = left
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    let part = names
        .iter()
        .find(|name| name.to_string_lossy().contains("part"));
    assert_eq!(part, None);

    if programs_available(&["skopeo"]) {
        for tag in ["v1", "multi"] {
            assert_skopeo_reads(&place, tag, &content.tags[tag], &fixture.scratch);
        }
    }
    if programs_available(&["podman"]) {
        // podman takes one image out of an archive, or all of which it is told the names.
        let one = fixture.path("one.tar");
        let to = format!("oci-archive:{}:v1", one.display());
        fixture.mirror(&format!("{place}:v1"), &to).succeeded();
        for file in [&path, &one] {
            let podman = Podman::new();
            podman.load(file.to_str().expect("UTF-8"));
            let ids = podman.run(&["images", "--all", "--no-trunc", "--quiet"]);
            assert!(ids.contains(&content.id), "{}: {ids}", file.display());
        }
    }
}

#[test]
fn a_layout_carries_everything_and_takes_what_comes_later() {
    let fixture = ArchiveFixture::new();
    let folder = fixture.path("carried");
    let place = format!("oci:{}", folder.display());
    let content = fixture.carried(&place);
    let names: BTreeSet<_> = archive::read_folder(&folder)
        .into_iter()
        .filter(|entry| !entry.name.starts_with("blobs/sha256/"))
        .map(|entry| entry.name)
        .collect();
    let expected = ["index.json", "oci-layout"].map(str::to_owned);
    assert_eq!(names, BTreeSet::from(expected));
    assert_whole(&folder);
    if programs_available(&["skopeo"]) {
        for tag in ["v2", "multi"] {
            assert_skopeo_reads(&place, tag, &content.tags[tag], &fixture.scratch);
        }
    }

    // One tag changes, the other's registry is not even asked; what it does not name stays.
    let later = Server::start(&fixture.scratch.folder("later"));
    let address = later.address();
    let repository = FROM;
    let changed = version(77);
    let manifest = RemoteRepository {
        address,
        repository,
    }
    .push_image(Some("v2"), &changed);
    let relay = Relay::start(address, RelayFault::None);
    let from = format!("{}/{FROM}", relay.address());
    fixture.mirror(&from, &place).succeeded();
    let requests = relay.requests();
    let read: BTreeSet<_> = requests
        .iter()
        .filter(|request| request.reads_blob())
        .filter_map(|request| request.target.rsplit('/').next())
        .map(str::to_owned)
        .collect();
    let own = digest(&changed.compressed()[1]);
    assert_eq!(read, BTreeSet::from([own, digest(&changed.config)]));
    let tags = assert_whole(&folder);
    assert_eq!(tags["v2"], digest(&manifest));
    assert_eq!(tags["v1"], content.tags["v1"]);
    assert_eq!(tags.len(), content.tags.len());
}

#[test]
fn what_is_damaged_goes_nowhere() {
    let fixture = ArchiveFixture::new();
    let (upstream, _) = held_up(0);
    upstream.configure(|settings| {
        settings.pause_blob_at = None;
        settings.corrupts_content = true;
    });
    let from = format!("{}/{FROM}:v1", upstream.address());
    for place in ["oci", "oci-archive"] {
        let path = fixture.path(place);
        let to = format!("{place}:{}", path.display());
        fixture.mirror(&from, &to).failed(3, &["source"]);
        assert!(!path.join("index.json").exists());
        assert!(!path.is_file());
    }

    // A layout with a blob that is not what it goes by.
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

    // Something that is no layout stays as it is.
    let letters = fixture.scratch.folder("letters");
    std::fs::write(letters.join("letter.txt"), "dear").expect("a file");
    std::fs::write(fixture.path("no.tar"), "dear").expect("a file");
    let source = Server::start(&fixture.scratch.folder("source"));
    seeded(source.address());
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
