//! When an image was made.

use std::time::SystemTime;

/// When an image was made, as far as could be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagDate {
    /// Its config says so; of an index, the newest image's.
    At(SystemTime),
    /// Nobody says: an artifact, or a config without `created`.
    Unknown,
    /// The tag went since the tags were listed.
    Deleted,
    /// It could not be asked.
    Failed,
}
