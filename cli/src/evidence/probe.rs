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
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Repository, Tag, media};

use crate::cache::{self, blob_locations};
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

/// Asks one repository of a registry what it holds, and the cache what earlier runs found out.
#[derive(Debug, Clone)]
pub struct TargetProbe {
    /// The client of the registry.
    pub client: Client,
    /// The repository.
    pub repository: Repository,
    /// The folder of the cache.
    pub cache: PathBuf,
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

    /// Asks the registry for the blobs of layers, by the [extension](imgsync_oci::ext::resolve):
    /// for each diffID that the registry has an answer for, the blob, or `None` if it has no blob
    /// of that layer. Returns `None` where the registry does not have the extension.
    ///
    /// # Errors
    /// The target could not be asked.
    pub async fn resolve(
        &self,
        diff_ids: Vec<Digest>,
        mount: bool,
    ) -> Result<Option<HashMap<Digest, Option<BlobCandidate>>>, Failure> {
        let request = ResolveRequest {
            config: None,
            diff_ids,
            mount,
        };
        let response = match self.client.resolve_layers(&self.repository, &request).await {
            Ok(Some(response)) => response,
            // Another registry may answer an unknown path with anything.
            Ok(None) | Err(client::Error::InvalidResponse { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let answers = request.diff_ids.into_iter().zip(response.layers);
        let answers = answers.filter_map(|(diff_id, layer)| Some((diff_id, resolved(layer)?)));
        Ok(Some(answers.collect()))
    }

    /// Returns the blob that an earlier run made of a layer. The target need not hold it.
    pub fn cached(&self, diff_id: &Digest) -> Option<BlobCandidate> {
        let cached = cache::lookup(&self.cache, compress::FORMAT_NAME, diff_id)?;
        Some(BlobCandidate {
            blob: Descriptor::new(media::DOCKER_LAYER_GZIP, cached.digest, cached.size),
            evidence: EvidenceSource::Cache,
        })
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

/// Returns the blob of one answer of the extension, `Some(None)` for a layer that the registry does
/// not have, and `None` where the answer says nothing.
fn resolved(layer: ResolvedLayer) -> Option<Option<BlobCandidate>> {
    let (blob, evidence) = match layer {
        ResolvedLayer::Held { blob } => (blob, EvidenceSource::Registry),
        ResolvedLayer::Elsewhere { blob, repository } => {
            let repository = repository.parse().ok()?;
            (blob, EvidenceSource::OtherRepository(repository))
        }
        ResolvedLayer::Absent => return Some(None),
        ResolvedLayer::Pending => return None,
    };
    Some(Some(BlobCandidate { blob, evidence }))
}
