//! Tests the totals, the time left, and what is said about them.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MB: u64 = 1_000_000;

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// Moves `bytes` bytes of a blob each second, and returns the time after that.
fn send(
    progress: &mut Progress,
    name: &str,
    offsets: impl Iterator<Item = u64>,
    start: Instant,
) -> Instant {
    let mut now = start;
    for offset in offsets {
        now += SECOND;
        progress.update_blob(&digest(name), offset, now);
    }
    now
}

#[test]
fn the_total_is_known_before_the_first_byte_and_grows_only_by_what_is_compressed() {
    let mut progress = Progress::new(TransferVerb::Send);
    let now = Instant::now();
    progress.plan(&[
        PlannedSize::Exact(10 * MB),
        PlannedSize::Uncompressed(50 * MB),
        PlannedSize::Exact(MB),
    ]);
    let line = |progress: &Progress| progress.line(now).unwrap();
    assert_eq!(
        line(&progress),
        "sent 0 B of 11.0 MB, 50.0 MB still to compress"
    );
    progress.start_blob((&digest("one"), "one".to_owned(), 10 * MB), 0, now);
    assert_eq!(progress.totals().size, 11 * MB);
    progress.record_compressed(50 * MB, 20 * MB);
    assert_eq!(line(&progress), "sent 0 B of 31.0 MB");
    // The registry turns out to have a blob.
    progress.skip_blob(MB);
    progress.finish_blob(&digest("one"));
    assert_eq!(line(&progress), "sent 10.0 MB of 30.0 MB");
    progress.start_blob((&digest("two"), "two".to_owned(), 20 * MB), 0, now);
    progress.finish_blob(&digest("two"));
    assert!(!progress.is_busy());
}

#[test]
fn without_a_plan_the_total_is_that_of_the_blobs_that_have_started() {
    let mut progress = Progress::new(TransferVerb::Fetch);
    let now = Instant::now();
    progress.skip_blob(MB);
    progress.start_blob((&digest("one"), "one".to_owned(), 2 * MB), 0, now);
    assert_eq!(progress.line(now).unwrap(), "fetched 0 B of 2.0 MB");
    assert_eq!(
        progress.finish_blob(&digest("one")),
        Some(("one".to_owned(), 2 * MB))
    );
    assert!(!progress.is_busy());
}

#[test]
fn bytes_of_an_earlier_run_count_for_the_position_and_not_for_the_rate() {
    let mut progress = Progress::new(TransferVerb::Send);
    let start = Instant::now();
    progress.plan(&[PlannedSize::Exact(100 * MB)]);
    progress.start_blob((&digest("one"), "one".to_owned(), 100 * MB), 60 * MB, start);
    let now = send(&mut progress, "one", (61..=70).map(|mb| mb * MB), start);
    let left = Some(30 * SECOND);
    assert_eq!(progress.pace(now), Pace::Moving(MB, left));
    assert_eq!(
        progress.line(now).unwrap(),
        "sent 70.0 MB of 100.0 MB, 1.0 MB/s, 30 s left"
    );
    // After an error the registry has less. Bytes that are sent again do move.
    progress.update_blob(&digest("one"), 65 * MB, now);
    assert_eq!(progress.position(), 65 * MB);
    let now = send(&mut progress, "one", (66..=75).map(|mb| mb * MB), now);
    assert_eq!(progress.pace(now), Pace::Moving(MB, Some(25 * SECOND)));
}

#[test]
fn a_stall_is_said() {
    let mut progress = Progress::new(TransferVerb::Send);
    let start = Instant::now();
    progress.plan(&[PlannedSize::Exact(10 * MB)]);
    progress.start_blob((&digest("one"), "one".to_owned(), 10 * MB), 0, start);
    assert_eq!(progress.pace(start), Pace::Unknown);
    let now = send(&mut progress, "one", (1..=4).map(|mb| mb * MB), start);
    assert_eq!(
        progress.line(now + 7 * SECOND).unwrap(),
        "sent 4.0 MB of 10.0 MB, stalled for 7 s"
    );
    // The pause before another blob is none.
    progress.finish_blob(&digest("one"));
    let later = now + 60 * SECOND;
    assert_eq!(progress.pace(later), Pace::Unknown);
    progress.start_blob((&digest("two"), "two".to_owned(), 10 * MB), 0, later);
    assert_eq!(progress.pace(later), Pace::Unknown);
}

#[test]
fn complete_blobs_wait_for_the_registry() {
    let mut progress = Progress::new(TransferVerb::Send);
    let start = Instant::now();
    progress.plan(&[
        PlannedSize::Exact(4 * MB),
        PlannedSize::Uncompressed(4 * MB),
    ]);
    progress.start_blob((&digest("one"), "one".to_owned(), 4 * MB), 0, start);
    let now = send(&mut progress, "one", (1..=4).map(|mb| mb * MB), start);
    // Sent blobs wait until the last one is compressed.
    assert_eq!(progress.pace(now + 60 * SECOND), Pace::Unknown);
    progress.record_compressed(4 * MB, 0);
    assert_eq!(progress.pace(now + 60 * SECOND), Pace::Finishing);
}

#[test]
fn tasks_are_described() {
    let mut progress = Progress::new(TransferVerb::Send);
    let start = Instant::now();
    let now = start + 3 * SECOND;
    assert_eq!(progress.line(now), None);
    let export = progress.start_task("exporting".to_owned(), Some(8 * MB), start);
    let compression = progress.start_task("compressing".to_owned(), None, start);
    let line = |progress: &Progress| progress.line(now).unwrap();
    assert_eq!(line(&progress), "exporting: 3 s");
    progress.update_task(export, MB);
    assert_eq!(line(&progress), "exporting: 1.0 MB of 8.0 MB, 3 s");
    // The stated size was too small.
    progress.update_task(export, 9 * MB);
    assert_eq!(line(&progress), "exporting: 9.0 MB, 3 s");
    progress.finish_task(export);
    progress.update_task(compression, MB);
    assert_eq!(line(&progress), "compressing: 1.0 MB, 3 s");
}

/// The start of a layer is sent before the layer is compressed and has a digest.
#[test]
fn bytes_that_were_sent_before_a_blob_was_known_do_not_count_for_the_rate() {
    let mut progress = Progress::new(TransferVerb::Send);
    let start = Instant::now();
    progress.plan(&[PlannedSize::Exact(100 * MB)]);
    progress.start_blob((&digest("one"), "one".to_owned(), 100 * MB), 0, start);
    progress.update_blob(&digest("one"), 60 * MB, start);
    let now = send(&mut progress, "one", (61..=70).map(|mb| mb * MB), start);
    assert_eq!(progress.pace(now), Pace::Moving(MB, Some(30 * SECOND)));
    assert_eq!(progress.position(), 70 * MB);
}
