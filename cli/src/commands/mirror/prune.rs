//! Takes out of the target what the mirror once brought, and wants no more.

use std::collections::{BTreeMap, HashMap, HashSet};

use imgsync_oci::client::DeleteOutcome;
use imgsync_oci::{Digest, Reference, Tag};

use super::{MirrorProgress, MirrorRunner, image_name};
use crate::exit::{Failure, FailureKind};
use crate::image::subject_of;
use crate::mirror::job::MirrorJob;
use crate::mirror::prune::{self, PruneInput};
use crate::mirror::record::MirrorRecord;
use crate::mirror::selection::SkipReason;
use crate::report::{self, KeepReason};
use crate::transports::CopyTarget;

/// What pruning goes by.
pub(super) struct PruneRequest<'a> {
    pub(super) target: &'a dyn CopyTarget,
    pub(super) record: &'a MirrorRecord,
    /// What the mirror had brought when this run began.
    pub(super) mirrored: BTreeMap<Tag, Vec<Digest>>,
    pub(super) wanted: &'a [Reference],
    /// The digests of the images that are wanted, where all are known.
    pub(super) wanted_images: Option<&'a HashSet<Digest>>,
    /// SkipReason the source's other tags are not.
    pub(super) skipped: &'a [(Tag, SkipReason)],
    /// How many tags may be wanted, and nobody knows.
    pub(super) undated: usize,
}

impl MirrorRunner<'_> {
    /// Prunes, and tells of every tag.
    ///
    /// # Errors
    /// The target could not be asked.
    pub(super) async fn prune(
        &self,
        job: &MirrorJob,
        pruning: PruneRequest<'_>,
        told: &mut MirrorProgress,
    ) -> Result<(), Failure> {
        let goal = job.to.to_string();
        if pruning.mirrored.is_empty() {
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
        let known = PruneInput {
            mirrored: &pruning.mirrored,
            wanted: &wanted.collect(),
            subjects: &pruning.record.tag_subjects(),
            wanted_images: pruning.wanted_images,
        };
        let left: HashMap<_, _> = pruning
            .skipped
            .iter()
            .map(|(tag, why)| (tag, why))
            .collect();
        let mut stuck = None;
        for tag in prune::candidates(known, |tag| subject_of(tag).is_some()) {
            let digests = pruning.mirrored.get(&tag).map_or(&[][..], Vec::as_slice);
            let reference = Reference::Tag(tag.clone());
            let why = match left.get(&tag) {
                Some(SkipReason::ReferrerTag) => {
                    "what it speaks about is wanted no more".to_owned()
                }
                Some(why) => why.to_string(),
                None => "the source no longer has it".to_owned(),
            };
            let can = stuck.is_none();
            let fate = match self.prune_one(&pruning, &tag, digests, (why, can)).await {
                Ok(Some(fate)) => fate,
                Ok(None) => continue,
                Err(failure) => report::TagOutcome::Failed(failure),
            };
            if matches!(
                &fate,
                report::TagOutcome::Kept(_, _, KeepReason::Undeletable)
            ) {
                stuck.get_or_insert_with(|| tag.clone());
            }
            let names = (
                image_name(&job.source(), &reference),
                image_name(&goal, &reference),
            );
            let is_lost = matches!(
                &fate,
                report::TagOutcome::Failed(failure)
                    if matches!(failure.kind, FailureKind::Network | FailureKind::Authentication)
            );
            self.report_tag(told, names, fate);
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
        pruning: &PruneRequest<'_>,
        tag: &Tag,
        digests: &[Digest],
        (why, can): (String, bool),
    ) -> Result<Option<report::TagOutcome>, Failure> {
        let reference = Reference::Tag(tag.clone());
        let now = pruning.target.head_manifest(&reference).await?;
        let now = now.map(|head| head.digest);
        let digest = match prune::decide(digests, now.as_ref()) {
            prune::PruneDecision::Delete(digest) => digest,
            prune::PruneDecision::AlreadyGone => {
                pruning.record.forget(tag);
                return Ok(None);
            }
            prune::PruneDecision::Moved(now) => {
                pruning.record.forget(tag);
                return Ok(Some(report::TagOutcome::Kept(now, why, KeepReason::Moved)));
            }
        };
        if self.settings.is_dry_run {
            return Ok(Some(report::TagOutcome::Pruned(digest, why)));
        }
        let deleted = match can {
            true => pruning.target.delete_tag(tag).await?,
            false => DeleteOutcome::Unsupported,
        };
        match deleted {
            DeleteOutcome::Deleted | DeleteOutcome::NotFound => {
                pruning.record.forget(tag);
                Ok(Some(report::TagOutcome::Pruned(digest, why)))
            }
            // It stays in the record: a registry that is replaced may delete it later.
            DeleteOutcome::Unsupported => Ok(Some(report::TagOutcome::Kept(
                digest,
                why,
                KeepReason::Undeletable,
            ))),
        }
    }
}
