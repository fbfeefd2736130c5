//! Deletes tags at the target that the mirror copied earlier and that are no longer wanted.

use std::collections::{BTreeMap, HashMap, HashSet};

use imgsync_oci::client::DeleteOutcome;
use imgsync_oci::{Digest, Reference, Tag};

use super::tags::CopyBatch;
use super::{MirrorProgress, MirrorRunner, image_name};
use crate::exit::{Failure, FailureKind};
use crate::image::subject_of;
use crate::mirror::job::MirrorJob;
use crate::mirror::prune::{self, PruneDecision, PruneInput};
use crate::mirror::record::MirrorRecord;
use crate::mirror::selection::SkipReason;
use crate::report::{KeepReason, TagOutcome};
use crate::transports::CopyTarget;

/// What decides about pruning.
pub(super) struct PruneRequest<'a> {
    pub(super) target: &'a dyn CopyTarget,
    pub(super) record: &'a MirrorRecord,
    /// The tags that the mirror had copied when this run began.
    pub(super) mirrored: BTreeMap<Tag, Vec<Digest>>,
    pub(super) batch: &'a CopyBatch<'a>,
    /// The digests of the wanted images, if all are known.
    pub(super) wanted_images: Option<&'a HashSet<Digest>>,
}

impl PruneRequest<'_> {
    /// Returns why nothing may be pruned at all.
    fn obstacle(&self) -> Option<&'static str> {
        if self.mirrored.is_empty() {
            Some("there is no record yet of what this mirror copied")
        } else if self.batch.wanted.is_empty() {
            Some("no tag at all is wanted, which is probably a mistake in a rule or at the source")
        } else if self.batch.undated > 0 {
            Some("for some tags it is unknown whether they are wanted")
        } else {
            None
        }
    }

    /// Returns the tags that may be deleted.
    fn candidates(&self) -> Vec<Tag> {
        let wanted = self.batch.wanted.iter().filter_map(|wanted| match wanted {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        });
        let input = PruneInput {
            mirrored: &self.mirrored,
            selected: &wanted.collect(),
            subjects: &self.record.tag_subjects(),
            selected_images: self.wanted_images,
        };
        prune::candidates(input, |tag| subject_of(tag).is_some())
    }
}

/// Returns why a tag is no longer wanted.
fn reason(skipped: Option<&&SkipReason>) -> String {
    match skipped {
        Some(SkipReason::ReferrerTag) => "its image is no longer wanted".to_owned(),
        Some(reason) => reason.to_string(),
        None => "the source no longer has it".to_owned(),
    }
}

impl MirrorRunner<'_> {
    /// Prunes, and reports every tag.
    ///
    /// # Errors
    /// The target could not be asked.
    pub(super) async fn prune(
        &self,
        job: &MirrorJob,
        request: PruneRequest<'_>,
        progress: &mut MirrorProgress,
    ) -> Result<(), Failure> {
        let target = job.to.to_string();
        if let Some(obstacle) = request.obstacle() {
            let text = format!("{target}: nothing is pruned: {obstacle}");
            self.report.note(&text);
            return Ok(());
        }
        let skipped = request.batch.skipped.iter();
        let skipped: HashMap<_, _> = skipped.map(|(tag, reason)| (tag, reason)).collect();
        let mut undeletable = None;
        for tag in request.candidates() {
            let reason = reason(skipped.get(&tag));
            let can_delete = undeletable.is_none();
            let pruned = self.prune_tag(&request, &tag, reason, can_delete).await;
            let outcome = match pruned {
                Ok(Some(outcome)) => outcome,
                Ok(None) => continue,
                Err(failure) => TagOutcome::Failed(failure),
            };
            if let TagOutcome::Kept(_, _, KeepReason::Undeletable) = &outcome {
                undeletable.get_or_insert_with(|| tag.clone());
            }
            let is_systemic = matches!(
                &outcome,
                TagOutcome::Failed(failure)
                    if matches!(failure.kind, FailureKind::Network | FailureKind::Authentication)
            );
            let reference = Reference::Tag(tag.clone());
            let names = (
                image_name(&job.source(), &reference),
                image_name(&target, &reference),
            );
            self.report_tag(progress, names, outcome);
            progress.pruned.insert(tag);
            if is_systemic {
                // The next tag would take as long, and fail in the same way.
                self.report
                    .note(&format!("{target}: nothing more is pruned"));
                return Ok(());
            }
        }
        if let Some(tag) = undeletable {
            self.report.note(&format!(
                "{target}: this registry cannot delete single tags, so tags that are no longer \
                 wanted stay there. imgsync rm --digest {target}:{tag} deletes a manifest, with all \
                 tags that point at it"
            ));
        }
        Ok(())
    }

    /// Prunes one tag; returns `None` if it does not exist any more. No request to delete it is sent
    /// where the registry is known not to delete tags.
    async fn prune_tag(
        &self,
        request: &PruneRequest<'_>,
        tag: &Tag,
        reason: String,
        can_delete: bool,
    ) -> Result<Option<TagOutcome>, Failure> {
        let (target, record) = (request.target, request.record);
        let mirrored = request.mirrored.get(tag).map_or(&[][..], Vec::as_slice);
        let head = target.head_manifest(&Reference::Tag(tag.clone())).await?;
        let current = head.map(|head| head.digest);
        let digest = match prune::decide(mirrored, current.as_ref()) {
            PruneDecision::Delete(digest) => digest,
            PruneDecision::AlreadyGone => {
                record.forget(tag);
                return Ok(None);
            }
            PruneDecision::Moved(current) => {
                record.forget(tag);
                return Ok(Some(TagOutcome::Kept(current, reason, KeepReason::Moved)));
            }
        };
        if self.settings.is_dry_run {
            return Ok(Some(TagOutcome::Pruned(digest, reason)));
        }
        let deleted = if can_delete {
            target.delete_tag(tag).await?
        } else {
            DeleteOutcome::Unsupported
        };
        Ok(Some(match deleted {
            DeleteOutcome::Deleted | DeleteOutcome::NotFound => {
                record.forget(tag);
                TagOutcome::Pruned(digest, reason)
            }
            // The tag stays in the record: another registry program may delete it later.
            DeleteOutcome::Unsupported => TagOutcome::Kept(digest, reason, KeepReason::Undeletable),
        }))
    }
}
