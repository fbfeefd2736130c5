//! The one thread that looks at blobs, as politely as the system allows.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use imgsync_oci::{Digest, Manifest, Reference, Repository};

use super::compute::{DiffIdLimits, DiffIdOutcome, compute_catching_panics};
use super::queue::{DiffIdJob, DiffIdQueue, WorkerTask};
use super::record::{self, LayerRecord};
use crate::registry::Registry;
use crate::registry::error::Result;
use crate::store::{DerivedKey, LinkKind, ListScope, ObjectKey};

/// How many names of repositories are held at a time.
const REPOSITORY_PAGE_SIZE: usize = 100;
/// Others go first.
const WORKER_NICENESS: i32 = 19;

/// The background work on diffIDs. It ends when this is dropped.
pub(crate) struct DiffIdWorker {
    registry: Registry,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    /// Begins to compute diffIDs: of what is there, then of whatever comes. Call it once.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start_diff_id_worker(&self) -> std::io::Result<DiffIdWorker> {
        self.start_diff_id_worker_with_limits(DiffIdLimits::default())
    }

    pub(super) fn start_diff_id_worker_with_limits(
        &self,
        limits: DiffIdLimits,
    ) -> std::io::Result<DiffIdWorker> {
        // What cannot be noted is not computed.
        if self.store.is_writable() {
            self.diff_id_queue.open();
        }
        let work = WorkerThread {
            registry: self.clone(),
            limits,
        };
        let thread = std::thread::Builder::new()
            .name("diffids".to_owned())
            .spawn(move || work.run())?;
        Ok(DiffIdWorker {
            registry: self.clone(),
            thread: Some(thread),
        })
    }
}

impl Drop for DiffIdWorker {
    fn drop(&mut self) {
        self.registry.diff_id_queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the computing of diffIDs ended badly");
        }
    }
}

struct WorkerThread {
    registry: Registry,
    limits: DiffIdLimits,
}

impl WorkerThread {
    fn queue(&self) -> &DiffIdQueue {
        &self.registry.diff_id_queue
    }

    fn run(&self) {
        if let Err(error) = rustix::process::setpriority_process(None, WORKER_NICENESS) {
            tracing::debug!(%error, "diffIDs are computed at the usual priority");
        }
        loop {
            match self.queue().wait_for_task() {
                WorkerTask::Job(job) => {
                    catch_panic(|| self.run_job(&job));
                    self.queue().finish_job();
                }
                WorkerTask::Walk => {
                    if let Some(Err(error)) = catch_panic(|| self.walk_all()) {
                        tracing::warn!(%error, "not all blobs could be looked at for diffIDs");
                    }
                    // A walk that broke off may have left one.
                    self.queue().finish_job();
                    self.queue().finish_walk();
                }
                WorkerTask::Stop => return,
            }
        }
    }

    /// What was just pushed comes first.
    fn run_queued_jobs(&self) -> ControlFlow<()> {
        while self.queue().is_open() {
            let Some(job) = self.queue().try_take_job() else {
                return ControlFlow::Continue(());
            };
            catch_panic(|| self.run_job(&job));
            self.queue().finish_job();
        }
        ControlFlow::Break(())
    }

    fn run_job(&self, job: &DiffIdJob) {
        let done = match job {
            DiffIdJob::Blob(repository, digest) => self.record_blob(repository, digest, true),
            DiffIdJob::Manifest(repository, digest) => self.record_manifest(repository, digest),
        };
        if let Err(error) = done {
            tracing::warn!(?job, %error, "a diffID was not computed; the next start tries again");
        }
    }

    /// Looks at everything that is linked anywhere, then forgets what is gone.
    fn walk_all(&self) -> Result<()> {
        self.delete_stale_records()?;
        let mut after = String::new();
        loop {
            let names = self.registry.store.list(
                ListScope::RepositoriesWithBlobs,
                &after,
                REPOSITORY_PAGE_SIZE,
            )?;
            for name in &names {
                if let Ok(repository) = name.parse()
                    && self.walk_repository(&repository)?.is_break()
                {
                    return Ok(());
                }
            }
            match names.last() {
                Some(last) => after.clone_from(last),
                None => return Ok(()),
            }
        }
    }

