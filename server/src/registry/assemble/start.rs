//! Answers requests to assemble a layer, and tells how far an assembly is.

use std::time::Instant;

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::ext::assemble::{AssembleRequest, AssemblyState};
use imgsync_oci::ext::resolve::{ResolveRequest, ResolvedLayer};
use imgsync_oci::{Descriptor, Digest, Repository};

use super::jobs::{AssemblyProgress, WorkingAssembly};
use super::plan::AssemblyPlan;
use super::reservation::Reservation;
use super::run::{AssemblyBase, PreparedAssembly};
use crate::registry::Registry;
use crate::registry::error::{Error, Result};
use crate::registry::locks::lock_shared;

impl Registry {
    /// Begins to assemble a layer, unless that is being done, or the repository holds it. `user` is the
    /// one who asks, if known. Returns the state of the assembly.
    ///
    /// # Errors
    /// [`Error::AssemblyInvalid`] if the request cannot be met; [`Error::UploadUnknown`] if the session
    /// does not exist or belongs to another user; [`Error::UploadBusy`] while another request writes to
    /// it; [`Error::BlobUnknown`] if the repository does not hold a base; [`Error::TooManyAssemblies`];
    /// [`Error::DigestMismatch`] if the session holds another delta, which also removes it;
    /// [`Error::Store`].
    pub(crate) fn start_assembly(
        &self,
        repository: &Repository,
        request: &AssembleRequest,
        user: Option<&str>,
    ) -> Result<AssemblyState> {
        let assemblies = &self.assemblies;
        let plan = AssemblyPlan::new(request, self.delta_config().max_layer_bytes)?;
        if let Some(user) = user {
            self.check_upload_owner(repository, plan.session, user)?;
        }
        let key = (repository.clone(), plan.diff_id.clone());
        let state = assemblies.jobs().state(&key);
        let working = state.filter(|state| matches!(state, AssemblyState::Working { .. }));
        if let Some(blob) = self.find_held_layer(repository, &plan.diff_id)? {
            tracing::debug!(%repository, diff_id = %plan.diff_id, "the layer is there already");
            match self.cancel_upload(repository, plan.session) {
                Ok(()) | Err(Error::UploadUnknown(_) | Error::UploadBusy { .. }) => {}
                Err(error) => return Err(error),
            }
            // The worker finds the layer, too.
            if working.is_none() {
                let mut jobs = assemblies.jobs();
                jobs.insert_held(key, blob.clone(), Instant::now());
            }
            return Ok(AssemblyState::Held { blob });
        }
        // Until the job is queued, so that two equal requests make one job. Hashing the delta may take a
        // while, for which no other request waits.
        let _place = match assemblies.reserve(&key, plan.raw_size, user)? {
            Reservation::Reserved(place) => place,
            Reservation::Working(state) => return Ok(state),
        };
        let writer = self.open_upload_writer(repository, plan.session, None)?;
        plan.check_delta_size(self.upload_offset(repository, plan.session)?)?;
        let bases = self.open_bases(repository, &plan.bases)?;
        let job = PreparedAssembly {
            repository: repository.clone(),
            bases,
            delta: writer.seal(&plan.delta_digest)?,
            progress: AssemblyProgress::new(plan.raw_size),
            plan,
        };
        self.queue_assembly(job, user)
    }

    /// Queues a job, unless a base was removed since it was opened. Returns the state of the assembly.
    pub(super) fn queue_assembly(
        &self,
        job: PreparedAssembly,
        user: Option<&str>,
    ) -> Result<AssemblyState> {
        let (repository, session) = (job.repository.clone(), job.delta.id());
        let bases = job.plan.bases.clone();
        let state = job.progress.state();
        let working = WorkingAssembly {
            progress: job.progress.clone(),
            session,
            user: user.map(str::to_owned),
            bases: bases.clone(),
        };
        let key = (repository.clone(), job.plan.diff_id.clone());
        {
            let mut jobs = self.assemblies.jobs();
            // The server stops, or became read-only, while the delta was hashed.
            if !jobs.is_open() {
                return Err(Error::TooManyAssemblies);
            }
            jobs.push(key, working, job);
        }
        self.assemblies.changed.notify_all();
        // A purge that removes a base later finds the job.
        for base in &bases {
            let is_linked = {
                let _lock = lock_shared(&self.locks, base.clone().into());
                self.find_linked_blob(&repository, base)?.is_some()
            };
            if !is_linked {
                self.interrupt_upload(&repository, session)?;
                return Err(Error::BlobUnknown(base.clone()));
            }
        }
        Ok(state)
    }

