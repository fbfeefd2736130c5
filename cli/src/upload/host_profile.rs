//! Remembers what a registry and the proxies in front of it accept: the largest request, and
//! whether a blob may be sent in chunks.
//!
//! The records expire, and there is one small file for each registry. A record is only a hint that
//! saves the next push a refused request; a later refusal replaces the record. This module sends no
//! requests. Start reading at [`HostProfile`].

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imgsync_oci::{Digest, Registry};
use serde::{Deserialize, Serialize};

use super::lock;
use crate::cache::entry;
use crate::plan::TransferRates;

/// The lifetime of a record, because proxies are reconfigured and registries are replaced.
const RECORD_TTL: Duration = Duration::from_secs(21 * 24 * 3600);
/// After this time a larger request is tried, so that a limit that was raised is noticed.
const LIMIT_PROBE_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// An upper bound for the size of a record.
const MAX_RECORD_BYTES: u64 = 64 * 1024;
const MIB: u64 = 1024 * 1024;
/// The smallest transfer that tells a rate. In a smaller one, the requests take most of the time.
const MIN_RATE_SAMPLE_BYTES: u64 = 8 * MIB;

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
    /// The rate of the last large push in bytes per second, from reading the layers on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent: Option<DatedValue<u64>>,
    /// The rate of the last large download in bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    received: Option<DatedValue<u64>>,
}

/// A value and the time at which it was found, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct DatedValue<T> {
    value: T,
    found: u64,
}

impl HostRecord {
    fn mode(&self) -> UploadMode {
        self.mode.map_or(UploadMode::Chunks, |mode| mode.value)
    }
}

impl<T> DatedValue<T> {
    fn now(value: T) -> Self {
        let found = seconds();
        Self { value, found }
    }

    fn is_fresh(&self) -> bool {
        self.is_within(RECORD_TTL)
    }

    fn is_within(&self, age: Duration) -> bool {
        let passed = seconds().checked_sub(self.found);
        passed.is_some_and(|passed| passed < age.as_secs())
    }
}

impl HostProfile {
    /// Loads what earlier pushes have found, and adds what is known of the large public registries.
    pub(super) fn load(cache: &Path, scheme: &str, registry: &Registry) -> Self {
        let name = format!("{scheme} {registry}");
        let path = cache.join("hosts").join(Digest::of(name.as_bytes()).hex());
        let saved = read(&path).unwrap_or_default();
        let quirks = HostQuirks::for_registry(registry);
        let max_body = saved.max_body.filter(DatedValue::is_fresh);
        let mode = saved.mode.filter(DatedValue::is_fresh);
        let record = HostRecord {
            registry: name,
            max_body: max_body.or(quirks.max_body.map(DatedValue::now)),
            mode: mode.or(quirks.mode.map(DatedValue::now)),
            sent: saved.sent.filter(DatedValue::is_fresh),
            received: saved.received.filter(DatedValue::is_fresh),
        };
        Self {
            path,
            record: Mutex::new(record),
            chunk_min: quirks.chunk_min,
        }
    }

    /// Returns the largest request in bytes that is worth a try: the largest that is not known to
    /// be refused, or twice as much if the limit was found more than a day ago. `None` if no limit
    /// is known.
    pub(super) fn max_body(&self) -> Option<u64> {
        let limit = self.record().max_body?;
        let is_recent = limit.is_within(LIMIT_PROBE_INTERVAL);
        Some(limit.value.saturating_mul(if is_recent { 1 } else { 2 }))
    }

    /// Returns the mode to send a blob in.
    pub(super) fn mode(&self) -> UploadMode {
        self.record().mode()
    }

    /// Records that a request of more than `bytes` bytes was refused as too large.
    pub(super) fn set_max_body(&self, bytes: u64) {
        let limit = Some(DatedValue::now(bytes));
        self.record().max_body = limit;
        self.update_file(|record| record.max_body = limit);
    }

    /// Records that a request of `bytes` bytes was accepted, and raises a lower limit.
    pub(super) fn raise_max_body(&self, bytes: u64) {
        let limit = self.record().max_body;
        if limit.is_some_and(|limit| limit.value < bytes) {
            self.set_max_body(bytes);
        }
    }

    /// Falls back from a mode that the registry has refused. Returns whether there is another mode.
    pub(super) fn fall_back_from(&self, mode: UploadMode) -> bool {
        let mut record = self.record();
        if record.mode() != mode {
            // Another blob has caused the fallback already.
            return true;
        }
        let next = mode.fallback();
        record.mode = next.map(DatedValue::now).or(record.mode);
        next.is_some()
    }

    /// Saves the mode in which a blob was sent, unless it is the default one.
    pub(super) fn save_mode(&self, mode: UploadMode) {
        if mode != UploadMode::Chunks {
            let mode = Some(DatedValue::now(mode));
            self.update_file(|record| record.mode = mode);
        }
    }

    /// Returns the rates of the last large transfers.
    pub(super) fn rates(&self) -> TransferRates {
        let record = self.record();
        TransferRates {
            sent: record.sent.map(|rate| rate.value),
            received: record.received.map(|rate| rate.value),
        }
    }

    /// Records how long it took to send `bytes` bytes, if they are enough to tell a rate.
    pub(super) fn record_sent(&self, bytes: u64, duration: Duration) {
        if let Some(rate) = rate(bytes, duration) {
            self.record().sent = Some(rate);
            self.update_file(|record| record.sent = Some(rate));
        }
    }

    /// Records how long it took to receive `bytes` bytes, if they are enough to tell a rate.
    pub(super) fn record_received(&self, bytes: u64, duration: Duration) {
        if let Some(rate) = rate(bytes, duration) {
            self.record().received = Some(rate);
            self.update_file(|record| record.received = Some(rate));
        }
    }

