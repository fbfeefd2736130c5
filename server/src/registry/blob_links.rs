//! Finds a repository that links a blob.
//!
//! The links are listed in derived logs, one for all digests with the same first byte. A line is
//! added for each new link and stays when the link is removed, so a line is checked when it is
//! used. Lines can be missing, because another program wrote the link or because a power cut lost
//! them, so the logs are completed at every start. Start reading at
//! [`Registry::find_linking_repository`].

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use imgsync_oci::{Digest, Repository};

use super::Registry;
use super::error::Result;
use crate::store::{DerivedLogKey, LinkKind, ListScope, ObjectKey, Walk};

/// Bounds the bytes of the logs whose lines are in memory, as hashes, while the logs are completed.
/// Larger logs take several walks over the links.
const MAX_LOG_BYTES_PER_WALK: u64 = 64 * 1024 * 1024;
/// How many bytes of lines are collected for a log before they are appended.
const APPEND_BYTES: usize = 2048;
/// The logs are compacted if they have more than twice as many lines as there are links, and this
/// many more.
const MIN_EXCESS_LINES: usize = 10_000;

/// How far the logs can be relied on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum LogCompleteness {
    /// Links that other programs wrote may be missing.
    #[default]
    Unknown,
    /// Every link is in its log, except for those that other programs write while this one runs.
    Complete,
    /// A line could not be appended.
    Damaged,
}

/// The completeness of the logs of links.
#[derive(Default)]
pub(super) struct BlobLinkLogs(Mutex<LogCompleteness>);

impl BlobLinkLogs {
    fn completeness(&self) -> LogCompleteness {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, completeness: LogCompleteness) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = completeness;
    }
}

/// The counts of a walk over links.
#[derive(Default)]
struct LinkCount {
    lines: usize,
    links: usize,
}

impl Registry {
    /// Adds a new link to its log.
    ///
    /// A failure is only logged: the repositories of blobs are then searched for without the logs.
    pub(super) fn log_blob_link(&self, repository: &Repository, digest: &Digest) {
        let log = DerivedLogKey::BlobLinks(first_byte(digest));
        let line = format!("{}\n", link_line(repository, digest));
        if let Err(error) = self.store.append_to_log(log, &line) {
            tracing::warn!(%repository, %digest, %error, "cannot add a link to the list of links");
            self.blob_link_logs.set(LogCompleteness::Damaged);
        }
    }

    /// Returns a repository that links a blob and for which `may_pull` is true, if there is one.
    ///
    /// # Errors
    /// [`Error::Store`](super::Error::Store).
    pub(super) fn find_linking_repository(
        &self,
        digest: &Digest,
        may_pull: &dyn Fn(&Repository) -> bool,
        walk: &Walk<'_>,
    ) -> Result<Option<Repository>> {
        let is_usable = |repository: &Repository| {
            let link = ObjectKey::LayerLink(repository, digest);
            Ok::<_, super::Error>(may_pull(repository) && self.store.len(link)?.is_some())
        };
        if self.blob_link_logs.completeness() != LogCompleteness::Complete {
            for repository in self.repositories(ListScope::RepositoriesWithBlobs, walk) {
                walk.step()?;
                let repository = repository?;
                if is_usable(&repository)? {
                    return Ok(Some(repository));
                }
            }
            return Ok(None);
        }
        let log = DerivedLogKey::BlobLinks(first_byte(digest));
        let (start, mut found) = (format!("{digest} "), Ok(None));
        self.store.visit_log_lines(log, &mut |line| {
            let name = line.strip_prefix(&start);
            let Some(repository) = name.and_then(|name| name.parse().ok()) else {
                return Ok(ControlFlow::Continue(()));
            };
            walk.step()?;
            match is_usable(&repository) {
                Ok(false) => return Ok(ControlFlow::Continue(())),
                Ok(true) => found = Ok(Some(repository)),
                Err(error) => found = Err(error),
            }
            Ok(ControlFlow::Break(()))
        })?;
        found
    }

