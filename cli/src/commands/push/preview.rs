//! `imgsync push --dry-run`: the plan, in words. Only questions are asked, and no layer is read.

use super::Push;
use crate::ask;
use crate::exit::Failure;
use crate::facts::Facts;
use crate::plan::{Step, Sums};
use crate::report::bytes;
use crate::source::{Content, Found, Graph};

impl Push {
    /// What would happen, a line each.
    pub(super) async fn preview(&self, found: &Found) -> Result<Vec<String>, Failure> {
        let image = match found {
            Found::Here { image, .. } => Some(image.clone()),
            Found::Daemon(found) => found.image(),
        };
        match image.map(|image| image.content) {
            Some(Content::Single(single)) => {
                let facts = self.single_facts(&single).await?;
                Ok(self.describe(&facts))
            }
            Some(Content::Graph(graph)) => self.describe_graph(&graph).await,
            None => Ok(vec![format!(
                "{}: the daemon tells what the image consists of only by exporting it; what {} \
                 holds of it would not be sent",
                self.target, self.target.registry
            )]),
        }
    }

    fn describe(&self, facts: &Facts) -> Vec<String> {
        let of = facts.plan.steps.len();
        let layer = |(position, (digest, step)): (usize, &(_, Step))| {
            let digest: &imgsync_oci::Digest = digest;
            let name = format!("layer {}/{of} {}", position + 1, digest.short());
            match step {
                Step::Have(held) => {
                    let (size, why) = (bytes(held.blob.size), &held.why);
                    format!("{name}: there already, {size} ({why})")
                }
                Step::Send { read, send } => {
                    let read = read
                        .map_or_else(|| "read".to_owned(), |size| format!("read {}", bytes(size)));
                    match send {
                        Some(size) => format!("{name}: {read}, send {}", bytes(*size)),
                        None => format!("{name}: {read}, compress, send if it is not there"),
                    }
                }
                Step::Again => format!("{name}: the same as an earlier one"),
            }
        };
        let mut lines: Vec<String> = facts.plan.steps.iter().enumerate().map(layer).collect();
        lines.push(match facts.config {
            Some(_) => "config: there already".to_owned(),
            None => "config: send".to_owned(),
        });
        lines.push(self.total(&facts.plan.sums()));
        lines
    }

    async fn describe_graph(&self, graph: &Graph) -> Result<Vec<String>, Failure> {
        let line = &self.means.line;
        let held = ask::held(&line.client, &line.repository, &graph.blobs).await?;
        let mut sums = Sums::default();
        let mut lines = Vec::new();
        for blob in &graph.blobs {
            let (name, size) = (blob.digest.short(), bytes(blob.size));
            if held.contains(&blob.digest) {
                sums.saved += blob.size;
                lines.push(format!("blob {name}: there already, {size}"));
            } else {
                sums.read += blob.size;
                sums.send += blob.size;
                lines.push(format!("blob {name}: send {size}"));
            }
        }
        lines.push(format!("{} manifests: put", graph.manifests.len()));
        lines.push(self.total(&sums));
        Ok(lines)
    }

    fn total(&self, sums: &Sums) -> String {
        let and = |count: usize, what: &str| match count {
            0 => String::new(),
            1 => format!(" and what one layer {what}"),
            many => format!(" and what each of {many} layers {what}"),
        };
        let read = bytes(sums.read) + &and(sums.untold, "holds");
        let send = bytes(sums.send) + &and(sums.unpacked, "packs to");
        let saved = bytes(sums.saved);
        format!("{}: read {read}, send {send}, saved {saved}", self.target)
    }
}
