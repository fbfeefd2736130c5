//! Counts the bytes that uploads may still write: to the disk, and to the repositories of each quota.
//!
//! An upload claims bytes before it writes them. Without claims, uploads that run at the same time
//! would each find room for themselves, and together fill the disk. No I/O. Start reading at
//! [`Ledger::claim`].

use std::collections::HashMap;
use std::sync::Arc;

use imgsync_oci::Repository;
use imgsync_oci::endpoint::UploadId;

use super::shortage::SpaceShortage;
use crate::config::QuotaConfig;

/// The claims of uploads, and the use of the quotas.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    configs: Arc<[QuotaConfig]>,
    /// The use of each quota.
    usage: Vec<QuotaUsage>,
    sessions: HashMap<UploadId, SessionClaim>,
    /// The bytes that were claimed and are not on the disk yet.
    unwritten: u64,
}

/// The use of a quota, in bytes.
#[derive(Debug, Default, Clone)]
struct QuotaUsage {
    /// The content that the repositories hold, each blob once.
    stored: u64,
    /// Bytes that were added to `stored` since the last count began.
    added: u64,
    /// The claims of open upload sessions.
    uploading: u64,
}

impl QuotaUsage {
    fn total(&self) -> u64 {
        self.stored.saturating_add(self.uploading)
    }
}

/// The bytes of an upload session.
#[derive(Debug)]
struct SessionClaim {
    repository: Repository,
    /// The end of the bytes that the session may write.
    end: u64,
    /// The bytes that are on the disk.
    written: u64,
    /// Why the session may not continue.
    revoked: Option<SpaceShortage>,
}

/// The space of the disk, as uploads see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DiskRoom {
    /// How many bytes uploads may write together.
    pub(super) writable: u64,
    /// How many bytes are free.
    pub(super) free: u64,
    /// How many bytes must stay free.
    pub(super) reserve: u64,
}

impl DiskRoom {
    /// Checks whether uploads may write `needed` bytes.
    pub(super) fn check(&self, needed: u64) -> Result<(), SpaceShortage> {
        let lacking = needed.saturating_sub(self.writable);
        if lacking == 0 {
            return Ok(());
        }
        Err(SpaceShortage::Disk {
            lacking,
            free: self.free,
            reserve: self.reserve,
        })
    }
}

impl Ledger {
    /// Returns the quotas.
    pub(super) fn configs(&self) -> Arc<[QuotaConfig]> {
        Arc::clone(&self.configs)
    }

    /// Replaces the quotas. Returns false if they are the same; otherwise what the repositories hold
    /// must be counted.
    pub(super) fn set_configs(&mut self, configs: &[QuotaConfig]) -> bool {
        if *self.configs == *configs {
            return false;
        }
        self.configs = configs.into();
        self.usage = vec![QuotaUsage::default(); configs.len()];
        for session in self.sessions.values() {
            for index in matching(configs, &session.repository) {
                self.usage[index].uploading += session.end;
            }
        }
        true
    }

    /// Returns the bytes that were claimed and are not on the disk yet.
    pub(super) fn unwritten(&self) -> u64 {
        self.unwritten
    }

    /// Checks whether an upload of `bytes` bytes to a repository could start.
    ///
    /// # Errors
    /// Returns the shortage.
    pub(super) fn check(
        &self,
        repository: &Repository,
        bytes: u64,
        disk: &DiskRoom,
    ) -> Result<(), SpaceShortage> {
        disk.check(self.unwritten.saturating_add(bytes))?;
        self.check_quotas(repository, bytes)
    }

    /// Checks whether `bytes` fit into the quotas of a repository.
    ///
    /// # Errors
    /// Returns the shortage.
    pub(super) fn check_quotas(
        &self,
        repository: &Repository,
        bytes: u64,
    ) -> Result<(), SpaceShortage> {
        self.check_quotas_except(repository, None, bytes)
    }

    /// As [`Ledger::check_quotas`], except for the quotas that apply to the repository `holder`.
    pub(super) fn check_quotas_except(
        &self,
        repository: &Repository,
        holder: Option<&Repository>,
        bytes: u64,
    ) -> Result<(), SpaceShortage> {
        for index in matching(&self.configs, repository) {
            let (quota, used) = (&self.configs[index], self.usage[index].total());
            if holder.is_some_and(|holder| quota.applies_to(holder)) {
                continue;
            }
            if used.saturating_add(bytes) > quota.max_bytes {
                let patterns = quota.repositories.iter().map(ToString::to_string);
                return Err(SpaceShortage::Quota {
                    repositories: patterns.collect::<Vec<_>>().join(", "),
                    used,
                    max_bytes: quota.max_bytes,
                });
            }
        }
        Ok(())
    }

