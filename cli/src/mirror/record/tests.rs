use super::*;

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

#[test]
fn what_was_brought_is_known_whenever_the_mirror_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/record.json");
    let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
    let record = Record::open(&path, "a → b").unwrap().unwrap();
    assert!(record.is_empty());
    record.before(&tag("v1"), &one, None).unwrap();
    record.before(&tag("v1"), &two, None).unwrap();
    record.before(&tag("v2"), &one, Some(&two)).unwrap();
    // Killed: nothing more is said.
    drop(record);

    let record = Record::open(&path, "a → b").unwrap().unwrap();
    let brought = record.brought();
    assert_eq!(brought[&tag("v1")], [one.clone(), two.clone()]);
    assert_eq!(brought[&tag("v2")], std::slice::from_ref(&one));
    assert_eq!(record.about()[&tag("v2")], HashSet::from([two.clone()]));
    record.settled(&tag("v1"), &one, None);
    assert_eq!(record.brought()[&tag("v1")].len(), 2, "not the last one");
    record.settled(&tag("v1"), &two, None);
    record.settled(&tag("v2"), &one, Some(&one));
    assert_eq!(record.about()[&tag("v2")].len(), 2);
    record.settled(&tag("v3"), &two, Some(&two));
    record.forget(&tag("v2"));
    assert!(record.about().is_empty(), "others' tags are not noted");
    record.write().unwrap();
    drop(record);

    let record = Record::look(&path, "a → b").unwrap();
    assert_eq!(record.brought(), BTreeMap::from([(tag("v1"), vec![two])]));
    assert!(Record::look(&path, "a → c").unwrap().is_empty());
}

#[test]
fn a_line_that_was_cut_off_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.json");
    let one = Digest::of(b"1");
    let record = Record::open(&path, "a → b").unwrap().unwrap();
    record.before(&tag("v1"), &one, None).unwrap();
    record.before(&tag("v2"), &one, Some(&one)).unwrap();
    drop(record);
    let text = std::fs::read(&path).unwrap();
    let known = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let record = Record::look(&path, "a → b").unwrap();
        (record.brought().len(), record.about().len())
    };
    assert_eq!(known(&text), (2, 1));
    assert_eq!(known(&text[..text.len() - 1]), (1, 0));
    assert_eq!(known(&[&text[..], &[0; 20]].concat()), (2, 1));
    // A failed line is not added to: all is written anew.
    let record = Record::open(&path, "a → b").unwrap().unwrap();
    *record.lines.lock().unwrap() = Some(File::open(&path).unwrap());
    record.before(&tag("v3"), &one, None).unwrap();
    let text = std::fs::read(&path).unwrap();
    assert_eq!(known(&text), (3, 1));
}

#[test]
fn one_run_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.json");
    let first = Record::open(&path, "a → b").unwrap().unwrap();
    let failure = Record::open(&path, "c → d").unwrap_err();
    assert!(failure.what.contains("another"), "{}", failure.what);
    Record::look(&path, "a → b").unwrap();
    drop(first);
    Record::open(&path, "c → d").unwrap();
}

#[test]
fn a_file_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.json");
    for bad in ["{", "[]", r#"{"version":2,"mirrors":{}}"#] {
        std::fs::write(&path, bad).unwrap();
        let failure = Record::open(&path, "a").unwrap_err();
        assert!(failure.what.contains("makes no sense"), "{}", failure.what);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            bad,
            "left as it was"
        );
    }
    std::fs::write(&path, "").unwrap();
    Record::open(&path, "a").unwrap();
}
