//! What a stock registry noted in its proxy mode, and whether that was looked at.

use std::time::SystemTime;

use super::error::{Doing, Result};
use super::{Bytes, Key, Store};

impl Store {
    /// What a stock registry noted about what it cached, and when; `None` where it did not.
    pub(crate) fn scheduler_state(&self) -> Result<Option<(Bytes, SystemTime)>> {
        let path = self.keys.scheduler_state();
        let written = self.disk.modified(&path).doing("look at", &path)?;
        let opened = self.open_at(&path)?;
        Ok(opened.map(|(bytes, _)| bytes).zip(written))
    }

    /// When something was put under a key; `None` where nothing is.
    pub(crate) fn changed(&self, key: Key<'_>) -> Result<Option<SystemTime>> {
        let path = self.keys.path(key);
        self.disk.modified(&path).doing("look at", &path)
    }

    /// Whether what was noted has been looked at.
    pub(crate) fn is_imported(&self) -> Result<bool> {
        let path = self.keys.imported();
        Ok(self.disk.len(&path).doing("look at", &path)?.is_some())
    }

    /// Says, durably, that what was noted has been looked at.
    pub(crate) fn note_imported(&self) -> Result<()> {
        self.put_at(self.keys.imported(), b"")
    }
}
