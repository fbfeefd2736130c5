//! Tests that pulls through the cache succeed on a full disk, and that fetches do not fill the disk.

use imgsync_oci::media;

use super::*;
use crate::support::small_disk::SmallDisk;
use crate::support::{bytes, client, manifest};

/// Starts a cache on a small disk.
fn start(upstream: &FakeServer, disk: &SmallDisk) -> Running {
    let root = disk.path().join("registry");
    let config = config(&upstream.address(), "", "");
    Setup::new(&config.replace("{folder}/registry", root.to_str().unwrap())).serve()
}

/// Returns an upstream with manifests, which are also tagged `v0`, `v1` and so on, and blobs.
fn upstream_with(manifests: Vec<Vec<u8>>, blobs: Vec<Vec<u8>>) -> FakeServer {
    FakeServer::start(move |request| {
        let name = digest_in(request).to_owned();
        let is_named = |bytes: &[u8]| Digest::of(bytes).to_string() == name;
        let mut tagged = manifests.iter().enumerate();
        let manifest =
            tagged.find(|(number, bytes)| format!("v{number}") == name || is_named(bytes));
        if let Some((_, manifest)) = manifest {
            let reply = fake::status(200).header("Content-Type", media::OCI_MANIFEST);
            return reply.body(&manifest[..]);
        }
        let blob = blobs.iter().find(|blob| is_named(blob));
        blob.map_or(fake::status(404), |blob| fake::status(200).body(&blob[..]))
    })
}

async fn assert_pulls(running: &Running, kind: &str, name: &str, expected: &[u8]) {
    let path = format!("/v2/up/app/{kind}/{name}");
    let (status, body) = get(running, &path).await;
    assert_eq!(status, 200, "{path}: {}", running.log());
    assert!(body == expected, "{path}");
    let head = client().head(format!("{}{path}", running.url)).send().await;
    assert_eq!(head.unwrap().status(), 200, "{path}");
}

fn free_bytes(disk: &SmallDisk) -> u64 {
    let space = rustix::fs::statvfs(disk.path()).unwrap();
    space.f_bavail * space.f_frsize
}

#[tokio::test]
async fn pulls_succeed_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let (config, layer) = (bytes(1000), bytes(300_000));
    let manifests = [manifest(&config, &[]), manifest(&config, &[&layer])];
    let blobs = vec![config.clone(), layer.clone()];
    let upstream = upstream_with(manifests.to_vec(), blobs);
    let running = start(&upstream, &disk);
    assert_pulls(&running, "manifests", "v0", &manifests[0]).await;
    disk.fill();
    assert_pulls(&running, "manifests", "v0", &manifests[0]).await;
    let digest = Digest::of(&manifests[1]).to_string();
    for name in ["v1", &digest] {
        assert_pulls(&running, "manifests", name, &manifests[1]).await;
    }
    for blob in [&config, &layer] {
        let digest = Digest::of(blob).to_string();
        assert_pulls(&running, "blobs", &digest, blob).await;
    }
    // A blob that was not stored is fetched again once there is space.
    disk.remove_filler();
    assert_pulls(&running, "manifests", "v1", &manifests[1]).await;
    let fetched = upstream.requests().len();
    assert_pulls(&running, "manifests", "v1", &manifests[1]).await;
    assert_eq!(upstream.requests().len(), fetched);
}

#[tokio::test]
async fn a_fetch_leaves_a_part_of_the_disk_free() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    // A twentieth of the disk.
    let margin = 4 * 1024 * 1024 / 20;
    let fits = bytes(2_500_000);
    let upstream_blobs = |blob: &[u8]| vec![fits.clone(), blob.to_vec()];
    let mut too_large = bytes(1_520_000);
    too_large.reverse();
    let upstream = upstream_with(Vec::new(), upstream_blobs(&too_large));
    let running = start(&upstream, &disk);
    for _ in 0..2 {
        let digest = Digest::of(&fits).to_string();
        assert_pulls(&running, "blobs", &digest, &fits).await;
    }
    let free = free_bytes(&disk);
    let len = too_large.len() as u64;
    assert!(free > len && free < len + margin, "{free}");
    let digest = Digest::of(&too_large).to_string();
    assert_pulls(&running, "blobs", &digest, &too_large).await;
    running.wait_for_log("does not fit into the cache").await;
    let unchanged = free_bytes(&disk);
    let taken = free.saturating_sub(unchanged);
    assert!(taken < 100_000, "{free} {unchanged}");
}
