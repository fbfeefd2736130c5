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
use crate::report::{self, Stays};

/// What pruning goes by.
pub(super) struct Pruning<'a> {
    pub(super) target: &'a dyn Target,
    pub(super) record: &'a Record,
    /// What the mirror had brought when this run began.
    pub(super) brought: BTreeMap<Tag, Vec<Digest>>,
    pub(super) wanted: &'a [Reference],
    /// The digests of the images that are wanted, where all are known.
    pub(super) images: Option<&'a HashSet<Digest>>,
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
            about: &pruning.record.about(),
            images: pruning.images,
        };
        let left: HashMap<_, _> = pruning.left.iter().map(|(tag, why)| (tag, why)).collect();
        let mut stuck = None;
        for tag in prune::candidates(known, |tag| companion(tag).is_some()) {
            let digests = pruning.brought.get(&tag).map_or(&[][..], Vec::as_slice);
            let reference = Reference::Tag(tag.clone());
            let why = match left.get(&tag) {
                Some(Why::Companion) => "what it speaks about is wanted no more".to_owned(),
                Some(why) => why.to_string(),
                None => "the source no longer has it".to_owned(),
            };
            let can = stuck.is_none();
            let fate = match self.prune_one(&pruning, &tag, digests, (why, can)).await {
                Ok(Some(fate)) => fate,
                Ok(None) => continue,
                Err(failure) => report::Fate::Failed(failure),
            };
            if matches!(&fate, report::Fate::Kept(_, _, Stays::Undeletable)) {
                stuck.get_or_insert_with(|| tag.clone());
            }
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
        if let Some(tag) = stuck {
            self.report.note(&format!(
                "{goal}: this registry deletes no tag alone, so what is wanted no more stays there. \
                 imgsync rm --digest {goal}:{tag} deletes a manifest, with all tags that name it"
            ));
        }
        Ok(())
    }

    /// What becomes of one, which is not wanted for the reason given; `None` where it is gone
    /// already. It is not tried to delete it where the registry is known not to.
    async fn prune_one(
        &self,
        pruning: &Pruning<'_>,
        tag: &Tag,
        digests: &[Digest],
        (why, can): (String, bool),
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
                return Ok(Some(report::Fate::Kept(now, why, Stays::Moved)));
            }
        };
        if self.settings.is_dry {
            return Ok(Some(report::Fate::Pruned(digest, why)));
        }
        let deleted = match can {
            true => pruning.target.delete_tag(tag).await?,
            false => Deleted::Unsupported,
        };
        match deleted {
            Deleted::Gone | Deleted::Absent => {
                pruning.record.forget(tag);
                Ok(Some(report::Fate::Pruned(digest, why)))
            }
            // It stays in the record: a registry that is replaced may delete it later.
            Deleted::Unsupported => Ok(Some(report::Fate::Kept(digest, why, Stays::Undeletable))),
        }
    }
}
