//! Remembers what a registry and the proxies in front of it accept: the largest request, and
//! whether a blob may be sent in chunks.
//!
//! The records expire, and there is one small file for each registry. A record is only a hint that
//! saves the next push a refused request; a later refusal replaces the record. This module sends no
//! requests. Start reading at [`HostProfile`].

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imgsync_oci::{Digest, Registry};
use serde::{Deserialize, Serialize};

use crate::cache::entry;

/// The lifetime of a record, because proxies are reconfigured and registries are replaced.
const RECORD_TTL: Duration = Duration::from_secs(21 * 24 * 3600);
/// After this time a larger request is tried, so that a limit that was raised is noticed.
const LIMIT_PROBE_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// An upper bound for the size of a record.
const MAX_RECORD_BYTES: u64 = 64 * 1024;
const MIB: u64 = 1024 * 1024;

/// How a blob is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum UploadMode {
    /// In chunks, each with its offset.
    Chunks,
    /// In one PATCH and then an empty PUT, as Docker does.
    Stream,
    /// In one PUT.
    #[serde(rename = "whole")]
    Monolithic,
}

impl UploadMode {
    /// Returns the mode to try after this one was refused.
    pub(super) fn fallback(self) -> Option<Self> {
        match self {
            Self::Chunks => Some(Self::Stream),
            Self::Stream => Some(Self::Monolithic),
            Self::Monolithic => None,
        }
    }
}

/// The known limits of one registry.
#[derive(Debug)]
pub(super) struct HostProfile {
    path: PathBuf,
    record: Mutex<HostRecord>,
    /// The smallest chunk in bytes that the registry accepts, except for the last chunk of a blob.
    /// Set for registries that do not announce the limit.
    pub(super) chunk_min: Option<u64>,
}

/// The contents of a record file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct HostRecord {
    /// The URL scheme and the host, for people who look into the folder.
    registry: String,
    /// The largest request in bytes that is not known to be too large.
    #[serde(rename = "body")]
    max_body: Option<DatedValue<u64>>,
    #[serde(rename = "way")]
    mode: Option<DatedValue<UploadMode>>,
}

/// A value and the time at which it was found, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct DatedValue<T> {
    value: T,
    found: u64,
}

impl<T: Copy> DatedValue<T> {
    fn now(value: T) -> Self {
        let found = seconds();
        Self { value, found }
    }

    /// Returns the value unless it has expired.
    fn value(self) -> Option<T> {
        self.is_within(RECORD_TTL).then_some(self.value)
    }

    fn is_within(self, age: Duration) -> bool {
        let passed = seconds().checked_sub(self.found);
        passed.is_some_and(|passed| passed < age.as_secs())
    }
}

impl HostProfile {
    /// Loads what earlier pushes have found, and adds what is known of the large public registries.
    pub(super) fn load(cache: &Path, scheme: &str, registry: &Registry) -> Self {
        let name = format!("{scheme} {registry}");
        let path = cache.join("hosts").join(Digest::of(name.as_bytes()).hex());
        let mut found = read(&path).unwrap_or_default();
        let known = HostQuirks::for_registry(registry);
        found.max_body = found.max_body.filter(|body| body.value().is_some());
        found.mode = found.mode.filter(|way| way.value().is_some());
        found.registry = name;
        found.max_body = found.max_body.or(known.max_body.map(DatedValue::now));
        found.mode = found.mode.or(known.mode.map(DatedValue::now));
        Self {
            path,
            record: Mutex::new(found),
            chunk_min: known.chunk_min,
        }
    }

    /// Returns the largest request in bytes that is worth a try: the largest that is not known to
    /// be refused, or twice as much if the limit was found more than a day ago. `None` if no limit
    /// is known.
    pub(super) fn max_body(&self) -> Option<u64> {
        let body = self.record().max_body?;
        Some(match body.is_within(LIMIT_PROBE_INTERVAL) {
            true => body.value,
            false => body.value.saturating_mul(2),
        })
    }

    /// Returns the mode to send a blob in.
    pub(super) fn mode(&self) -> UploadMode {
        self.record()
            .mode
            .map_or(UploadMode::Chunks, |way| way.value)
    }

    /// Records that a request of more than `bytes` bytes was refused as too large.
    pub(super) fn set_max_body(&self, bytes: u64) {
        let body = Some(DatedValue::now(bytes));
        self.record().max_body = body;
        self.update_file(|found| found.max_body = body);
    }

    /// Records that a request of `bytes` bytes was accepted, and raises a lower limit.
    pub(super) fn raise_max_body(&self, bytes: u64) {
        let known = self.record().max_body;
        if known.is_some_and(|known| known.value < bytes) {
            self.set_max_body(bytes);
        }
    }

    /// Falls back from a mode that the registry has refused. Returns whether there is another mode.
    pub(super) fn fall_back_from(&self, way: UploadMode) -> bool {
        let mut found = self.record();
        let now = found.mode.map_or(UploadMode::Chunks, |way| way.value);
        match (now == way, way.fallback()) {
            // Another blob has caused the fallback already.
            (false, _) => true,
            (true, Some(next)) => {
                found.mode = Some(DatedValue::now(next));
                true
            }
            (true, None) => false,
        }
    }

    /// Saves the mode in which a blob was sent, unless it is the default one.
    pub(super) fn save_mode(&self, way: UploadMode) {
        if way != UploadMode::Chunks {
            let way = Some(DatedValue::now(way));
            self.update_file(|found| found.mode = way);
        }
    }

