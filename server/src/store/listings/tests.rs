//! Tests of the names in folders that are kept in memory.

use imgsync_oci::{Digest, Repository};

use super::*;
use crate::store::{ListScope, ObjectKey, Store};

const COUNT: usize = 1200;

fn repository() -> Repository {
    "a".parse().unwrap()
}

/// Creates a store with many tags, which another program wrote.
fn store_with_tags(root: &Path) -> Store {
    let store = Store::open(root).unwrap();
    for number in 0..COUNT {
        create_tag(&store, &format!("t{number:04}"));
    }
    store
}

fn create_tag(store: &Store, tag: &str) {
    let folder = store.paths.tags(&repository()).join(tag);
    std::fs::create_dir_all(folder).unwrap();
}

fn list(store: &Store, after: &str, limit: usize) -> Vec<String> {
    let names = store.tag_names(&repository(), after, &Walk::unbounded());
    let names = names.unwrap();
    names.after(after).take(limit).map(str::to_owned).collect()
}

#[test]
fn a_list_that_is_read_page_by_page_reads_its_folder_once() {
    let root = tempfile::tempdir().unwrap();
    let store = store_with_tags(root.path());
    let (before, mut names) = (store.listed_entries(), list(&store, "", 100));
    loop {
        let page = list(&store, names.last().unwrap(), 100);
        if page.is_empty() {
            break;
        }
        names.extend(page);
    }
    let expected: Vec<String> = (0..COUNT).map(|number| format!("t{number:04}")).collect();
    assert_eq!(names, expected);
    assert_eq!(store.listed_entries() - before, COUNT);
}

#[test]
fn a_catalog_that_is_read_page_by_page_reads_the_large_folder_once() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    for number in 0..COUNT {
        let repository: Repository = format!("r{number:04}").parse().unwrap();
        std::fs::create_dir_all(store.paths.manifests(&repository)).unwrap();
    }
    let (before, mut after, mut count) = (store.listed_entries(), String::new(), 0);
    loop {
        let scope = ListScope::Repositories;
        let page = store.list(scope, &after, 100, &Walk::unbounded()).unwrap();
        let Some(last) = page.last() else { break };
        after.clone_from(last);
        count += page.len();
    }
    assert_eq!(count, COUNT);
    // Each repository has one subfolder, which is read again where two pages meet.
    let read = store.listed_entries() - before;
    assert!(read < 3 * COUNT, "{read} entries were read");
}

#[test]
fn the_first_page_has_everything_and_the_next_ones_what_this_server_created() {
    let root = tempfile::tempdir().unwrap();
    let store = store_with_tags(root.path());
    list(&store, "", 1);
    create_tag(&store, "a-foreign-one");
    let (repository, tag) = (repository(), "z".parse().unwrap());
    let tag = ObjectKey::TagCurrent(&repository, &tag);
    store
        .put(tag, Digest::of(b"").to_string().as_bytes())
        .unwrap();
    assert_eq!(list(&store, "t1198", 9), ["t1199", "z"]);
    assert_eq!(list(&store, "", 1), ["a-foreign-one"]);
    assert_eq!(list(&store, "t1198", 9), ["t1199", "z"]);
}

#[test]
fn a_changed_folder_is_read_again_unless_a_page_follows_soon() {
    let root = tempfile::tempdir().unwrap();
    let store = store_with_tags(root.path());
    list(&store, "", 1);
    let folder = store.paths.tags(&repository());
    let identity = store.disk.identity(&folder).unwrap().unwrap();
    create_tag(&store, "another");
    // However coarse the clock is.
    let changed_folder = std::fs::File::open(&folder).unwrap();
    changed_folder.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let changed = store.disk.identity(&folder).unwrap().unwrap();
    let mut state = store.folders.listings.lock();
    let listing = state.kept.get_mut(&folder).unwrap();
    let usable = |listing: &KeptListing| {
        [identity, changed].map(|current| {
            [ListingUse::FirstPage, ListingUse::NextPage]
                .map(|usage| listing.is_usable(current, usage))
        })
    };
    // A folder that was changed just before it was read may have changed once more since.
    assert_eq!(usable(listing), [[false, true], [false, true]]);
    listing.is_settled = true;
    assert_eq!(usable(listing), [[true, true], [false, true]]);
    listing.read_at -= MAX_CHANGED_AGE;
    assert_eq!(usable(listing), [[true, true], [false, false]]);
}

#[test]
fn a_short_walk_does_not_wait_for_a_thread_that_reads_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let store = store_with_tags(root.path());
    let locks = store.folders.listings.read_locks.each_ref();
    let guards = locks.map(|lock| lock.lock().unwrap());
    let (repository, walk) = (repository(), Walk::new(u64::MAX - 1, &|| false));
    let listed = store.tag_names(&repository, "", &walk);
    assert!(matches!(listed, Err(Error::WalkEnded)));
    drop(guards);
    let listed = store.tag_names(&repository, "", &walk).unwrap();
    assert_eq!(listed.after("").next(), Some("t0000"));
}

#[test]
fn kept_names_are_bounded_and_forgotten() {
    let root = tempfile::tempdir().unwrap();
    let store = store_with_tags(root.path());
    list(&store, "", 1);
    let mut state = store.folders.listings.lock();
    let now = Instant::now();
    let mut names = NameCollector::default();
    for _ in 0..MAX_KEPT_BYTES / 4096 {
        names.push(&"x".repeat(4086));
    }
    let large = KeptListing {
        names: names.sort(BTreeSet::new()),
        kind: ListingKind::Plain,
        identity: state.kept.values().next().unwrap().identity,
        is_settled: false,
        read_at: now,
        used_at: now,
    };
    state.kept.insert(PathBuf::from("large"), large);
    state.forget(now);
    let folders: Vec<_> = state.kept.keys().collect();
    assert_eq!(folders, [Path::new("large")]);
    state.forget(now + MAX_UNUSED_AGE);
    assert!(state.kept.is_empty());
}
