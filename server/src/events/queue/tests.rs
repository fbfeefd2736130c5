//! Tests of queues: order, restarts, limits, full disks and power cuts.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::segments::MAX_SEGMENT_BYTES;
use super::*;
use crate::store::Store;

const NAME: &str = "0123456789abcdef";

fn open(root: &Path) -> EventQueue {
    open_in(&Arc::new(Store::open(root).unwrap()), None)
}

fn open_in(store: &Arc<Store>, key: Option<EntryKey>) -> EventQueue {
    EventQueue::open("endpoint a", store.queue_files(NAME), key)
}

/// Returns a store on which no change succeeds while the flag is set.
fn failing_store(root: &Path) -> (Arc<Store>, Arc<AtomicBool>) {
    let is_failing = Arc::new(AtomicBool::new(false));
    let hook = {
        let is_failing = Arc::clone(&is_failing);
        move || {
            if is_failing.load(Relaxed) {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
    };
    let store = Store::open_with_hook(root, hook).unwrap();
    (Arc::new(store), is_failing)
}

fn add_durably(queue: &EventQueue, text: &str) {
    queue.add(text.into(), Importance::Durable);
    queue.flush(true).unwrap();
}

/// Returns the texts of the next entries, at most `limit`, and the number of the last one.
fn drain(queue: &EventQueue, limit: usize) -> (Vec<String>, u64) {
    let (mut texts, mut done) = (Vec::new(), 0);
    while texts.len() < limit
        && let Some(entry) = queue.next(done).unwrap()
    {
        assert!(entry.number > done);
        done = entry.number;
        texts.push(entry.text.to_string());
    }
    queue.next(done).unwrap();
    (texts, done)
}

fn texts(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    let numbers = numbers.into_iter();
    numbers.map(|number| format!("event {number}")).collect()
}

#[test]
fn entries_keep_their_order_over_restarts() {
    let root = tempfile::tempdir().unwrap();
    let all = texts(0..300);
    let mut received = Vec::new();
    for (round, part) in all.chunks(30).enumerate() {
        let queue = open(root.path());
        for (index, text) in part.iter().enumerate() {
            if (round + index) % 3 == 0 {
                queue.add(text.as_str().into(), Importance::BestEffort);
            } else {
                add_durably(&queue, text);
            }
        }
        queue.flush(false).unwrap();
        received.extend(drain(&queue, 20 + round * 3).0);
    }
    let queue = open(root.path());
    assert_eq!(queue.waiting(), (all.len() - received.len()) as u64);
    received.extend(drain(&queue, usize::MAX).0);
    assert_eq!(received, all);
    assert_eq!((queue.waiting(), queue.lost()), (0, 0));
    // Segments that were sent are removed, except for the last one.
    let folder = root.path().join("imgsync/events-1").join(NAME);
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2);
}

#[test]
fn an_entry_that_was_not_confirmed_comes_again() {
    let root = tempfile::tempdir().unwrap();
    let queue = open(root.path());
    for text in texts(0..3) {
        add_durably(&queue, &text);
    }
    assert_eq!(&*queue.next(0).unwrap().unwrap().text, "event 0");
    let first = queue.next(0).unwrap().unwrap();
    assert_eq!(&*first.text, "event 0");
    assert_eq!(&*queue.next(first.number).unwrap().unwrap().text, "event 1");
    drop(queue);
    let queue = open(root.path());
    assert_eq!(&*queue.next(0).unwrap().unwrap().text, "event 1");
}

#[test]
fn pulls_that_are_sent_at_once_are_not_written() {
    let root = tempfile::tempdir().unwrap();
    let queue = open(root.path());
    for text in texts(0..10) {
        queue.add(text.into(), Importance::BestEffort);
    }
    assert_eq!(drain(&queue, usize::MAX).0, texts(0..10));
    queue.flush(false).unwrap();
    assert!(!root.path().join("imgsync/events-1").exists());
    add_durably(&queue, "event 10");
    drop(queue);
    assert_eq!(drain(&open(root.path()), usize::MAX).0, texts(10..11));
}

#[test]
fn a_storm_of_pulls_leaves_room_and_the_oldest_pushes_give_way() {
    let root = tempfile::tempdir().unwrap();
    let queue = open(root.path());
    for number in 0..3000 {
        queue.add(format!("pull {number:030}").into(), Importance::BestEffort);
        if number % 100 == 0 {
            queue.flush(false).unwrap();
        }
    }
    queue.flush(false).unwrap();
    let pulls = queue.waiting();
    assert_eq!(pulls + queue.lost(), 3000);
    let stored = queue.disk_bytes.load(Relaxed);
    assert!(stored < MAX_QUEUE_BYTES / 2 + 100 * 100, "{stored}");
    add_durably(&queue, "push");
    let (received, _) = drain(&queue, usize::MAX);
    assert_eq!(received.last().unwrap(), "push");
    assert_eq!(received.len() as u64, pulls + 1);

    let lost = queue.lost();
    for number in 0..500 {
        add_durably(&queue, &format!("push {number:030}"));
    }
    assert!(queue.disk_bytes.load(Relaxed) <= MAX_QUEUE_BYTES);
    let (received, _) = drain(&queue, usize::MAX);
    assert!(received.len() < 500);
    assert_eq!(received.len() as u64 + queue.lost() - lost, 500);
    let first = 500 - received.len();
    let expected: Vec<_> = (first..500)
        .map(|number| format!("push {number:030}"))
        .collect();
    assert_eq!(received, expected);
}

#[test]
fn only_the_last_entry_with_a_key_is_sent_also_after_a_restart() {
    let key: EntryKey = |text| Some(text.split(' ').next()?.to_owned());
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(root.path()).unwrap());
    let queue = open_in(&store, Some(key));
    for text in ["a 1", "b 1", "a 2", "c 1", "a 3"] {
        add_durably(&queue, text);
    }
    let first = queue.next(0).unwrap().unwrap();
    assert_eq!(&*first.text, "b 1");
    // What is being sent is replaced, too.
    add_durably(&queue, "b 2");
    assert_eq!(&*queue.next(0).unwrap().unwrap().text, "c 1");
    drop(queue);
    let queue = open_in(&store, Some(key));
    assert_eq!(drain(&queue, usize::MAX).0, ["c 1", "a 3", "b 2"]);
    assert_eq!((queue.waiting(), queue.lost()), (0, 0));
    add_durably(&queue, "a 4");
    assert_eq!(drain(&queue, usize::MAX).0, ["a 4"]);
}

