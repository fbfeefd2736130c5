//! Decides which layers of an archive need not be kept while the archive is read, since a stream
//! can be read only once: layers that the target holds, and layers that an earlier run compressed.
//!
//! A stream names a layer before or after its bytes, and the image that the layer belongs to always
//! after them. So each layer is looked up by itself, and claims are looked up only in the image
//! that the tag points at now. No request is sent before the first layer. Start reading at
//! [`LayerFilter`].

use std::collections::HashMap;
use std::sync::Arc;

use imgsync_oci::client::Client;
use imgsync_oci::{Descriptor, Digest, Reference, Tag};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::PushSettings;
use super::packed_layers::PackedLayers;
use crate::evidence::probe::{LayerAnswer, TargetProbe};
use crate::evidence::{self, claimed_layers};
use crate::exit::Failure;
use crate::plan::{BlobCandidate, ClaimPolicy, ClaimVerdict, EvidenceSource};
use crate::report::Report;
use crate::spool::Spool;
use crate::transports::{SkipLayer, wait_for_request};
use crate::upload::transfer_rates;

/// The media type of an uncompressed layer in a Docker manifest.
const RAW_LAYER_MEDIA_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// The layers that were skipped while an archive was read.
#[derive(Debug, Default, Clone)]
pub(super) struct SkippedLayers {
    /// The blobs that the target confirmed, by the digest of the layer's bytes at the source.
    pub(super) at_target: HashMap<Digest, BlobCandidate>,
    /// The layers that an earlier run compressed.
    pub(super) packed: PackedLayers,
}

/// Looks up layers while an archive is read.
pub(super) struct LayerFilter(Arc<Mutex<LayerLookup>>);

struct LayerLookup {
    settings: PushSettings,
    spool: Spool,
    report: Arc<dyn Report>,
    /// Asks the target; created for the first layer. `None` if the command line names no
    /// repository, and after a request failed: the target is asked again when the whole image is
    /// known, and then a failure counts.
    probe: Option<TargetProbe>,
    has_connected: bool,
    /// The blobs that the image under the tag claims for its layers, by diffID, once fetched.
    claims: Option<HashMap<Digest, BlobCandidate>>,
    /// Whether the registry may have the extension.
    can_resolve: bool,
    skipped: SkippedLayers,
}

impl LayerFilter {
    /// Returns a filter that has sent no request yet.
    pub(super) fn new(settings: &PushSettings, report: &Arc<dyn Report>, spool: &Spool) -> Self {
        let lookup = LayerLookup {
            settings: settings.clone(),
            spool: spool.clone(),
            report: Arc::clone(report),
            probe: None,
            has_connected: false,
            claims: None,
            can_resolve: true,
            skipped: SkippedLayers::default(),
        };
        Self(Arc::new(Mutex::new(lookup)))
    }

    /// Returns the predicate for the thread that reads the archive. A dry run needs no bytes at
    /// all.
    pub(super) fn skip_layer(&self) -> SkipLayer {
        let (lookup, runtime) = (Arc::clone(&self.0), Handle::current());
        Box::new(move |digest, size| {
            let (lookup, digest) = (Arc::clone(&lookup), digest.clone());
            let can_skip = wait_for_request(&runtime, async move {
                let mut lookup = lookup.lock().await;
                lookup.settings.is_dry_run || lookup.can_skip(&digest, size).await
            });
            can_skip.unwrap_or(false)
        })
    }

    /// Returns the client, if there is a working one, and the skipped layers.
    pub(super) async fn finish(self) -> (Option<Client>, SkippedLayers) {
        let mut lookup = self.0.lock().await;
        let client = lookup.probe.take().map(|probe| probe.client);
        (client, std::mem::take(&mut lookup.skipped))
    }
}

impl LayerLookup {
    async fn can_skip(&mut self, digest: &Digest, size: Option<u64>) -> bool {
        if let Some(layer) = self.spool.find_compressed(digest) {
            self.skipped.packed.insert(digest.clone(), layer);
            return true;
        }
        match self.find_at_target(digest, size).await {
            Ok(Some(blob)) => {
                self.skipped.at_target.insert(digest.clone(), blob);
                return true;
            }
            Ok(None) => {}
            Err(_) => self.probe = None,
        }
        false
    }

