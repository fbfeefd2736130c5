//! Records on which day manifests were last pulled.
//!
//! A pull only changes a table in memory, which is written to the disk from time to time and at the
//! end. A crash loses the pulls since then. Start reading at [`Registry::record_pull`].

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::error::Result;
use super::plan::{PullDays, SECONDS_PER_DAY};
use crate::store::{LinkKind, ObjectKey};

/// How many pulls wait to be written at most. Beyond it, everything counts as pulled on that day.
const MAX_WAITING: usize = if cfg!(test) { 20 } else { 50_000 };
/// How many waiting pulls are written early.
const MANY_WAITING: usize = MAX_WAITING / 4;

/// The pulls that are not on the disk.
#[derive(Default)]
pub(in crate::registry) struct PullTimes {
    hasher: RandomState,
    state: Mutex<PullState>,
    /// Held while pulls are written.
    writer: Mutex<()>,
}

#[derive(Debug, Default)]
struct PullState {
    /// The day of the last pull.
    today: u64,
    /// Hashes of the pulls of today that are on the disk.
    written_today: HashSet<u64>,
    waiting: HashMap<Repository, HashMap<Digest, u64>>,
    waiting_count: usize,
    /// The pulls that are being written.
    writing: HashMap<Repository, HashMap<Digest, u64>>,
    /// The last day on which a pull was not recorded.
    lost_on: Option<u64>,
}

impl PullTimes {
    fn lock(&self) -> MutexGuard<'_, PullState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PullState {
    /// Adds a pull to those that wait, unless there are too many.
    fn add(&mut self, repository: &Repository, digest: &Digest, day: u64) {
        let is_full = self.waiting_count >= MAX_WAITING;
        let waiting = self.waiting.get_mut(repository);
        let known = waiting.and_then(|waiting| waiting.get_mut(digest));
        match known {
            Some(known) => *known = day.max(*known),
            None if is_full => self.lost_on = Some(day).max(self.lost_on),
            None => {
                let waiting = self.waiting.entry(repository.clone()).or_default();
                waiting.insert(digest.clone(), day);
                self.waiting_count += 1;
            }
        }
    }

    /// Returns the pulls of a repository that are not on the disk, or were written just now.
    fn days_in_memory(&self, repository: &Repository) -> Vec<(Digest, u64)> {
        let days = [&self.waiting, &self.writing].map(|days| days.get(repository));
        let days = days.into_iter().flatten().flatten();
        days.map(|(digest, day)| (digest.clone(), *day)).collect()
    }
}

impl Registry {
    /// Records that a manifest was requested at `now` (Unix seconds). Does no I/O.
    pub(crate) fn record_pull(&self, repository: &Repository, digest: &Digest, now: u64) {
        if !self.store.is_writable() {
            return;
        }
        let (pulls, day) = (&self.pull_times, now / SECONDS_PER_DAY);
        let hash = pulls.hasher.hash_one((repository, digest));
        let mut state = pulls.lock();
        if state.today != day {
            state.today = day;
            state.written_today = HashSet::new();
        }
        if !state.written_today.contains(&hash) {
            state.add(repository, digest, day);
        }
    }

    /// Returns whether so many pulls wait that they should be written soon.
    pub(crate) fn has_many_pulls(&self) -> bool {
        self.pull_times.lock().waiting_count > MANY_WAITING
    }