#[test]
fn damaged_lines_are_skipped() {
    let root = tempfile::tempdir().unwrap();
    let queue = open(root.path());
    for text in texts(0..5) {
        add_durably(&queue, &text);
    }
    drop(queue);
    let path = root.path().join("imgsync/events-1").join(NAME);
    let path = path.join(format!("{:020}", 1));
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let long = vec![b'x'; entry::MAX_LINE_BYTES * 2];
    std::fs::write(&path, [&bytes[..], &long, &[0; 100]].concat()).unwrap();
    let queue = open(root.path());
    assert_eq!(drain(&queue, usize::MAX).0, texts([0, 1, 3, 4]));
    add_durably(&queue, "event 5");
    assert_eq!(drain(&queue, usize::MAX).0, texts(5..6));
    assert_eq!((queue.waiting(), queue.lost()), (0, 0));
}

#[test]
fn entries_wait_in_memory_while_the_disk_is_full() {
    let root = tempfile::tempdir().unwrap();
    let (store, is_full) = failing_store(root.path());
    let queue = open_in(&store, None);
    add_durably(&queue, "event 0");
    is_full.store(true, Relaxed);
    for text in texts(1..4) {
        queue.add(text.into(), Importance::Durable);
        assert!(queue.flush(true).is_err());
    }
    assert_eq!(drain(&queue, 2).0, texts(0..2));
    is_full.store(false, Relaxed);
    queue.flush(true).unwrap();
    queue.next(2).unwrap();
    let queue = open_in(&store, None);
    assert_eq!(drain(&queue, usize::MAX).0, texts(2..4));
    is_full.store(true, Relaxed);
    for text in texts(0..1100) {
        queue.add(text.into(), Importance::Durable);
    }
    assert!(queue.flush(true).is_err());
    assert_eq!((queue.waiting(), queue.lost()), (1000, 100));
    assert_eq!(drain(&queue, usize::MAX).0, texts(100..1100));
}

#[test]
fn too_many_entries_in_memory_do_not_displace_those_on_a_full_disk() {
    let root = tempfile::tempdir().unwrap();
    let (store, is_full) = failing_store(root.path());
    let queue = open_in(&store, None);
    for text in texts(0..5) {
        add_durably(&queue, &text);
    }
    is_full.store(true, Relaxed);
    for text in texts(5..1105) {
        queue.add(text.into(), Importance::Durable);
    }
    assert!(queue.flush(true).is_err());
    assert_eq!(queue.lost(), 100);
    assert_eq!(drain(&queue, usize::MAX).0, texts((0..5).chain(105..1105)));
    assert_eq!((queue.waiting(), queue.lost()), (0, 100));
}

