//! Decides which layers of an archive need not be kept while the archive is read, since a stream can
//! be read only once: layers that the target holds, and layers that an earlier run compressed.
//!
//! A stream names a layer before or after its bytes, and the image that the layer belongs to always
//! after them. So each layer is looked up by itself, and claims are looked up only in the image that
//! the tag points at now. No request is sent before the first layer. Start reading at
//! [`LayerFilter`].

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use imgsync_oci::client::Client;
use imgsync_oci::{Descriptor, Digest, Reference, Registry, Repository, Tag};
use tokio::runtime::Handle;

use super::PushSettings;
use super::packed_layers::PackedLayers;
use crate::evidence::probe::TargetProbe;
use crate::exit::Failure;
use crate::login::RegistryAccess;
use crate::plan::{BlobCandidate, EvidenceSource};
use crate::report::Report;
use crate::spool::Spool;
use crate::transports::SkipLayer;

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
pub(super) struct LayerFilter {
    lookup: Arc<Mutex<LayerLookup>>,
    is_dry_run: bool,
}

struct LayerLookup {
    access: RegistryAccess,
    registry: Registry,
    /// The repository, if the command line names one.
    repository: Option<Repository>,
    cache: PathBuf,
    spool: Spool,
    report: Arc<dyn Report>,
    client: Connection,
    /// The tag that the image will get; `None` where claims are not to be used.
    tag: Option<Tag>,
    /// The blobs that the image under the tag claims for its layers, by diffID, once fetched.
    claims: Option<HashMap<Digest, BlobCandidate>>,
    /// Whether the registry may have the extension.
    can_resolve: bool,
    skipped: SkippedLayers,
}

/// The connection to the target, which is opened for the first layer.
enum Connection {
    NotTried,
    Open(Client),
    /// A request failed. The target is asked again when the whole image is known, and then a
    /// failure counts.
    Failed,
}

impl LayerFilter {
    /// Returns a filter that has sent no request yet.
    pub(super) fn new(settings: &PushSettings, report: &Arc<dyn Report>, spool: &Spool) -> Self {
        let (repository, tag) = settings.remote.name.clone().unzip();
        let lookup = LayerLookup {
            access: settings.access.clone(),
            registry: settings.remote.registry.clone(),
            repository,
            cache: settings.folders.cache.clone(),
            spool: spool.clone(),
            report: Arc::clone(report),
            client: Connection::NotTried,
            tag: settings
                .reuse
                .then(|| tag.flatten().unwrap_or_else(Tag::latest)),
            claims: None,
            can_resolve: true,
            skipped: SkippedLayers::default(),
        };
        Self {
            lookup: Arc::new(Mutex::new(lookup)),
            is_dry_run: settings.is_dry_run,
        }
    }

    /// Returns the predicate for the thread that reads the archive. A dry run needs no bytes at all.
    pub(super) fn skip_layer(&self) -> SkipLayer {
        if self.is_dry_run {
            return Box::new(|_, _| true);
        }
        let (lookup, runtime) = (Arc::clone(&self.lookup), Handle::current());
        Box::new(move |digest, size| {
            let mut lookup = lookup.lock().unwrap_or_else(PoisonError::into_inner);
            lookup.can_skip(&runtime, digest, size)
        })
    }

    /// Returns the client, if there is a working one, and the skipped layers.
    pub(super) fn finish(self) -> (Option<Client>, SkippedLayers) {
        let mut lookup = self.lookup.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match &lookup.client {
            Connection::Open(client) => Some(client.clone()),
            Connection::NotTried | Connection::Failed => None,
        };
        (client, std::mem::take(&mut lookup.skipped))
    }
}

impl LayerLookup {
    fn can_skip(&mut self, runtime: &Handle, digest: &Digest, size: Option<u64>) -> bool {
        if let Some(layer) = self.spool.find_compressed(digest) {
            self.skipped.packed.insert(digest.clone(), layer);
            return true;
        }
        match runtime.block_on(self.find_at_target(digest, size)) {
            Ok(Some(blob)) => {
                self.skipped.at_target.insert(digest.clone(), blob);
                true
            }
            Ok(None) => false,
            Err(_) => {
                self.client = Connection::Failed;
                false
            }
        }
    }

    /// Returns the blob that the target holds of a layer with these bytes.
    async fn find_at_target(
        &mut self,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<Option<BlobCandidate>, Failure> {
        let Some(repository) = self.repository.clone() else {
            return Ok(None);
        };
        let Some(client) = self.connect(&repository).await else {
            return Ok(None);
        };
        let cache = self.cache.clone();
        let probe = TargetProbe {
            client: &client,
            repository: &repository,
            cache: &cache,
        };
        if let Some(size) = size
            && probe.holds(digest, size).await?
        {
            let blob = Descriptor::new(RAW_LAYER_MEDIA_TYPE, digest.clone(), size);
            let evidence = EvidenceSource::Registry;
            return Ok(Some(BlobCandidate { blob, evidence }));
        }
        if let Some(known) = probe.cached(digest)
            && probe.holds(&known.blob.digest, known.blob.size).await?
        {
            return Ok(Some(known));
        }
        if let Some(known) = self.resolve(&probe, digest).await? {
            return Ok(Some(known));
        }
        let Some(claimed) = self.find_claimed(&probe, digest).await? else {
            return Ok(None);
        };
        let is_held = probe.holds(&claimed.blob.digest, claimed.blob.size).await?;
        Ok(is_held.then_some(claimed))
    }

    /// Returns the blob that the image under the tag claims for a layer.
    async fn find_claimed(
        &mut self,
        probe: &TargetProbe<'_>,
        diff_id: &Digest,
    ) -> Result<Option<BlobCandidate>, Failure> {
        if let (None, Some(tag)) = (&self.claims, &self.tag) {
            let image = probe.manifest(&Reference::Tag(tag.clone())).await?;
            let claims = match image {
                Some(image) => probe.claims(tag, &image).await?,
                None => Vec::new(),
            };
            self.claims = Some(claims.into_iter().collect());
        }
        let claims = self.claims.as_ref();
        Ok(claims.and_then(|claims| claims.get(diff_id)).cloned())
    }

    /// Returns the blob that the registry names for a layer, where it has the extension.
    async fn resolve(
        &mut self,
        probe: &TargetProbe<'_>,
        diff_id: &Digest,
    ) -> Result<Option<BlobCandidate>, Failure> {
        if !self.can_resolve {
            return Ok(None);
        }
        let answers = probe.resolve(vec![diff_id.clone()], true).await?;
        self.can_resolve = answers.is_some();
        Ok(answers.and_then(|mut answers| answers.remove(diff_id)?))
    }

    async fn connect(&mut self, repository: &Repository) -> Option<Client> {
        if let Connection::NotTried = &self.client {
            let access = &self.access;
            let connect = access.connect(&self.registry, Some(repository), true, &self.report);
            self.client = connect.await.map_or(Connection::Failed, Connection::Open);
        }
        match &self.client {
            Connection::Open(client) => Some(client.clone()),
            Connection::NotTried | Connection::Failed => None,
        }
    }
}
