//! Tests the layout in terminals of several sizes.

use std::time::Duration;

use imgsync_oci::Digest;

use super::*;
use crate::report::{PlannedSize, TransferVerb};

const MB: u64 = 1_000_000;

fn text(line: &StyledLine) -> String {
    line.iter().map(|(_, text)| &**text).collect()
}

fn shown(progress: &Progress, rows: usize, columns: usize, now: Instant) -> Vec<String> {
    let size = TerminalSize { rows, columns };
    let lines = layout(progress, size, now);
    lines.iter().map(text).collect()
}

fn start_blob(progress: &mut Progress, label: &str, size: u64, offset: u64, now: Instant) {
    let digest = Digest::of(label.as_bytes());
    progress.start_blob((&digest, label.to_owned(), size), offset, now);
}

/// Returns a push of two layers, 3 seconds after its start.
fn push() -> (Progress, Instant) {
    let start = Instant::now();
    let mut progress = Progress::new(TransferVerb::Send);
    progress.plan(&[
        PlannedSize::Exact(40 * MB),
        PlannedSize::Exact(10 * MB),
        PlannedSize::Uncompressed(80 * MB),
    ]);
    let now = start + Duration::from_secs(3);
    progress.start_task("compressing layer 2b".to_owned(), Some(80 * MB), start);
    progress.update_task(0, 60 * MB);
    start_blob(
        &mut progress,
        "layer 3dce3ae6275d (COPY app)",
        40 * MB,
        0,
        start,
    );
    start_blob(
        &mut progress,
        "layer 7128c389920b (RUN apt-get install)",
        10 * MB,
        0,
        start,
    );
    let digest = Digest::of(b"layer 3dce3ae6275d (COPY app)");
    progress.update_blob(&digest, 20 * MB, now);
    (progress, now)
}

#[test]
fn a_bar_for_each_task_and_transfer() {
    let (progress, now) = push();
    let expected = [
        "compressing layer 2b                     [===========>    ]  60.0 MB / 80.0 MB",
        "layer 3dce3ae6275d (COPY app)            [=======>        ]  20.0 MB / 40.0 MB",
        "layer 7128c389920b (RUN apt-get install) [                ]      0 B / 10.0 MB",
        "total                                    [=====>          ]  20.0 MB / 50.0 MB",
        "6.7 MB/s, 80.0 MB still to compress",
    ];
    assert_eq!(shown(&progress, 24, 80, now), expected);
}

#[test]
fn every_line_fits_into_every_terminal() {
    let (mut progress, now) = push();
    start_blob(
        &mut progress,
        "layer 語語語語語語語語語語語語語語語語語語語",
        MB,
        0,
        now,
    );
    for columns in 1..150 {
        for rows in 1..8 {
            let lines = shown(&progress, rows, columns, now);
            assert!(lines.len() < rows.max(2), "{rows} rows: {lines:#?}");
            for line in &lines {
                let width = measure_text_width(line);
                assert!(width < columns.max(2), "{columns} columns: {line:?}");
            }
        }
    }
    assert_eq!(
        shown(&progress, 5, 30, now),
        [
            "compres..  60.0 MB / 80.0 MB",
            "and 3 more",
            "total      20.0 MB / 50.0 MB",
            "6.7 MB/s, 80.0 MB still to co",
        ]
    );
}

#[test]
fn a_task_without_a_size_has_a_mark_that_moves() {
    let start = Instant::now();
    let mut progress = Progress::new(TransferVerb::Send);
    let id = progress.start_task("exporting".to_owned(), Some(MB), start);
    let line = |progress: &Progress, millis| {
        let now = start + Duration::from_millis(millis);
        shown(progress, 24, 42, now).remove(0)
    };
    assert_eq!(line(&progress, 0), "exporting [<=>      ] ");
    assert_eq!(line(&progress, 1200), "exporting [      <=>] ");
    assert_eq!(line(&progress, 1400), "exporting [     <=> ] ");
    progress.update_task(id, 2 * MB);
    assert_eq!(line(&progress, 0), "exporting [<=>      ]   2.0 MB");
}

#[test]
fn nothing_is_shown_of_an_idle_command() {
    let progress = Progress::new(TransferVerb::Send);
    assert!(shown(&progress, 24, 80, Instant::now()).is_empty());
}
