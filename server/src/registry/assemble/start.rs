//! Answers requests to assemble a layer, and tells how far an assembly is.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::Instant;

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::ext::assemble::{AssembleRequest, AssemblyState};
use imgsync_oci::ext::resolve::{ResolveRequest, ResolvedLayer};
use imgsync_oci::{Descriptor, Digest, Repository};

use super::jobs::{AssemblyProgress, WorkingAssembly};
use super::plan::AssemblyPlan;
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
        let starting = assemblies.starting.lock();
        let _starting = starting.unwrap_or_else(PoisonError::into_inner);
        let key = (repository.clone(), plan.diff_id.clone());
        let state = assemblies.jobs().state(&key);
        if let Some(working @ AssemblyState::Working { .. }) = state {
            return Ok(working);
        }
        if let Some(blob) = self.find_held_layer(repository, &plan.diff_id)? {
            tracing::debug!(%repository, diff_id = %plan.diff_id, "the layer is there already");
            match self.cancel_upload(repository, plan.session) {
                Ok(()) | Err(Error::UploadUnknown(_) | Error::UploadBusy { .. }) => {}
                Err(error) => return Err(error),
            }
            assemblies
                .jobs()
                .insert_held(key, blob.clone(), Instant::now());
            return Ok(AssemblyState::Held { blob });
        }
        if !assemblies.jobs().has_room() {
            return Err(Error::TooManyAssemblies);
        }
        let writer = self.open_upload_writer(repository, plan.session, None)?;
        let bases = self.open_bases(repository, &plan.bases)?;
        let progress = AssemblyProgress::new(plan.raw_size);
        let job = PreparedAssembly {
            repository: repository.clone(),
            bases,
            delta: writer.seal(&plan.delta_digest)?,
            progress: progress.clone(),
            plan,
        };
        let working = WorkingAssembly {
            progress,
            session: job.delta.id(),
            bases: job.plan.bases.clone(),
        };
        let mut jobs = assemblies.jobs();
        jobs.push(key.clone(), working, job);
        assemblies.changed.notify_all();
        jobs.state(&key).ok_or(Error::TooManyAssemblies)
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

    /// Returns the sessions from which layers are assembled that have one of these bases.
    pub(in crate::registry) fn assemblies_with_bases(
        &self,
        bases: &[&Digest],
    ) -> HashSet<UploadId> {
        self.assemblies.jobs().sessions_with_bases(bases)
    }

    /// Forgets the assembly from a session, if it waits.
    pub(in crate::registry) fn drop_waiting_assembly(&self, session: UploadId) {
        let is_dropped = |job: &PreparedAssembly| job.delta.id() == session;
        let dropped = self.assemblies.jobs().drop_waiting(is_dropped);
        drop(dropped);
    }

    /// Returns the blob of a layer that the repository holds.
    fn find_held_layer(
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
    fn open_bases(&self, repository: &Repository, digests: &[Digest]) -> Result<Vec<AssemblyBase>> {
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
