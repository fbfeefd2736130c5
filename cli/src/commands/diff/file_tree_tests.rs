//! Tests how layers are put on top of each other, and how files are compared.

use super::*;

fn file(path: &str, content: u64) -> IndexedFile {
    IndexedFile {
        path: path.as_bytes().to_vec(),
        is_path_partial: false,
        kind: FileKind::File,
        size: 100,
        mode: 0o644,
        owner: (0, 0),
        modified_at: 1,
        link: Vec::new(),
        content,
        has_unhashed_content: false,
    }
}

fn folder(path: &str) -> IndexedFile {
    IndexedFile {
        kind: FileKind::Folder,
        size: 0,
        ..file(path, 0)
    }
}

fn tree(layers: impl IntoIterator<Item = Vec<IndexedFile>>) -> FileTree {
    let mut tree = FileTree::default();
    for layer in layers {
        tree.add_files(layer).unwrap();
    }
    tree
}

fn paths(tree: &FileTree) -> Vec<&str> {
    let paths = tree.files.keys();
    paths
        .map(|path| std::str::from_utf8(path).unwrap())
        .collect()
}

/// Returns the marks and paths of the changes, and how many files were touched.
fn changes(old: &FileTree, new: &FileTree) -> (Vec<String>, usize) {
    let found = compare_trees(old, new);
    let lines = found.changes.iter().map(|change| {
        let mark = match change.status {
            FileStatus::Added => '+',
            FileStatus::Removed => '-',
            FileStatus::Changed => '~',
            FileStatus::Attributes => 'a',
            FileStatus::Unknown => '?',
        };
        format!("{mark}{}", String::from_utf8_lossy(change.path))
    });
    (lines.collect(), found.touched)
}

#[test]
fn whiteouts_delete_what_is_below() {
    let base = || vec![folder("a"), file("a/x", 1), file("a/y", 2), file("ab", 3)];
    assert_eq!(paths(&tree([base()])), ["a", "a/x", "a/y", "ab"]);
    let one = tree([base(), vec![file("a/.wh.x", 0)]]);
    assert_eq!(paths(&one), ["a", "a/y", "ab"]);
    let whole = tree([base(), vec![file(".wh.a", 0)]]);
    assert_eq!(paths(&whole), ["ab"]);
    // The new content of an opaque folder stays, wherever the whiteout is in the tar.
    let opaque = vec![file("a/z", 4), file("a/.wh..wh..opq", 0)];
    assert_eq!(paths(&tree([base(), opaque])), ["a", "a/z", "ab"]);
    let root = tree([base(), vec![file(".wh..wh..opq", 0), file("z", 1)]]);
    assert_eq!(paths(&root), ["z"]);
    // A file in the place of a folder.
    assert_eq!(paths(&tree([base(), vec![file("a", 9)]])), ["a", "ab"]);
}

#[test]
fn each_difference_has_its_mark() {
    let old = tree([vec![
        file("same", 1),
        file("gone", 1),
        file("changed", 1),
        file("mode", 1),
        file("touched", 1),
        folder("folder"),
        IndexedFile {
            has_unhashed_content: true,
            ..file("small", 1)
        },
    ]]);
    let new = tree([vec![
        file("same", 1),
        file("new", 1),
        file("changed", 2),
        IndexedFile {
            mode: 0o755,
            ..file("mode", 1)
        },
        IndexedFile {
            modified_at: 2,
            ..file("touched", 1)
        },
        IndexedFile {
            modified_at: 2,
            ..folder("folder")
        },
        IndexedFile {
            has_unhashed_content: true,
            modified_at: 2,
            ..file("small", 1)
        },
    ]]);
    let expected = ["~changed", "-gone", "amode", "+new", "?small"];
    let (lines, touched) = changes(&old, &new);
    assert_eq!((lines, touched), (expected.map(str::to_owned).to_vec(), 1));
    assert_eq!(changes(&old, &old), (vec![], 0));
}

#[test]
fn partial_paths_do_not_hide_files() {
    let partial = |content| IndexedFile {
        is_path_partial: true,
        ..file("dir/.txt", content)
    };
    let old = tree([vec![partial(1), partial(2), partial(3)]]);
    let new = tree([vec![partial(1), partial(4), partial(3), partial(5)]]);
    let (lines, _) = changes(&old, &new);
    assert_eq!(lines, ["~dir/.txt", "+dir/.txt"]);
    // Of whole paths, the last one counts.
    let twice = tree([vec![file("a", 1), file("a", 2)]]);
    assert_eq!(changes(&twice, &tree([vec![file("a", 2)]])).0, [""; 0]);
}

#[test]
fn the_number_of_files_is_bounded() {
    let mut tree = FileTree::default();
    let layer = |start: usize| {
        let numbers = start..start + MAX_FILES / 2 + 1;
        numbers.map(|number| file(&number.to_string(), 1)).collect()
    };
    assert_eq!(tree.add_files(layer(0)), Ok(()));
    assert_eq!(
        tree.add_files(layer(MAX_FILES)),
        Err(TreeError::TooManyFiles)
    );
}

#[test]
fn absolute_paths_are_those_in_the_image() {
    let old = tree([vec![
        file("/app/x", 1),
        file("./app/y", 2),
        file("app/z", 3),
    ]]);
    assert_eq!(paths(&old), ["app/x", "app/y", "app/z"]);
    let new = tree([
        vec![file("app/x", 1), file("app/y", 2), file("/./app/z", 3)],
        vec![file("/app/.wh.y", 0)],
    ]);
    assert_eq!(changes(&old, &new).0, ["-app/y"]);
    let empty = tree([vec![file("app/x", 1)], vec![file("/.wh..wh..opq", 0)]]);
    assert!(paths(&empty).is_empty());
}

/// With a comparison of all files with all others, this takes minutes.
#[test]
fn many_files_of_the_same_partial_path_are_paired() {
    let partial = |content: u64| IndexedFile {
        is_path_partial: true,
        ..file("app/long", content)
    };
    let layer = |contents: std::ops::Range<u64>| contents.map(partial).collect::<Vec<_>>();
    let old = tree([layer(0..200_000), layer(100_000..200_000)]);
    let new = tree([layer(5..200_000)]);
    let removed = ["-app/long"; 5];
    assert_eq!(
        changes(&old, &new),
        (removed.iter().map(ToString::to_string).collect(), 0)
    );
}