    fn walk_repository(&self, repository: &Repository) -> Result<ControlFlow<()>> {
        // So that nobody has to wait for it later; who comes sooner does it for himself.
        if let Err(error) = self.registry.reconcile_referrers(repository) {
            tracing::warn!(%repository, %error, "the referrers were not looked at");
        }
        let mut flow = ControlFlow::Continue(());
        for links in [LinkKind::Layers, LinkKind::Revisions] {
            let mut visit = |digest: Digest| {
                flow = self.run_queued_jobs();
                let done = match links {
                    LinkKind::Layers => self.record_blob(repository, &digest, false),
                    LinkKind::Revisions => self.record_manifest(repository, &digest),
                };
                if let Err(error) = done {
                    tracing::warn!(%repository, %digest, %error, "not looked at for diffIDs");
                }
                flow
            };
            self.registry
                .store
                .for_each_link(repository, links, &mut visit)?;
            if flow.is_break() {
                break;
            }
        }
        Ok(flow)
    }

    /// Finds out what a blob is, unless that is known; remembers that the repository links it.
    /// What is new is looked at again where it counted as nothing: then it may have been damaged.
    fn record_blob(&self, repository: &Repository, digest: &Digest, is_new: bool) -> Result<()> {
        let store = &self.registry.store;
        if let Some(mut known) = self.registry.read_layer_record(digest)?
            && (known.layer.is_some() || !is_new)
        {
            let is_live = |other: &Repository| {
                let link = store.len(ObjectKey::LayerLink(other, digest));
                link.is_ok_and(|len| len.is_some())
            };
            if known.layer.is_some() && known.add_repository(repository, is_live) {
                store.put_derived(DerivedKey::LayerRecord(digest), &known.to_json())?;
            }
            return Ok(());
        }
        let Some(layer) = self.compute_layer(repository, digest)? else {
            return Ok(());
        };
        if let Some(layer) = &layer {
            store.put_derived(DerivedKey::DiffIdBlob(&layer.diff_id, digest), b"")?;
        }
        let repositories = match &layer {
            Some(_) => vec![repository.clone()],
            None => Vec::new(),
        };
        let found = LayerRecord {
            layer,
            repositories,
        };
        // Last: this says that all is done.
        store.put_derived(DerivedKey::LayerRecord(digest), &found.to_json())?;
        Ok(())
    }

    /// Computes; `None` where nothing can be said for good.
    fn compute_layer(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Option<record::ComputedLayer>>> {
        let store = &self.registry.store;
        let held = {
            let _hold = self.registry.lock_digests([digest.clone()]);
            self.registry.find_linked_blob(repository, digest)?
        };
        let Some(held) = held else { return Ok(None) };
        let Some((bytes, _)) = store.open_object(ObjectKey::Blob(&held.target))? else {
            return Ok(None);
        };
        let read = |offset, len| bytes.read(offset, len);
        Ok(
            match compute_catching_panics(digest, read, self.limits, &|| self.queue().is_open()) {
                DiffIdOutcome::Layer(layer) => Some(Some(layer)),
                DiffIdOutcome::NotALayer(why) => {
                    tracing::debug!(%digest, why, "no layer");
                    Some(None)
                }
                DiffIdOutcome::Damaged => {
                    match held.target == *digest {
                        true => self.registry.remove_damaged_blob(digest, &bytes)?,
                        // Either the bytes or the link.
                        false => {
                            let verdict = self.registry.reverify(&held.target)?;
                            tracing::warn!(%repository, %digest, ?verdict, "not what it should be");
                        }
                    }
                    None
                }
                DiffIdOutcome::Unreadable(error) => {
                    tracing::warn!(%repository, %digest, %error, "a blob cannot be read");
                    None
                }
                DiffIdOutcome::Stopped => None,
            },
        )
    }

    /// Remembers which config a manifest is over.
    fn record_manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let Some(config) = self.registry.read_config_digest(repository, digest)? else {
            return Ok(());
        };
        let key = DerivedKey::ConfigManifest(repository, &config, digest);
        if !self.registry.store.has_derived(key)? {
            let content = format!("{repository} {config}");
            self.registry.store.put_derived(key, content.as_bytes())?;
        }
        Ok(())
    }

