//! Copies any number of images in one run of the tool; no request, read or upload is repeated.

use std::sync::Arc;

use imgsync_oci::client::{Client, RateLimit};
use imgsync_oci::{Registry, Repository};

use super::plan::ImageCopy;
use super::run_cache::RunCache;
use crate::exit::{Failure, FailureKind};
use crate::report::{CopyChange, CopyOutcome, Report};
use crate::transports::registry::RegistrySource;
use crate::transports::registry_target::RegistryTarget;
use crate::transports::throttle::RegistryThrottles;
use crate::transports::{CopyRequest, CopySource, CopyTarget};
use crate::upload::{Journal, TransferOptions};

/// The state that all copies of a run share. Several copies may run at the same time.
pub struct Copier {
    report: Arc<dyn Report>,
    cache: RunCache,
    throttles: RegistryThrottles,
}

impl Copier {
    /// Returns a copier with an empty cache.
    pub fn new(report: Arc<dyn Report>) -> Self {
        Self {
            throttles: RegistryThrottles::new(Arc::clone(&report)),
            cache: RunCache::default(),
            report,
        }
    }

    /// Returns a source for a repository.
    pub fn open_source(&self, client: Client, repository: Repository) -> Arc<dyn CopySource> {
        let throttle = self.throttles.for_registry(client.registry());
        Arc::new(RegistrySource::new(client, repository, throttle))
    }

    /// Returns a target for a repository.
    pub fn open_target(
        &self,
        client: Client,
        repository: Repository,
        journal: Journal,
        options: TransferOptions,
    ) -> Arc<dyn CopyTarget> {
        let throttle = self.throttles.for_registry(client.registry());
        let upload = (journal, options);
        Arc::new(RegistryTarget::uploading(
            client, repository, upload, throttle,
        ))
    }

    /// Returns a target for a repository into which blobs are mounted `from` another one of the same
    /// registry. A copy whose blobs cannot be mounted fails.
    pub fn open_mount_target(
        &self,
        client: Client,
        repository: Repository,
        from: Repository,
    ) -> Arc<dyn CopyTarget> {
        let throttle = self.throttles.for_registry(client.registry());
        Arc::new(RegistryTarget::mounting(client, repository, from, throttle))
    }

    /// Returns the rate limits that registries stated last.
    pub fn rate_limits(&self) -> Vec<(Registry, RateLimit)> {
        self.throttles.rate_limits()
    }

    /// Copies an image, unless the target has it. On success the target has the image, with
    /// everything that it needs and the referrers that were requested.
    ///
    /// # Errors
    /// The source has no such image, or nothing for the platforms; the source or the target fails.
    pub async fn copy(
        &self,
        source: &dyn CopySource,
        target: &dyn CopyTarget,
        request: &CopyRequest,
    ) -> Result<CopyOutcome, Failure> {
        let mut copy = self.image_copy(source, target, request);
        let names = copy.resolve_names().await?;
        let lock = self.cache.image(target.name(), &names.head.digest);
        let _guard = lock.copy_lock.lock().await;
        let plan = copy.plan(names.clone()).await?;
        let is_tag = plan.outcome.change == CopyChange::Tag;
        match copy.execute(&plan).await {
            // The registry has the manifest, but perhaps not everything that the manifest names.
            Err(failure) if is_tag && failure.kind == FailureKind::Target => {
                copy.is_target_trusted = false;
                let plan = copy.plan(names).await?;
                copy.execute(&plan).await
            }
            copied => copied,
        }
    }

    /// Returns what [`Copier::copy`] would do. Asks source and target, and changes neither.
    ///
    /// # Errors
    /// As [`Copier::copy`], as far as requests show it.
    pub async fn preview(
        &self,
        source: &dyn CopySource,
        target: &dyn CopyTarget,
        request: &CopyRequest,
    ) -> Result<CopyOutcome, Failure> {
        let copy = self.image_copy(source, target, request);
        let names = copy.resolve_names().await?;
        Ok(copy.plan(names).await?.preview())
    }

    fn image_copy<'a>(
        &'a self,
        source: &'a dyn CopySource,
        target: &'a dyn CopyTarget,
        request: &'a CopyRequest,
    ) -> ImageCopy<'a> {
        ImageCopy {
            cache: &self.cache,
            report: &self.report,
            source,
            target,
            request,
            is_target_trusted: true,
        }
    }
}
