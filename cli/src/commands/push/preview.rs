//! `imgsync push --dry-run`: the plan. Only questions are asked, and no layer is read.

use imgsync_oci::{Digest, Tag};

use super::Push;
use crate::exit::Failure;
use crate::plan::{Candidate, Fact, Plan, Why};
use crate::source::{Content, Found, Layer, Single, daemon};
use crate::spool::Spool;

/// What a push would do.
pub(in crate::commands) struct Preview {
    /// What would happen to the layers.
    pub(in crate::commands) plan: Plan,
    /// What else is to be said, a line each.
    pub(in crate::commands) more: Vec<String>,
}

impl Push {
    /// What would happen.
    ///
    /// # Errors
    /// The target could not be asked.
    pub(super) async fn preview(&self, found: &Found, tags: &[Tag]) -> Result<Preview, Failure> {
        let image = match found {
            Found::Here { image, .. } => Some(image.clone()),
            Found::Daemon(found) => found.image(),
        };
        let mut more = Vec::new();
        let plan = match (image.map(|image| image.content), found) {
            (Some(Content::Single(single)), _) => {
                let mut plan = self.single_facts(&single).await?.plan;
                self.keep(&mut plan, &single);
                plan
            }
            (Some(Content::Graph(graph)), _) => self.graph_plan(&graph).await?,
            (None, Found::Daemon(found)) => self.unexported(found, &mut more).await?,
            (None, Found::Here { .. }) => Plan::new(Vec::new(), &Default::default()),
        };
        if plan.steps.is_empty() {
            more.push("the image has no layers".to_owned());
        }
        let tags: Vec<_> = tags.iter().map(Tag::to_string).collect();
        if !tags.is_empty() {
            more.push(format!("tagged too: {}", tags.join(", ")));
        }
        Ok(Preview { plan, more })
    }

    /// Takes into account which layers an earlier run has packed.
    fn keep(&self, plan: &mut Plan, single: &Single) {
        let folder = self.means.folders.cache.join("spool");
        let spool = Spool::fleeting(&folder);
        for layer in &single.layers {
            if let Layer::Raw { diff_id, .. } = layer
                && let Some(size) = spool.packed_size(diff_id)
            {
                plan.keep(diff_id, size);
            }
        }
    }

    /// The plan for an image in containerd's store, whose daemon tells which blobs it consists of
    /// only by exporting it: either the target has all of it, or of each layer only the diffID is
    /// known.
    async fn unexported(
        &self,
        found: &daemon::Found,
        more: &mut Vec<String>,
    ) -> Result<Plan, Failure> {
        if let Some(root) = found.goes() {
            if let Some((_, blobs)) = self.whole_there(root).await? {
                let held = blobs.iter().map(|blob| blob.digest.clone()).collect();
                let facts = blobs.into_iter().map(|blob| Fact {
                    layer: blob.digest.clone(),
                    size: Some(blob.size),
                    candidate: Some(Candidate {
                        blob,
                        why: Why::Itself,
                    }),
                    mount: None,
                });
                more.push(self.of_tag(root).await?);
                return Ok(Plan::new(facts.collect(), &held));
            }
            more.push(format!("the manifest {root} is not there, or not whole"));
        }
        more.push(
            "the daemon keeps the image in containerd's store, and tells only by exporting it \
             which blobs it consists of: what of them is there already is not sent"
                .to_owned(),
        );
        let facts = found.diff_ids.iter().map(|diff_id| Fact {
            layer: diff_id.clone(),
            size: None,
            candidate: None,
            mount: None,
        });
        Ok(Plan::new(facts.collect(), &Default::default()))
    }

    /// What the tag does not name yet.
    async fn of_tag(&self, root: &Digest) -> Result<String, Failure> {
        let line = &self.means.line;
        let (tag, reference) = (&self.target.tag, self.tag());
        let tagged = line.client.head_manifest(&line.repository, &reference);
        let named = tagged.await?.and_then(|tagged| tagged.digest);
        Ok(match named.as_ref() == Some(root) {
            true => format!("{tag} names the manifest {root} already"),
            false => format!("the manifest {root} is there, and gets the tag {tag}"),
        })
    }
}
