//! Deletes tags at the target that the mirror copied earlier and that are no longer selected.

use std::collections::{BTreeMap, HashMap, HashSet};

use imgsync_oci::client::DeleteOutcome;
use imgsync_oci::{Digest, Reference, Tag};

use super::selection::SourceTags;
use super::{MirrorProgress, MirrorRunner, is_systemic, tag_names};
use crate::exit::Failure;
use crate::image::subject_of;
use crate::mirror::job::MirrorJob;
use crate::mirror::prune::{PruneDecision, PruneInput, candidates, decide};
use crate::mirror::record::MirrorRecord;
use crate::mirror::selection::SkipReason;
use crate::report::{KeepReason, TagOutcome};
use crate::transports::CopyTarget;

/// The information that decides which tags are deleted.
pub(super) struct PruneRequest<'a> {
    pub(super) target: &'a dyn CopyTarget,
    pub(super) record: &'a MirrorRecord,
    /// The tags that the mirror had copied when this run began.
    pub(super) mirrored: BTreeMap<Tag, Vec<Digest>>,
    pub(super) selected: &'a [Reference],
    pub(super) tags: &'a SourceTags,
    /// The digests of the selected images, if all are known.
    pub(super) selected_images: Option<&'a HashSet<Digest>>,
}

impl PruneRequest<'_> {
    /// Returns why nothing may be deleted.
    fn obstacle(&self) -> Option<&'static str> {
        if self.mirrored.is_empty() {
            Some("there is no record yet of the tags that this mirror copied")
        } else if self.selected.is_empty() {
            Some("no tag is selected, which is probably a mistake in a rule or at the source")
        } else if !self.tags.undated.is_empty() {
            Some("the creation dates of some images could not be read")
        } else {
            None
        }
    }

    /// Returns the tags that may be deleted.
    fn candidates(&self) -> Vec<Tag> {
        let selected = self
            .selected
            .iter()
            .filter_map(|reference| match reference {
                Reference::Tag(tag) => Some(tag.clone()),
                Reference::Digest(_) => None,
            });
        let input = PruneInput {
            mirrored: &self.mirrored,
            selected: &selected.collect(),
            subjects: &self.record.tag_subjects(),
            selected_images: self.selected_images,
        };
        candidates(input, |tag| subject_of(tag).is_some())
    }
}

impl MirrorRunner<'_> {
    /// Prunes, and reports every tag.
    pub(super) async fn prune(
        &self,
        job: &MirrorJob,
        request: PruneRequest<'_>,
        progress: &mut MirrorProgress,
    ) {
        let target = &job.to;
        if let Some(obstacle) = request.obstacle() {
            let text = format!("{target}: nothing is pruned: {obstacle}");
            return self.report.note(&text);
        }
        let skipped = request.tags.skipped.iter();
        let skipped: HashMap<_, _> = skipped.map(|(tag, reason)| (tag, reason)).collect();
        let mut undeletable = None;
        for tag in request.candidates() {
            let reason = match skipped.get(&tag) {
                Some(SkipReason::ReferrerTag) => "its image is no longer selected".to_owned(),
                Some(reason) => reason.to_string(),
                None => "the source no longer has it".to_owned(),
            };
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
            let is_aborted =
                matches!(&outcome, TagOutcome::Failed(failure) if is_systemic(failure));
            self.report_tag(progress, tag_names(job, &tag), outcome);
            progress.pruned.insert(tag);
            if is_aborted {
                // The next tag would take as long, and fail in the same way.
                let text = format!("{target}: pruning stops after this error");
                return self.report.note(&text);
            }
        }
        if let Some(tag) = undeletable {
            self.report.note(&format!(
                "{target}: the registry cannot delete single tags, so tags that are no longer \
                 selected are kept; to delete a manifest with all tags that point at it: imgsync \
                 rm --digest {target}:{tag}"
            ));
        }
    }

    /// Prunes one tag; returns `None` if it does not exist any more. No request to delete it is sent
    /// if the registry is known not to delete tags.
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
        let digest = match decide(mirrored, current.as_ref()) {
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
            DeleteOutcome::Deleted { .. } | DeleteOutcome::NotFound => {
                record.forget(tag);
                TagOutcome::Pruned(digest, reason)
            }
            // The tag stays in the record: another registry program may delete it later.
            DeleteOutcome::Unsupported | DeleteOutcome::Disabled => {
                TagOutcome::Kept(digest, reason, KeepReason::Undeletable)
            }
        }))
    }
}
