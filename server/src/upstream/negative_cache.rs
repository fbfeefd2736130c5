//! What an upstream was just asked for and does not have: it is not asked again at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a no counts. Who has just pushed there does not want to wait longer.
const ABSENCE_TTL: Duration = Duration::from_secs(10);
/// How many are remembered.
const MAX_ABSENCES: usize = 4096;

/// Names that were not there.
#[derive(Debug)]
pub(super) struct NegativeCache<K>(Mutex<HashMap<K, Instant>>);

impl<K> Default for NegativeCache<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> NegativeCache<K> {
    /// It was not there.
    pub(super) fn insert(&self, key: K) {
        let now = Instant::now();
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MAX_ABSENCES {
            names.retain(|_, until| *until > now);
            if names.len() >= MAX_ABSENCES {
                names.clear();
            }
        }
        names.insert(key, now + ABSENCE_TTL);
    }

    /// Whether it was not there a moment ago.
    pub(super) fn contains(&self, key: &K) -> bool {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(key).is_some_and(|until| *until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_is_remembered_and_their_number_is_bounded() {
        let absent = NegativeCache::default();
        absent.insert(1);
        assert!(absent.contains(&1) && !absent.contains(&2));
        for name in 0..=MAX_ABSENCES {
            absent.insert(name);
        }
        assert!(absent.0.lock().unwrap().len() <= MAX_ABSENCES && absent.contains(&MAX_ABSENCES));
    }
}
