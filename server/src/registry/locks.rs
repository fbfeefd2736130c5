//! One door for whatever makes a blob count on: a lock per digest. Tags, and what we know of a
//! repository's referrers, have theirs beside it.
//!
//! A push, a mount, a HEAD answered 200 and a manifest's check of its children all promise that a
//! blob is there. Each makes its promise while it holds the digest, so that nothing which takes
//! blobs away can come between look and promise.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use imgsync_oci::{Digest, Repository, Tag};

/// What can be held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum LockKey {
    /// The blob of this digest, manifest or not, and all links to it.
    Content(Digest),
    /// A repository's tag.
    Tag(Repository, Tag),
    /// What is known of the manifests of a repository beyond what is in the tree.
    ReferrerHints(Repository),
}

impl From<Digest> for LockKey {
    fn from(digest: Digest) -> Self {
        Self::Content(digest)
    }
}

/// How something is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LockMode {
    /// By one, who may change it.
    Exclusive,
    /// By so many, who only look.
    Shared(usize),
}

/// What is held now.
#[derive(Default)]
pub(super) struct LockTable {
    modes: Mutex<HashMap<LockKey, LockMode>>,
    released: Condvar,
}

/// Holds things until it is dropped.
pub(super) struct LockGuard {
    table: Arc<LockTable>,
    keys: HashSet<LockKey>,
}

/// Waits until nobody holds any of `things`, then holds them all at once: two that want the same
/// ones in different order cannot wait for each other. Who holds some already may only wait for
/// what comes later in this list: known, content, tag.
pub(super) fn lock_exclusive(
    holds: &Arc<LockTable>,
    things: impl IntoIterator<Item = LockKey>,
) -> LockGuard {
    let things: HashSet<LockKey> = things.into_iter().collect();
    let held = holds.modes.lock().unwrap_or_else(PoisonError::into_inner);
    let is_taken = |held: &mut HashMap<LockKey, LockMode>| {
        let mut wanted = things.iter();
        wanted.any(|thing| held.contains_key(thing))
    };
    let held = holds.released.wait_while(held, is_taken);
    let mut held = held.unwrap_or_else(PoisonError::into_inner);
    held.extend(
        things
            .iter()
            .map(|thing| (thing.clone(), LockMode::Exclusive)),
    );
    LockGuard {
        table: Arc::clone(holds),
        keys: things,
    }
}

/// Holds one thing together with others who only look at it, too: nobody changes it meanwhile.
pub(super) fn lock_shared(holds: &Arc<LockTable>, thing: LockKey) -> LockGuard {
    let held = holds.modes.lock().unwrap_or_else(PoisonError::into_inner);
    let is_taken =
        |held: &mut HashMap<LockKey, LockMode>| held.get(&thing) == Some(&LockMode::Exclusive);
    let held = holds.released.wait_while(held, is_taken);
    let mut held = held.unwrap_or_else(PoisonError::into_inner);
    let way = match held.get(&thing) {
        Some(LockMode::Shared(count)) => LockMode::Shared(count + 1),
        Some(LockMode::Exclusive) | None => LockMode::Shared(1),
    };
    held.insert(thing.clone(), way);
    LockGuard {
        table: Arc::clone(holds),
        keys: HashSet::from([thing]),
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let held = self.table.modes.lock();
        let mut held = held.unwrap_or_else(PoisonError::into_inner);
        for thing in &self.keys {
            match held.get_mut(thing) {
                Some(LockMode::Shared(count)) if *count > 1 => *count -= 1,
                Some(LockMode::Shared(_) | LockMode::Exclusive) | None => {
                    held.remove(thing);
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
        let holds = Arc::new(LockTable::default());
        let [a, b, c] = [b"a", b"b", b"c"].map(|word| LockKey::from(Digest::of(word)));
        let first = lock_exclusive(&holds, [a.clone(), b.clone(), a.clone()]);
        drop(lock_exclusive(&holds, [c.clone()]));
        let (sender, receiver) = mpsc::channel();
        let other = std::thread::spawn({
            let (holds, sender) = (Arc::clone(&holds), sender.clone());
            move || {
                let _second = lock_exclusive(&holds, [c, b]);
                sender.send("second").unwrap();
            }
        });
        sender.send("first").unwrap();
        drop(first);
        other.join().unwrap();
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["first", "second"]);
        assert!(holds.modes.lock().unwrap().is_empty());
    }

    #[test]
    fn many_share_a_lock_and_an_exclusive_one_waits_for_all() {
        let holds = Arc::new(LockTable::default());
        let thing = LockKey::from(Digest::of(b"a"));
        let looks = [0, 1].map(|_| lock_shared(&holds, thing.clone()));
        let (sender, receiver) = mpsc::channel();
        let other = std::thread::spawn({
            let (holds, thing, sender) = (Arc::clone(&holds), thing.clone(), sender.clone());
            move || {
                let _alone = lock_exclusive(&holds, [thing]);
                sender.send("alone").unwrap();
            }
        });
        for look in looks {
            sender.send("look").unwrap();
            drop(look);
        }
        other.join().unwrap();
        let order: Vec<_> = receiver.try_iter().collect();
        assert_eq!(order, ["look", "look", "alone"]);
        drop(lock_shared(&holds, thing));
        assert!(holds.modes.lock().unwrap().is_empty());
    }
}
