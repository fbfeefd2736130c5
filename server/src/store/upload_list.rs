//! Upload sessions as a whole: how many there are, and since when.

use std::ops::ControlFlow;
use std::time::SystemTime;

use imgsync_oci::Repository;
use imgsync_oci::endpoint::UploadId;
use serde::Deserialize;

use super::checkpoint::MAX_STATE_BYTES;
use super::error::{IoContext, Result};
use super::paths::STATE_SUFFIX;
use super::{Store, rfc3339};

/// More than the moment of a session's start ever has.
const MAX_STARTED_AT_BYTES: usize = 64;

/// What is read of a state here.
#[derive(Deserialize)]
struct UploadStateFields {
    repository: String,
    #[serde(default)]
    offset: u64,
}

/// A session of ours.
pub(crate) struct UploadSummary {
    pub(crate) repository: Repository,
    pub(crate) id: UploadId,
    /// When bytes were last kept; when it began, where there are none.
    pub(crate) modified_at: SystemTime,
    /// Whether it holds no byte.
    pub(crate) is_empty: bool,
}

impl Store {
    /// How many sessions of ours there are; `limit` where there are so many or more.
    pub(crate) fn count_uploads(&self, limit: usize) -> Result<usize> {
        let (folder, mut count) = (self.paths.upload_states(), 0);
        let mut look = |name: &str, _: bool| {
            count += usize::from(name.ends_with(STATE_SUFFIX));
            match count < limit {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        };
        self.disk
            .for_each_entry(&folder, &mut look)
            .context("list", &folder)?;
        Ok(count)
    }

    /// A repository's sessions, whoever began them, until `look` breaks off.
    pub(crate) fn for_each_upload(
        &self,
        repository: &Repository,
        look: &mut dyn FnMut(UploadId) -> ControlFlow<()>,
    ) -> Result<()> {
        let folder = self.paths.uploads(repository);
        let mut look = |name: &str, is_folder: bool| match name.parse() {
            Ok(id) if is_folder => look(id),
            Ok(_) | Err(_) => ControlFlow::Continue(()),
        };
        self.disk
            .for_each_entry(&folder, &mut look)
            .context("list", &folder)
    }

    /// When a session began: what it says itself; where it does not, when its folder last changed.
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
        self.disk.modified(&folder).context("look at", &folder)
    }

    /// All sessions of ours.
    pub(crate) fn list_uploads(&self) -> Result<Vec<UploadSummary>> {
        let mut sessions = Vec::new();
        for id in self.upload_ids()? {
            let path = self.paths.upload_state(id);
            let Some(changed) = self.disk.modified(&path).context("look at", &path)? else {
                continue;
            };
            let json = self
                .read_file(&path, MAX_STATE_BYTES)?
                .unwrap_or_default();
            let state: Option<UploadStateFields> = serde_json::from_slice(&json).ok();
            sessions.extend(state.and_then(|state| {
                Some(UploadSummary {
                    repository: state.repository.parse().ok()?,
                    id,
                    modified_at: changed,
                    is_empty: state.offset == 0,
                })
            }));
        }
        Ok(sessions)
    }

    fn upload_ids(&self) -> Result<Vec<UploadId>> {
        let (folder, mut ids) = (self.paths.upload_states(), Vec::new());
        let mut look = |name: &str, _: bool| {
            let id = name.strip_suffix(STATE_SUFFIX);
            ids.extend(id.and_then(|id| id.parse::<UploadId>().ok()));
            ControlFlow::Continue(())
        };
        self.disk
            .for_each_entry(&folder, &mut look)
            .context("list", &folder)?;
        Ok(ids)
    }

    /// Removes what we know about sessions that are gone, a stock registry having ended them, if
    /// it is older than `before`.
    pub(crate) fn delete_orphaned_upload_states(&self, before: SystemTime) -> Result<()> {
        for id in self.upload_ids()? {
            let path = self.paths.upload_state(id);
            let modified = self.disk.modified(&path).context("look at", &path)?;
            if modified.is_none_or(|time| time >= before) {
                continue;
            }
            let json = self
                .read_file(&path, MAX_STATE_BYTES)?
                .unwrap_or_default();
            let state: Option<UploadStateFields> = serde_json::from_slice(&json).ok();
            let repository = state.and_then(|state| state.repository.parse().ok());
            let is_there = match repository {
                Some(repository) => {
                    let folder = self.paths.upload(&repository, id);
                    self.disk.is_folder(&folder).context("look at", &folder)?
                }
                None => false,
            };
            if !is_there {
                self.disk.unlink(&path).context("remove", &path)?;
            }
        }
        Ok(())
    }
}
