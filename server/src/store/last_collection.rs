//! Remembers the last garbage collection, for the status of the server.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Store;
use super::error::Result;

/// Bounds how much of the file is read; a real one is far shorter.
const MAX_RECORD_BYTES: usize = 4096;

impl Store {
    /// Returns the record of the last garbage collection; `None` if there was none, or if the file is
    /// damaged.
    pub(crate) fn last_collection<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let json = self.read_file(&self.paths.last_collection(), MAX_RECORD_BYTES)?;
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
    }

    /// Replaces the record of the last garbage collection.
    pub(crate) fn put_last_collection(&self, record: &impl Serialize) -> Result<()> {
        let json = serde_json::to_vec(record).unwrap_or_default();
        self.put_file(self.paths.last_collection(), &json)
    }
}
