//! What of an archive need not be put aside while it passes by, for it comes only once: layers that
//! the target holds, and layers that an earlier run has packed.
//!
//! A stream names its layers before or after their bytes, and what they are in the image always
//! after, so here each is asked for on its own. Nobody is asked before the first layer comes, and
//! only of the image that the tag names now it is looked up what it claims of its layers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use imgsync_oci::client::{self, Client};
use imgsync_oci::ext::resolve;
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Registry, Repository, Tag, media};
use tokio::runtime::Handle;

use super::packed_layers::PackedLayers;
use super::{MAX_CONFIG_BYTES, PushSettings};
use crate::cache::{self, BlobRef};
use crate::compress;
use crate::evidence::{self, probe};
use crate::exit::Failure;
use crate::login::RegistryAccess;
use crate::plan::{BlobCandidate, EvidenceSource};
use crate::report::Report;
use crate::spool::Spool;
use crate::transports::SkipLayer;

/// The media type of a layer that is not compressed, in a manifest that we write.
const RAW_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// What was found out of layers that were not put aside.
#[derive(Debug, Default, Clone)]
pub(super) struct SkippedLayers {
    /// Blobs that the target has confirmed, by the digest of the layer's bytes at the source.
    pub(super) at_target: HashMap<Digest, BlobCandidate>,
    /// Layers that are here, packed.
    pub(super) packed: PackedLayers,
}

/// Who is asked while an archive passes by.
pub(super) struct LayerFilter {
    lookup: Arc<Mutex<LayerLookup>>,
    is_dry_run: bool,
}

struct LayerLookup {
    access: RegistryAccess,
    registry: Registry,
    /// BlobRef before the archive is only what was typed.
    repository: Option<Repository>,
    cache: PathBuf,
    spool: Spool,
    report: Arc<dyn Report>,
    /// Asked for once; `None` in it where the target was not to be had.
    client: Option<Option<Client>>,
    /// The tag that was typed, or else the usual one; `None` where images may claim nothing.
    tag: Option<Tag>,
    /// What the image under that tag claims of its layers, by diffID. Asked for once.
    claims: Option<HashMap<Digest, BlobCandidate>>,
    /// Whether the registry may know layers by their diffIDs.
    can_resolve: bool,
    skipped: SkippedLayers,
}

impl LayerFilter {
    /// Nobody is asked yet.
    pub(super) fn new(settings: &PushSettings, report: &Arc<dyn Report>, spool: &Spool) -> Self {
        let named = settings.remote.name.as_ref();
        let asking = LayerLookup {
            access: settings.access.clone(),
            registry: settings.remote.registry.clone(),
            repository: named.map(|(repository, _)| repository.clone()),
            cache: settings.folders.cache.clone(),
            spool: spool.clone(),
            report: Arc::clone(report),
            client: None,
            tag: settings.reuse.then(|| {
                let typed = named.and_then(|(_, tag)| tag.clone());
                typed.unwrap_or_else(Tag::latest)
            }),
            claims: None,
            can_resolve: true,
            skipped: SkippedLayers::default(),
        };
        Self {
            lookup: Arc::new(Mutex::new(asking)),
            is_dry_run: settings.is_dry_run,
        }
    }

    /// The question, for the thread that reads. Who only plans needs no bytes at all.
    pub(super) fn skip_layer(&self) -> SkipLayer {
        if self.is_dry_run {
            return Box::new(|_, _| true);
        }
        let (asking, runtime) = (Arc::clone(&self.lookup), Handle::current());
        Box::new(move |digest, len| {
            let mut asking = asking.lock().unwrap_or_else(PoisonError::into_inner);
            asking.can_skip(&runtime, digest, len)
        })
    }

    /// What was found out, and the client that was made for it.
    pub(super) fn finish(self) -> (Option<Client>, SkippedLayers) {
        let mut asking = self.lookup.lock().unwrap_or_else(PoisonError::into_inner);
        (
            asking.client.take().flatten(),
            std::mem::take(&mut asking.skipped),
        )
    }
}

impl LayerLookup {
    fn can_skip(&mut self, runtime: &Handle, digest: &Digest, len: Option<u64>) -> bool {
        if let Some(kept) = self.spool.find_compressed(digest) {
            self.skipped.packed.insert(digest.clone(), kept);
            return true;
        }
        match runtime.block_on(self.find_at_target(digest, len)) {
            Ok(Some(held)) => {
                self.skipped.at_target.insert(digest.clone(), held);
                true
            }
            Ok(None) => false,
            Err(_) => {
                // Not for every layer anew. It is asked again when all of the image is known, and
                // then it counts.
                self.client = Some(None);
                false
            }
        }
    }

