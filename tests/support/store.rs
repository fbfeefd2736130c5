//! What a registry's folder holds, to compare before and after.

use std::collections::BTreeSet;
use std::path::Path;

/// Every file below a root with its size in bytes, and every empty folder; upload sessions are
/// left out.
pub fn listing(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        let mut empty = true;
        for entry in std::fs::read_dir(&folder).expect("a folder of the store") {
            empty = false;
            let path = entry.expect("an entry of the store").path();
            let name = path.strip_prefix(root).expect("a path below the root");
            if name.ends_with("_uploads") || name == Path::new("imgsync/uploads") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let size = path.metadata().expect("a file of the store").len();
            found.insert(format!("{} {size}", name.display()));
        }
        if empty {
            let name = folder.strip_prefix(root).expect("a path below the root");
            found.insert(format!("{}/", name.display()));
        }
    }
    found
}

/// Panics with what differs unless the folder holds what it did.
pub fn assert_unchanged(before: &BTreeSet<String>, root: &Path) {
    let after = listing(root);
    let gone: Vec<_> = before.difference(&after).collect();
    let new: Vec<_> = after.difference(before).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "the store has changed\ngone: {gone:#?}\nnew: {new:#?}"
    );
}
