//! Lists upload sessions, and finds out how old they are.
//!
//! Which of them are purged is decided by `registry::purge`.

use std::ops::ControlFlow;
use std::time::SystemTime;

use imgsync_oci::Repository;
use imgsync_oci::endpoint::UploadId;
use serde::Deserialize;

use super::checkpoint::MAX_STATE_BYTES;
use super::error::{IoContext, Result};
use super::paths::STATE_SUFFIX;
use super::{Store, rfc3339};

/// Bounds how much of the file with a session's start is read; real ones have about 20 bytes.
const MAX_STARTED_AT_BYTES: usize = 64;

/// The fields of an upload's state file that a list needs, in any format.
#[derive(Deserialize)]
struct UploadStateFields {
    repository: String,
    #[serde(default)]
    offset: u64,
}

/// A session that has a state file of ours.
pub(crate) struct UploadSummary {
    pub(crate) repository: Repository,
    pub(crate) id: UploadId,
    /// The time of the last checkpoint; the session's start if there was none.
    pub(crate) modified_at: SystemTime,
    /// Whether the session has no durable bytes.
    pub(crate) is_empty: bool,
}

impl Store {
    /// Counts the sessions that have a state file, up to `limit`.
    pub(crate) fn count_uploads(&self, limit: usize) -> Result<usize> {
        let (folder, mut count) = (self.paths.upload_states(), 0);
        let mut visit = |name: &str, _: bool| {
            count += usize::from(name.ends_with(STATE_SUFFIX));
            if count < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        self.disk
            .for_each_entry(&folder, &mut visit)
            .context("list", &folder)?;
        Ok(count)
    }

    /// Calls `visit` with each session of a repository, including those that a stock registry
    /// opened, until it breaks.
    pub(crate) fn for_each_upload(
        &self,
        repository: &Repository,
        visit: &mut dyn FnMut(UploadId) -> ControlFlow<()>,
    ) -> Result<()> {
        let folder = self.paths.uploads(repository);
        let mut visit_name = |name: &str, is_folder: bool| match name.parse() {
            Ok(id) if is_folder => visit(id),
            _ => ControlFlow::Continue(()),
        };
        self.disk
            .for_each_entry(&folder, &mut visit_name)
            .context("list", &folder)
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
        self.disk.modified(&folder).context("stat", &folder)
    }

    /// Lists the sessions that have a state file.
    pub(crate) fn list_uploads(&self) -> Result<Vec<UploadSummary>> {
        let mut sessions = Vec::new();
        for id in self.upload_ids()? {
            let path = self.paths.upload_state(id);
            let Some(modified_at) = self.disk.modified(&path).context("stat", &path)? else {
                continue;
            };
            let fields = self.read_upload_state_fields(id)?;
            sessions.extend(fields.and_then(|fields| {
                Some(UploadSummary {
                    repository: fields.repository.parse().ok()?,
                    id,
                    modified_at,
                    is_empty: fields.offset == 0,
                })
            }));
        }
        Ok(sessions)
    }

    fn read_upload_state_fields(&self, id: UploadId) -> Result<Option<UploadStateFields>> {
        let json = self.read_file(&self.paths.upload_state(id), MAX_STATE_BYTES)?;
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
    }

    fn upload_ids(&self) -> Result<Vec<UploadId>> {
        let (folder, mut ids) = (self.paths.upload_states(), Vec::new());
        let mut visit = |name: &str, _: bool| {
            let id = name.strip_suffix(STATE_SUFFIX);
            ids.extend(id.and_then(|id| id.parse::<UploadId>().ok()));
            ControlFlow::Continue(())
        };
        self.disk
            .for_each_entry(&folder, &mut visit)
            .context("list", &folder)?;
        Ok(ids)
    }

    /// Removes the state files that were last written before `before` and whose session is gone,
    /// for example because a stock registry finished it.
    pub(crate) fn delete_orphaned_upload_states(&self, before: SystemTime) -> Result<()> {
        for id in self.upload_ids()? {
            let path = self.paths.upload_state(id);
            let modified = self.disk.modified(&path).context("stat", &path)?;
            if modified.is_none_or(|time| time >= before) {
                continue;
            }
            let fields = self.read_upload_state_fields(id)?;
            let repository = fields.and_then(|fields| fields.repository.parse().ok());
            let has_session = match repository {
                Some(repository) => {
                    let folder = self.paths.upload(&repository, id);
                    self.disk.is_folder(&folder).context("stat", &folder)?
                }
                None => false,
            };
            if !has_session {
                self.disk.unlink(&path).context("remove", &path)?;
            }
        }
        Ok(())
    }
}