    /// Adds the links that the logs lack. Does nothing once that is done, and in a read-only store.
    ///
    /// # Errors
    /// [`Error::Store`](super::Error::Store).
    pub(super) fn complete_link_logs(&self, walk: &Walk<'_>) -> Result<()> {
        let completeness = self.blob_link_logs.completeness();
        if completeness != LogCompleteness::Unknown || !self.store.is_writable() {
            return Ok(());
        }
        let mut bytes = 0;
        for byte in 0..=u8::MAX {
            bytes += self.store.log_len(DerivedLogKey::BlobLinks(byte))?;
        }
        let parts = u8::try_from(bytes / MAX_LOG_BYTES_PER_WALK + 1).unwrap_or(u8::MAX);
        let mut count = LinkCount::default();
        for part in 0..parts {
            self.complete_part(&|byte| byte % parts == part, &mut count, walk)?;
        }
        if count.lines > count.links * 2 + MIN_EXCESS_LINES {
            self.compact_link_logs(walk)?;
        }
        let mut completeness = self
            .blob_link_logs
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *completeness == LogCompleteness::Unknown {
            *completeness = LogCompleteness::Complete;
        }
        Ok(())
    }

    /// Completes the logs of those first bytes for which `is_in` is true.
    fn complete_part(
        &self,
        is_in: &dyn Fn(u8) -> bool,
        count: &mut LinkCount,
        walk: &Walk<'_>,
    ) -> Result<()> {
        let (hasher, mut known) = (RandomState::new(), Vec::new());
        for byte in (0..=u8::MAX).filter(|byte| is_in(*byte)) {
            self.store
                .for_each_log_line(DerivedLogKey::BlobLinks(byte), &mut |line| {
                    walk.step()?;
                    known.push(hasher.hash_one(line));
                    Ok(())
                })?;
        }
        count.lines += known.len();
        known.sort_unstable();
        let mut missing = vec![String::new(); usize::from(u8::MAX) + 1];
        for repository in self.repositories(ListScope::RepositoriesWithBlobs, walk) {
            let repository = repository?;
            for digest in self.store.links(&repository, LinkKind::Layers) {
                walk.step()?;
                let digest = digest?;
                let byte = first_byte(&digest);
                let line = link_line(&repository, &digest);
                if !is_in(byte) {
                    continue;
                }
                count.links += 1;
                if known.binary_search(&hasher.hash_one(line.as_str())).is_ok() {
                    continue;
                }
                let lines = &mut missing[usize::from(byte)];
                lines.push_str(&line);
                lines.push('\n');
                if lines.len() >= APPEND_BYTES {
                    let log = DerivedLogKey::BlobLinks(byte);
                    self.store.append_to_log(log, &std::mem::take(lines))?;
                }
            }
        }
        for (byte, lines) in (0..=u8::MAX).zip(missing) {
            if !lines.is_empty() {
                self.store
                    .append_to_log(DerivedLogKey::BlobLinks(byte), &lines)?;
            }
        }
        Ok(())
    }

    /// Removes the lines of links that are gone, and repeated ones.
    fn compact_link_logs(&self, walk: &Walk<'_>) -> Result<()> {
        for byte in 0..=u8::MAX {
            walk.step()?;
            let (hasher, mut seen) = (RandomState::new(), HashSet::new());
            self.store
                .compact_log(DerivedLogKey::BlobLinks(byte), &mut |line| {
                    let Some((digest, name)) = line.split_once(' ') else {
                        return false;
                    };
                    let (Ok(digest), Ok(repository)) = (digest.parse(), name.parse()) else {
                        return false;
                    };
                    // A link that cannot be looked up may be there.
                    let link = self.store.len(ObjectKey::LayerLink(&repository, &digest));
                    link.map_or(true, |len| len.is_some()) && seen.insert(hasher.hash_one(line))
                })?;
        }
        Ok(())
    }
}

fn link_line(repository: &Repository, digest: &Digest) -> String {
    format!("{digest} {repository}")
}

