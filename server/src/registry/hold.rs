//! One door for whatever makes a blob count on: a lock per digest.
//!
//! A push, a mount, a HEAD answered 200 and a manifest's check of its children all promise that a
//! blob is there. Each makes its promise while it holds the digest, so that nothing which takes
//! blobs away can come between look and promise.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use imgsync_oci::Digest;

/// The digests that are held now.
#[derive(Default)]
pub(super) struct Holds {
    held: Mutex<HashSet<Digest>>,
    released: Condvar,
}

/// Holds digests until it is dropped.
pub(super) struct Hold {
    holds: Arc<Holds>,
    digests: HashSet<Digest>,
}

/// Waits until nobody holds any of `digests`, then holds them all at once: two that want the same
/// ones in different order cannot wait for each other.
pub(super) fn hold(holds: &Arc<Holds>, digests: impl IntoIterator<Item = Digest>) -> Hold {
    let digests: HashSet<Digest> = digests.into_iter().collect();
    let held = holds.held.lock().unwrap_or_else(PoisonError::into_inner);
    let mut held = holds
        .released
        .wait_while(held, |held| !held.is_disjoint(&digests))
        .unwrap_or_else(PoisonError::into_inner);
    held.extend(digests.iter().cloned());
    Hold {
        holds: Arc::clone(holds),
        digests,
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self
            .holds
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.retain(|digest| !self.digests.contains(digest));
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
        let (a, b, c) = (Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c"));
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
}
