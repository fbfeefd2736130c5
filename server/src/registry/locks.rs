//! Locks digests, tags and indexes.
//!
//! A push, a mount, a HEAD that returns 200 and the check of a manifest's children all promise that
//! a blob exists. Each holds the lock of the digest from the lookup until the promise is recorded,
//! so that nothing can remove the blob in between. Start reading at [`lock_exclusive`].

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use imgsync_oci::{Digest, Repository, Tag};

/// Names what a lock protects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum LockKey {
    /// The bytes of a blob or manifest, and all links to them.
    Content(Digest),
    /// A tag of a repository.
    Tag(Repository, Tag),
    /// The index of a repository's manifests, against others that complete it.
    ManifestIndex(Repository),
}

impl From<Digest> for LockKey {
    fn from(digest: Digest) -> Self {
        Self::Content(digest)
    }
}

/// How a key is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LockMode {
    /// One holder, which may change the content.
    Exclusive,
    /// This many holders, which only read.
    Shared(usize),
}

/// The locks that are held now.
#[derive(Default)]
pub(super) struct LockTable {
    modes: Mutex<HashMap<LockKey, LockMode>>,
    released: Condvar,
}

/// One or more held locks, released on drop.
pub(super) struct LockGuard {
    table: Arc<LockTable>,
    keys: HashSet<LockKey>,
}

/// Waits until none of `keys` is locked, then locks all of them at once. Two callers that want the
/// same keys in different order can therefore not deadlock.
///
/// A caller that holds locks already may only wait for keys that come later in this order:
/// manifest indexes, content, tags.
pub(super) fn lock_exclusive(
    table: &Arc<LockTable>,
    keys: impl IntoIterator<Item = LockKey>,
) -> LockGuard {
    let keys: HashSet<LockKey> = keys.into_iter().collect();
    let modes = table.modes.lock().unwrap_or_else(PoisonError::into_inner);
    let is_locked =
        |modes: &mut HashMap<LockKey, LockMode>| keys.iter().any(|key| modes.contains_key(key));
    let modes = table.released.wait_while(modes, is_locked);
    let mut modes = modes.unwrap_or_else(PoisonError::into_inner);
    modes.extend(keys.iter().map(|key| (key.clone(), LockMode::Exclusive)));
    LockGuard {
        table: Arc::clone(table),
        keys,
    }
}

/// Waits until `key` is not locked exclusively, then locks it together with other readers.
pub(super) fn lock_shared(table: &Arc<LockTable>, key: LockKey) -> LockGuard {
    let modes = table.modes.lock().unwrap_or_else(PoisonError::into_inner);
    let is_locked =
        |modes: &mut HashMap<LockKey, LockMode>| modes.get(&key) == Some(&LockMode::Exclusive);
    let modes = table.released.wait_while(modes, is_locked);
    let mut modes = modes.unwrap_or_else(PoisonError::into_inner);
    let mode = match modes.get(&key) {
        Some(LockMode::Shared(count)) => LockMode::Shared(count + 1),
        _ => LockMode::Shared(1),
    };
    modes.insert(key.clone(), mode);
    LockGuard {
        table: Arc::clone(table),
        keys: HashSet::from([key]),
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let modes = self.table.modes.lock();
        let mut modes = modes.unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            match modes.get_mut(key) {
                Some(LockMode::Shared(count)) if *count > 1 => *count -= 1,
                _ => {
                    modes.remove(key);
                }
            }
        }
        self.table.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_locked_key_is_waited_for_and_leaves_nothing_behind() {
        let table = Arc::new(LockTable::default());
        let [a, b, c] = [b"a", b"b", b"c"].map(|content| LockKey::from(Digest::of(content)));
        let first = lock_exclusive(&table, [a.clone(), b.clone(), a.clone()]);
        drop(lock_exclusive(&table, [c.clone()]));
        let (sender, receiver) = mpsc::channel();
        let other = std::thread::spawn({
            let (table, sender) = (Arc::clone(&table), sender.clone());
            move || {
                let _second = lock_exclusive(&table, [c, b]);
                sender.send("second").unwrap();
            }
        });
        sender.send("first").unwrap();
        drop(first);
        other.join().unwrap();
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["first", "second"]);
        assert!(table.modes.lock().unwrap().is_empty());
    }

    #[test]
    fn many_share_a_lock_and_an_exclusive_one_waits_for_all() {
        let table = Arc::new(LockTable::default());
        let key = LockKey::from(Digest::of(b"a"));
        let readers = [0, 1].map(|_| lock_shared(&table, key.clone()));
        let (sender, receiver) = mpsc::channel();
        let other = std::thread::spawn({
            let (table, key, sender) = (Arc::clone(&table), key.clone(), sender.clone());
            move || {
                let _writer = lock_exclusive(&table, [key]);
                sender.send("writer").unwrap();
            }
        });
        for reader in readers {
            sender.send("reader").unwrap();
            drop(reader);
        }
        other.join().unwrap();
        let order: Vec<_> = receiver.try_iter().collect();
        assert_eq!(order, ["reader", "reader", "writer"]);
        drop(lock_shared(&table, key));
        assert!(table.modes.lock().unwrap().is_empty());
    }
}