/// Returns the first byte of the hash in a digest.
fn first_byte(digest: &Digest) -> u8 {
    let start = digest.hex().get(..2).unwrap_or_default();
    u8::from_str_radix(start, 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::cache::tests::folder;

    const REPOSITORIES: usize = 300;

    fn name(text: &str) -> Repository {
        text.parse().unwrap()
    }

    fn digest() -> Digest {
        Digest::of(b"content")
    }

    fn link(registry: &Registry, repository: &str, digest: &Digest) {
        let link = digest.to_string();
        let repository = name(repository);
        let key = ObjectKey::LayerLink(&repository, digest);
        registry.store.put(key, link.as_bytes()).unwrap();
    }

    fn unlink(registry: &Registry, repository: &str) {
        let repository = name(repository);
        let key = ObjectKey::LayerLink(&repository, &digest());
        registry.store.delete(key).unwrap();
    }

    /// Writes a tree as another program does: many repositories, two of which hold the blob.
    fn fill(registry: &Registry) {
        for number in 0..REPOSITORIES {
            let other = Digest::of(&number.to_ne_bytes());
            link(registry, &format!("r{number}"), &other);
        }
        registry
            .store
            .put(ObjectKey::Blob(&digest()), b"content")
            .unwrap();
        for repository in ["x", "y"] {
            link(registry, repository, &digest());
        }
    }

    fn find(registry: &Registry, may_pull: &str) -> Option<String> {
        let may_pull = |repository: &Repository| repository.as_str() == may_pull;
        let found = registry.find_linking_repository(&digest(), &may_pull, &Walk::unbounded());
        found.unwrap().map(|repository| repository.to_string())
    }

    fn complete(registry: &Registry) {
        registry.complete_link_logs(&Walk::unbounded()).unwrap();
    }

    #[test]
    fn a_repository_is_found_before_and_after_the_logs_are_complete() {
        let root = folder();
        let registry = Registry::open(root.path()).unwrap();
        fill(&registry);
        for _ in 0..2 {
            for repository in ["x", "y"] {
                assert_eq!(find(&registry, repository).as_deref(), Some(repository));
            }
            assert_eq!(find(&registry, "r0"), None);
            complete(&registry);
        }
        unlink(&registry, "x");
        assert_eq!(find(&registry, "x"), None);
    }

    #[test]
    fn complete_logs_are_used_without_a_walk_over_the_repositories() {
        let root = folder();
        let registry = Registry::open(root.path()).unwrap();
        fill(&registry);
        complete(&registry);
        let before = registry.store.listed_entries();
        let target = name("target");
        let mount = |may_pull: &dyn Fn(&Repository) -> bool| {
            let walk = Walk::unbounded();
            registry
                .mount_from_any(&target, &digest(), may_pull, &walk)
                .unwrap()
        };
        assert!(!mount(&|_| false));
        assert!(mount(&|repository| repository.as_str() == "y"));
        // A link that this server writes is in the logs.
        assert!(mount(&|repository| repository.as_str() == "target"));
        assert_eq!(registry.store.listed_entries(), before);
    }

    #[test]
    fn lost_and_damaged_lines_are_added_at_the_next_start() {
        let root = folder();
        let registry = Registry::open(root.path()).unwrap();
        fill(&registry);
        complete(&registry);
        drop(registry);
        let log = root
            .path()
            .join("imgsync/links-1")
            .join(&digest().hex()[..2]);
        let text = std::fs::read(&log).unwrap();
        for end in [0, 1, text.len() / 2, text.len() - 1] {
            let zeros = [&text[..end], &vec![0; text.len() - end]].concat();
            for damaged in [text[..end].to_vec(), zeros] {
                std::fs::write(&log, damaged).unwrap();
                let registry = Registry::open(root.path()).unwrap();
                complete(&registry);
                for repository in ["x", "y"] {
                    assert_eq!(find(&registry, repository).as_deref(), Some(repository));
                }
            }
        }
    }

    #[test]
    fn without_a_writable_log_the_repositories_are_walked() {
        let root = folder();
        let registry = Registry::open(root.path()).unwrap();
        fill(&registry);
        complete(&registry);
        let folder = root.path().join("imgsync/links-1");
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::write(&folder, b"").unwrap();
        let walk = Walk::unbounded();
        let is_x = |repository: &Repository| repository.as_str() == "x";
        // The link is written, but its line is not.
        assert!(registry.mount(&name("z"), &name("x"), &digest()).unwrap());
        assert!(
            registry
                .mount_from_any(&name("w"), &digest(), &is_x, &walk)
                .unwrap()
        );
        assert_eq!(find(&registry, "z").as_deref(), Some("z"));
    }

    #[test]
    fn lines_of_links_that_are_gone_are_removed() {
        let root = folder();
        let registry = Registry::open(root.path()).unwrap();
        fill(&registry);
        let log = DerivedLogKey::BlobLinks(first_byte(&digest()));
        let lines = [
            format!("{}\n", link_line(&name("gone"), &digest())).repeat(MIN_EXCESS_LINES),
            format!("{}\n", link_line(&name("x"), &digest())).repeat(REPOSITORIES * 3),
        ];
        registry.store.append_to_log(log, &lines.concat()).unwrap();
        complete(&registry);
        let mut kept = Vec::new();
        let visit = &mut |line: &str| {
            kept.extend(
                line.starts_with(&digest().to_string())
                    .then(|| line.to_owned()),
            );
            Ok(())
        };
        registry.store.for_each_log_line(log, visit).unwrap();
        kept.sort();
        assert_eq!(
            kept,
            ["x", "y"].map(|repository| link_line(&name(repository), &digest()))
        );
    }
}
