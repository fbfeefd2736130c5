//! Asks a target what it holds. A request that fails is an error, never a "no".
//!
//! This is the only module that knows which requests answer the question; in which order they are
//! worth asking is decided elsewhere. Start reading at [`TargetProbe`].

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use bytes::Bytes;
use futures::future;
use futures::stream::{self, StreamExt, TryStreamExt};
use imgsync_oci::client::{self, Client, FetchedManifest};
use imgsync_oci::ext::resolve::{ResolveRequest, ResolvedLayer};
use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Repository, Tag, media};

use crate::cache::{self, VerifiedBlobs, blob_locations};
use crate::compress;
use crate::exit::Failure;
use crate::image::VerifiedManifest;
use crate::plan::{BlobCandidate, EvidenceSource};

/// The largest config that is read, in bytes; real ones have a few kilobytes.
pub const MAX_CONFIG_BYTES: usize = 4 * 1024 * 1024;
/// Requests that are sent at the same time.
const MAX_CONCURRENT_REQUESTS: usize = 16;

/// A manifest at the target, with its parsed content.
#[derive(Debug, Clone)]
pub struct ParsedManifest {
    /// The manifest as the registry sent it.
    pub verified: VerifiedManifest,
    /// The parsed content.
    pub manifest: Manifest,
}

/// The answer of a registry that computes diffIDs about a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerAnswer {
    /// The registry holds the layer as this blob.
    Found(Box<BlobCandidate>),
    /// No repository that this user may pull from has a blob of the layer.
    Absent,
    /// The registry is still computing the diffIDs of some blobs.
    Pending,
}

/// Asks one repository of a registry what it holds, and the cache what earlier runs found out.
#[derive(Debug, Clone)]
pub struct TargetProbe {
    /// The client of the registry.
    pub client: Client,
    /// The repository.
    pub repository: Repository,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// The signed entries of the cache.
    pub verified: VerifiedBlobs,
}

