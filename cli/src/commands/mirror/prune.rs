//! Takes out of the target what the mirror once brought, and wants no more.

use std::collections::{BTreeMap, HashMap, HashSet};

use imgsync_oci::client::Deleted;
use imgsync_oci::{Digest, Reference, Tag};

use super::{Mirrors, Told, named};
use crate::exit::{Failure, Kind};
use crate::mirror::choose::Why;
use crate::mirror::companion;
use crate::mirror::ends::Target;
use crate::mirror::job::Job;
use crate::mirror::prune::{self, Known};
use crate::mirror::record::Record;
use crate::report;

/// What pruning goes by.
pub(super) struct Pruning<'a> {
    pub(super) target: &'a dyn Target,
    pub(super) record: &'a Record,
    /// What the mirror had brought when this run began.
    pub(super) brought: BTreeMap<Tag, Vec<Digest>>,
    pub(super) wanted: &'a [Reference],
    /// The tags that speak about wanted ones, where all are known.
    pub(super) companions: Option<&'a HashSet<Tag>>,
    /// Why the source's other tags are not.
    pub(super) left: &'a [(Tag, Why)],
    /// How many tags may be wanted, and nobody knows.
    pub(super) undated: usize,
}

impl Mirrors<'_> {
    /// Prunes, and tells of every tag.
    ///
    /// # Errors
    /// The target could not be asked.
    pub(super) async fn prune(
        &self,
        job: &Job,
        pruning: Pruning<'_>,
        told: &mut Told,
    ) -> Result<(), Failure> {
        let goal = job.to.to_string();
        if pruning.brought.is_empty() {
            self.report.note(&format!(
                "{goal}: nothing is pruned: there is no record yet of what this mirror brought"
            ));
            return Ok(());
        }
        if pruning.wanted.is_empty() {
            self.report.note(&format!(
                "{goal}: nothing is pruned: no tag at all is wanted, which is rather a mistake of a \
                 rule or of the source"
            ));
            return Ok(());
        }
        if pruning.undated > 0 {
            self.report.note(&format!(
                "{goal}: nothing is pruned: of some tags it could not be found out whether they \
                 are wanted"
            ));
            return Ok(());
        }
        let wanted = pruning.wanted.iter().filter_map(|wanted| match wanted {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        });
        let known = Known {
            brought: &pruning.brought,
            wanted: &wanted.collect(),
            companions: pruning.companions,
        };
        let left: HashMap<_, _> = pruning.left.iter().map(|(tag, why)| (tag, why)).collect();
        for tag in prune::candidates(known, |tag| companion(tag).is_some()) {
            let digests = pruning.brought.get(&tag).map_or(&[][..], Vec::as_slice);
            let reference = Reference::Tag(tag.clone());
            let why = match left.get(&tag) {
                Some(Why::Companion) => "what it speaks about is wanted no more".to_owned(),
                Some(why) => why.to_string(),
                None => "the source no longer has it".to_owned(),
            };
            let fate = match self.prune_one(&pruning, &tag, digests, why).await {
                Ok(Some(fate)) => fate,
                Ok(None) => continue,
                Err(failure) => report::Fate::Failed(failure),
            };
            let names = (named(&job.source(), &reference), named(&goal, &reference));
            let is_lost = matches!(
                &fate,
                report::Fate::Failed(failure)
                    if matches!(failure.kind, Kind::Network | Kind::Authentication)
            );
            self.tell(told, names, fate);
            told.pruned.insert(tag);
            if is_lost {
                // The next would take as long, and end alike.
                self.report.note(&format!("{goal}: nothing more is pruned"));
                return Ok(());
            }
        }
        Ok(())
    }

    /// What becomes of one; `None` where it is gone already.
    async fn prune_one(
        &self,
        pruning: &Pruning<'_>,
        tag: &Tag,
        digests: &[Digest],
        why: String,
    ) -> Result<Option<report::Fate>, Failure> {
        let reference = Reference::Tag(tag.clone());
        let now = pruning.target.head(&reference).await?;
        let now = now.map(|head| head.digest);
        let digest = match prune::fate(digests, now.as_ref()) {
            prune::Fate::Goes(digest) => digest,
            prune::Fate::Gone => {
                pruning.record.forget(tag);
                return Ok(None);
            }
            prune::Fate::Foreign(now) => {
                pruning.record.forget(tag);
                return Ok(Some(report::Fate::Kept(now, why)));
            }
        };
        if self.settings.is_dry {
            return Ok(Some(report::Fate::Pruned(digest, why)));
        }
        match pruning.target.delete_tag(tag).await? {
            Deleted::Gone | Deleted::Absent => {
                pruning.record.forget(tag);
                Ok(Some(report::Fate::Pruned(digest, why)))
            }
            Deleted::Unsupported => {
                let name = pruning.target.name();
                let what = format!("target: {name} cannot delete a tag alone, so {tag} stays");
                let hint = format!(
                    "imgsync rm --digest {name}:{tag} deletes the manifest, with all its tags"
                );
                Err(Failure::new(Kind::Target, what).hint(hint))
            }
        }
    }
}
