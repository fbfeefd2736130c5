//! Lists upload sessions, and finds out how old they are.
//!
//! Which of them are purged is decided by `registry::purge`.

use std::sync::Arc;
use std::time::SystemTime;

use imgsync_oci::Repository;
use imgsync_oci::endpoint::UploadId;
use serde::Deserialize;

use super::checkpoint::MAX_STATE_BYTES;
use super::error::Result;
use super::paths::STATE_SUFFIX;
use super::{ObjectReader, Store, rfc3339};

/// Bounds how much of the file with a session's start is read; real ones have about 20 bytes.
const MAX_STARTED_AT_BYTES: usize = 64;

/// The fields of an upload's state file that a list needs, in any format.
#[derive(Deserialize)]
struct UploadStateFields {
    repository: String,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    owner: Option<String>,
}

/// A session that has a state file of ours.
pub(crate) struct UploadSummary {
    pub(crate) repository: Repository,
    pub(crate) id: UploadId,
    /// The user who opened the session, if known.
    pub(crate) owner: Option<Arc<str>>,
    /// The time of the last checkpoint; the session's start if there was none.
    pub(crate) modified_at: SystemTime,
    /// Whether the session has no durable bytes.
    pub(crate) is_empty: bool,
}

impl Store {
    /// Iterates over the sessions of a repository, including those that a stock registry opened.
    pub(crate) fn uploads(
        &self,
        repository: &Repository,
    ) -> impl Iterator<Item = Result<UploadId>> + use<> {
        self.parsed_entries(&self.paths.uploads(repository), |name, is_folder| {
            name.parse().ok().filter(|_| is_folder)
        })
    }

    /// Returns when bytes were last written to a session; `None` if it has no data file.
    pub(crate) fn upload_written_at(
        &self,
        repository: &Repository,
        id: UploadId,
    ) -> Result<Option<SystemTime>> {
        self.disk.modified(&self.paths.upload_data(repository, id))
    }

    /// Returns how many bytes the data file of a session has; 0 if there is none.
    pub(crate) fn upload_len(&self, repository: &Repository, id: UploadId) -> Result<u64> {
        let len = self.disk.len(&self.paths.upload_data(repository, id))?;
        Ok(len.unwrap_or(0))
    }

    /// Opens the data file of a session to read it; returns it with its length in bytes, or `None` if
    /// there is none.
    pub(crate) fn open_upload_data(
        &self,
        repository: &Repository,
        id: UploadId,
    ) -> Result<Option<(ObjectReader, u64)>> {
        self.open_file(&self.paths.upload_data(repository, id))
    }

    /// Returns when a session was opened, from its `startedat` file. If that cannot be read,
    /// returns the modification time of the session's folder; `None` if there is no such session.
    pub(crate) fn upload_started_at(
        &self,
        repository: &Repository,
        id: UploadId,
    ) -> Result<Option<SystemTime>> {
        let started = self.paths.upload_started(repository, id);
        let text = self.read_file(&started, MAX_STARTED_AT_BYTES)?;
        let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(time) = text.as_deref().and_then(rfc3339::parse) {
            return Ok(Some(time));
        }
        let folder = self.paths.upload(repository, id);
        self.disk.modified(&folder)
    }

    /// Lists the sessions that have a state file.
    pub(crate) fn list_uploads(&self) -> Result<Vec<UploadSummary>> {
        let summaries = self.upload_ids()?.into_iter();
        let summaries = summaries.filter_map(|id| self.upload_summary(id).transpose());
        summaries.collect()
    }

    /// Reads the state file of a session; `None` if there is none, or if it is damaged.
    pub(crate) fn upload_summary(&self, id: UploadId) -> Result<Option<UploadSummary>> {
        let path = self.paths.upload_state(id);
        let Some(modified_at) = self.disk.modified(&path)? else {
            return Ok(None);
        };
        let fields = self.read_upload_state_fields(id)?;
        Ok(fields.and_then(|fields| {
            Some(UploadSummary {
                repository: fields.repository.parse().ok()?,
                id,
                owner: fields.owner.map(Arc::from),
                modified_at,
                is_empty: fields.offset == 0,
            })
        }))
    }

    fn read_upload_state_fields(&self, id: UploadId) -> Result<Option<UploadStateFields>> {
        let json = self.read_file(&self.paths.upload_state(id), MAX_STATE_BYTES)?;
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
    }

    fn upload_ids(&self) -> Result<Vec<UploadId>> {
        let parse = |name: &str, _| name.strip_suffix(STATE_SUFFIX)?.parse().ok();
        self.parsed_entries(&self.paths.upload_states(), parse)
            .collect()
    }

    /// Removes the state files that were last written before `before` and whose session is gone,
    /// for example because a stock registry finished it.
    pub(crate) fn delete_orphaned_upload_states(&self, before: SystemTime) -> Result<()> {
        for id in self.upload_ids()? {
            let path = self.paths.upload_state(id);
            let modified = self.disk.modified(&path)?;
            if modified.is_none_or(|time| time >= before) {
                continue;
            }
            let fields = self.read_upload_state_fields(id)?;
            let repository = fields.and_then(|fields| fields.repository.parse().ok());
            let has_session = match repository {
                Some(repository) => {
                    let folder = self.paths.upload(&repository, id);
                    self.disk.is_folder(&folder)?
                }
                None => false,
            };
            if !has_session {
                self.disk.unlink(&path)?;
            }
        }
        Ok(())
    }
}
