//! The files that a stock registry wrote in its proxy mode, and whether they were imported.
//!
//! `registry::cache::import` interprets them.

use std::time::SystemTime;

use super::error::Result;
use super::{ObjectKey, ObjectReader, Store};

impl Store {
    /// Opens the stock registry's list of cached content, with the time when it was written; `None`
    /// if there is no such list.
    pub(crate) fn scheduler_state(&self) -> Result<Option<(ObjectReader, SystemTime)>> {
        let path = self.paths.scheduler_state();
        let modified_at = self.disk.modified(&path)?;
        let opened = self.open_file(&path)?;
        Ok(opened.map(|(reader, _)| reader).zip(modified_at))
    }

    /// Returns the time when an object was last written; `None` if there is none.
    pub(crate) fn object_modified_at(&self, key: ObjectKey<'_>) -> Result<Option<SystemTime>> {
        self.disk.modified(&self.paths.object(key))
    }

    /// Whether the list of cached content was imported.
    pub(crate) fn is_proxy_imported(&self) -> Result<bool> {
        self.disk.is_file(&self.paths.import_done())
    }

    /// Records, durably, that the list of cached content was imported.
    pub(crate) fn record_proxy_import(&self) -> Result<()> {
        self.put_file(self.paths.import_done(), b"")
    }
}
