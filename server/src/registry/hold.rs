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
pub(super) enum Thing {
    /// The blob of this digest, manifest or not, and all links to it.
    Content(Digest),
    /// A repository's tag.
    Tag(Repository, Tag),
    /// What is known of the manifests of a repository beyond what is in the tree.
    Known(Repository),
}

impl From<Digest> for Thing {
    fn from(digest: Digest) -> Self {
        Self::Content(digest)
    }
}

/// How something is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By one, who may change it.
    Alone,
    /// By so many, who only look.
    Together(usize),
}

/// What is held now.
#[derive(Default)]
pub(super) struct Holds {
    held: Mutex<HashMap<Thing, Way>>,
    released: Condvar,
}

/// Holds things until it is dropped.
pub(super) struct Hold {
    holds: Arc<Holds>,
    things: HashSet<Thing>,
}

/// Waits until nobody holds any of `things`, then holds them all at once: two that want the same
/// ones in different order cannot wait for each other. Who holds some already may only wait for
/// what comes later in this list: known, content, tag.
pub(super) fn hold(holds: &Arc<Holds>, things: impl IntoIterator<Item = Thing>) -> Hold {
    let things: HashSet<Thing> = things.into_iter().collect();
    let held = holds.held.lock().unwrap_or_else(PoisonError::into_inner);
    let is_taken = |held: &mut HashMap<Thing, Way>| {
        let mut wanted = things.iter();
        wanted.any(|thing| held.contains_key(thing))
    };
    let held = holds.released.wait_while(held, is_taken);
    let mut held = held.unwrap_or_else(PoisonError::into_inner);
    held.extend(things.iter().map(|thing| (thing.clone(), Way::Alone)));
    Hold {
        holds: Arc::clone(holds),
        things,
    }
}

/// Holds one thing together with others who only look at it, too: nobody changes it meanwhile.
pub(super) fn hold_to_look(holds: &Arc<Holds>, thing: Thing) -> Hold {
    let held = holds.held.lock().unwrap_or_else(PoisonError::into_inner);
    let is_taken = |held: &mut HashMap<Thing, Way>| held.get(&thing) == Some(&Way::Alone);
    let held = holds.released.wait_while(held, is_taken);
    let mut held = held.unwrap_or_else(PoisonError::into_inner);
    let way = match held.get(&thing) {
        Some(Way::Together(count)) => Way::Together(count + 1),
        Some(Way::Alone) | None => Way::Together(1),
    };
    held.insert(thing.clone(), way);
    Hold {
        holds: Arc::clone(holds),
        things: HashSet::from([thing]),
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let held = self.holds.held.lock();
        let mut held = held.unwrap_or_else(PoisonError::into_inner);
        for thing in &self.things {
            match held.get_mut(thing) {
                Some(Way::Together(count)) if *count > 1 => *count -= 1,
                Some(Way::Together(_) | Way::Alone) | None => {
                    held.remove(thing);
                }
            }
        }
        self.holds.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn what_is_held_is_waited_for_and_leaves_nothing_behind() {
        let holds = Arc::new(Holds::default());
        let [a, b, c] = [b"a", b"b", b"c"].map(|word| Thing::from(Digest::of(word)));
        let first = hold(&holds, [a.clone(), b.clone(), a.clone()]);
        drop(hold(&holds, [c.clone()]));
        let (sender, receiver) = mpsc::channel();
        let other = std::thread::spawn({
            let (holds, sender) = (Arc::clone(&holds), sender.clone());
            move || {
                let _second = hold(&holds, [c, b]);
                sender.send("second").unwrap();
            }
        });
        sender.send("first").unwrap();
        drop(first);
        other.join().unwrap();
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["first", "second"]);
        assert!(holds.held.lock().unwrap().is_empty());
    }

    #[test]
    fn many_look_at_once_and_who_changes_waits_for_all_of_them() {
        let holds = Arc::new(Holds::default());
        let thing = Thing::from(Digest::of(b"a"));
        let looks = [0, 1].map(|_| hold_to_look(&holds, thing.clone()));
        let (sender, receiver) = mpsc::channel();
        let other = std::thread::spawn({
            let (holds, thing, sender) = (Arc::clone(&holds), thing.clone(), sender.clone());
            move || {
                let _alone = hold(&holds, [thing]);
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
        drop(hold_to_look(&holds, thing));
        assert!(holds.held.lock().unwrap().is_empty());
    }
}
