//! What a copy has to do, found out by asking both ends: data that can be shown, and carried out.
//! Nothing is changed anywhere, no blob is read, and no manifest that the target has.

use imgsync_oci::{Descriptor, Digest, Reference, Repository, Tag, media};

use super::ends::{Head, Held, Role, Source, Target};
use super::memory::Memory;
use super::platforms::{self, Sifted};
use super::{Change, Wish};
use crate::exit::{Failure, Kind};

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
}

/// What is under a name at the target.
#[derive(Debug, Clone)]
struct Tagged {
    digest: Digest,
    held: Option<Held>,
}

impl Plan {
    pub(super) fn nothing(source: Digest, digest: Digest) -> Self {
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
