//! Measures many uploads at a time: their time, and the memory of the server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use imgsync_oci::Digest;

use super::http::Connection;
use super::pushes::{bytes, push_as, start_upload};
use super::table::{Row, mebibytes, row, seconds};
use super::{Kind, Server, Sizes};

/// Measures one push, and several pushes at a time.
pub(super) fn measure_pushes(kind: Kind, sizes: &Sizes) -> Vec<Row> {
    let mut rows = Vec::new();
    for count in [1, 4, sizes.pushes] {
        let len = sizes.push_bytes;
        let name = format!("{count} pushes of {} at a time", mebibytes(len as u64));
        let blob = |seed| bytes(len, seed as u64);
        let blobs = (0..count).map(blob).map(|blob| (Digest::of(&blob), blob));
        let blobs: Vec<(Digest, Vec<u8>)> = blobs.collect();
        let push = |address: SocketAddr, number: usize, barrier: &Barrier| {
            barrier.wait();
            let (digest, blob) = &blobs[number];
            push_as(address, &format!("pushes/{number}"), digest, blob);
        };
        let folder = tempfile::tempdir().expect("a folder");
        rows.extend(measure(
            kind,
            folder.path(),
            &name,
            count,
            sizes.settle,
            push,
        ));
    }
    rows
}

/// Measures many chunks at a time, each in an upload session of its own.
pub(super) fn measure_patches(kind: Kind, sizes: &Sizes) -> Vec<Row> {
    let (count, len) = (sizes.patches, sizes.patch_bytes);
    let name = format!("{count} PATCHes of {} at a time", mebibytes(len as u64));
    let chunk = bytes(len, 1);
    let patch = |address: SocketAddr, number: usize, barrier: &Barrier| {
        let mut connection = Connection::open(address);
        let session = start_upload(&mut connection, &format!("patches/{number}"));
        barrier.wait();
        let head = "Content-Type: application/octet-stream\r\n";
        let response = connection.send("PATCH", &session, head, &chunk);
        assert_eq!(response.status, 202);
    };
    let folder = tempfile::tempdir().expect("a folder");
    measure(kind, folder.path(), &name, count, sizes.settle, patch)
}

/// Runs `upload` in `count` threads. They begin together, at the barrier.
fn measure(
    kind: Kind,
    root: &Path,
    name: &str,
    count: usize,
    settle: Duration,
    upload: impl Fn(SocketAddr, usize, &Barrier) + Sync,
) -> Vec<Row> {
    let Some(server) = kind.start(root) else {
        return Vec::new();
    };
    let barrier = Barrier::new(count + 1);
    let time = run_in_threads(&server, count, &barrier, upload);
    let peak = server.peak_memory();
    std::thread::sleep(settle);
    let later = format!("{name}: memory {} s later", settle.as_secs());
    vec![
        row(format!("{name}: time"), seconds(time)),
        row(format!("{name}: peak memory"), mebibytes(peak)),
        row(later, mebibytes(server.memory())),
    ]
}

fn run_in_threads(
    server: &Server,
    count: usize,
    barrier: &Barrier,
    upload: impl Fn(SocketAddr, usize, &Barrier) + Sync,
) -> Duration {
    let upload = &upload;
    let mut began = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..count {
            scope.spawn(move || upload(server.address(), number, barrier));
        }
        barrier.wait();
        began = Instant::now();
    });
    began.elapsed()
}
