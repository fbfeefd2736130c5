//! What a registry, and the proxies before it, were found to take: how large a request may be, and
//! whether a blob may come in chunks. Remembered for a while, one small file a registry, so that the
//! next push need not be refused again. Only ever a hint: a later refusal teaches anew.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imgsync_oci::{Digest, Registry};
use serde::{Deserialize, Serialize};

use crate::cache::entry;

/// How long it counts: proxies are configured anew, and registries are replaced.
const WORTH: Duration = Duration::from_secs(21 * 24 * 3600);
/// After this more is tried than was found: what was lifted shall not count for weeks.
const CERTAIN: Duration = Duration::from_secs(24 * 3600);
/// More than a file ever has.
const LONGEST: u64 = 64 * 1024;
const MIB: u64 = 1024 * 1024;

/// How a blob goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    /// In chunks, each with its place.
    Chunks,
    /// In one PATCH, then a PUT, as Docker sends.
    Stream,
    /// In one PUT.
    Whole,
}

impl Way {
    /// What is left to try where this is refused.
    pub(super) fn next(self) -> Option<Self> {
        match self {
            Self::Chunks => Some(Self::Stream),
            Self::Stream => Some(Self::Whole),
            Self::Whole => None,
        }
    }
}

/// What is known of one registry.
#[derive(Debug)]
pub(super) struct Host {
    path: PathBuf,
    found: Mutex<Found>,
    /// The smallest chunk but the last that it takes, where it does not say so itself, in bytes.
    pub(super) chunk_min: Option<u64>,
}

/// What was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    /// For people who look into the folder.
    registry: String,
    /// The largest request that is not known to be too large, in bytes.
    body: Option<Since<u64>>,
    way: Option<Since<Way>>,
}

/// Something, and when it was found out, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Since<T> {
    value: T,
    found: u64,
}

impl<T: Copy> Since<T> {
    fn now(value: T) -> Self {
        let found = seconds();
        Self { value, found }
    }

    /// What still counts.
    fn value(self) -> Option<T> {
        self.is_within(WORTH).then_some(self.value)
    }

    fn is_within(self, age: Duration) -> bool {
        let passed = seconds().checked_sub(self.found);
        passed.is_some_and(|passed| passed < age.as_secs())
    }
}

impl Host {
    /// What earlier pushes found out, and what is known of the large hosts.
    pub(super) fn load(cache: &Path, scheme: &str, registry: &Registry) -> Self {
        let name = format!("{scheme} {registry}");
        let path = cache.join("hosts").join(Digest::of(name.as_bytes()).hex());
        let mut found = read(&path).unwrap_or_default();
        let known = Known::of(registry);
        found.body = found.body.filter(|body| body.value().is_some());
        found.way = found.way.filter(|way| way.value().is_some());
        found.registry = name;
        found.body = found.body.or(known.body.map(Since::now));
        found.way = found.way.or(known.way.map(Since::now));
        Self {
            path,
            found: Mutex::new(found),
            chunk_min: known.chunk_min,
        }
    }

    /// The largest request that is worth trying, in bytes: the largest that is not known to be too
    /// large, or twice that after a day.
    pub(super) fn body(&self) -> Option<u64> {
        let body = self.found().body?;
        Some(match body.is_within(CERTAIN) {
            true => body.value,
            false => body.value.saturating_mul(2),
        })
    }

    /// How a blob goes.
    pub(super) fn way(&self) -> Way {
        self.found().way.map_or(Way::Chunks, |way| way.value)
    }

    /// A request that was larger than `bytes` was refused as too large.
    pub(super) fn limits_body(&self, bytes: u64) {
        let body = Some(Since::now(bytes));
        self.found().body = body;
        self.keep(|found| found.body = body);
    }

    /// A request of `bytes` bytes went through: if that is more than was known, the limit has been
    /// raised.
    pub(super) fn takes_body(&self, bytes: u64) {
        let known = self.found().body;
        if known.is_some_and(|known| known.value < bytes) {
            self.limits_body(bytes);
        }
    }

    /// What went `way` was refused for what it is. Yields whether there is another way.
    pub(super) fn refuses(&self, way: Way) -> bool {
        let mut found = self.found();
        let now = found.way.map_or(Way::Chunks, |way| way.value);
        match (now == way, way.next()) {
            // Another blob has found out already.
            (false, _) => true,
            (true, Some(next)) => {
                found.way = Some(Since::now(next));
                true
            }
            (true, None) => false,
        }
    }

