//! Tests mirrors to archives and layouts that are killed, and sources that close connections early.

use std::collections::BTreeMap;

use super::{ArchiveFixture, FROM, TO, check_layout, push_content, stalled_source};
use crate::support::prelude::*;
use crate::support::{Throttle, Trigger};

#[test]
fn a_mirror_to_a_layout_that_is_killed_at_any_moment_continues() {
    let fixture = ArchiveFixture::new();
    let source = Server::start(&fixture.scratch.folder("source"));
    let content = push_content(source.address());
    let folder = fixture.path("layout");
    let local_reference = format!("oci:{}", folder.display());
    let mut received = 0;
    let mut kills = 0;
    // A slow connection, so that few bytes are in transit when the mirror is killed, also on a busy
    // machine.
    let slow = Throttle {
        bytes_per_second: Some(300_000),
        ..Throttle::default()
    };
    // Each run gets further than the one before.
    loop {
        let relay = Relay::start_throttled(source.address(), RelayFault::None, slow);
        let from = format!("{}/{FROM}", relay.address());
        let mut command = fixture.command(&from, &local_reference);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = std::sync::Arc::new(std::sync::Mutex::new(child.expect("imgsync starts")));
        let victim = std::sync::Arc::clone(&child);
        relay.run_at(Trigger::BytesReceived(350_000), move || {
            let _ = victim.lock().expect("the child").kill();
        });
        let status = wait_until("the end of a mirror", || {
            child
                .lock()
                .expect("the child")
                .try_wait()
                .expect("the status of the child")
        });
        received += relay.traffic().down;
        let tags = check_layout_if_present(&folder);
        if status.success() {
            assert_eq!(tags, content.tags);
            break;
        }
        kills += 1;
        assert!(kills < 50, "the mirror makes no progress");
    }
    assert!((2..20).contains(&kills), "{kills}");
    let size: u64 = archive::read_folder(&folder)
        .iter()
        .map(|entry| entry.bytes.len() as u64)
        .sum();
    // Each kill may lose the bytes in transit, and manifests and lists are requested again.
    let max_lost = kills * 300_000;
    assert!(
        received < size + max_lost,
        "{received} bytes for {size}, {kills} kills"
    );
    let names: Vec<_> = std::fs::read_dir(&folder).expect("a folder").collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

/// Checks the layout after a kill. Partial blobs are in a folder of their own.
fn check_layout_if_present(folder: &Path) -> BTreeMap<String, String> {
    if folder.exists() {
        check_layout(folder)
    } else {
        BTreeMap::new()
    }
}

#[test]
fn a_blob_continues_at_the_end_of_its_part() {
    let fixture = ArchiveFixture::new();
    let (upstream, image) = stalled_source(1_000_000);
    let folder = fixture.path("layout");
    let local_reference = format!("oci:{}", folder.display());
    let from = format!("{}/{FROM}:v1", upstream.address());
    let mut command = fixture.command(&from, &local_reference);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("imgsync");
    let layer = digest(&image.compressed()[0]);
    let hex = layer.strip_prefix("sha256:").expect("sha256");
    let part = folder.join(".imgsync").join(format!("sha256-{hex}.part"));
    let size = wait_until("a part on the disk", || {
        let size = part.metadata().ok()?.len();
        (size > 500_000).then_some(size)
    });
    child.kill().expect("the status of the child");
    child.wait().expect("an exit status");
    assert!(!folder.join("index.json").exists());

    upstream.configure(|settings| settings.pause_blob_at = None);
    upstream.clear_requests();
    fixture.mirror(&from, &local_reference).succeeded();
    assert_eq!(check_layout(&folder).len(), 1);
    let ranges = requested_ranges(&upstream, &image);
    let first = ranges.first().expect("a range");
    let first = first.trim_start_matches("bytes=").trim_end_matches('-');
    let first: u64 = first.parse().expect("a number");
    assert!(first >= size, "from {first}, with {size} there");
}

/// Returns the ranges that were requested of the image's layer.
fn requested_ranges(upstream: &Upstream, image: &Image) -> Vec<String> {
    let layer = digest(&image.compressed()[0]);
    let seen = upstream.requests();
    let requests = seen
        .iter()
        .filter(|request| request.method == "GET" && request.target.ends_with(&layer));
    let ranges = requests.filter_map(|request| request.header("range").map(str::to_owned));
    ranges.collect()
}

#[test]
fn a_source_that_closes_the_connection_is_asked_for_the_rest() {
    for target in ["oci", "oci-archive"] {
        let fixture = ArchiveFixture::new();
        let (upstream, image) = stalled_source(0);
        upstream.configure(|settings| {
            settings.pause_blob_at = None;
            settings.cut_blob_at = Some(1_500_000);
        });
        let local_reference = format!("{target}:{}", fixture.path("it").display());
        let from = format!("{}/{FROM}:v1", upstream.address());
        fixture.mirror(&from, &local_reference).succeeded();
        assert_eq!(requested_ranges(&upstream, &image), ["bytes=1500000-"]);
        let server = Server::start(&fixture.scratch.folder("target"));
        let to = format!("{}/{TO}:v1", server.address());
        fixture
            .mirror(&format!("{local_reference}:v1"), &to)
            .succeeded();
        let found = check::at_registry(server.address(), &format!("{TO}:v1"));
        assert_eq!(found.config, image.id());
    }
}

#[test]
fn a_killed_mirror_leaves_no_archive_and_keeps_the_old_one() {
    let fixture = ArchiveFixture::new();
    let path = fixture.path("it.tar");
    let local_reference = format!("oci-archive:{}", path.display());
    let (upstream, _) = stalled_source(1_000_000);
    let from = format!("{}/{FROM}:v1", upstream.address());
    let kill_during_mirror = || {
        let mut command = fixture.command(&from, &local_reference);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("imgsync starts");
        let part = fixture.path(".it.tar.imgsync-part");
        wait_until("a part on the disk", || {
            (part.metadata().ok()?.len() > 500_000).then_some(())
        });
        child.kill().expect("the status of the child");
        child.wait().expect("an exit status");
    };
    kill_during_mirror();
    assert!(!path.exists());

    let server = Server::start(&fixture.scratch.folder("source"));
    push_content(server.address());
    fixture
        .mirror(&format!("{}/{FROM}:v2", server.address()), &local_reference)
        .succeeded();
    let before = std::fs::read(&path).expect("an archive");
    kill_during_mirror();
    assert_eq!(std::fs::read(&path).expect("an archive"), before);

    upstream.configure(|settings| settings.pause_blob_at = None);
    fixture.mirror(&from, &local_reference).succeeded();
    assert!(!fixture.path(".it.tar.imgsync-part").exists());
    let target = Server::start(&fixture.scratch.folder("target"));
    fixture
        .mirror(&local_reference, &format!("{}/{TO}", target.address()))
        .succeeded();
    for tag in ["v1", "v2"] {
        check::at_registry(target.address(), &format!("{TO}:{tag}"));
    }
}