#[test]
fn an_entry_in_memory_does_not_pass_those_that_cannot_be_read() {
    let root = tempfile::tempdir().unwrap();
    let queue = open(root.path());
    for text in texts(0..3) {
        add_durably(&queue, &text);
    }
    let folder = root.path().join("imgsync/events-1").join(NAME);
    let (segment, moved) = (folder.join(format!("{:020}", 1)), root.path().join("moved"));
    std::fs::rename(&segment, &moved).unwrap();
    std::fs::create_dir(&segment).unwrap();
    queue.add("event 3".into(), Importance::BestEffort);
    assert!(queue.next(0).is_err());
    assert!(queue.flush(true).is_err());
    assert!(queue.next(0).is_err());
    assert_eq!((queue.waiting(), queue.lost()), (4, 0));
    std::fs::remove_dir(&segment).unwrap();
    std::fs::rename(&moved, &segment).unwrap();
    assert_eq!(drain(&queue, usize::MAX).0, texts(0..4));
    assert_eq!((queue.waiting(), queue.lost()), (0, 0));
}

#[test]
fn a_segment_that_cannot_be_removed_keeps_back_no_entry() {
    let root = tempfile::tempdir().unwrap();
    let (store, is_failing) = failing_store(root.path());
    let queue = open_in(&store, None);
    let texts: Vec<_> = (0..12).map(|number| format!("{number:0600}")).collect();
    for text in &texts {
        add_durably(&queue, text);
    }
    is_failing.store(true, Relaxed);
    assert_eq!(drain(&queue, usize::MAX).0, texts);
    assert_eq!((queue.waiting(), queue.lost()), (0, 0));
}

#[test]
fn a_read_only_folder_keeps_entries_in_memory() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open_unwritable(root.path()).unwrap());
    let queue = open_in(&store, None);
    for text in texts(0..1100) {
        queue.add(text.into(), Importance::BestEffort);
        queue.flush(false).unwrap();
    }
    assert_eq!(queue.lost(), 100);
    assert_eq!(drain(&queue, usize::MAX).0, texts(0..1000));
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn a_power_cut_loses_no_durable_entry() {
    let root = tempfile::tempdir().unwrap();
    let (store, recording) = Store::open_recorded(root.path()).unwrap();
    let store = Arc::new(store);
    let queue = open_in(&store, None);
    // Enough for several segments.
    let texts: Vec<_> = (0..12).map(|number| format!("{number:0600}")).collect();
    assert!(texts.len() as u64 * 600 > 3 * MAX_SEGMENT_BYTES);
    // The changes to the disk at which each entry was durable, and at which it was first sent.
    let (mut durable, mut sent) = (Vec::new(), Vec::new());
    let mut done = 0;
    for (index, text) in texts.iter().enumerate() {
        queue.add(text.as_str().into(), Importance::Durable);
        queue.flush(true).unwrap();
        durable.push(recording.len());
        if index % 2 == 1 {
            let entry = queue.next(done).unwrap().unwrap();
            assert_eq!(&*entry.text, texts[sent.len()]);
            sent.push(recording.len());
            done = entry.number;
        }
    }
    drop((queue, store));
    for count in 0..=recording.len() {
        let first = sent.iter().filter(|at| **at <= count).count();
        let end = durable.iter().filter(|at| **at <= count).count();
        for snapshot in recording.states_after_power_cut(count) {
            let root = tempfile::tempdir().unwrap();
            snapshot.write_to(root.path());
            let (received, _) = drain(&open(root.path()), usize::MAX);
            let expected = &texts[first.min(end)..end];
            assert!(
                received
                    .windows(expected.len().max(1))
                    .any(|part| part == expected)
                    || expected.is_empty(),
                "{count}: {received:?}"
            );
            assert!(received.is_sorted(), "{count}: {received:?}");
        }
    }
}

#[test]
fn numbers_that_no_queue_reaches_are_damage() {
    let root = tempfile::tempdir().unwrap();
    add_durably(&open(root.path()), "event 0");
    let folder = root.path().join("imgsync/events-1").join(NAME);
    std::fs::write(folder.join("sent"), format!("{}\n", u64::MAX)).unwrap();
    let segment = std::fs::read(folder.join(format!("{:020}", 1))).unwrap();
    std::fs::write(folder.join(u64::MAX.to_string()), segment).unwrap();
    let queue = open(root.path());
    add_durably(&queue, "event 1");
    assert_eq!(drain(&queue, usize::MAX).0, texts(0..2));
}

#[test]
fn a_wrong_number_of_the_last_sent_entry_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let queue = open(root.path());
    for text in texts(0..3) {
        add_durably(&queue, &text);
    }
    drain(&queue, 1);
    drop(queue);
    let folder = root.path().join("imgsync/events-1").join(NAME);
    std::fs::write(folder.join("sent"), format!("{:020}\n", 900)).unwrap();
    assert_eq!(drain(&open(root.path()), usize::MAX).0, texts(0..3));
}
