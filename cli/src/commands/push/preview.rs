//! `imgsync push --dry-run`: the plan. Only questions are asked, and no layer is read.

use super::Push;
use crate::exit::{Failure, Kind};
use crate::plan::Plan;
use crate::source::{Content, Found};

impl Push {
    /// What would happen.
    ///
    /// # Errors
    /// The target could not be asked; a daemon that tells what an image consists of only by
    /// exporting it.
    pub(super) async fn preview(&self, found: &Found) -> Result<Plan, Failure> {
        let image = match found {
            Found::Here { image, .. } => Some(image.clone()),
            Found::Daemon(found) => found.image(),
        };
        match image.map(|image| image.content) {
            Some(Content::Single(single)) => Ok(self.single_facts(&single).await?.plan),
            Some(Content::Graph(graph)) => self.graph_plan(&graph).await,
            None => {
                let what = "source: this daemon keeps images in containerd's store, and tells what \
                            one consists of only by exporting it";
                let failure = Failure::new(Kind::Source, what);
                Err(failure.hint("save the image to a file, and plan from that"))
            }
        }
    }
}
