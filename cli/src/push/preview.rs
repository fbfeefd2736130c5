//! `imgsync push --dry-run`: the plan. Only questions are asked, and no layer is read.

use imgsync_oci::{Digest, Tag};

use super::Pusher;
use crate::exit::Failure;
use crate::image::{ImageContent, Layer, SingleImage};
use crate::plan::{BlobCandidate, EvidenceSource, LayerEvidence, PushPlan};
use crate::spool::Spool;
use crate::transports::{LocatedImage, daemon};

/// What a push would do.
pub(crate) struct PushPreview {
    /// What would happen to the layers.
    pub(crate) plan: PushPlan,
    /// What else is to be said, a line each.
    pub(crate) notes: Vec<String>,
}

impl Pusher {
    /// What would happen.
    ///
    /// # Errors
    /// The target could not be asked.
    pub(super) async fn preview(
        &self,
        found: &LocatedImage,
        tags: &[Tag],
    ) -> Result<PushPreview, Failure> {
        let image = match found {
            LocatedImage::Local { image, .. } => Some(image.clone()),
            LocatedImage::Daemon(found) => found.image(),
        };
        let mut more = Vec::new();
        let plan = match (image.map(|image| image.content), found) {
            (Some(ImageContent::Single(single)), _) => {
                let mut plan = self.look_up_single(&single).await?.plan;
                self.mark_packed_layers(&mut plan, &single);
                plan
            }
            (Some(ImageContent::Graph(graph)), _) => self.plan_graph(&graph).await?,
            (None, LocatedImage::Daemon(found)) => self.plan_unexported(found, &mut more).await?,
            (None, LocatedImage::Local { .. }) => PushPlan::new(Vec::new(), &Default::default()),
        };
        if plan.steps.is_empty() {
            more.push("the image has no layers".to_owned());
        }
        let tags: Vec<_> = tags.iter().map(Tag::to_string).collect();
        if !tags.is_empty() {
            more.push(format!("tagged too: {}", tags.join(", ")));
        }
        Ok(PushPreview { plan, notes: more })
    }

    /// Takes into account which layers an earlier run has packed.
    fn mark_packed_layers(&self, plan: &mut PushPlan, single: &SingleImage) {
        let folder = self.context.folders.cache.join("spool");
        let spool = Spool::temporary(&folder);
        for layer in &single.layers {
            if let Layer::Raw { diff_id, .. } = layer
                && let Some(size) = spool.compressed_size(diff_id)
            {
                plan.mark_packed(diff_id, size);
            }
        }
    }

    /// The plan for an image in containerd's store, whose daemon tells which blobs it consists of
    /// only by exporting it: either the target has all of it, or of each layer only the diffID is
    /// known.
    async fn plan_unexported(
        &self,
        found: &daemon::DaemonImage,
        more: &mut Vec<String>,
    ) -> Result<PushPlan, Failure> {
        if let Some(root) = found.selected_root() {
            if let Some((_, blobs)) = self.find_complete_manifest(root).await? {
                let held = blobs.iter().map(|blob| blob.digest.clone()).collect();
                let facts = blobs.into_iter().map(|blob| LayerEvidence {
                    layer: blob.digest.clone(),
                    size: Some(blob.size),
                    candidate: Some(BlobCandidate {
                        blob,
                        evidence: EvidenceSource::Image,
                    }),
                    mount: None,
                });
                more.push(self.describe_tag(root).await?);
                return Ok(PushPlan::new(facts.collect(), &held));
            }
            more.push(format!("the manifest {root} is not there, or not whole"));
        }
        more.push(
            "the daemon keeps the image in containerd's store, and tells only by exporting it \
             which blobs it consists of: what of them is there already is not sent"
                .to_owned(),
        );
        let facts = found.diff_ids.iter().map(|diff_id| LayerEvidence {
            layer: diff_id.clone(),
            size: None,
            candidate: None,
            mount: None,
        });
        Ok(PushPlan::new(facts.collect(), &Default::default()))
    }

    /// What the tag does not name yet.
    async fn describe_tag(&self, root: &Digest) -> Result<String, Failure> {
        let line = &self.context.writer;
        let (tag, reference) = (&self.target.tag, self.tag_reference());
        let tagged = line.client.head_manifest(&line.repository, &reference);
        let named = tagged.await?.and_then(|tagged| tagged.digest);
        Ok(match named.as_ref() == Some(root) {
            true => format!("{tag} names the manifest {root} already"),
            false => format!("the manifest {root} is there, and gets the tag {tag}"),
        })
    }
}
