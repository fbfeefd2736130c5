//! Stores what retention must remember: when manifests were pulled, and which rules were reported.
//!
//! Both are durable. If they are deleted, the rules are only reported at first.

use std::collections::HashMap;

use imgsync_oci::{Digest, Repository};
use serde::{Deserialize, Serialize};

use super::Store;
use super::error::Result;

/// Bounds how much of the state is read; a real one is far shorter.
const MAX_STATE_BYTES: usize = 64 * 1024;

/// Bounds how much of the pulls of a repository is read: about 800,000 manifests.
const MAX_PULLS_BYTES: usize = 64 * 1024 * 1024;

/// The memory of earlier runs of retention.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RetentionState {
    /// Identifies the rules that were reported.
    pub(crate) reported_rules: Option<String>,
    /// How many bytes only images without a tag hold that no rule removes.
    pub(crate) untagged_bytes: Option<u64>,
}

impl Store {
    /// Returns the days since 1970 on which manifests of a repository were last pulled; `None` if the
    /// file is damaged.
    pub(crate) fn pull_days(
        &self,
        repository: &Repository,
    ) -> Result<Option<HashMap<Digest, u64>>> {
        let bytes = self.read_file(&self.paths.pull_days(repository), MAX_PULLS_BYTES)?;
        Ok(bytes.map_or(Some(HashMap::new()), |bytes| parse_pull_days(&bytes)))
    }

    /// Replaces what [`Store::pull_days`] returns, durably.
    pub(crate) fn put_pull_days(
        &self,
        repository: &Repository,
        days: &HashMap<Digest, u64>,
    ) -> Result<()> {
        let lines = days.iter().map(|(digest, day)| format!("{day} {digest}\n"));
        let lines: String = lines.collect();
        self.put_file(self.paths.pull_days(repository), lines.as_bytes())
    }

    /// Returns what retention remembers; nothing if the file is missing or damaged.
    pub(crate) fn retention_state(&self) -> Result<RetentionState> {
        let json = self.read_file(&self.paths.retention_state(), MAX_STATE_BYTES)?;
        let state = json.and_then(|json| serde_json::from_slice(&json).ok());
        Ok(state.unwrap_or_default())
    }

    /// Replaces what retention remembers, durably.
    pub(crate) fn put_retention_state(&self, state: &RetentionState) -> Result<()> {
        let json = serde_json::to_vec(state).unwrap_or_default();
        self.put_file(self.paths.retention_state(), &json)
    }
}

/// Parses lines of a day and a digest each; `None` if one of them is damaged or the end is missing.
fn parse_pull_days(bytes: &[u8]) -> Option<HashMap<Digest, u64>> {
    let text = std::str::from_utf8(bytes).ok()?;
    if !text.is_empty() && !text.ends_with('\n') {
        return None;
    }
    let parse = |line: &str| {
        let (day, digest) = line.split_once(' ')?;
        Some((digest.parse().ok()?, day.parse().ok()?))
    };
    text.lines().map(parse).collect()
}
