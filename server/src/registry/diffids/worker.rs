//! The one thread that looks at blobs, as politely as the system allows.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use imgsync_oci::{Digest, Manifest, Reference, Repository};

use super::compute::{Limits, Outcome, compute_apart};
use super::queue::{Job, Next, Queue};
use super::record::{self, Record};
use crate::registry::Registry;
use crate::registry::error::Result;
use crate::store::{Derived, Key, Links, List};

/// How many names of repositories are held at a time.
const PAGE: usize = 100;
/// Others go first.
const NICE: i32 = 19;

/// The background work on diffIDs. It ends when this is dropped.
pub(crate) struct Worker {
    registry: Registry,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    /// Begins to compute diffIDs: of what is there, then of whatever comes. Call it once.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn compute_diff_ids(&self) -> std::io::Result<Worker> {
        self.compute_diff_ids_within(Limits::default())
    }

    pub(super) fn compute_diff_ids_within(&self, limits: Limits) -> std::io::Result<Worker> {
        // What cannot be noted is not computed.
        if self.store.is_writable() {
            self.diff_ids.open();
        }
        let work = Work {
            registry: self.clone(),
            limits,
        };
        let thread = std::thread::Builder::new()
            .name("diffids".to_owned())
            .spawn(move || work.run())?;
        Ok(Worker {
            registry: self.clone(),
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.registry.diff_ids.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the computing of diffIDs ended badly");
        }
    }
}

struct Work {
    registry: Registry,
    limits: Limits,
}

impl Work {
    fn queue(&self) -> &Queue {
        &self.registry.diff_ids
    }