    fn record(&self) -> MutexGuard<'_, HostRecord> {
        lock(&self.record)
    }

    /// Changes the file, and keeps what other pushes have written. A write error is ignored: the
    /// next push then has a request refused again.
    fn update_file(&self, change: impl FnOnce(&mut HostRecord)) {
        let mut record = read(&self.path).unwrap_or_default();
        change(&mut record);
        record.registry.clone_from(&self.record().registry);
        if let Ok(text) = serde_json::to_string(&record) {
            entry::write(&self.path, &text);
        }
    }
}

/// Returns the rate of a transfer in bytes per second; `None` if it was too small to tell.
fn rate(bytes: u64, duration: Duration) -> Option<DatedValue<u64>> {
    let millis = duration.as_millis().max(1);
    let rate = u128::from(bytes) * 1000 / millis;
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    (bytes >= MIN_RATE_SAMPLE_BYTES).then(|| DatedValue::now(rate))
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
        let is_below = |domain: &str| host.ends_with(domain);
        let is_aws = is_below(".amazonaws.com") || is_below(".amazonaws.com.cn");
        let mut quirks = Self::default();
        if is_aws && host.contains(".dkr.ecr.") {
            // The parts of its object store have a minimum size (aws/containers-roadmap#2831).
            quirks.chunk_min = Some(5 * MIB);
        } else if host == "ghcr.io" {
            // Larger chunks are answered with 416 (oci-client#37).
            quirks.max_body = Some(4 * MIB);
        } else if is_below(".pkg.dev") || host == "gcr.io" || is_below(".gcr.io") {
            // Only one PATCH a session is accepted (skopeo#1101).
            quirks.mode = Some(UploadMode::Stream);
        } else if is_below(".azurecr.io") {
            // The front end accepts about 20 MB (harbor#23015).
            quirks.max_body = Some(16 * MIB);
        }
        quirks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(folder: &Path) -> HostProfile {
        HostProfile::load(folder, "https", &"registry.example.com".parse().unwrap())
    }

    #[test]
    fn limits_and_modes_are_kept_for_the_next_push() {
        let folder = tempfile::tempdir().unwrap();
        let first = profile(folder.path());
        assert_eq!((first.max_body(), first.mode()), (None, UploadMode::Chunks));
        first.set_max_body(4 * MIB);
        assert!(
            first.fall_back_from(UploadMode::Chunks) && first.fall_back_from(UploadMode::Chunks)
        );
        assert_eq!(first.mode(), UploadMode::Stream);
        // A refusal of chunks does not prove that the next mode works, so nothing is saved yet.
        assert_eq!(profile(folder.path()).mode(), UploadMode::Chunks);
        first.save_mode(UploadMode::Stream);
        let second = profile(folder.path());
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
    fn age(profile: &HostProfile, by: Duration) {
        let text = std::fs::read_to_string(&profile.path).unwrap();
        let mut record: HostRecord = serde_json::from_str(&text).unwrap();
        record.max_body.as_mut().unwrap().found -= by.as_secs() + 1;
        std::fs::write(&profile.path, serde_json::to_string(&record).unwrap()).unwrap();
    }

    #[test]
    fn a_raised_limit_is_probed_once_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let first = profile(folder.path());
        first.raise_max_body(8 * MIB);
        assert_eq!(first.max_body(), None);
        first.set_max_body(MIB);
        age(&first, LIMIT_PROBE_INTERVAL);
        let second = profile(folder.path());
        assert_eq!(second.max_body(), Some(2 * MIB));
        second.raise_max_body(MIB);
        assert_eq!(profile(folder.path()).max_body(), Some(2 * MIB));
        second.raise_max_body(2 * MIB);
        assert_eq!(profile(folder.path()).max_body(), Some(2 * MIB));
        age(&second, LIMIT_PROBE_INTERVAL);
        assert_eq!(profile(folder.path()).max_body(), Some(4 * MIB));
    }

    #[test]
    fn rates_of_large_transfers_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = profile(folder.path());
        first.record_sent(MIB, Duration::from_millis(1));
        assert_eq!(first.rates(), TransferRates::default());
        first.record_sent(10 * MIB, Duration::from_secs(5));
        first.record_received(20 * MIB, Duration::from_secs(2));
        let rates = TransferRates {
            sent: Some(2 * MIB),
            received: Some(10 * MIB),
        };
        assert_eq!(first.rates(), rates);
        assert_eq!(profile(folder.path()).rates(), rates);
    }

    #[test]
    fn old_and_damaged_records_are_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let first = profile(folder.path());
        first.set_max_body(MIB);
        age(&first, RECORD_TTL);
        assert_eq!(profile(folder.path()).max_body(), None);
        std::fs::write(&first.path, "{").unwrap();
        assert_eq!(profile(folder.path()).max_body(), None);
    }

    #[test]
    fn large_registries_are_known() {
        let quirks = |name: &str| HostQuirks::for_registry(&name.parse().unwrap());
        let ecr = quirks("123456789012.dkr.ecr.eu-west-1.amazonaws.com");
        assert_eq!(ecr.chunk_min, Some(5 * MIB));
        assert_eq!(quirks("ghcr.io").max_body, Some(4 * MIB));
        assert_eq!(
            quirks("europe-docker.pkg.dev").mode,
            Some(UploadMode::Stream)
        );
        assert_eq!(quirks("eu.gcr.io").mode, Some(UploadMode::Stream));
        assert_eq!(quirks("team.azurecr.io").max_body, Some(16 * MIB));
        assert_eq!(quirks("notgcr.io"), HostQuirks::default());
        assert_eq!(quirks("localhost:5000"), HostQuirks::default());
    }
}
