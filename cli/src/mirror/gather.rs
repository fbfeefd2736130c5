//! What an image consists of, as far as the target lacks it: the manifests below it, and its blobs.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Repository};

use super::Change;
use super::ends::{Held, Role};
use super::plan::{Between, Plan, Step, Way};
use crate::exit::{Failure, Kind};
use crate::source::platform::text;

/// Questions that one copy has under way at a time.
const AT_A_TIME: usize = 8;
/// An index in an index is rare, and a deeper nest a trick.
const DEEPEST: usize = 4;
/// The most manifests of one image, all parts together.
const MOST_MANIFESTS: usize = 2000;
/// The most bytes of manifests that one image may hold in memory.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// What is found below a manifest, as it is gathered.
#[derive(Default)]
struct Below {
    /// Children first.
    manifests: Vec<Held>,
    blobs: Vec<Descriptor>,
    seen: HashSet<Digest>,
    bytes: usize,
}

impl Between<'_> {
    /// What it takes to put a manifest, given or named, as `role`.
    pub(super) async fn image(
        &self,
        head: Digest,
        manifest: Result<Held, Digest>,
        role: Role,
    ) -> Result<Plan, Failure> {
        let digest = match &manifest {
            Ok(held) => held.digest.clone(),
            Err(digest) => digest.clone(),
        };
        let mut plan = Plan::nothing(head, digest.clone());
        if self.is_complete(&digest).await? {
            plan.change = Change::Tag;
            let held = match &manifest {
                Ok(held) => Some(held.clone()),
                Err(digest) => self.kept(digest).await?,
            };
            if let Some(held) = held {
                plan.last = Some((held, role));
                return Ok(plan);
            }
        }
        let held = match manifest {
            Ok(held) => held,
            Err(digest) => self.read(&digest).await?,
        };
        let mut below = Below::default();
        self.gather(&held, 0, &mut below).await?;
        // The last is this very manifest.
        below.manifests.pop();
        plan.change = Change::Image;
        plan.parts = below.manifests;
        plan.blobs = self.steps(below.blobs).await?;
        plan.last = Some((held, role));
        Ok(plan)
    }

    /// A manifest from the target, or from what was read before.
    pub(super) async fn kept(&self, digest: &Digest) -> Result<Option<Held>, Failure> {
        match self.memory.manifest(digest) {
            Some(held) => Ok(Some(held)),
            None => {
                let reference = Reference::Digest(digest.clone());
                self.target.manifest(&reference).await
            }
        }
    }

    /// A manifest from the source, or from what was read before.
    pub(super) async fn read(&self, digest: &Digest) -> Result<Held, Failure> {
        self.find(digest).await?.ok_or_else(|| {
            let what = format!("source: {} has no manifest {digest}", self.source.name());
            Failure::new(Kind::Source, what)
        })
    }

    /// The same; `None` where the source does not have it.
    pub(super) async fn find(&self, digest: &Digest) -> Result<Option<Held>, Failure> {
        if let Some(held) = self.memory.manifest(digest) {
            return Ok(Some(held));
        }
        let reference = Reference::Digest(digest.clone());
        let held = self.source.manifest(&reference).await?;
        if let Some(held) = &held {
            self.memory.read(held);
        }
        Ok(held)
    }

    /// Whether the target has a manifest, and so all its parts.
    async fn is_complete(&self, digest: &Digest) -> Result<bool, Failure> {
        let name = self.target.name();
        if !self.trusts {
            return Ok(false);
        }
        if self.memory.is_complete(name, digest) {
            return Ok(true);
        }
        let reference = Reference::Digest(digest.clone());
        let there = self.target.head(&reference).await?.is_some();
        if there {
            self.memory.completed(name, digest);
        }
        Ok(there)
    }

    /// Gathers a manifest and what is below it, as far as the target lacks it; children first.
    fn gather<'a>(
        &'a self,
        held: &'a Held,
        depth: usize,
        below: &'a mut Below,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let too_much = |what: &str| {
                let what = format!("source: {} {what}", held.digest);
                Failure::new(Kind::Source, what)
            };
            below.bytes += held.bytes.len();
            if below.seen.len() >= MOST_MANIFESTS || below.bytes > MOST_BYTES {
                return Err(too_much("has more manifests below it than any image"));
            }
            let parsed = Manifest::parse(&held.bytes, Some(&held.media_type));
            let (_, manifest) =
                parsed.map_err(|error| too_much(&format!("is no manifest: {error}")))?;
            let children = manifest.children();
            below.blobs.extend(children.blobs);
            let new = children.manifests.into_iter();
            let new: Vec<Descriptor> = new
                .filter(|child| below.seen.insert(child.digest.clone()))
                .collect();
            if !new.is_empty() && depth == DEEPEST {
                return Err(too_much("nests indexes too deep"));
            }
            let mut lacking = stream::iter(new)
                .map(|child| async move { self.lacking(&child).await })
                .buffered(AT_A_TIME);
            while let Some(child) = lacking.try_next().await? {
                if let Some(child) = child {
                    self.gather(&child, depth + 1, below).await?;
                }
            }
            below.manifests.push(held.clone());
            Ok(())
        }
        .boxed()
    }

    /// A part of an index, where the target lacks it.
    async fn lacking(&self, part: &Descriptor) -> Result<Option<Held>, Failure> {
        if self.is_complete(&part.digest).await? {
            return Ok(None);
        }
        let held = self.find(&part.digest).await?;
        let held = held.ok_or_else(|| self.sparse(part))?;
        let size = held.bytes.len() as u64;
        match size == part.size {
            true => Ok(Some(held)),
            false => {
                let (digest, said) = (&part.digest, part.size);
                let what = format!("source: {digest} has {size} bytes where its index says {said}");
                Err(Failure::new(Kind::Source, what))
            }
        }
    }

    /// A part that the source itself lacks.
    fn sparse(&self, part: &Descriptor) -> Failure {
        let (name, digest) = (self.source.name(), &part.digest);
        let platform = part.platform.as_ref().map(text);
        let platform = platform.map_or(String::new(), |text| format!(", for {text},"));
        let what = format!("source: {name} lacks a part of the index{platform} {digest}");
        Failure::new(Kind::Source, what)
            .hint("--platform takes the parts that are there; --exclude leaves the tag out")
    }

    /// What happens to each of these blobs.
    async fn steps(&self, blobs: Vec<Descriptor>) -> Result<Vec<Step>, Failure> {
        let mut once = HashSet::new();
        let blobs = blobs.into_iter();
        let blobs: Vec<Descriptor> = blobs
            .filter(|blob| once.insert(blob.digest.clone()))
            .collect();
        stream::iter(blobs)
            .map(|blob| async move {
                let way = self.way(&blob).await?;
                Ok(Step { blob, way })
            })
            .buffered(AT_A_TIME)
            .try_collect()
            .await
    }

    async fn way(&self, blob: &Descriptor) -> Result<Way, Failure> {
        let known = self.memory.blob(self.target.name(), &blob.digest);
        let held = known.held.get_or_try_init(|| self.target.holds(blob));
        if *held.await? || known.moved.initialized() {
            self.memory.holds(self.target.place(), &blob.digest);
            return Ok(Way::There);
        }
        if known.claimed.swap(true, Ordering::Relaxed) {
            return Ok(Way::Shared);
        }
        Ok(Way::Send(self.elsewhere(blob)))
    }

    /// Another repository of the target's registry that holds a blob.
    fn elsewhere(&self, blob: &Descriptor) -> Option<Repository> {
        let (registry, own) = self.target.place()?;
        let from = match self.source.place() {
            Some((source, repository)) if source == registry => Some(repository.clone()),
            Some(_) | None => self.memory.whereabouts(registry, &blob.digest),
        };
        from.filter(|from| from != own)
    }
}
