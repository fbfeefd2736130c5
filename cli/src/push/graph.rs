//! An index and everything below it: goes as it is, byte for byte.

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Manifest, Reference};

use super::{PushedManifest, Pusher, total};
use crate::evidence::{self, probe};
use crate::exit::{Failure, FailureKind};
use crate::image::{ImageBlobs, ImageGraph};
use crate::plan::{LayerStep, PushPlan};
use crate::upload::{QueuedBlob, QueuedContent, upload_all};

impl Pusher {
    /// What happens to the blobs of an index.
    pub(super) async fn plan_graph(&self, graph: &ImageGraph) -> Result<PushPlan, Failure> {
        let keep = |session| self.context.writer.add_spare_session(session);
        evidence::plan_blobs(&self.lookup_request(&keep), &graph.blobs).await
    }

    /// Sends the blobs that are missing, then the manifests, children first.
    pub(super) async fn push_graph(
        &self,
        graph: &ImageGraph,
        mut blobs: ImageBlobs,
    ) -> Result<PushedManifest, Failure> {
        let plan = self.plan_graph(graph).await?;
        self.context.report.show_plan(&plan);
        let of = graph.blobs.len();
        let mut parcels = Vec::new();
        for (position, (blob, (_, step))) in graph.blobs.iter().zip(&plan.steps).enumerate() {
            let label = format!("blob {}/{of}", position + 1);
            match step {
                LayerStep::AlreadyPresent(_) => {
                    self.context.report.note(&format!("{label}: already there"))
                }
                LayerStep::Send { .. } => parcels.push(queue_blob(blob, &mut blobs, label)?),
                LayerStep::Duplicate => {}
            }
        }
        upload_all(&self.context, parcels).await?;
        for manifest in &graph.manifests {
            let reference = match manifest.digest == graph.root {
                true => self.tag_reference(),
                false => Reference::Digest(manifest.digest.clone()),
            };
            self.put(manifest, &reference).await?;
        }
        Ok(PushedManifest {
            digest: graph.root.clone(),
            blob_bytes: total(&graph.blobs),
        })
    }

    /// The blobs that a manifest at the target needs, itself or through its children; `None`
    /// where a child is missing there, or makes no sense.
    pub(super) async fn collect_blobs(
        &self,
        manifest: &Manifest,
    ) -> Result<Option<Vec<Descriptor>>, Failure> {
        /// An index in an index is rare, and a deeper nest a trick.
        const MAX_INDEX_DEPTH: usize = 4;
        let line = &self.context.writer;
        let mut blobs = Vec::new();
        let mut asked = HashSet::new();
        let mut below = vec![(manifest.children(), 0)];
        while let Some((children, depth)) = below.pop() {
            blobs.extend(children.blobs);
            for child in children.manifests {
                if !asked.insert(child.digest.clone()) {
                    continue;
                }
                if depth == MAX_INDEX_DEPTH {
                    return Ok(None);
                }
                let reference = Reference::Digest(child.digest);
                let child =
                    probe::fetch_manifest(&line.client, &line.repository, &reference).await?;
                let Some(child) = child else { return Ok(None) };
                below.push((child.manifest.children(), depth + 1));
            }
        }
        Ok(Some(blobs))
    }
}

fn queue_blob(
    blob: &Descriptor,
    blobs: &mut ImageBlobs,
    label: String,
) -> Result<QueuedBlob, Failure> {
    let bytes = blobs.take(&blob.digest).ok_or_else(|| {
        let what = format!(
            "source: {} is missing although the image needs it",
            blob.digest
        );
        Failure::new(FailureKind::Source, what)
            // The target may hold it compressed, which is told only of an archive that passes by.
            .with_hint("push again; an archive that came on standard input, give as a file")
    })?;
    Ok(QueuedBlob {
        content: QueuedContent::Ready {
            descriptor: blob.clone(),
            diff_id: None,
        },
        bytes,
        label,
    })
}