    fn record(&self) -> MutexGuard<'_, HostRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the file, and keeps what other pushes have written. A write error is ignored: the
    /// next push then has a request refused again.
    fn update_file(&self, change: impl FnOnce(&mut HostRecord)) {
        let mut found = read(&self.path).unwrap_or_default();
        change(&mut found);
        found.registry.clone_from(&self.record().registry);
        if let Ok(text) = serde_json::to_string(&found) {
            entry::write(&self.path, &text);
        }
    }
}

fn read(path: &Path) -> Option<HostRecord> {
    serde_json::from_str(&entry::read(path, MAX_RECORD_BYTES)?).ok()
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// The limits of a registry that are known without a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct HostQuirks {
    chunk_min: Option<u64>,
    max_body: Option<u64>,
    mode: Option<UploadMode>,
}

impl HostQuirks {
    fn for_registry(registry: &Registry) -> Self {
        let name = registry.as_str();
        let host = name.split_once(':').map_or(name, |(host, _port)| host);
        let below = |domain: &str| host.ends_with(domain);
        let nothing = Self::default();
        if host.contains(".dkr.ecr.") && (below(".amazonaws.com") || below(".amazonaws.com.cn")) {
            // The parts of its object store have a minimum size (aws/containers-roadmap#2831).
            let chunk_min = Some(5 * MIB);
            return Self {
                chunk_min,
                ..nothing
            };
        }
        if host == "ghcr.io" {
            // Larger chunks are answered with 416 (oci-client#37).
            let body = Some(4 * MIB);
            return Self {
                max_body: body,
                ..nothing
            };
        }
        if below(".pkg.dev") || host == "gcr.io" || below(".gcr.io") {
            // Only one PATCH a session is accepted (skopeo#1101).
            let way = Some(UploadMode::Stream);
            return Self {
                mode: way,
                ..nothing
            };
        }
        if below(".azurecr.io") {
            // The front end accepts about 20 MB (harbor#23015).
            let body = Some(16 * MIB);
            return Self {
                max_body: body,
                ..nothing
            };
        }
        nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(folder: &Path) -> HostProfile {
        HostProfile::load(folder, "https", &"registry.example.com".parse().unwrap())
    }

    #[test]
    fn what_was_found_out_is_there_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = host(folder.path());
        assert_eq!((first.max_body(), first.mode()), (None, UploadMode::Chunks));
        first.set_max_body(4 * MIB);
        assert!(
            first.fall_back_from(UploadMode::Chunks) && first.fall_back_from(UploadMode::Chunks)
        );
        assert_eq!(first.mode(), UploadMode::Stream);
        // A refusal of chunks does not prove that the next mode works, so nothing is saved yet.
        assert_eq!(host(folder.path()).mode(), UploadMode::Chunks);
        first.save_mode(UploadMode::Stream);
        let second = host(folder.path());
        assert_eq!(
            (second.max_body(), second.mode()),
            (Some(4 * MIB), UploadMode::Stream)
        );
        let other = HostProfile::load(
            folder.path(),
            "http",
            &"registry.example.com".parse().unwrap(),
        );
        assert_eq!(other.max_body(), None);
        assert!(
            second.fall_back_from(UploadMode::Stream)
                && !second.fall_back_from(UploadMode::Monolithic)
        );
    }

    /// Makes the recorded size limit older by the given time.
    fn age(host: &HostProfile, by: Duration) {
        let text = std::fs::read_to_string(&host.path).unwrap();
        let mut found: HostRecord = serde_json::from_str(&text).unwrap();
        found.max_body.as_mut().unwrap().found -= by.as_secs() + 1;
        std::fs::write(&host.path, serde_json::to_string(&found).unwrap()).unwrap();
    }

    #[test]
    fn a_limit_that_was_raised_is_found_out_day_by_day() {
        let folder = tempfile::tempdir().unwrap();
        let first = host(folder.path());
        first.raise_max_body(8 * MIB);
        assert_eq!(first.max_body(), None);
        first.set_max_body(MIB);
        age(&first, LIMIT_PROBE_INTERVAL);
        let second = host(folder.path());
        assert_eq!(second.max_body(), Some(2 * MIB));
        second.raise_max_body(MIB);
        assert_eq!(host(folder.path()).max_body(), Some(2 * MIB));
        second.raise_max_body(2 * MIB);
        assert_eq!(host(folder.path()).max_body(), Some(2 * MIB));
        age(&second, LIMIT_PROBE_INTERVAL);
        assert_eq!(host(folder.path()).max_body(), Some(4 * MIB));
    }

    #[test]
    fn what_is_old_or_damaged_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let known = host(folder.path());
        known.set_max_body(MIB);
        age(&known, RECORD_TTL);
        assert_eq!(host(folder.path()).max_body(), None);
        std::fs::write(&known.path, "{").unwrap();
        assert_eq!(host(folder.path()).max_body(), None);
    }

    #[test]
    fn the_large_hosts_are_known() {
        let known = |name: &str| HostQuirks::for_registry(&name.parse().unwrap());
        let ecr = known("123456789012.dkr.ecr.eu-west-1.amazonaws.com");
        assert_eq!(ecr.chunk_min, Some(5 * MIB));
        assert_eq!(known("ghcr.io").max_body, Some(4 * MIB));
        assert_eq!(
            known("europe-docker.pkg.dev").mode,
            Some(UploadMode::Stream)
        );
        assert_eq!(known("eu.gcr.io").mode, Some(UploadMode::Stream));
        assert_eq!(known("team.azurecr.io").max_body, Some(16 * MIB));
        assert_eq!(known("notgcr.io"), HostQuirks::default());
        assert_eq!(known("localhost:5000"), HostQuirks::default());
    }
}
