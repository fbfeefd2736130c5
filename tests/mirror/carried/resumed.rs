//! Archives and layouts that were cut off, and sources that break off.

use std::collections::BTreeMap;

use super::{ArchiveFixture, FROM, TO, assert_whole, held_up, seeded};
use crate::support::prelude::*;
use crate::support::{Throttle, Trigger};

#[test]
fn a_layout_that_was_cut_at_any_moment_goes_on() {
    let fixture = ArchiveFixture::new();
    let source = Server::start(&fixture.scratch.folder("source"));
    let content = seeded(source.address());
    let folder = fixture.path("layout");
    let place = format!("oci:{}", folder.display());
    let mut down = 0;
    let mut kills = 0;
    // Slow, so that little is on its way at the moment of a kill.
    let slow = Throttle {
        bytes_per_second: Some(2_000_000),
        ..Throttle::default()
    };
    // As long as it takes: each run comes a little further than the one before.
    loop {
        let relay = Relay::start_throttled(source.address(), RelayFault::None, slow);
        let from = format!("{}/{FROM}", relay.address());
        let mut command = fixture.command(&from, &place);
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
                .expect("a child of ours")
        });
        down += relay.traffic().down;
        let tags = assert_whole_so_far(&folder);
        if status.success() {
            assert_eq!(tags, content.tags);
            break;
        }
        kills += 1;
        assert!(kills < 50, "it does not get any further");
    }
    assert!((2..20).contains(&kills), "{kills}");
    let content: u64 = archive::read_folder(&folder)
        .iter()
        .map(|it| it.bytes.len() as u64)
        .sum();
    // What was on its way at each kill, and manifests and lists that were asked for again.
    let spare = kills * 150_000;
    assert!(
        down < content + spare,
        "{down} bytes for {content}, {kills} kills"
    );
    let names: Vec<_> = std::fs::read_dir(&folder).expect("a folder").collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

/// What a reader sees after a kill: parts lie aside.
fn assert_whole_so_far(folder: &Path) -> BTreeMap<String, String> {
    match folder.exists() {
        true => assert_whole(folder),
        false => BTreeMap::new(),
    }
}

#[test]
fn a_blob_goes_on_from_where_the_part_ends() {
    let fixture = ArchiveFixture::new();
    let (upstream, image) = held_up(1_000_000);
    let folder = fixture.path("layout");
    let place = format!("oci:{}", folder.display());
    let from = format!("{}/{FROM}:v1", upstream.address());
    let mut command = fixture.command(&from, &place);
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
    child.kill().expect("a child of ours");
    child.wait().expect("its end");
    assert!(!folder.join("index.json").exists());

    upstream.configure(|settings| settings.pause_blob_at = None);
    upstream.clear_requests();
    fixture.mirror(&from, &place).succeeded();
    assert_eq!(assert_whole(&folder).len(), 1);
    let ranges = ranges(&upstream, &image);
    let first = ranges.first().expect("a range");
    let first = first.trim_start_matches("bytes=").trim_end_matches('-');
    let first: u64 = first.parse().expect("a number");
    assert!(first >= size, "from {first}, with {size} there");
}

/// The ranges that were asked for of the image's layer.
fn ranges(upstream: &Upstream, image: &Image) -> Vec<String> {
    let layer = digest(&image.compressed()[0]);
    let seen = upstream.requests();
    let asked = seen
        .iter()
        .filter(|it| it.method == "GET" && it.target.ends_with(&layer));
    let ranges = asked.filter_map(|it| it.header("range").map(str::to_owned));
    ranges.collect()
}

#[test]
fn a_source_that_breaks_off_is_asked_for_the_rest() {
    for target in ["oci", "oci-archive"] {
        let fixture = ArchiveFixture::new();
        let (upstream, image) = held_up(0);
        upstream.configure(|settings| {
            settings.pause_blob_at = None;
            settings.cut_blob_at = Some(1_500_000);
        });
        let place = format!("{target}:{}", fixture.path("it").display());
        let from = format!("{}/{FROM}:v1", upstream.address());
        fixture.mirror(&from, &place).succeeded();
        assert_eq!(ranges(&upstream, &image), ["bytes=1500000-"]);
        let server = Server::start(&fixture.scratch.folder("target"));
        let to = format!("{}/{TO}:v1", server.address());
        fixture.mirror(&format!("{place}:v1"), &to).succeeded();
        let found = check::at_registry(server.address(), &format!("{TO}:v1"));
        assert_eq!(found.config, image.id());
    }
}

#[test]
fn an_archive_that_was_cut_is_not_there_and_the_old_one_still_is() {
    let fixture = ArchiveFixture::new();
    let path = fixture.path("it.tar");
    let place = format!("oci-archive:{}", path.display());
    let (upstream, _) = held_up(1_000_000);
    let from = format!("{}/{FROM}:v1", upstream.address());
    let killed = || {
        let mut command = fixture.command(&from, &place);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("imgsync starts");
        let part = fixture.path(".it.tar.imgsync-part");
        wait_until("a part on the disk", || {
            (part.metadata().ok()?.len() > 500_000).then_some(())
        });
        child.kill().expect("a child of ours");
        child.wait().expect("its end");
    };
    killed();
    assert!(!path.exists());

    let server = Server::start(&fixture.scratch.folder("source"));
    seeded(server.address());
    fixture
        .mirror(&format!("{}/{FROM}:v2", server.address()), &place)
        .succeeded();
    let before = std::fs::read(&path).expect("an archive");
    killed();
    assert_eq!(std::fs::read(&path).expect("an archive"), before);

    upstream.configure(|settings| settings.pause_blob_at = None);
    fixture.mirror(&from, &place).succeeded();
    assert!(!fixture.path(".it.tar.imgsync-part").exists());
    let target = Server::start(&fixture.scratch.folder("target"));
    fixture
        .mirror(&place, &format!("{}/{TO}", target.address()))
        .succeeded();
    for tag in ["v1", "v2"] {
        check::at_registry(target.address(), &format!("{TO}:{tag}"));
    }
}
