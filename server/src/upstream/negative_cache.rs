//! Negative cache: remembers for a short time what an upstream does not have, so that it is not
//! asked again at once.
//!
//! Start reading at [`NegativeCache`].

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an absence is remembered. It is short because the content may just have been pushed to
/// the upstream.
const ABSENCE_TTL: Duration = Duration::from_secs(10);
/// Maximum number of remembered absences.
const MAX_ABSENCES: usize = 4096;

/// The keys that were recently absent, with the time at which each expires.
#[derive(Debug)]
pub(super) struct NegativeCache<K>(Mutex<HashMap<K, Instant>>);

impl<K> Default for NegativeCache<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> NegativeCache<K> {
    /// Records that a key is absent.
    pub(super) fn insert(&self, key: K) {
        let now = Instant::now();
        let mut expiries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if expiries.len() >= MAX_ABSENCES {
            expiries.retain(|_, expiry| *expiry > now);
            if expiries.len() >= MAX_ABSENCES {
                expiries.clear();
            }
        }
        expiries.insert(key, now + ABSENCE_TTL);
    }

    /// Reports whether a key was absent a moment ago.
    pub(super) fn contains(&self, key: &K) -> bool {
        let expiries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        expiries
            .get(key)
            .is_some_and(|expiry| *expiry > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absences_are_remembered_and_bounded() {
        let absent = NegativeCache::default();
        absent.insert(1);
        assert!(absent.contains(&1) && !absent.contains(&2));
        for key in 0..=MAX_ABSENCES {
            absent.insert(key);
        }
        assert!(absent.0.lock().unwrap().len() <= MAX_ABSENCES && absent.contains(&MAX_ABSENCES));
    }
}