    /// The blob that the target holds of these bytes.
    ///
    /// # Errors
    /// A question that failed, which leaves them needed.
    async fn find_at_target(
        &mut self,
        digest: &Digest,
        len: Option<u64>,
    ) -> Result<Option<BlobCandidate>, Failure> {
        let Some(repository) = self.repository.clone() else {
            return Ok(None);
        };
        let Some(client) = self.client(&repository).await else {
            return Ok(None);
        };
        let holds = async |digest: &Digest, size: u64| -> Result<bool, Failure> {
            Ok(client.head_blob(&repository, digest).await? == Some(size))
        };
        if let Some(len) = len
            && holds(digest, len).await?
        {
            let blob = Descriptor::new(RAW_LAYER, digest.clone(), len);
            let evidence = EvidenceSource::Registry;
            return Ok(Some(BlobCandidate { blob, evidence }));
        }
        if let Some(BlobRef { digest, size }) = cache::lookup(&self.cache, compress::FORMAT, digest)
            && holds(&digest, size).await?
        {
            let blob = Descriptor::new(media::DOCKER_LAYER_GZIP, digest, size);
            let evidence = EvidenceSource::Cache;
            return Ok(Some(BlobCandidate { blob, evidence }));
        }
        if let Some(known) = self.resolved(&client, &repository, digest).await? {
            return Ok(Some(known));
        }
        let Some(claimed) = self.claimed(&client, &repository, digest).await? else {
            return Ok(None);
        };
        let is_there = holds(&claimed.blob.digest, claimed.blob.size).await?;
        Ok(is_there.then_some(claimed))
    }

    /// The blob by the word of the image that the tag names.
    async fn claimed(
        &mut self,
        client: &Client,
        repository: &Repository,
        diff_id: &Digest,
    ) -> Result<Option<BlobCandidate>, Failure> {
        let claims = match (self.claims.take(), self.tag.clone()) {
            (Some(claims), _) => claims,
            (None, Some(tag)) => fetch_claims(client, repository, tag).await?,
            (None, None) => HashMap::new(),
        };
        let claimed = claims.get(diff_id).cloned();
        self.claims = Some(claims);
        Ok(claimed)
    }

    /// The blob by the word of a registry that knows its layers by their diffIDs.
    async fn resolved(
        &mut self,
        client: &Client,
        repository: &Repository,
        diff_id: &Digest,
    ) -> Result<Option<BlobCandidate>, Failure> {
        if !self.can_resolve {
            return Ok(None);
        }
        let request = resolve::ResolveRequest {
            config: None,
            diff_ids: vec![diff_id.clone()],
            mount: true,
        };
        let mut layers = match client.resolve_layers(repository, &request).await {
            Ok(Some(response)) => response.layers,
            // Another registry may answer an unknown path with anything.
            Ok(None) | Err(client::Error::InvalidResponse { .. }) => {
                self.can_resolve = false;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let (blob, evidence) = match layers.pop() {
            Some(resolve::ResolvedLayer::Held { blob }) => (blob, EvidenceSource::Registry),
            Some(resolve::ResolvedLayer::Elsewhere { blob, repository }) => {
                match repository.parse() {
                    Ok(repository) => (blob, EvidenceSource::OtherRepository(repository)),
                    Err(_) => return Ok(None),
                }
            }
            Some(resolve::ResolvedLayer::Absent | resolve::ResolvedLayer::Pending) | None => {
                return Ok(None);
            }
        };
        Ok(Some(BlobCandidate { blob, evidence }))
    }

    async fn client(&mut self, repository: &Repository) -> Option<Client> {
        if self.client.is_none() {
            let access = &self.access;
            let connected = access.connect(&self.registry, Some(repository), true, &self.report);
            self.client = Some(connected.await.ok());
        }
        self.client.clone().flatten()
    }
}

/// What an image at the target claims of its layers.
async fn fetch_claims(
    client: &Client,
    repository: &Repository,
    tag: Tag,
) -> Result<HashMap<Digest, BlobCandidate>, Failure> {
    let reference = Reference::Tag(tag.clone());
    let held = probe::fetch_manifest(client, repository, &reference).await?;
    let Some(Manifest::Image { config, layers, .. }) = held.map(|held| held.manifest) else {
        return Ok(HashMap::new());
    };
    if config.size > MAX_CONFIG_BYTES as u64 || !media::is_image_config(&config.media_type) {
        return Ok(HashMap::new());
    }
    let bytes = client.fetch_small_blob(repository, &config.digest, MAX_CONFIG_BYTES);
    let pairs = match bytes.await? {
        Some(bytes) => evidence::layer_pairs(&bytes, &layers),
        None => Vec::new(),
    };
    let candidate = |blob| BlobCandidate {
        blob,
        evidence: EvidenceSource::Claim(tag.clone()),
    };
    let pairs = pairs.into_iter();
    Ok(pairs
        .map(|(layer, blob)| (layer, candidate(blob)))
        .collect())
}
