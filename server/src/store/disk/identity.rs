//! Recognizes whether files and folders have changed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

/// Identifies a file or folder and its content: any write changes the value, unless it follows the
/// last one within the granularity of the times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// The coarsest granularity of times in a filesystem: that of FAT.
const MAX_TIME_GRANULARITY: Duration = Duration::from_secs(2);

impl FileIdentity {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns whether the last write is so long ago at `now`, a time of the system clock, that
    /// every later write changes the identity.
    pub(in crate::store) fn is_settled_at(&self, now: SystemTime) -> bool {
        let (seconds, _) = self.mtime.max(self.ctime);
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        let settled_at = u64::try_from(seconds).map(Duration::from_secs);
        match (settled_at, now) {
            // One more second, for the fraction.
            (Ok(last), Ok(now)) => now > last + MAX_TIME_GRANULARITY + Duration::from_secs(1),
            _ => false,
        }
    }
}

impl std::fmt::Display for FileIdentity {
    /// Writes the identity as it is stored. The device is left out, because its number can change
    /// at a reboot.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            device: _,
            inode,
            size,
            mtime,
            ctime,
        } = self;
        write!(
            f,
            "{inode},{size},{},{},{},{}",
            mtime.0, mtime.1, ctime.0, ctime.1
        )
    }
}