impl TargetProbe {
    /// Fetches a manifest. One that cannot be parsed counts as absent, since a push replaces it. So
    /// does one that only an upstream of the registry has while the upstream fails, since pushes do
    /// not depend on upstreams.
    ///
    /// # Errors
    /// The target could not be asked.
    pub async fn manifest(&self, reference: &Reference) -> Result<Option<ParsedManifest>, Failure> {
        let fetched = match self
            .client
            .fetch_manifest(&self.repository, reference)
            .await
        {
            Ok(Some(fetched)) => fetched,
            Ok(None) => return Ok(None),
            Err(error) if error.is_upstream_failure() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let FetchedManifest {
            digest,
            media_type,
            bytes,
            ..
        } = fetched;
        let parsed = Manifest::parse(&bytes, media_type.as_deref());
        Ok(parsed.ok().map(|(media_type, manifest)| ParsedManifest {
            verified: VerifiedManifest {
                digest,
                media_type,
                bytes,
            },
            manifest,
        }))
    }

    /// Returns the digest of the manifest that a tag points at.
    ///
    /// # Errors
    /// The target could not be asked.
    pub async fn tagged_digest(&self, tag: &Tag) -> Result<Option<Digest>, Failure> {
        let reference = Reference::Tag(tag.clone());
        let head = self.client.head_manifest(&self.repository, &reference);
        Ok(head.await?.and_then(|head| head.digest))
    }

    /// Fetches a config; `None` where the repository does not have it.
    ///
    /// # Errors
    /// The target could not be asked, or the config is larger than [`MAX_CONFIG_BYTES`].
    pub async fn config(&self, digest: &Digest) -> Result<Option<Bytes>, Failure> {
        let (client, limit) = (&self.client, MAX_CONFIG_BYTES);
        let fetch = client.fetch_small_blob(&self.repository, digest, limit);
        Ok(fetch.await?)
    }

    /// Returns whether the repository holds a blob with its whole size.
    ///
    /// # Errors
    /// The target could not be asked.
    pub async fn holds(&self, blob: &Descriptor) -> Result<bool, Failure> {
        let client = &self.client;
        let request = client.has_blob(&self.repository, &blob.digest, blob.size);
        Ok(request.await?)
    }

    /// Returns those of the blobs that the repository holds with their whole size.
    ///
    /// # Errors
    /// The target could not be asked.
    pub async fn holds_all(
        &self,
        blobs: impl IntoIterator<Item = &Descriptor>,
    ) -> Result<HashSet<Digest>, Failure> {
        let blobs = blobs.into_iter().map(|blob| (&blob.digest, blob));
        let blobs: HashMap<&Digest, &Descriptor> = blobs.collect();
        stream::iter(blobs.into_values())
            .map(|blob| async move {
                let is_present = self.holds(blob).await?;
                Ok(is_present.then(|| blob.digest.clone()))
            })
            .buffer_unordered(MAX_CONCURRENT_REQUESTS)
            .try_filter_map(future::ok)
            .try_collect()
            .await
    }

    /// Asks the registry for the blobs of layers, by the [extension](imgsync_oci::ext::resolve). Of
    /// several blobs that are the same layer, one of `preferred` is returned if the registry holds
    /// it. Returns `None` where the registry does not have the extension.
    ///
    /// # Errors
    /// The target could not be asked.
    pub async fn resolve(
        &self,
        diff_ids: Vec<Digest>,
        preferred: Vec<Digest>,
        mount: bool,
    ) -> Result<Option<HashMap<Digest, LayerAnswer>>, Failure> {
        let request = ResolveRequest {
            config: None,
            diff_ids,
            preferred,
            mount,
        };
        let response = match self.client.resolve_layers(&self.repository, &request).await {
            Ok(Some(response)) => response,
            // Another registry may answer an unknown path with anything.
            Ok(None) | Err(client::Error::InvalidResponse { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let answers = request.diff_ids.into_iter().zip(response.layers);
        let answers = answers.map(|(diff_id, layer)| (diff_id, layer_answer(layer)));
        Ok(Some(answers.collect()))
    }

    /// Returns the blob that an earlier run made of a layer, as far as the cache says. The target need
    /// not hold it.
    pub fn cached(&self, diff_id: &Digest) -> Option<BlobCandidate> {
        let cached = cache::lookup(&self.cache, compress::FORMAT_NAME, diff_id)?;
        let blob = Descriptor::new(media::DOCKER_LAYER_GZIP, cached.digest, cached.size);
        let evidence = if self.was_verified(&blob, diff_id) {
            EvidenceSource::Cache
        } else {
            EvidenceSource::UnsignedCache
        };
        Some(BlobCandidate { blob, evidence })
    }

    /// Returns whether a push of this user made the blob from the layer with this diffID, or computed
    /// the diffID from the bytes of the blob, for the compression that its media type says.
    pub fn was_verified(&self, blob: &Descriptor, diff_id: &Digest) -> bool {
        let compression = Compression::of_media_type(&blob.media_type);
        compression.is_some_and(|compression| {
            let verified = &self.verified;
            verified.contains(&blob.digest, compression, diff_id)
        })
    }

    /// Records in the cache that the blob is the layer with this diffID.
    pub fn remember_verified(&self, blob: &Descriptor, diff_id: &Digest) {
        if let Some(compression) = Compression::of_media_type(&blob.media_type) {
            self.verified.remember(&blob.digest, compression, diff_id);
        }
    }

    /// Returns the repositories of the registry where earlier runs saw a blob.
    pub fn cached_locations(&self, blob: &Digest) -> Vec<Repository> {
        blob_locations::lookup(&self.cache, self.client.registry(), blob)
    }

    /// Records in the cache that the repository holds a blob.
    pub fn remember_location(&self, blob: &Digest) {
        let registry = self.client.registry();
        blob_locations::remember(&self.cache, registry, blob, &self.repository);
    }
}

/// Returns the answer of the extension for one layer. A blob in a repository whose name is not valid
/// is of no use.
fn layer_answer(layer: ResolvedLayer) -> LayerAnswer {
    let (blob, evidence) = match layer {
        ResolvedLayer::Held { blob } => (blob, EvidenceSource::Registry),
        ResolvedLayer::Elsewhere { blob, repository } => match repository.parse() {
            Ok(repository) => (blob, EvidenceSource::OtherRepository(repository)),
            Err(_) => return LayerAnswer::Absent,
        },
        ResolvedLayer::Absent => return LayerAnswer::Absent,
        ResolvedLayer::Pending => return LayerAnswer::Pending,
    };
    LayerAnswer::Found(Box::new(BlobCandidate { blob, evidence }))
}
