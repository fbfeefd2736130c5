use super::*;

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

#[test]
fn mirrored_tags_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/record.json");
    let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
    let record = MirrorRecord::open(&path, "a → b").unwrap().unwrap();
    assert!(record.is_empty());
    record.record_tag(&tag("v1"), &one, None).unwrap();
    record.record_tag(&tag("v1"), &two, None).unwrap();
    record.record_tag(&tag("v2"), &one, Some(&two)).unwrap();
    // The run is killed: it does not write the record again.
    drop(record);

    let record = MirrorRecord::open(&path, "a → b").unwrap().unwrap();
    let mirrored = record.mirrored_tags();
    assert_eq!(mirrored[&tag("v1")], [one.clone(), two.clone()]);
    assert_eq!(mirrored[&tag("v2")], std::slice::from_ref(&one));
    assert_eq!(
        record.tag_subjects()[&tag("v2")],
        HashSet::from([two.clone()])
    );
    record.settle_tag(&tag("v1"), &one, None);
    assert_eq!(
        record.mirrored_tags()[&tag("v1")].len(),
        2,
        "not the last digest"
    );
    record.settle_tag(&tag("v1"), &two, None);
    record.settle_tag(&tag("v2"), &one, Some(&one));
    assert_eq!(record.tag_subjects()[&tag("v2")].len(), 2);
    record.settle_tag(&tag("v3"), &two, Some(&two));
    record.forget(&tag("v2"));
    assert!(
        record.tag_subjects().is_empty(),
        "tags of others are not recorded"
    );
    record.write().unwrap();
    drop(record);

    let record = MirrorRecord::open_read_only(&path, "a → b").unwrap();
    assert_eq!(
        record.mirrored_tags(),
        BTreeMap::from([(tag("v1"), vec![two])])
    );
    assert!(
        MirrorRecord::open_read_only(&path, "a → c")
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_truncated_line_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.json");
    let one = Digest::of(b"1");
    let record = MirrorRecord::open(&path, "a → b").unwrap().unwrap();
    record.record_tag(&tag("v1"), &one, None).unwrap();
    record.record_tag(&tag("v2"), &one, Some(&one)).unwrap();
    drop(record);
    let text = std::fs::read(&path).unwrap();
    let counts = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let record = MirrorRecord::open_read_only(&path, "a → b").unwrap();
        (record.mirrored_tags().len(), record.tag_subjects().len())
    };
    assert_eq!(counts(&text), (2, 1));
    assert_eq!(counts(&text[..text.len() - 1]), (1, 0));
    assert_eq!(counts(&[&text[..], &[0; 20]].concat()), (2, 1));
    // If a line cannot be appended, the whole record is written.
    let record = MirrorRecord::open(&path, "a → b").unwrap().unwrap();
    *record.lines.lock().unwrap() = Some(File::open(&path).unwrap());
    record.record_tag(&tag("v3"), &one, None).unwrap();
    let text = std::fs::read(&path).unwrap();
    assert_eq!(counts(&text), (3, 1));
}

#[test]
fn one_run_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.json");
    let first = MirrorRecord::open(&path, "a → b").unwrap().unwrap();
    let failure = MirrorRecord::open(&path, "c → d").unwrap_err();
    assert!(failure.what.contains("another"), "{}", failure.what);
    MirrorRecord::open_read_only(&path, "a → b").unwrap();
    drop(first);
    MirrorRecord::open(&path, "c → d").unwrap();
}

#[test]
fn invalid_and_empty_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.json");
    for bad in ["{", "[]", r#"{"version":2,"mirrors":{}}"#] {
        std::fs::write(&path, bad).unwrap();
        let failure = MirrorRecord::open(&path, "a").unwrap_err();
        assert!(
            failure.what.contains("not a valid record"),
            "{}",
            failure.what
        );
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            bad,
            "the file is kept"
        );
    }
    std::fs::write(&path, "").unwrap();
    MirrorRecord::open(&path, "a").unwrap();
}
