//! What speaks about an image: signatures, attestations, lists of parts; by tags of cosign's scheme,
//! and by the `subject` of other manifests.

use std::collections::HashSet;

use futures::future::{BoxFuture, FutureExt};
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Tag};

use super::companion;
use super::ends::Role;
use super::plan::{Between, Companion, Plan};
use super::{Change, Companions, Wish};
use crate::exit::{Failure, Kind};

/// A signature of a list of parts of an image: further nobody goes.
const LONGEST_CHAIN: usize = 3;

/// The most that speaks about one image and its parts.
const MOST: usize = 2000;
/// The most bytes of manifests that it may hold in memory.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// What speaks about an image, as it is found.
#[derive(Default)]
struct Found {
    all: Vec<Companion>,
    bytes: usize,
    /// What people should hear of.
    notes: Vec<String>,
}

impl Found {
    fn add(&mut self, companion: Companion) -> Result<(), Failure> {
        let Plan { parts, last, .. } = &companion.plan;
        let held = parts.iter().chain(last.iter().map(|(held, _)| held));
        self.bytes += held.map(|held| held.bytes.len()).sum::<usize>();
        if self.all.len() == MOST || self.bytes > MOST_BYTES {
            let what = "source: more speaks about the image than about any that is meant well";
            let failure = Failure::new(Kind::Source, what);
            return Err(failure.hint("to leave all of it, pass --referrers none"));
        }
        self.all.push(companion);
        Ok(())
    }
}

/// Whether the source is asked for all that speaks about an image: when its tag is right already
/// only where that is asked for.
pub(super) fn asks(companions: Companions, change: Change) -> bool {
    match companions {
        Companions::Leave => false,
        Companions::Bring => matches!(change, Change::Tag | Change::Image),
        Companions::Refresh => true,
    }
}

impl Between<'_> {
    /// Adds what speaks about the image and its parts.
    pub(super) async fn accompany(&self, plan: &mut Plan, wish: &Wish) -> Result<(), Failure> {
        let is_left = wish.companions == Companions::Leave;
        if is_left || self.memory.is_accompanied(self.target.name(), &plan.digest) {
            return Ok(());
        }
        let listed = wish.listed.as_deref();
        let asks = asks(wish.companions, plan.change);
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
        if asks {
            subjects.extend(self.parts(plan).await?);
        }
        let mut found = Found::default();
        for subject in &subjects {
            // Of an image that is there already those that are listed cost one request each, as
            // any tag; others would have to be guessed.
            if asks || listed.is_some() {
                for tag in companion::signatures(subject, listed) {
                    if let Some(companion) = self.signature(tag).await? {
                        found.add(companion)?;
                    }
                }
            }
            if asks {
                self.referrers(subject, 0, &mut found).await?;
            }
        }
        let is_new = |companion: &Companion| companion.plan.change != Change::Nothing;
        if plan.change == Change::Nothing && found.all.iter().any(is_new) {
            plan.change = Change::Companions;
        }
        plan.companions = found.all;
        plan.notes.extend(found.notes);
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

    /// The manifests right below the image. Those that the target has already count too: an earlier
    /// copy may have ended before it came to what speaks about them.
    async fn parts(&self, plan: &Plan) -> Result<Vec<Digest>, Failure> {
        let held = match &plan.last {
            Some((held, _)) => Some(held.clone()),
            None => self.kept(&plan.digest).await?,
        };
        let Some(held) = held else {
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
        found: &'a mut Found,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let all = self.source.referrers(subject).await?;
            if all.is_empty() {
                return Ok(());
            }
            let listed = self.listed(subject).await?;
            for referrer in all {
                let digest = referrer.digest;
                if !listed.iter().any(|it| it.digest == digest) {
                    // Lists under tags are kept by hand, and outlive what they name.
                    let Some(held) = self.find(&digest).await? else {
                        let note = format!("{digest}, which is to speak about it, is not there");
                        found.notes.push(note);
                        continue;
                    };
                    let role = Role::Referrer {
                        subject: subject.clone(),
                    };
                    let plan = self.image(digest.clone(), Ok(held), role).await?;
                    found.add(Companion { tag: None, plan })?;
                }
                // What is there already may have got company since, or lack it from a run that was
                // cut off.
                if depth + 1 < LONGEST_CHAIN {
                    self.referrers(&digest, depth + 1, found).await?;
                }
            }
            Ok(())
        }
        .boxed()
    }
}
