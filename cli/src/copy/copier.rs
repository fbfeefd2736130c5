//! One run of the tool: it copies any number of images, and asks, reads and sends nothing twice.

use std::sync::Arc;

use imgsync_oci::client::{Client, RateLimit};
use imgsync_oci::{Registry, Repository};

use super::execute::{CopyExecutor, preview};
use super::plan::CopyPair;
use super::run_cache::RunCache;
use crate::exit::{Failure, FailureKind};
use crate::report::{CopyChange, CopyOutcome, Report};
use crate::transports::registry::{RegistrySource, RegistryTarget};
use crate::transports::throttle::RegistryThrottles;
use crate::transports::{CopyRequest, CopySource, CopyTarget};
use crate::upload::{Journal, TransferOptions};

/// What all copies of a run share. Copies may be made at the same time.
pub struct Copier {
    report: Arc<dyn Report>,
    cache: RunCache,
    throttles: RegistryThrottles,
}

impl Copier {
    /// A run that knows nothing yet.
    pub fn new(report: Arc<dyn Report>) -> Self {
        Self {
            throttles: RegistryThrottles::new(Arc::clone(&report)),
            cache: RunCache::default(),
            report,
        }
    }

    /// A repository to read from.
    pub fn open_source(&self, client: Client, repository: Repository) -> Arc<dyn CopySource> {
        let host = self.throttles.for_registry(client.registry());
        Arc::new(RegistrySource::new(client, repository, host))
    }

    /// A repository to write to.
    pub fn open_target(
        &self,
        client: Client,
        repository: Repository,
        journal: Journal,
        manner: TransferOptions,
    ) -> Arc<dyn CopyTarget> {
        let host = self.throttles.for_registry(client.registry());
        Arc::new(RegistryTarget::new(
            client,
            repository,
            (journal, manner),
            host,
        ))
    }

    /// What the registries last said of how much may be asked of them, for those that did.
    pub fn rate_limits(&self) -> Vec<(Registry, RateLimit)> {
        self.throttles.rate_limits()
    }

    /// Copies an image, unless it is there. When this yields, the target has it, with everything
    /// that it needs and that was asked for.
    ///
    /// # Errors
    /// There is no such image at the source; either end fails; there is nothing for the platforms.
    pub async fn copy(
        &self,
        source: &dyn CopySource,
        target: &dyn CopyTarget,
        wish: &CopyRequest,
    ) -> Result<CopyOutcome, Failure> {
        let between = self.pair(source, target);
        let performance = CopyExecutor {
            pair: between,
            report: &self.report,
            before_tag: &*wish.before_tag,
        };
        let look = between.resolve_names(wish).await?;
        let turn = self.cache.copy_lock(target.name(), &look.head.digest);
        let _turn = turn.lock().await;
        let plan = between.plan(wish, look.clone()).await?;
        let is_tag = plan.change == CopyChange::Tag;
        match performance.execute(plan, wish).await {
            // The registry has the manifest, but perhaps not what it names.
            Err(failure) if is_tag && failure.kind == FailureKind::Target => {
                let between = CopyPair {
                    is_target_trusted: false,
                    ..between
                };
                let plan = between.plan(wish, look).await?;
                let performance = CopyExecutor {
                    pair: between,
                    ..performance
                };
                performance.execute(plan, wish).await
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
        source: &dyn CopySource,
        target: &dyn CopyTarget,
        wish: &CopyRequest,
    ) -> Result<CopyOutcome, Failure> {
        let between = self.pair(source, target);
        let look = between.resolve_names(wish).await?;
        Ok(preview(between.plan(wish, look).await?))
    }

    fn pair<'a>(&'a self, source: &'a dyn CopySource, target: &'a dyn CopyTarget) -> CopyPair<'a> {
        CopyPair {
            cache: &self.cache,
            source,
            target,
            is_target_trusted: true,
        }
    }
}