    /// Returns the state of the assembly of a layer.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] if there is none, or if the assembled layer is gone; [`Error::Store`].
    pub(crate) fn assembly_state(
        &self,
        repository: &Repository,
        diff_id: &Digest,
    ) -> Result<AssemblyState> {
        let unknown = || Error::BlobUnknown(diff_id.clone());
        let key = (repository.clone(), diff_id.clone());
        let state = self.assemblies.jobs().state(&key).ok_or_else(unknown)?;
        if let AssemblyState::Held { blob } = &state {
            match self.blob_size(repository, &blob.digest) {
                Ok(_) => {}
                Err(Error::BlobUnknown(_)) => {
                    self.assemblies.jobs().forget(&key);
                    return Err(unknown());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(state)
    }

    /// Returns whether the layer was assembled, and this is called for the first time since. So its
    /// push is recorded once.
    pub(crate) fn report_assembled(&self, repository: &Repository, diff_id: &Digest) -> bool {
        let key = (repository.clone(), diff_id.clone());
        self.assemblies.jobs().report(&key)
    }

    /// Cancels the assemblies in these repositories, and those that have one of these bases. Returns the
    /// number of those that go on nevertheless.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(in crate::registry) fn cancel_assemblies_of(
        &self,
        bases: &[&Digest],
        repositories: &[Repository],
    ) -> Result<usize> {
        let sessions = self.assemblies.jobs().sessions(|repository, working| {
            let mut own = working.bases.iter();
            repositories.contains(repository) || own.any(|base| bases.contains(&base))
        });
        let mut unfinished = 0;
        for (repository, session) in sessions {
            if !self.interrupt_upload(&repository, session)? {
                tracing::warn!(%repository, %session, "not cancelled: a layer is being assembled");
                unfinished += 1;
            }
        }
        Ok(unfinished)
    }

    /// Cancels a session for its client, with the assembly from it.
    ///
    /// # Errors
    /// As [`Registry::cancel_upload`].
    pub(crate) fn cancel_session(&self, repository: &Repository, session: UploadId) -> Result<()> {
        let assembling = self
            .assemblies
            .jobs()
            .sessions(|within, working| within == repository && working.session == session);
        if !assembling.is_empty() && self.interrupt_upload(repository, session)? {
            return Ok(());
        }
        self.cancel_upload(repository, session)
    }

    /// Forgets the assembly from a session, if it waits.
    pub(in crate::registry) fn drop_waiting_assembly(&self, session: UploadId) {
        let is_dropped = |job: &PreparedAssembly| job.delta.id() == session;
        let dropped = self.assemblies.jobs().drop_waiting(is_dropped);
        drop(dropped);
    }

    /// Returns the blob of a layer that the repository holds.
    pub(super) fn find_held_layer(
        &self,
        repository: &Repository,
        diff_id: &Digest,
    ) -> Result<Option<Descriptor>> {
        let request = ResolveRequest {
            diff_ids: vec![diff_id.clone()],
            ..ResolveRequest::default()
        };
        let response = self.resolve_layers(repository, &request, &|_| false, false)?;
        Ok(match response.layers.into_iter().next() {
            Some(ResolvedLayer::Held { blob }) => Some(blob),
            _ => None,
        })
    }

    /// Opens the bases, so that they can be read even if they are removed before the job runs.
    pub(super) fn open_bases(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<Vec<AssemblyBase>> {
        let open = |digest: &Digest| {
            let blob = self.open_blob(repository, digest)?;
            let _lock = lock_shared(&self.locks, digest.clone().into());
            self.promise(repository, digest);
            Ok(AssemblyBase {
                digest: digest.clone(),
                raw_size: self.recorded_raw_size(digest)?,
                blob,
            })
        };
        digests.iter().map(open).collect()
    }
}
