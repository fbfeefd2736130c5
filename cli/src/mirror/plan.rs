//! What a copy has to do, found out by asking both ends: data that can be shown, and carried out.
//! Nothing is changed anywhere, no blob is read, and no manifest that the target has.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Repository, Tag, media};

use super::companion;
use super::ends::{Head, Held, Role, Source, Target};
use super::memory::Memory;
use super::platforms::{self, Sifted};
use super::{Change, Companions, Wish};
use crate::exit::{Failure, Kind};

/// Questions that one copy has under way at a time.
const AT_A_TIME: usize = 8;
/// An index in an index is rare, and a deeper nest a trick.
const DEEPEST: usize = 4;
/// A signature of a list of parts of an image: further nobody goes.
const LONGEST_CHAIN: usize = 3;
/// The most manifests of one image, all parts together.
const MOST_MANIFESTS: usize = 2000;
/// The most bytes of manifests that one image may hold in memory.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Everything that is to be done for one image.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The digest at the source.
    pub(super) source: Digest,
    /// The manifest's digest at the target.
    pub(super) digest: Digest,
    /// What the tag names at the target now.
    pub(super) before: Option<Digest>,
    pub(super) change: Change,
    /// The blobs that the new manifests need, each once.
    pub(super) blobs: Vec<Step>,
    /// The manifests that are put before the last, in order.
    pub(super) parts: Vec<Held>,
    /// The manifest that is put at last, and as what; `None` where that is so already.
    pub(super) last: Option<(Held, Role)>,
    /// What speaks about the image; put before the last manifest, so that who finds the image finds
    /// its signature.
    pub(super) companions: Vec<Companion>,
    pub(super) left_out: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Something that speaks about an image.
#[derive(Debug, Clone)]
pub(super) struct Companion {
    /// Its tag, where it is found by that.
    pub(super) tag: Option<Tag>,
    pub(super) plan: Plan,
}

/// What happens to a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) blob: Descriptor,
    pub(super) way: Way,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// The target holds it.
    There,
    /// Another image of this run brings it.
    Shared,
    /// It is sent, or linked from that repository of the same registry.
    Send(Option<Repository>),
}

/// Two ends, and what is known of them.
#[derive(Clone, Copy)]
pub(super) struct Between<'a> {
    pub(super) memory: &'a Memory,
    pub(super) source: &'a dyn Source,
    pub(super) target: &'a dyn Target,
    /// Whether a manifest at the target stands for all that it needs; registries that lose blobs
    /// exist.
    pub(super) trusts: bool,
}

/// What is under the two names now.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) head: Head,
    before: Option<Tagged>,
}

/// What is found below a manifest, as it is gathered.
#[derive(Default)]
struct Below {
    /// Children first.
    manifests: Vec<Held>,
    blobs: Vec<Descriptor>,
    seen: HashSet<Digest>,
    bytes: usize,
}

/// What is to be there under `to`.
struct Root {
    head: Digest,
    manifest: Found,
    left_out: Vec<String>,
}

enum Found {
    /// The target has it under that name.
    Right(Digest),
    /// It is to be put; perhaps the target has it under another name.
    Wanted(Box<Held>),
    /// The same, and its bytes were not needed yet.
    Named(Digest),
}

