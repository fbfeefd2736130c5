//! Brings the wanted tags to a target, writes down what was brought, and prunes.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use imgsync_oci::{Reference, Tag};

use super::{Mirrors, Told, named};
use crate::exit::{Failure, Kind};
use crate::mirror::choose::Why;
use crate::mirror::ends::{Source, Target};
use crate::mirror::job::Job;
use crate::mirror::place::From;
use crate::mirror::record::Record;
use crate::mirror::{BeforeTag, Copied, Wish, companion};
use crate::report::Fate;

/// So many failures of the line or of logins, or of a registry that has had enough, in a row, and the
/// rest is not tried: each may take minutes, and ends alike.
const ENOUGH: usize = 8;

/// What is to be brought.
pub(super) struct Bringing<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) wanted: &'a [Reference],
    /// All tags that the source has, where they were asked for.
    pub(super) listed: Option<Arc<HashSet<Tag>>>,
    /// The tags that are not wanted, and why.
    pub(super) left: &'a [(Tag, Why)],
    /// How many tags may be wanted, and nobody knows.
    pub(super) undated: usize,
    /// Whether this is one image, and all there is to do: then its failure is the command's.
    pub(super) is_alone: bool,
}

impl Mirrors<'_> {
    /// Brings the wanted tags, and prunes; yields the first tag's failure.
    ///
    /// # Errors
    /// The target takes nothing, or what it took does not stay; the record cannot be used.
    pub(super) async fn bring(
        &self,
        job: &Job,
        bringing: Bringing<'_>,
        told: &mut Told,
    ) -> Result<Option<Failure>, Failure> {
        let Some(target) = self.target(job).await? else {
            return Ok(None);
        };
        // What is brought one by one is none of a mirror's to prune.
        let record = match &bringing.listed {
            Some(_) => self.record(job)?.map(Arc::new),
            None => None,
        };
        // What it holds now: what this run brings is wanted.
        let brought = record
            .as_ref()
            .map(|record| record.brought())
            .unwrap_or_default();
        let wishes = bringing.wanted.iter().map(|from| {
            let wish = self.wish(job, from, bringing.listed.clone(), record.as_ref());
            let target = &*target;
            async move {
                let copied = self.copy(bringing.source, target, &wish).await;
                (wish, copied)
            }
        });
        let mut failure = None;
        let mut in_a_row = 0;
        let mut done = HashSet::new();
        let mut images = HashSet::new();
        let (wishes, at_a_time) = (futures::stream::iter(wishes), self.settings.at_a_time);
        // What is only told is told in order.
        let mut copies = match self.settings.is_dry {
            true => wishes.buffered(at_a_time).boxed(),
            false => wishes.buffer_unordered(at_a_time).boxed(),
        };
        while let Some((wish, copied)) = copies.next().await {
            let names = (
                named(&job.source(), &wish.from),
                named(&job.to.to_string(), &wish.to),
            );
            done.insert(wish.from.clone());
            match copied {
                Ok(copied) => {
                    in_a_row = 0;
                    images.insert(copied.digest.clone());
                    if let Some(record) = &record {
                        settle(record, &wish.to, &copied);
                    }
                    for note in &copied.notes {
                        self.report.note(&format!("{}: {note}", names.1));
                    }
                    self.tell(told, names, Fate::There(Box::new(copied)));
                }
                Err(error) => {
                    failure.get_or_insert_with(|| error.clone());
                    in_a_row = match error.kind {
                        Kind::Network | Kind::Authentication => in_a_row + 1,
                        _ if error.is_limited => in_a_row + 1,
                        Kind::Usage
                        | Kind::Source
                        | Kind::Target
                        | Kind::Partly
                        | Kind::Interrupted
                        | Kind::Terminated => 0,
                    };
                    if !bringing.is_alone {
                        self.tell(told, names, Fate::Failed(error));
                    }
                }
            }
            if in_a_row >= ENOUGH {
                break;
            }
        }
        drop(copies);
        let is_lost = in_a_row >= ENOUGH;
        if let (Some(failure), true) = (&failure, is_lost) {
            let rest = bringing.wanted.iter().filter(|from| !done.contains(from));
            for from in rest {
                let wish = self.wish(job, from, None, None);
                let names = (
                    named(&job.source(), from),
                    named(&job.to.to_string(), &wish.to),
                );
                let what = format!("not tried: {in_a_row} before it failed alike");
                self.tell(told, names, Fate::Failed(Failure::new(failure.kind, what)));
            }
        }
        if let (true, Some(record)) = (job.prune && !is_lost, &record) {
            let pruning = super::prune::Pruning {
                target: &*target,
                record,
                brought,
                wanted: bringing.wanted,
                images: failure.is_none().then_some(&images),
                left: bringing.left,
                undated: bringing.undated,
            };
            self.prune(job, pruning, told).await?;
        }
        if !self.settings.is_dry {
            target.finish(self.report).await?;
            if let Some(record) = &record {
                record.write()?;
            }
        }
        Ok(failure)
    }

    /// Copies one, or tells what that would come to.
    async fn copy(
        &self,
        source: &dyn Source,
        target: &dyn Target,
        wish: &Wish,
    ) -> Result<Copied, Failure> {
        match self.settings.is_dry {
            true => self.run.preview(source, target, wish).await,
            false => self.run.copy(source, target, wish).await,
        }
    }

    /// What is wished for one image.
    pub(super) fn wish(
        &self,
        job: &Job,
        from: &Reference,
        listed: Option<Arc<HashSet<Tag>>>,
        record: Option<&Arc<Record>>,
    ) -> Wish {
        let before_tag: Arc<BeforeTag> = match record {
            Some(record) => {
                let record = Arc::clone(record);
                Arc::new(move |tag, digest, image| {
                    let about = companion(tag).is_some().then_some(image);
                    record.before(tag, digest, about)
                })
            }
            None => Arc::new(|_, _, _| Ok(())),
        };
        Wish {
            from: from.clone(),
            to: match (&job.tag, &job.from) {
                (Some(tag), _) | (None, From::Disk(_, Some(tag))) => Reference::Tag(tag.clone()),
                (None, _) => from.clone(),
            },
            platforms: job.platforms.clone(),
            companions: job.companions,
            listed,
            before_tag,
        }
    }
}

fn settle(record: &Record, to: &Reference, copied: &Copied) {
    if let Reference::Tag(tag) = to {
        record.settled(tag, &copied.digest, None);
    }
    for (tag, digest) in &copied.companions {
        record.settled(tag, digest, Some(&copied.digest));
    }
}
