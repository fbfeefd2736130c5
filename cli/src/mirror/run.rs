//! One run of the tool: it copies any number of images, and asks, reads and sends nothing twice.

use std::sync::Arc;

use imgsync_oci::client::{Client, RateLimit};
use imgsync_oci::{Registry, Repository};

use super::ends::registry::{From, To};
use super::ends::{Source, Target};
use super::hosts::Hosts;
use super::memory::Memory;
use super::perform::{Performance, preview};
use super::plan::Between;
use super::{Change, Copied, Wish};
use crate::exit::{Failure, Kind};
use crate::report::Report;
use crate::transfer::{Journal, Manner};

/// What all copies of a run share. Copies may be made at the same time.
pub struct Run {
    report: Arc<dyn Report>,
    memory: Memory,
    hosts: Hosts,
}

impl Run {
    /// A run that knows nothing yet.
    pub fn new(report: Arc<dyn Report>) -> Self {
        Self {
            hosts: Hosts::new(Arc::clone(&report)),
            memory: Memory::default(),
            report,
        }
    }

    /// A repository to read from.
    pub fn source(&self, client: Client, repository: Repository) -> Arc<dyn Source> {
        let host = self.hosts.of(client.registry());
        Arc::new(From::new(client, repository, host))
    }

    /// A repository to write to.
    pub fn target(
        &self,
        client: Client,
        repository: Repository,
        journal: Journal,
        manner: Manner,
    ) -> Arc<dyn Target> {
        let host = self.hosts.of(client.registry());
        Arc::new(To::new(client, repository, (journal, manner), host))
    }

    /// What the registries last said of how much may be asked of them, for those that did.
    pub fn limits(&self) -> Vec<(Registry, RateLimit)> {
        self.hosts.limits()
    }

    /// Copies an image, unless it is there. When this yields, the target has it, with everything
    /// that it needs and that was asked for.
    ///
    /// # Errors
    /// There is no such image at the source; either end fails; there is nothing for the platforms.
    pub async fn copy(
        &self,
        source: &dyn Source,
        target: &dyn Target,
        wish: &Wish,
    ) -> Result<Copied, Failure> {
        let between = self.between(source, target);
        let performance = Performance {
            between,
            report: &self.report,
            before_tag: &*wish.before_tag,
        };
        let look = between.look(wish).await?;
        let turn = self.memory.turn(target.name(), &look.head.digest);
        let _turn = turn.lock().await;
        let plan = between.plan(wish, look.clone()).await?;
        let is_tag = plan.change == Change::Tag;
        match performance.perform(plan, wish).await {
            // The registry has the manifest, but perhaps not what it names.
            Err(failure) if is_tag && failure.kind == Kind::Target => {
                let between = Between {
                    trusts: false,
                    ..between
                };
                let plan = between.plan(wish, look).await?;
                let performance = Performance {
                    between,
                    ..performance
                };
                performance.perform(plan, wish).await
            }
            done => done,
        }
    }

    /// What [`Run::copy`] would do. Asks both ends, and changes neither.
    ///
    /// # Errors
    /// As [`Run::copy`], as far as asking shows it.
    pub async fn preview(
        &self,
        source: &dyn Source,
        target: &dyn Target,
        wish: &Wish,
    ) -> Result<Copied, Failure> {
        let between = self.between(source, target);
        let look = between.look(wish).await?;
        Ok(preview(between.plan(wish, look).await?))
    }

    fn between<'a>(&'a self, source: &'a dyn Source, target: &'a dyn Target) -> Between<'a> {
        Between {
            memory: &self.memory,
            source,
            target,
            trusts: true,
        }
    }
}