    /// A blob has gone this way: if it is not the usual one, that is worth knowing.
    pub(super) fn takes(&self, way: Way) {
        if way != Way::Chunks {
            let way = Some(Since::now(way));
            self.keep(|found| found.way = way);
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is on disk, and leaves what others have put there. A disk that cannot keep it
    /// costs the next push a refusal and nothing else.
    fn keep(&self, change: impl FnOnce(&mut Found)) {
        let mut found = read(&self.path).unwrap_or_default();
        change(&mut found);
        found.registry.clone_from(&self.found().registry);
        if let Ok(text) = serde_json::to_string(&found) {
            entry::write(&self.path, &text);
        }
    }
}

fn read(path: &Path) -> Option<Found> {
    serde_json::from_str(&entry::read(path, LONGEST)?).ok()
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// What is known of a host before it is spoken to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    chunk_min: Option<u64>,
    body: Option<u64>,
    way: Option<Way>,
}

impl Known {
    fn of(registry: &Registry) -> Self {
        let name = registry.as_str();
        let host = name.split_once(':').map_or(name, |(host, _port)| host);
        let below = |domain: &str| host.ends_with(domain);
        let nothing = Self::default();
        if host.contains(".dkr.ecr.") && (below(".amazonaws.com") || below(".amazonaws.com.cn")) {
            // Parts as its object store has them (aws/containers-roadmap#2831).
            let chunk_min = Some(5 * MIB);
            return Self {
                chunk_min,
                ..nothing
            };
        }
        if host == "ghcr.io" {
            // More is answered with 416 (oci-client#37).
            let body = Some(4 * MIB);
            return Self { body, ..nothing };
        }
        if below(".pkg.dev") || host == "gcr.io" || below(".gcr.io") {
            // One PATCH or none (skopeo#1101).
            let way = Some(Way::Stream);
            return Self { way, ..nothing };
        }
        if below(".azurecr.io") {
            // Its front end takes about 20 MB (harbor#23015).
            let body = Some(16 * MIB);
            return Self { body, ..nothing };
        }
        nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(folder: &Path) -> Host {
        Host::load(folder, "https", &"registry.example.com".parse().unwrap())
    }

    #[test]
    fn what_was_found_out_is_there_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = host(folder.path());
        assert_eq!((first.body(), first.way()), (None, Way::Chunks));
        first.limits_body(4 * MIB);
        assert!(first.refuses(Way::Chunks) && first.refuses(Way::Chunks));
        assert_eq!(first.way(), Way::Stream);
        // That it was refused is no proof that the next way works.
        assert_eq!(host(folder.path()).way(), Way::Chunks);
        first.takes(Way::Stream);
        let second = host(folder.path());
        assert_eq!((second.body(), second.way()), (Some(4 * MIB), Way::Stream));
        let other = Host::load(
            folder.path(),
            "http",
            &"registry.example.com".parse().unwrap(),
        );
        assert_eq!(other.body(), None);
        assert!(second.refuses(Way::Stream) && !second.refuses(Way::Whole));
    }

    /// Makes what is known of bodies so much older.
    fn age(host: &Host, by: Duration) {
        let text = std::fs::read_to_string(&host.path).unwrap();
        let mut found: Found = serde_json::from_str(&text).unwrap();
        found.body.as_mut().unwrap().found -= by.as_secs() + 1;
        std::fs::write(&host.path, serde_json::to_string(&found).unwrap()).unwrap();
    }

    #[test]
    fn a_limit_that_was_raised_is_found_out_day_by_day() {
        let folder = tempfile::tempdir().unwrap();
        let first = host(folder.path());
        first.takes_body(8 * MIB);
        assert_eq!(first.body(), None);
        first.limits_body(MIB);
        age(&first, CERTAIN);
        let second = host(folder.path());
        assert_eq!(second.body(), Some(2 * MIB));
        second.takes_body(MIB);
        assert_eq!(host(folder.path()).body(), Some(2 * MIB));
        second.takes_body(2 * MIB);
        assert_eq!(host(folder.path()).body(), Some(2 * MIB));
        age(&second, CERTAIN);
        assert_eq!(host(folder.path()).body(), Some(4 * MIB));
    }

    #[test]
    fn what_is_old_or_damaged_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let known = host(folder.path());
        known.limits_body(MIB);
        age(&known, WORTH);
        assert_eq!(host(folder.path()).body(), None);
        std::fs::write(&known.path, "{").unwrap();
        assert_eq!(host(folder.path()).body(), None);
    }

    #[test]
    fn the_large_hosts_are_known() {
        let known = |name: &str| Known::of(&name.parse().unwrap());
        let ecr = known("123456789012.dkr.ecr.eu-west-1.amazonaws.com");
        assert_eq!(ecr.chunk_min, Some(5 * MIB));
        assert_eq!(known("ghcr.io").body, Some(4 * MIB));
        assert_eq!(known("europe-docker.pkg.dev").way, Some(Way::Stream));
        assert_eq!(known("eu.gcr.io").way, Some(Way::Stream));
        assert_eq!(known("team.azurecr.io").body, Some(16 * MIB));
        assert_eq!(known("notgcr.io"), Known::default());
        assert_eq!(known("localhost:5000"), Known::default());
    }
}
