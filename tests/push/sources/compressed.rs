//! Tests archives that are compressed as a whole.

use super::{SourcesFixture, recorded_archive, text};
use crate::support::docker;
use crate::support::prelude::*;

#[test]
fn every_recorded_archive_gives_the_same_image_when_compressed() {
    let fixture = SourcesFixture::new();
    let folder = recorded_archive("");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the recorded archives") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "tar") {
            continue;
        }
        count += 1;
        let plain = fixture.push(&format!("plain{count}"), &[], text(&path));
        let bytes = std::fs::read(&path).expect("an archive");
        let gzip = fixture.scratch.path(&format!("{count}.tar.gz"));
        std::fs::write(&gzip, archive::gzip(&bytes)).expect("a file");
        let zstandard = fixture.scratch.path(&format!("{count}.tar.zst"));
        let compressed = zstd::stream::encode_all(&*bytes, 3).expect("writing to memory");
        std::fs::write(&zstandard, compressed).expect("a file");
        for (kind, path) in [("gzip", &gzip), ("zstd", &zstandard)] {
            let name = format!("{kind}{count}");
            assert_eq!(fixture.push(&name, &[], text(path)), plain, "{path:?}");
            let name = format!("{kind}-stdin{count}");
            let remote = fixture.remote(&name);
            fixture
                .imgsync
                .push_file_on_stdin(path, &remote)
                .succeeded();
            assert_eq!(
                fixture.check_image(&name),
                plain,
                "{path:?} on standard input"
            );
        }
    }
    assert!(count >= 8, "recorded archives are missing");
}

#[test]
fn the_output_of_docker_save_through_gzip_is_pushed() {
    if !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = SourcesFixture::new();
    let image = DockerImage::build(&unique("gzipped"), "v1");
    let plain = fixture.push("plain", &[], image.reference());
    fixture.imgsync.clear_cache();
    let mut save = docker::save(image.reference());
    let mut save = save.stdout(Stdio::piped()).spawn().expect("docker save");
    let mut gzip = Command::new("gzip");
    gzip.stdin(save.stdout.take().expect("its stdout"));
    let mut gzip = gzip.stdout(Stdio::piped()).spawn().expect("gzip");
    let pipe = gzip.stdout.take().expect("its stdout");
    let outcome = fixture
        .imgsync
        .push_stdin(pipe.into(), &fixture.remote("pipe"));
    outcome.succeeded();
    assert!(save.wait().expect("an exit status").success());
    assert!(gzip.wait().expect("an exit status").success());
    assert_eq!(fixture.check_image("pipe"), plain);
}

/// A truncated file is refused even if it has all entries of the tar, and so is a file with data
/// after the archive.
#[test]
fn an_incomplete_compressed_archive_is_refused() {
    let fixture = SourcesFixture::new();
    let whole = archive::gzip(
        &std::fs::read(recorded_archive("docker20-classic-store.tar")).expect("an archive"),
    );
    let path = fixture.scratch.path("app.tar.gz");
    let remote = fixture.remote("bad");
    std::fs::write(&path, &whole[..whole.len() - 4]).expect("a file");
    let outcome = fixture.imgsync.push(text(&path), &remote);
    outcome.failed(3, &["truncated", "create the archive again"]);
    std::fs::write(&path, [&whole[..], b"something else"].concat()).expect("a file");
    let outcome = fixture.imgsync.push(text(&path), &remote);
    outcome.failed(3, &["not a complete gzip file"]);
    std::fs::write(&path, b"\xfd7zXZ\0 and so on").expect("a file");
    let outcome = fixture.imgsync.push(text(&path), &remote);
    outcome.failed(3, &["compressed with xz", "xz -dc"]);
}

#[test]
fn memory_stays_bounded_for_a_large_compressed_archive() {
    let _heavy = serial::heavy();
    let fixture = SourcesFixture::new();
    let plain = fixture.scratch.path("large.tar");
    archive::write_large(&plain, 200_000_000, "large:v1");
    let path = fixture.scratch.path("large.tar.zst");
    let source = std::fs::File::open(&plain).expect("an archive");
    let target = std::fs::File::create(&path).expect("a file");
    zstd::stream::copy_encode(source, target, 1).expect("enough space");
    let (outcome, peak) = fixture
        .imgsync
        .push_measured(text(&path), &fixture.remote("large"));
    outcome.succeeded();
    assert!(peak < 100_000_000, "{peak} bytes of memory");
    assert!(peak > 0, "nothing was measured");
}
