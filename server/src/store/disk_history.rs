//! Stores how much space was used in the last weeks, for the operator.
//!
//! Nothing depends on it. A damaged line is skipped.

use super::Store;
use super::error::Result;

/// Bounds how much of the file is read; a real one has about 80 KB.
const MAX_HISTORY_BYTES: usize = 512 * 1024;

/// The space that was used at a time. Sizes are in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskSample {
    /// In Unix seconds.
    pub(crate) time: u64,
    /// The size of the disk.
    pub(crate) total: u64,
    /// The space that the server could still use.
    pub(crate) free: u64,
    /// The size of all blobs and manifests.
    pub(crate) blobs: u64,
    /// The size of open upload sessions.
    pub(crate) uploads: u64,
    /// The size of the trash.
    pub(crate) trash: u64,
    /// The size of the blobs that no repository linked.
    pub(crate) unlinked: u64,
    /// The size of the blobs that only manifests without a tag needed.
    pub(crate) untagged: u64,
}

impl Store {
    /// Returns the samples that were stored, in the order of the file.
    pub(crate) fn disk_history(&self) -> Result<Vec<DiskSample>> {
        let bytes = self.read_file(&self.paths.disk_history(), MAX_HISTORY_BYTES)?;
        let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_default();
        Ok(text.lines().filter_map(parse).collect())
    }

    /// Replaces the stored samples. A power cut leaves the old ones or the new ones. Does nothing if
    /// the store is read-only.
    pub(crate) fn put_disk_history(&self, samples: &[DiskSample]) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let lines: String = samples.iter().map(format).collect();
        self.put_derived_file(&self.paths.disk_history(), lines.as_bytes(), true)
    }
}

fn format(sample: &DiskSample) -> String {
    let DiskSample {
        time,
        total,
        free,
        blobs,
        uploads,
        trash,
        unlinked,
        untagged,
    } = sample;
    format!("{time} {total} {free} {blobs} {uploads} {trash} {unlinked} {untagged}\n")
}

fn parse(line: &str) -> Option<DiskSample> {
    let numbers: Option<Vec<u64>> = line.split(' ').map(|number| number.parse().ok()).collect();
    let [time, total, free, blobs, uploads, trash, unlinked, untagged] = numbers?[..] else {
        return None;
    };
    Some(DiskSample {
        time,
        total,
        free,
        blobs,
        uploads,
        trash,
        unlinked,
        untagged,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_survive_and_damaged_lines_are_skipped() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        assert_eq!(store.disk_history().unwrap(), []);
        let samples = [1, 2].map(|time| DiskSample {
            time,
            total: 100,
            free: 50,
            blobs: 30,
            uploads: 3,
            trash: 2,
            unlinked: 1,
            untagged: u64::MAX,
        });
        store.put_disk_history(&samples).unwrap();
        assert_eq!(store.disk_history().unwrap(), samples);
        let path = root.path().join("imgsync/disk-history-1");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.splice(
            0..0,
            *b"\xff 1 2\n1 2 3\n-1 0 0 0 0 0 0 0\n1 1 1 1 1 1 1 1 1\n",
        );
        bytes.extend(b"99 1");
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(store.disk_history().unwrap(), samples);
    }
}
