//! What a stock registry noted in its proxy mode, and whether that was looked at.

use std::time::SystemTime;

use super::error::{IoContext, Result};
use super::{ObjectKey, ObjectReader, Store};

impl Store {
    /// What a stock registry noted about what it cached, and when; `None` where it did not.
    pub(crate) fn scheduler_state(&self) -> Result<Option<(ObjectReader, SystemTime)>> {
        let path = self.paths.scheduler_state();
        let written = self.disk.modified(&path).context("look at", &path)?;
        let opened = self.open_file(&path)?;
        Ok(opened.map(|(bytes, _)| bytes).zip(written))
    }

    /// When something was put under a key; `None` where nothing is.
    pub(crate) fn object_modified_at(&self, key: ObjectKey<'_>) -> Result<Option<SystemTime>> {
        let path = self.paths.object(key);
        self.disk.modified(&path).context("look at", &path)
    }

    /// Whether what was noted has been looked at.
    pub(crate) fn is_proxy_imported(&self) -> Result<bool> {
        let path = self.paths.import_done();
        Ok(self.disk.len(&path).context("look at", &path)?.is_some())
    }

    /// Says, durably, that what was noted has been looked at.
    pub(crate) fn record_proxy_import(&self) -> Result<()> {
        self.put_file(self.paths.import_done(), b"")
    }
}
