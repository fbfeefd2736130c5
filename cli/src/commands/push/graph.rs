//! An index and everything below it: goes as it is, byte for byte.

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Manifest, Reference};

use super::{Push, Pushed, total};
use crate::ask;
use crate::exit::{Failure, Kind};
use crate::facts;
use crate::plan::{Plan, Step};
use crate::source::{Blobs, Graph};
use crate::transfer::{Item, Parcel, ship};

impl Push {
    /// What happens to the blobs of an index.
    pub(super) async fn graph_plan(&self, graph: &Graph) -> Result<Plan, Failure> {
        let keep = |session| self.means.line.keep_session(session);
        facts::of_blobs(&self.question(&keep), &graph.blobs).await
    }

    /// Sends the blobs that are missing, then the manifests, children first.
    pub(super) async fn graph(&self, graph: &Graph, mut blobs: Blobs) -> Result<Pushed, Failure> {
        let plan = self.graph_plan(graph).await?;
        self.means.report.plan(&plan);
        let of = graph.blobs.len();
        let mut parcels = Vec::new();
        for (position, (blob, (_, step))) in graph.blobs.iter().zip(&plan.steps).enumerate() {
            let label = format!("blob {}/{of}", position + 1);
            match step {
                Step::Have(_) => self.means.report.note(&format!("{label}: already there")),
                Step::Send { .. } => parcels.push(parcel(blob, &mut blobs, label)?),
                Step::Again => {}
            }
        }
        ship(&self.means, parcels).await?;
        for manifest in &graph.manifests {
            let reference = match manifest.digest == graph.root {
                true => self.tag(),
                false => Reference::Digest(manifest.digest.clone()),
            };
            self.put(manifest, &reference).await?;
        }
        Ok(Pushed {
            digest: graph.root.clone(),
            blobs: total(&graph.blobs),
        })
    }

    /// The blobs that a manifest at the target needs, itself or through its children; `None`
    /// where a child is missing there, or makes no sense.
    pub(super) async fn blobs_below(
        &self,
        manifest: &Manifest,
    ) -> Result<Option<Vec<Descriptor>>, Failure> {
        /// An index in an index is rare, and a deeper nest a trick.
        const DEEPEST: usize = 4;
        let line = &self.means.line;
        let mut blobs = Vec::new();
        let mut asked = HashSet::new();
        let mut below = vec![(manifest.children(), 0)];
        while let Some((children, depth)) = below.pop() {
            blobs.extend(children.blobs);
            for child in children.manifests {
                if !asked.insert(child.digest.clone()) {
                    continue;
                }
                if depth == DEEPEST {
                    return Ok(None);
                }
                let reference = Reference::Digest(child.digest);
                let child = ask::manifest(&line.client, &line.repository, &reference).await?;
                let Some(child) = child else { return Ok(None) };
                below.push((child.manifest.children(), depth + 1));
            }
        }
        Ok(Some(blobs))
    }
}

fn parcel(blob: &Descriptor, blobs: &mut Blobs, label: String) -> Result<Parcel, Failure> {
    let bytes = blobs.take(&blob.digest).ok_or_else(|| {
        let what = format!(
            "source: {} is missing although the image needs it",
            blob.digest
        );
        Failure::new(Kind::Source, what)
            // The target may hold it compressed, which is told only of an archive that passes by.
            .hint("push again; an archive that came on standard input, give as a file")
    })?;
    Ok(Parcel {
        item: Item::Ready {
            descriptor: blob.clone(),
            diff_id: None,
        },
        bytes,
        label,
    })
}