    /// Claims the bytes of a session up to `end`, of which `disk` must have room for those that are
    /// not written.
    ///
    /// # Errors
    /// Returns the shortage; the claim is as it was.
    pub(super) fn claim(
        &mut self,
        repository: &Repository,
        id: UploadId,
        end: u64,
        disk: &DiskRoom,
    ) -> Result<(), SpaceShortage> {
        let claimed = match self.sessions.get(&id) {
            Some(session) => match &session.revoked {
                Some(shortage) => return Err(shortage.clone()),
                None => session.end,
            },
            None => 0,
        };
        let added = end.saturating_sub(claimed);
        if added > 0 {
            self.check(repository, added, disk)?;
        }
        self.add_claim(repository, id, added);
        Ok(())
    }

    /// Claims `bytes` bytes of the disk for temporary files, if uploads may write `planned` more bytes
    /// besides.
    ///
    /// # Errors
    /// Returns the shortage; nothing is claimed.
    pub(super) fn claim_scratch(
        &mut self,
        bytes: u64,
        planned: u64,
        disk: &DiskRoom,
    ) -> Result<(), SpaceShortage> {
        let needed = bytes.saturating_add(planned);
        disk.check(self.unwritten.saturating_add(needed))?;
        self.unwritten += bytes;
        Ok(())
    }

    /// Releases bytes that were claimed for temporary files: they are written, or not needed.
    pub(super) fn release_scratch(&mut self, bytes: u64) {
        self.unwritten -= bytes;
    }

    /// Records a session that has `written` bytes, if it is not known. It may have been opened before
    /// the server was started.
    pub(super) fn open(&mut self, repository: &Repository, id: UploadId, written: u64) {
        if !self.sessions.contains_key(&id) {
            self.add_claim(repository, id, written);
            self.set_written(id, written);
        }
    }

    fn add_claim(&mut self, repository: &Repository, id: UploadId, bytes: u64) {
        let session = self.sessions.entry(id).or_insert_with(|| SessionClaim {
            repository: repository.clone(),
            end: 0,
            written: 0,
            revoked: None,
        });
        session.end += bytes;
        self.unwritten += bytes;
        for index in matching(&self.configs, repository) {
            self.usage[index].uploading += bytes;
        }
    }

    /// Records that the first `written` bytes of a session are on the disk.
    pub(super) fn set_written(&mut self, id: UploadId, written: u64) {
        if let Some(session) = self.sessions.get_mut(&id) {
            let written = written.min(session.end);
            self.unwritten = self.unwritten + session.written - written;
            session.written = written;
        }
    }

    /// Records that no request writes to a session any more, of which `written` bytes are kept.
    pub(super) fn settle(&mut self, id: UploadId, written: u64) {
        self.set_written(id, written);
        if let Some(session) = self.sessions.get_mut(&id) {
            let released = session.end - session.written;
            session.end = session.written;
            self.unwritten -= released;
            for index in matching(&self.configs, &session.repository) {
                self.usage[index].uploading -= released;
            }
        }
    }

    /// Forgets a session that is finished or cancelled.
    pub(super) fn remove(&mut self, id: UploadId) {
        self.settle(id, 0);
        self.sessions.remove(&id);
    }

    /// Refuses whatever a session claims from now on.
    pub(super) fn revoke(&mut self, id: UploadId, shortage: &SpaceShortage) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.revoked.get_or_insert_with(|| shortage.clone());
        }
    }

    /// Adds content to those quotas in `configs` that have these indexes. Does nothing if the quotas
    /// were replaced meanwhile.
    pub(super) fn add_stored(
        &mut self,
        configs: &Arc<[QuotaConfig]>,
        indexes: &[usize],
        size: u64,
    ) {
        if !Arc::ptr_eq(&self.configs, configs) {
            return;
        }
        for index in indexes {
            let usage = &mut self.usage[*index];
            usage.stored = usage.stored.saturating_add(size);
            usage.added = usage.added.saturating_add(size);
        }
    }

    /// Begins a count of what the repositories of each quota hold.
    pub(super) fn begin_count(&mut self) -> Arc<[QuotaConfig]> {
        for usage in &mut self.usage {
            usage.added = 0;
        }
        self.configs()
    }

    /// Records the result of a count. What was added since it began may be part of it, and counts in
    /// any case; returns whether there was nothing. Does nothing if the quotas were replaced
    /// meanwhile.
    pub(super) fn finish_count(&mut self, configs: &Arc<[QuotaConfig]>, counted: &[u64]) -> bool {
        if !Arc::ptr_eq(&self.configs, configs) {
            return false;
        }
        for (usage, counted) in self.usage.iter_mut().zip(counted) {
            usage.stored = counted.saturating_add(usage.added);
        }
        self.usage.iter().all(|usage| usage.added == 0)
    }
}

/// Returns the indexes of the quotas that apply to a repository.
pub(super) fn matching<'a>(
    configs: &'a [QuotaConfig],
    repository: &'a Repository,
) -> impl Iterator<Item = usize> + 'a {
    let quotas = configs.iter().enumerate();
    let matching = quotas.filter(|(_, quota)| quota.applies_to(repository));
    matching.map(|(index, _)| index)
}
