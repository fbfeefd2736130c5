//! Carries a plan out: blobs, parts, what speaks about the image, and the tag at last. So a tag at
//! the target stands for everything, and a copy that ends early leaves none that does not.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use imgsync_oci::referrers::{self, Referrers};
use imgsync_oci::{Digest, Reference, Tag, media};

use super::accompany::asks;
use super::ends::{Held, Role};
use super::plan::{Between, Companion, Plan, Step, Way};
use super::{BeforeTag, Copied, Wish, companion};
use crate::exit::{Failure, Kind};
use crate::report::Report;
use crate::transfer::{Moved, Outgoing};

/// Blobs of one image that are under way at a time; how many of them move is the line's business.
const AT_A_TIME: usize = 16;
/// The most referrers that a list under a tag names.
const MOST_LISTED: usize = 1000;

/// What carrying out a plan came to, companions included.
#[derive(Debug, Default)]
struct Sums {
    sent: u64,
    saved: u64,
    linked: u64,
    companions: Vec<(Tag, Digest)>,
    referrers: usize,
}

/// What a plan would come to.
pub(super) fn preview(plan: Plan) -> Copied {
    let mut sums = Sums::default();
    expect(&plan, &mut sums);
    copied(plan, sums)
}

fn expect(plan: &Plan, sums: &mut Sums) {
    for step in &plan.blobs {
        let size = step.blob.size;
        match step.way {
            Way::There | Way::Shared => sums.saved += size,
            Way::Send(Some(_)) => {
                sums.saved += size;
                sums.linked += size;
            }
            Way::Send(None) => sums.sent += size,
        }
    }
    for companion in &plan.companions {
        expect(&companion.plan, sums);
        count(companion, sums);
    }
}

fn count(companion: &Companion, sums: &mut Sums) {
    match &companion.tag {
        Some(tag) => {
            let named = (tag.clone(), companion.plan.digest.clone());
            sums.companions.push(named);
        }
        None => sums.referrers += 1,
    }
}

fn copied(plan: Plan, sums: Sums) -> Copied {
    Copied {
        source: plan.source,
        digest: plan.digest,
        before: plan.before,
        change: plan.change,
        sent: sums.sent,
        saved: sums.saved,
        linked: sums.linked,
        companions: sums.companions,
        referrers: sums.referrers,
        left_out: plan.left_out,
        notes: plan.notes,
    }
}

/// Carries plans out between two ends.
pub(super) struct Performance<'a> {
    pub(super) between: Between<'a>,
    pub(super) report: &'a Arc<dyn Report>,
    pub(super) before_tag: &'a BeforeTag,
}