    /// Returns the blob that the target holds of a layer with these bytes.
    async fn find_at_target(
        &mut self,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<Option<BlobCandidate>, Failure> {
        if !std::mem::replace(&mut self.has_connected, true) {
            self.probe = self.connect().await;
        }
        let Some(probe) = self.probe.clone() else {
            return Ok(None);
        };
        let unchanged = size.map(|size| BlobCandidate {
            blob: Descriptor::new(RAW_LAYER_MEDIA_TYPE, digest.clone(), size),
            evidence: EvidenceSource::Registry,
        });
        if let Some(unchanged) = unchanged
            && probe.holds(&unchanged.blob).await?
        {
            return Ok(Some(unchanged));
        }
        match self.resolve(&probe, digest).await? {
            Some(LayerAnswer::Found(blob)) if self.is_usable(&blob) => return Ok(Some(*blob)),
            Some(LayerAnswer::Found(_)) => return Ok(None),
            // The whole image is looked up later, and that waits for the registry.
            Some(LayerAnswer::Absent | LayerAnswer::Pending) => return Ok(None),
            None => {}
        }
        if !self.settings.reuse {
            return Ok(None);
        }
        let limit = self.settings.transfer_options.max_bytes_per_second;
        let rates = transfer_rates(&probe.cache, &probe.client, limit);
        let policy = ClaimPolicy {
            trust_registry: self.settings.trust_registry,
            verify: Some(rates),
        };
        let claim = self.find_claim(&probe, digest).await?;
        for mut candidate in [probe.cached(digest), claim].into_iter().flatten() {
            if !self.is_usable(&candidate) || !probe.holds(&candidate.blob).await? {
                continue;
            }
            if policy.judge(&candidate) == ClaimVerdict::Verify {
                let (report, layer) = (&self.report, (digest, size));
                if evidence::verify_claim(&probe, report, rates, layer, &candidate).await {
                    candidate.evidence = EvidenceSource::Verified;
                }
            }
            if policy.judge(&candidate) == ClaimVerdict::Use {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    /// Returns whether a layer may be this blob. The engine that will pull the image is not known.
    fn is_usable(&self, candidate: &BlobCandidate) -> bool {
        self.settings.reuses_zstd || !candidate.is_zstd()
    }

    /// Returns the blob that the image under the tag claims for a layer.
    async fn find_claim(
        &mut self,
        probe: &TargetProbe,
        diff_id: &Digest,
    ) -> Result<Option<BlobCandidate>, Failure> {
        if self.claims.is_none() {
            let name = self.settings.remote.name.as_ref();
            let tag = name.and_then(|(_, tag)| tag.clone());
            let tag = tag.unwrap_or_else(Tag::latest);
            let image = probe.manifest(&Reference::Tag(tag.clone())).await?;
            let claims = match image {
                Some(image) => claimed_layers(probe, &tag, &image).await?,
                None => Vec::new(),
            };
            self.claims = Some(claims.into_iter().collect());
        }
        let claim = self
            .claims
            .as_ref()
            .and_then(|claims| claims.get(diff_id).cloned());
        Ok(claim.map(|mut claim| {
            if probe.was_verified(&claim.blob, diff_id) {
                claim.evidence = EvidenceSource::Verified;
            }
            claim
        }))
    }

    /// Returns the registry's answer for a layer; `None` where it does not have the extension.
    async fn resolve(
        &mut self,
        probe: &TargetProbe,
        diff_id: &Digest,
    ) -> Result<Option<LayerAnswer>, Failure> {
        if !self.can_resolve {
            return Ok(None);
        }
        let answers = probe
            .resolve(vec![diff_id.clone()], Vec::new(), true)
            .await?;
        self.can_resolve = answers.is_some();
        Ok(answers.and_then(|mut answers| answers.remove(diff_id)))
    }

    async fn connect(&self) -> Option<TargetProbe> {
        let (settings, report) = (&self.settings, &self.report);
        let (repository, _) = settings.remote.name.clone()?;
        let registry = &settings.remote.registry;
        let connect = settings
            .access
            .connect(registry, Some(&repository), true, report);
        Some(TargetProbe {
            client: connect.await.ok()?,
            repository,
            cache: settings.folders.cache.clone(),
            verified: settings.folders.verified_blobs(),
        })
    }
}
