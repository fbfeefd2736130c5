//! Archives that are compressed as a whole.

use std::io::Write;

use super::{Stage, recorded, text};
use crate::support::docker;
use crate::support::prelude::*;

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

#[test]
fn every_recorded_archive_arrives_compressed_as_it_does_plain() {
    let stage = Stage::new();
    let folder = recorded("");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the recorded archives") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|end| end != "tar") {
            continue;
        }
        count += 1;
        let plain = stage.push(&format!("plain{count}"), &[], text(&path));
        let bytes = std::fs::read(&path).expect("an archive");
        let gzip = stage.scratch.path(&format!("{count}.tar.gz"));
        std::fs::write(&gzip, gzipped(&bytes)).expect("a file");
        let zstandard = stage.scratch.path(&format!("{count}.tar.zst"));
        let packed = zstd::stream::encode_all(&*bytes, 3).expect("writing to memory");
        std::fs::write(&zstandard, packed).expect("a file");
        for (kind, path) in [("gzip", &gzip), ("zstd", &zstandard)] {
            let name = format!("{kind}{count}");
            assert_eq!(stage.push(&name, &[], text(path)), plain, "{path:?}");
            let name = format!("{kind}-stdin{count}");
            let remote = stage.remote(&name);
            stage.imgsync.push_file_on_stdin(path, &remote).succeeded();
            assert_eq!(stage.found(&name), plain, "{path:?} on standard input");
        }
    }
    assert!(count >= 8, "recorded archives are missing");
}

#[test]
fn what_docker_saves_through_gzip_arrives() {
    if !present(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let stage = Stage::new();
    let image = DockerImage::build(&unique("gzipped"), "v1");
    let plain = stage.push("plain", &[], image.reference());
    stage.imgsync.forget();
    let mut save = docker::save(image.reference());
    let mut save = save.stdout(Stdio::piped()).spawn().expect("docker save");
    let mut gzip = Command::new("gzip");
    gzip.stdin(save.stdout.take().expect("its output"));
    let mut gzip = gzip.stdout(Stdio::piped()).spawn().expect("gzip");
    let pipe = gzip.stdout.take().expect("its output");
    let outcome = stage.imgsync.push_stdin(pipe.into(), &stage.remote("pipe"));
    outcome.succeeded();
    assert!(save.wait().expect("its end").success());
    assert!(gzip.wait().expect("its end").success());
    assert_eq!(stage.found("pipe"), plain);
}

/// A half-written file is not an image, even if it holds all of the tar's entries; nor is one
/// with something behind it.
#[test]
fn a_compressed_archive_that_is_not_whole_is_refused() {
    let stage = Stage::new();
    let whole = gzipped(&std::fs::read(recorded("docker20-classic-store.tar")).expect("it"));
    let path = stage.scratch.path("app.tar.gz");
    let remote = stage.remote("bad");
    std::fs::write(&path, &whole[..whole.len() - 4]).expect("a file");
    let outcome = stage.imgsync.push(text(&path), &remote);
    outcome.failed(3, &["cut short", "create the archive again"]);
    std::fs::write(&path, [&whole[..], b"something else"].concat()).expect("a file");
    let outcome = stage.imgsync.push(text(&path), &remote);
    outcome.failed(3, &["no whole gzip file"]);
    std::fs::write(&path, b"\xfd7zXZ\0 and so on").expect("a file");
    let outcome = stage.imgsync.push(text(&path), &remote);
    outcome.failed(3, &["compressed with xz", "xz -dc"]);
}

#[test]
fn memory_stays_bounded_for_a_large_compressed_archive() {
    let _heavy = serial::heavy();
    let stage = Stage::new();
    let plain = stage.scratch.path("large.tar");
    archive::write_large(&plain, 200_000_000, "large:v1");
    let path = stage.scratch.path("large.tar.zst");
    let source = std::fs::File::open(&plain).expect("an archive");
    let target = std::fs::File::create(&path).expect("a file");
    zstd::stream::copy_encode(source, target, 1).expect("room for it");
    let (outcome, peak) = stage
        .imgsync
        .push_measured(text(&path), &stage.remote("large"));
    outcome.succeeded();
    assert!(peak < 100_000_000, "{peak} bytes of memory");
    assert!(peak > 0, "nothing was measured");
}