impl Performance<'_> {
    /// Does what the plan says. When this yields, the image is at the target.
    ///
    /// # Errors
    /// The first failure of either end, or of who is asked before a tag is put.
    pub(super) async fn perform(&self, plan: Plan, wish: &Wish) -> Result<Copied, Failure> {
        let mut sums = Sums::default();
        self.carry_out(&plan, &plan.digest, &mut sums).await?;
        let Between { memory, target, .. } = self.between;
        if asks(wish.companions, plan.change) {
            memory.accompanied(target.name(), &plan.digest);
        }
        Ok(copied(plan, sums))
    }

    /// Carries out what belongs to `image`: its own plan, or that of what speaks about it.
    fn carry_out<'a>(
        &'a self,
        plan: &'a Plan,
        image: &'a Digest,
        sums: &'a mut Sums,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let Between { memory, target, .. } = self.between;
            let moving: Vec<_> = plan.blobs.iter().map(|step| self.blob(step)).collect();
            let mut moving = stream::iter(moving).buffer_unordered(AT_A_TIME);
            while let Some((step, moved)) = moving.try_next().await? {
                match moved {
                    Moved::There => sums.saved += step.blob.size,
                    Moved::Linked => {
                        sums.saved += step.blob.size;
                        sums.linked += step.blob.size;
                    }
                    Moved::Sent { bytes } => sums.sent += bytes,
                }
            }
            for part in &plan.parts {
                target.put_manifest(part, &Role::Part).await?;
                memory.completed(target.name(), &part.digest);
            }
            for companion in &plan.companions {
                self.carry_out(&companion.plan, image, sums).await?;
                count(companion, sums);
            }
            if let Some((last, role)) = &plan.last {
                if let Some((tag, list)) = self.put(last, role, image).await? {
                    // Each that is added to a list moves its tag.
                    sums.companions.retain(|(other, _)| *other != tag);
                    sums.companions.push((tag, list));
                }
                memory.completed(target.name(), &last.digest);
            }
            Ok(())
        }
        .boxed()
    }

    /// Puts a manifest; yields the tag of the list that it was added to, and what that names now.
    async fn put(
        &self,
        manifest: &Held,
        role: &Role,
        image: &Digest,
    ) -> Result<Option<(Tag, Digest)>, Failure> {
        let target = self.between.target;
        if let Role::Tagged(tag) = role {
            (self.before_tag)(tag, &manifest.digest, image)?;
        }
        target.put_manifest(manifest, role).await?;
        match role {
            Role::Referrer { subject } => self.list(subject, manifest, image).await,
            Role::Part | Role::Tagged(_) | Role::Untagged => Ok(None),
        }
    }

    /// Brings a blob, or waits until another image has brought it.
    async fn blob<'a>(&self, step: &'a Step) -> Result<(&'a Step, Moved), Failure> {
        let Between {
            memory,
            source,
            target,
            ..
        } = self.between;
        let blob = &step.blob;
        let mount = match &step.way {
            Way::There => return Ok((step, Moved::There)),
            Way::Shared => None,
            Way::Send(mount) => mount.clone(),
        };
        let known = memory.blob(target.name(), &blob.digest);
        let mut moved = Moved::There;
        let moving = known.moved.get_or_try_init(|| async {
            let outgoing = Outgoing {
                digest: blob.digest.clone(),
                size: blob.size,
                label: format!("blob {}", blob.digest.short()),
                body: source.blob(blob).await?,
                mount,
            };
            moved = target.put_blob(&outgoing, self.report).await?;
            Ok::<(), Failure>(())
        });
        moving.await?;
        memory.holds(target.place(), &blob.digest);
        Ok((step, moved))
    }

    /// Adds a manifest to the list of those that speak about `subject`, where the target keeps none
    /// itself (OCI distribution-spec, "Pushing Manifests with Subject").
    async fn list(
        &self,
        subject: &Digest,
        manifest: &Held,
        image: &Digest,
    ) -> Result<Option<(Tag, Digest)>, Failure> {
        let Between { memory, target, .. } = self.between;
        if target.referrers(subject).await?.is_some() {
            return Ok(None);
        }
        let Some(tag) = companion::list(subject) else {
            return Ok(None);
        };
        let read = referrers::read(&manifest.bytes, &manifest.digest);
        let referrer = match read {
            Ok(Some((about, referrer))) if about == *subject => referrer,
            // The source's list was wrong about it.
            Ok(Some(_) | None) | Err(_) => return Ok(None),
        };
        // One list at a time: each is read, added to and written.
        let _turn = memory.lists.lock().await;
        let reference = Reference::Tag(tag.clone());
        let before = target.manifest(&reference).await?;
        let mut all = match before {
            Some(held) => {
                let list: Result<Referrers, _> = serde_json::from_slice(&held.bytes);
                let list = list.map_err(|error| {
                    let what = format!("target: what {tag} names is no list of referrers: {error}");
                    Failure::new(Kind::Target, what).hint("--referrers none leaves it alone")
                });
                list?.manifests
            }
            None => Vec::new(),
        };
        if all.iter().any(|it| it.digest == referrer.digest) {
            return Ok(None);
        }
        if all.len() >= MOST_LISTED {
            let what = format!("target: {tag} lists {MOST_LISTED} manifests already");
            return Err(Failure::new(Kind::Target, what));
        }
        all.push(referrer);
        let bytes = serde_json::to_vec(&Referrers::of(all)).map_err(|error| {
            let what = format!("target: the list {tag} cannot be written: {error}");
            Failure::new(Kind::Target, what)
        })?;
        let list = Held {
            digest: Digest::of(&bytes),
            media_type: media::OCI_INDEX.to_owned(),
            bytes: bytes.into(),
        };
        (self.before_tag)(&tag, &list.digest, image)?;
        let role = Role::Tagged(tag.clone());
        target.put_manifest(&list, &role).await?;
        Ok(Some((tag, list.digest)))
    }
}