    /// What another program deleted, or its collector took away.
    fn delete_stale_records(&self) -> Result<()> {
        let store = &self.registry.store;
        store.for_each_layer_record(&mut |digest| {
            let flow = self.run_queued_jobs();
            // What cannot be looked at is not known to be gone.
            if let Ok(None) = store.len(ObjectKey::Blob(&digest))
                && let Err(error) = self.delete_layer_record(&digest)
            {
                tracing::debug!(%digest, %error, "what is known of a blob that is gone stays");
            }
            flow
        })?;
        store.for_each_config_manifest_file(
            record::MAX_RECORD_BYTES,
            &mut |manifest, content| {
                let flow = self.run_queued_jobs();
                let text = String::from_utf8(content).unwrap_or_default();
                if let Some((repository, config)) = text.split_once(' ')
                    && let (Ok(repository), Ok(config)) = (repository.parse(), config.parse())
                    && let Ok(None) = store.len(ObjectKey::RevisionLink(&repository, &manifest))
                {
                    // Every answer is confirmed, so what stays does no harm.
                    let _ = store.delete_derived(DerivedKey::ConfigManifest(
                        &repository,
                        &config,
                        &manifest,
                    ));
                }
                flow
            },
        )?;
        Ok(())
    }

    fn delete_layer_record(&self, digest: &Digest) -> Result<()> {
        let store = &self.registry.store;
        if let Some(layer) = self
            .registry
            .read_layer_record(digest)?
            .and_then(|known| known.layer)
        {
            store.delete_derived(DerivedKey::DiffIdBlob(&layer.diff_id, digest))?;
        }
        Ok(store.delete_derived(DerivedKey::LayerRecord(digest))?)
    }
}

/// Does something that must not take the thread with it: without it, all that is asked for would be
/// pending for ever. `None` where it panicked, which the panic's own message tells.
fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    if done.is_err() {
        tracing::error!("the computing of diffIDs failed in a way that it should not");
    }
    done.ok()
}

impl Registry {
    /// The size in bytes that a blob has as a layer, where it was read as one.
    pub(in crate::registry) fn recorded_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let known = self
            .read_layer_record(digest)?
            .and_then(|known| known.layer);
        Ok(known.map(|layer| layer.size))
    }

    /// What is known of a blob as a layer; a damaged record is none.
    pub(super) fn read_layer_record(&self, digest: &Digest) -> Result<Option<LayerRecord>> {
        let json = self
            .store
            .get_derived(DerivedKey::LayerRecord(digest), record::MAX_RECORD_BYTES)?;
        Ok(json.and_then(|json| LayerRecord::from_json(&json)))
    }

    /// The config that a repository's manifest is over, where it has one.
    pub(super) fn read_config_digest(
        &self,
        repository: &Repository,
        manifest: &Digest,
    ) -> Result<Option<Digest>> {
        let reference = Reference::Digest(manifest.clone());
        let stored = match self.get_manifest(repository, &reference) {
            Ok(stored) => stored,
            Err(crate::registry::Error::ManifestUnknown(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(match Manifest::parse(&stored.bytes, None) {
            Ok((_, Manifest::Image { config, .. })) => Some(config.digest),
            Ok((_, Manifest::Index { .. })) | Err(_) => None,
        })
    }
}