impl Between<'_> {
    /// Looks at both ends: a request each, and no more are needed where nothing has changed.
    pub(super) async fn look(&self, wish: &Wish) -> Result<Look, Failure> {
        let (head, before) = futures::try_join!(self.head(&wish.from), self.tagged(wish))?;
        Ok(Look { head, before })
    }

    /// Finds out what is to be done. Chains of companions are followed to a small depth.
    pub(super) async fn plan(&self, wish: &Wish, look: Look) -> Result<Plan, Failure> {
        let Look { head, before } = look;
        let root = self.root(wish, head, before.as_ref()).await?;
        let digest = match &root.manifest {
            Found::Right(digest) | Found::Named(digest) => digest.clone(),
            Found::Wanted(held) => held.digest.clone(),
        };
        if let Reference::Digest(wanted) = &wish.to
            && *wanted != digest
        {
            let what =
                format!("target: what is copied is {digest} there, and cannot be named {wanted}");
            return Err(Failure::new(Kind::Usage, what));
        }
        let role = match &wish.to {
            Reference::Tag(tag) => Role::Tagged(tag.clone()),
            Reference::Digest(_) => Role::Untagged,
        };
        let mut plan = match root.manifest {
            Found::Right(digest) => Plan::nothing(root.head, digest),
            Found::Named(digest) => self.image(root.head, Err(digest), role).await?,
            Found::Wanted(held) => self.image(root.head, Ok(*held), role).await?,
        };
        plan.before = before.map(|held| held.digest);
        plan.left_out = root.left_out;
        self.accompany(&mut plan, wish).await?;
        Ok(plan)
    }

    async fn head(&self, from: &Reference) -> Result<Head, Failure> {
        self.source.head(from).await?.ok_or_else(|| {
            let name = named(self.source.name(), from);
            Failure::new(Kind::Source, format!("source: there is no {name}"))
        })
    }

    /// What is under the name at the target now; with its bytes where platforms are left out, for
    /// only those tell what it was made from.
    async fn tagged(&self, wish: &Wish) -> Result<Option<Tagged>, Failure> {
        if wish.platforms.is_empty() {
            let head = self.target.head(&wish.to).await?;
            return Ok(head.map(|head| Tagged {
                digest: head.digest,
                held: None,
            }));
        }
        let held = self.target.manifest(&wish.to).await?;
        Ok(held.map(|held| Tagged {
            digest: held.digest.clone(),
            held: Some(held),
        }))
    }

    /// What is to be there, with parts left out as they are asked for.
    async fn root(
        &self,
        wish: &Wish,
        head: Head,
        before: Option<&Tagged>,
    ) -> Result<Root, Failure> {
        let right = |digest: &Digest| before.is_some_and(|tagged| tagged.digest == *digest);
        let as_it_is = |digest: Digest| match right(&digest) {
            true => Found::Right(digest),
            false => Found::Named(digest),
        };
        let is_image = head
            .media_type
            .as_deref()
            .is_some_and(media::is_image_manifest);
        if wish.platforms.is_empty() || is_image {
            return Ok(Root {
                manifest: as_it_is(head.digest.clone()),
                head: head.digest,
                left_out: Vec::new(),
            });
        }
        let held = before.and_then(|tagged| tagged.held.as_ref());
        if let Some(held) = held
            && platforms::whole(held, &wish.platforms).as_ref() == Some(&head.digest)
        {
            return Ok(Root {
                manifest: Found::Right(held.digest.clone()),
                head: head.digest,
                left_out: Vec::new(),
            });
        }
        // The whole index may be at the target, by an earlier copy of all of it.
        let whole = match held.filter(|held| held.digest == head.digest) {
            Some(held) => held.clone(),
            None => self.read(&head.digest).await?,
        };
        let sifted = platforms::sift(&whole, &wish.platforms).map_err(|what| {
            let name = named(self.source.name(), &wish.from);
            Failure::new(Kind::Source, format!("source: {name}: {what}"))
        })?;
        let Sifted { index, left_out } = sifted;
        let manifest = match right(&index.digest) {
            true => Found::Right(index.digest),
            false => Found::Wanted(Box::new(index)),
        };
        Ok(Root {
            head: head.digest,
            manifest,
            left_out,
        })
    }

    /// What it takes to put a manifest, given or named, as `role`.
    async fn image(
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
    async fn kept(&self, digest: &Digest) -> Result<Option<Held>, Failure> {
        match self.memory.manifest(digest) {
            Some(held) => Ok(Some(held)),
            None => {
                let reference = Reference::Digest(digest.clone());
                self.target.manifest(&reference).await
            }
        }
    }

    /// A manifest from the source, or from what was read before.
    async fn read(&self, digest: &Digest) -> Result<Held, Failure> {
        if let Some(held) = self.memory.manifest(digest) {
            return Ok(held);
        }
        let reference = Reference::Digest(digest.clone());
        let held = self.source.manifest(&reference).await?.ok_or_else(|| {
            let what = format!("source: {} has no manifest {digest}", self.source.name());
            Failure::new(Kind::Source, what)
        })?;
        self.memory.read(&held);
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
        let held = self.read(&part.digest).await?;
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

    /// Adds what speaks about the image and its parts.
    async fn accompany(&self, plan: &mut Plan, wish: &Wish) -> Result<(), Failure> {
        let is_left = wish.companions == Companions::Leave;
        if is_left || self.memory.is_accompanied(self.target.name(), &plan.digest) {
            return Ok(());
        }
        let listed = wish.listed.as_deref();
        let asks = plan.change == Change::Image || wish.companions == Companions::Refresh;
        let mut subjects = Vec::new();
        if plan.source == plan.digest {
            subjects.push(plan.source.clone());
        } else if asks && self.is_spoken_of(&plan.source, listed).await? {
            plan.notes.push(format!(
                "what speaks about the whole index {} stays at the source: without some of its \
                 platforms it is another one",
                plan.source
            ));
        }
        if plan.change == Change::Image {
            subjects.extend(plan.parts.iter().map(|part| part.digest.clone()));
        } else if asks {
            subjects.extend(self.parts(&plan.digest).await?);
        }
        let mut found = Vec::new();
        for subject in &subjects {
            // Of an image that is there already those that are listed cost one request each, as
            // any tag; others would have to be guessed.
            if asks || listed.is_some() {
                for tag in companion::signatures(subject, listed) {
                    found.extend(self.signature(tag).await?);
                }
            }
            if asks {
                self.referrers(subject, 0, &mut found).await?;
            }
        }
        let is_new = |companion: &&Companion| companion.plan.change != Change::Nothing;
        if plan.change == Change::Nothing && found.iter().any(|it| is_new(&it)) {
            plan.change = Change::Companions;
        }
        plan.companions = found;
        Ok(())
    }

    /// Whether the source has anything that speaks about a manifest.
    async fn is_spoken_of(
        &self,
        subject: &Digest,
        listed: Option<&HashSet<Tag>>,
    ) -> Result<bool, Failure> {
        let is_listed = listed.is_some_and(|_| !companion::signatures(subject, listed).is_empty());
        Ok(is_listed || !self.source.referrers(subject).await?.is_empty())
    }

    /// The manifests below an index that is at the target.
    async fn parts(&self, digest: &Digest) -> Result<Vec<Digest>, Failure> {
        let Some(held) = self.kept(digest).await? else {
            return Ok(Vec::new());
        };
        let parsed = Manifest::parse(&held.bytes, Some(&held.media_type));
        let children = parsed.map(|(_, manifest)| manifest.children().manifests);
        let children = children.unwrap_or_default().into_iter();
        Ok(children.map(|child| child.digest).collect())
    }

    /// What a tag of cosign's scheme names, where it is there.
    async fn signature(&self, tag: Tag) -> Result<Option<Companion>, Failure> {
        let reference = Reference::Tag(tag.clone());
        let Some(head) = self.source.head(&reference).await? else {
            return Ok(None);
        };
        let before = self.target.head(&reference).await?;
        let mut plan = match &before {
            Some(before) if before.digest == head.digest => {
                Plan::nothing(head.digest.clone(), head.digest)
            }
            Some(_) | None => {
                let role = Role::Tagged(tag.clone());
                self.image(head.digest.clone(), Err(head.digest), role)
                    .await?
            }
        };
        plan.before = before.map(|before| before.digest);
        Ok(Some(Companion {
            tag: Some(tag),
            plan,
        }))
    }

    /// What speaks about a manifest by its `subject` at the target, by whoever keeps the list.
    async fn listed(&self, subject: &Digest) -> Result<Vec<Descriptor>, Failure> {
        if let Some(listed) = self.target.referrers(subject).await? {
            return Ok(listed);
        }
        let Some(tag) = companion::list(subject) else {
            return Ok(Vec::new());
        };
        let held = self.target.manifest(&Reference::Tag(tag)).await?;
        let parsed = held.map(|held| Manifest::parse(&held.bytes, Some(&held.media_type)));
        Ok(match parsed {
            Some(Ok((_, manifest))) => manifest.children().manifests,
            Some(Err(_)) | None => Vec::new(),
        })
    }

    /// What speaks about a manifest by its `subject`, and what speaks about that.
    fn referrers<'a>(
        &'a self,
        subject: &'a Digest,
        depth: usize,
        found: &'a mut Vec<Companion>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let all = self.source.referrers(subject).await?;
            if all.is_empty() {
                return Ok(());
            }
            let listed = self.listed(subject).await?;
            for referrer in all {
                let digest = referrer.digest;
                if listed.iter().any(|it| it.digest == digest) {
                    continue;
                }
                let role = Role::Referrer {
                    subject: subject.clone(),
                };
                let plan = self.image(digest.clone(), Err(digest.clone()), role);
                let plan = plan.await?;
                found.push(Companion { tag: None, plan });
                if depth + 1 < LONGEST_CHAIN {
                    self.referrers(&digest, depth + 1, found).await?;
                }
            }
            Ok(())
        }
        .boxed()
    }
}

/// What is under a name at the target.
#[derive(Debug, Clone)]
struct Tagged {
    digest: Digest,
    held: Option<Held>,
}

impl Plan {
    fn nothing(source: Digest, digest: Digest) -> Self {
        Self {
            source,
            digest,
            before: None,
            change: Change::Nothing,
            blobs: Vec::new(),
            parts: Vec::new(),
            last: None,
            companions: Vec::new(),
            left_out: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// `host/repository:tag`, or with `@` before a digest.
pub(super) fn named(end: &str, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{end}:{tag}"),
        Reference::Digest(digest) => format!("{end}@{digest}"),
    }
}