    fn run(&self) {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "diffIDs are computed at the usual priority");
        }
        loop {
            match self.queue().next() {
                Next::Job(job) => {
                    apart(|| self.job(&job));
                    self.queue().done();
                }
                Next::Walk => {
                    if let Some(Err(error)) = apart(|| self.walk()) {
                        tracing::warn!(%error, "not all blobs could be looked at for diffIDs");
                    }
                    // A walk that broke off may have left one.
                    self.queue().done();
                    self.queue().walked();
                }
                Next::Stop => return,
            }
        }
    }

    /// What was just pushed comes first.
    fn turn(&self) -> ControlFlow<()> {
        while self.queue().is_open() {
            let Some(job) = self.queue().take() else {
                return ControlFlow::Continue(());
            };
            apart(|| self.job(&job));
            self.queue().done();
        }
        ControlFlow::Break(())
    }

    fn job(&self, job: &Job) {
        let done = match job {
            Job::Blob(repository, digest) => self.blob(repository, digest, true),
            Job::Manifest(repository, digest) => self.manifest(repository, digest),
        };
        if let Err(error) = done {
            tracing::warn!(?job, %error, "a diffID was not computed; the next start tries again");
        }
    }

    /// Looks at everything that is linked anywhere, then forgets what is gone.
    fn walk(&self) -> Result<()> {
        self.forget_what_is_gone()?;
        let mut after = String::new();
        loop {
            let names = self.registry.store.list(List::Holders, &after, PAGE)?;
            for name in &names {
                if let Ok(repository) = name.parse()
                    && self.repository(&repository)?.is_break()
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

    fn repository(&self, repository: &Repository) -> Result<ControlFlow<()>> {
        // So that nobody has to wait for it later; who comes sooner does it for himself.
        if let Err(error) = self.registry.reconcile(repository) {
            tracing::warn!(%repository, %error, "the referrers were not looked at");
        }
        let mut flow = ControlFlow::Continue(());
        for links in [Links::Layers, Links::Revisions] {
            let mut visit = |digest: Digest| {
                flow = self.turn();
                let done = match links {
                    Links::Layers => self.blob(repository, &digest, false),
                    Links::Revisions => self.manifest(repository, &digest),
                };
                if let Err(error) = done {
                    tracing::warn!(%repository, %digest, %error, "not looked at for diffIDs");
                }
                flow
            };
            self.registry
                .store
                .each_link(repository, links, &mut visit)?;
            if flow.is_break() {
                break;
            }
        }
        Ok(flow)
    }

    /// Finds out what a blob is, unless that is known; remembers that the repository links it.
    /// What is new is looked at again where it counted as nothing: then it may have been damaged.
    fn blob(&self, repository: &Repository, digest: &Digest, is_new: bool) -> Result<()> {
        let store = &self.registry.store;
        if let Some(mut known) = self.registry.record(digest)?
            && (known.layer.is_some() || !is_new)
        {
            let is_live = |other: &Repository| {
                let link = store.len(Key::Layer(other, digest));
                link.is_ok_and(|len| len.is_some())
            };
            if known.layer.is_some() && known.add(repository, is_live) {
                store.put_derived(Derived::Layer(digest), &known.to_json())?;
            }
            return Ok(());
        }
        let Some(layer) = self.look(repository, digest)? else {
            return Ok(());
        };
        if let Some(layer) = &layer {
            store.put_derived(Derived::Unpacked(&layer.diff_id, digest), b"")?;
        }
        let repositories = match &layer {
            Some(_) => vec![repository.clone()],
            None => Vec::new(),
        };
        let found = Record {
            layer,
            repositories,
        };
        // Last: this says that all is done.
        store.put_derived(Derived::Layer(digest), &found.to_json())?;
        Ok(())
    }

    /// Computes; `None` where nothing can be said for good.
    fn look(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Option<record::Layer>>> {
        let store = &self.registry.store;
        let held = {
            let _hold = self.registry.hold([digest.clone()]);
            self.registry.held(repository, digest)?
        };
        let Some(held) = held else { return Ok(None) };
        let Some((bytes, _)) = store.open_to_read(Key::Blob(&held.target))? else {
            return Ok(None);
        };
        let read = |offset, len| bytes.read(offset, len);
        Ok(
            match compute_apart(digest, read, self.limits, &|| self.queue().is_open()) {
                Outcome::Layer(layer) => Some(Some(layer)),
                Outcome::Nothing(why) => {
                    tracing::debug!(%digest, why, "no layer");
                    Some(None)
                }
                Outcome::Damaged => {
                    match held.target == *digest {
                        true => self.registry.remove_damaged(digest, &bytes)?,
                        // Either the bytes or the link.
                        false => {
                            let verdict = self.registry.doubt(&held.target)?;
                            tracing::warn!(%repository, %digest, ?verdict, "not what it should be");
                        }
                    }
                    None
                }
                Outcome::Unreadable(error) => {
                    tracing::warn!(%repository, %digest, %error, "a blob cannot be read");
                    None
                }
                Outcome::Stopped => None,
            },
        )
    }

    /// Remembers which config a manifest is over.
    fn manifest(&self, repository: &Repository, digest: &Digest) -> Result<()> {
        let Some(config) = self.registry.config_of(repository, digest)? else {
            return Ok(());
        };
        let key = Derived::Config(repository, &config, digest);
        if !self.registry.store.has_derived(key)? {
            let content = format!("{repository} {config}");
            self.registry.store.put_derived(key, content.as_bytes())?;
        }
        Ok(())
    }

    /// What another program deleted, or its collector took away.
    fn forget_what_is_gone(&self) -> Result<()> {
        let store = &self.registry.store;
        store.each_known_layer(&mut |digest| {
            let flow = self.turn();
            // What cannot be looked at is not known to be gone.
            if let Ok(None) = store.len(Key::Blob(&digest))
                && let Err(error) = self.forget(&digest)
            {
                tracing::debug!(%digest, %error, "what is known of a blob that is gone stays");
            }
            flow
        })?;
        store.each_known_config(record::MAX_BYTES, &mut |manifest, content| {
            let flow = self.turn();
            let text = String::from_utf8(content).unwrap_or_default();
            if let Some((repository, config)) = text.split_once(' ')
                && let (Ok(repository), Ok(config)) = (repository.parse(), config.parse())
                && let Ok(None) = store.len(Key::Revision(&repository, &manifest))
            {
                // Every answer is confirmed, so what stays does no harm.
                let _ = store.forget_derived(Derived::Config(&repository, &config, &manifest));
            }
            flow
        })?;
        Ok(())
    }

    fn forget(&self, digest: &Digest) -> Result<()> {
        let store = &self.registry.store;
        if let Some(layer) = self.registry.record(digest)?.and_then(|known| known.layer) {
            store.forget_derived(Derived::Unpacked(&layer.diff_id, digest))?;
        }
        Ok(store.forget_derived(Derived::Layer(digest))?)
    }
}

/// Does something that must not take the thread with it: without it, all that is asked for would be
/// pending for ever. `None` where it panicked, which the panic's own message tells.
fn apart<T>(work: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    if done.is_err() {
        tracing::error!("the computing of diffIDs failed in a way that it should not");
    }
    done.ok()
}

impl Registry {
    /// The size in bytes that a blob has as a layer, where it was read as one.
    pub(in crate::registry) fn known_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let known = self.record(digest)?.and_then(|known| known.layer);
        Ok(known.map(|layer| layer.size))
    }

    /// What is known of a blob as a layer; a damaged record is none.
    pub(super) fn record(&self, digest: &Digest) -> Result<Option<Record>> {
        let json = self
            .store
            .derived(Derived::Layer(digest), record::MAX_BYTES)?;
        Ok(json.and_then(|json| Record::from_json(&json)))
    }

    /// The config that a repository's manifest is over, where it has one.
    pub(super) fn config_of(
        &self,
        repository: &Repository,
        manifest: &Digest,
    ) -> Result<Option<Digest>> {
        let reference = Reference::Digest(manifest.clone());
        let stored = match self.manifest(repository, &reference) {
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