    /// Writes the pulls that wait. Those of a repository that cannot be written wait on.
    pub(crate) fn write_pulls(&self) {
        let _writer = self.pull_times.lock_writer();
        let (writing, today) = {
            let mut state = self.pull_times.lock();
            state.waiting_count = 0;
            state.writing = std::mem::take(&mut state.waiting);
            (state.writing.clone(), state.today)
        };
        for (repository, days) in writing {
            let written = self.write_pulls_of(&repository, &days);
            let mut state = self.pull_times.lock();
            state.writing.remove(&repository);
            match written {
                Ok(()) if state.today == today && state.written_today.len() < 10 * MAX_WAITING => {
                    let hasher = &self.pull_times.hasher;
                    let of_today = days.iter().filter(|(_, day)| **day == today);
                    let hashes = of_today.map(|(digest, _)| hasher.hash_one((&repository, digest)));
                    state.written_today.extend(hashes);
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%repository, %error, "cannot record when images were pulled");
                    for (digest, day) in &days {
                        state.add(&repository, digest, *day);
                    }
                }
            }
        }
    }

    fn write_pulls_of(&self, repository: &Repository, days: &HashMap<Digest, u64>) -> Result<()> {
        let mut known = match self.store.pull_days(repository)? {
            Some(known) => known,
            // The content of a damaged file is lost, so everything counts as pulled now.
            None => self.all_pulled(repository, days.values().copied().max())?,
        };
        for (digest, day) in days {
            let known = known.entry(digest.clone()).or_default();
            *known = (*known).max(*day);
        }
        let mut kept = HashMap::new();
        for (digest, day) in known {
            let link = ObjectKey::RevisionLink(repository, &digest);
            if self.store.len(link)?.is_some() {
                kept.insert(digest, day);
            }
        }
        Ok(self.store.put_pull_days(repository, &kept)?)
    }

    fn all_pulled(
        &self,
        repository: &Repository,
        day: Option<u64>,
    ) -> Result<HashMap<Digest, u64>> {
        let manifests = self.store.links(repository, LinkKind::Revisions);
        let manifests = manifests.map(|digest| Ok((digest?, day.unwrap_or_default())));
        manifests.collect()
    }

    /// Returns on which days manifests of a repository were last pulled; `None` if that cannot be
    /// read.
    pub(super) fn pull_days(&self, repository: &Repository) -> PullDays {
        // Read before the disk, so that pulls that are written in between are not missed.
        let in_memory = self.pull_times.lock().days_in_memory(repository);
        let stored = self.store.pull_days(repository);
        let stored = stored.unwrap_or_else(|error| {
            tracing::warn!(%repository, %error, "cannot read when images were pulled");
            None
        });
        let mut days = stored?;
        for (digest, day) in in_memory {
            let known = days.entry(digest).or_default();
            *known = day.max(*known);
        }
        Some(days)
    }

    /// Returns the last day on which a pull of an unknown manifest was not recorded.
    pub(super) fn lost_pulls_on(&self) -> Option<u64> {
        self.pull_times.lock().lost_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::cache::tests::{folder, image, push, push_blob};
    use crate::store::Store;
    use std::sync::{Arc, OnceLock};

    const DAY: u64 = SECONDS_PER_DAY;

    fn name() -> Repository {
        "team/app".parse().unwrap()
    }

    /// Pushes images, and returns their digests.
    fn push_images(registry: &Registry, count: usize) -> Vec<Digest> {
        let images = (0..count).map(|number| {
            let (manifest, config) = image(&format!("image {number}"), &[]);
            push_blob(registry, &name(), &config);
            push(registry, &name(), &format!("v{number}"), &manifest).unwrap();
            Digest::of(&manifest)
        });
        images.collect()
    }

    #[test]
    fn pulls_survive_a_restart_once_they_are_written() {
        let root = folder();
        let registry = Registry::open(root.path()).unwrap();
        let images = push_images(&registry, 3);
        registry.record_pull(&name(), &images[0], 100 * DAY + 5);
        assert_eq!(registry.pull_days(&name()).unwrap()[&images[0]], 100);
        registry.write_pulls();
        let opened = registry.store.opened_files();
        // A day that is stored already is not written again.
        registry.record_pull(&name(), &images[0], 100 * DAY + 3600);
        registry.write_pulls();
        assert_eq!(registry.store.opened_files(), opened);
        registry.record_pull(&name(), &images[1], 101 * DAY);
        // A manifest that was never here leaves nothing.
        registry.record_pull(&name(), &Digest::of(b"other"), 101 * DAY);
        registry.write_pulls();
        registry.record_pull(&name(), &images[2], 101 * DAY);
        drop(registry);
        let registry = Registry::open(root.path()).unwrap();
        let expected = HashMap::from([(images[0].clone(), 100), (images[1].clone(), 101)]);
        assert_eq!(registry.pull_days(&name()), Some(expected));
    }

    #[test]
    fn pulls_are_known_while_they_are_written() {
        let root = folder();
        let writing = Arc::new(OnceLock::<Registry>::new());
        let known = Arc::new(Mutex::new(Vec::new()));
        let hook = {
            let (writing, known) = (Arc::clone(&writing), Arc::clone(&known));
            move || {
                let days = writing.get().map(|registry| registry.pull_days(&name()));
                known.lock().unwrap().extend(days);
                Ok(())
            }
        };
        let registry = Registry::with_store(Store::open_with_hook(root.path(), hook).unwrap());
        let images = push_images(&registry, 1);
        registry.record_pull(&name(), &images[0], 100 * DAY);
        assert!(writing.set(registry.clone()).is_ok());
        registry.write_pulls();
        let known = known.lock().unwrap();
        assert!(!known.is_empty());
        for days in known.iter() {
            assert_eq!(days, &Some(HashMap::from([(images[0].clone(), 100)])));
        }
    }

    #[test]
    fn damaged_records_are_unknown_and_too_many_count_as_lost() {
        let root = folder();
        let registry = Registry::open(root.path()).unwrap();
        let images = push_images(&registry, MAX_WAITING + 1);
        for image in &images {
            registry.record_pull(&name(), image, 100 * DAY);
        }
        assert!(registry.has_many_pulls());
        assert_eq!(registry.lost_pulls_on(), Some(100));
        registry.write_pulls();
        assert!(!registry.has_many_pulls());
        let path = root.path().join("imgsync/repositories/team/app/_pulls-1");
        std::fs::write(path, "100 sha256:damaged\n").unwrap();
        assert_eq!(registry.pull_days(&name()), None);
        registry.record_pull(&name(), &images[0], 105 * DAY);
        registry.write_pulls();
        let days = registry.pull_days(&name()).unwrap();
        assert_eq!(days.len(), images.len());
        assert!(days.values().all(|day| *day == 105));
    }
}
