//! Finds out which blob each layer of an image is, and which of the blobs the target holds.
//!
//! Sources of evidence are asked cheapest first, and no further than needed. Evidence is proof, or
//! a claim of whoever may push to the repository ([`Trust`](crate::plan::Trust)); a claim is
//! verified before a push relies on it. Nothing is read from the image, and nothing is written to
//! the target except mounts. Start reading at [`gather`].

mod claims;
mod collected;
mod copies;
mod mounts;
mod older_image;
mod pending;
pub mod probe;
mod recorded;
mod unchanged;
mod verify;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Repository, Tag};

use crate::exit::Failure;
use crate::image::{ImageConfig, SingleImage};
use crate::plan::{BlobCandidate, BlobStep, ClaimPolicy, EvidenceSource, LayerEvidence, PushPlan};
use crate::report::Report;
use crate::upload::RepositoryWriter;
pub use claims::claimed_layers;
pub use copies::RecordedImage;
pub use older_image::find_older_image;
use probe::{ParsedManifest, TargetProbe};
pub use unchanged::is_index_held;
pub use verify::verify_claim;

/// Asks the local engine for its other images that have layers of the image, and for their
/// manifests at the target's registry.
pub type FindRelatedImages = Box<dyn Fn() -> BoxFuture<'static, Vec<RecordedImage>> + Send + Sync>;

/// The parameters of a lookup: the target, and how far the lookup may go.
pub struct LookupRequest {
    /// The repository that the image goes to.
    pub probe: TargetProbe,
    /// The writer of this repository. It takes the upload sessions that a registry opens where it
    /// does not mount a blob; another blob will need one.
    pub writer: Arc<RepositoryWriter>,
    /// The receiver of notes.
    pub report: Arc<dyn Report>,
    /// The tag that the image gets.
    pub tag: Tag,
    /// Whether the registry may mount blobs of other repositories.
    pub can_mount: bool,
    /// Whether claims may be verified by downloading blobs.
    pub can_verify: bool,
    /// Whether to use claims, the cache and the records of the local engine.
    pub reuse: bool,
    /// Whether to use claims without verifying them.
    pub trust_registry: bool,
    /// Whether an uncompressed layer may be a blob in zstd. This tool compresses with gzip, and the
    /// engine that pushes an image must be able to pull it.
    pub accepts_zstd: bool,
    /// The manifests of the image at the registry, as the local engine recorded them.
    pub copies: Vec<RecordedImage>,
    /// Finds further images that the local engine recorded; `None` without an engine.
    pub find_related: Option<FindRelatedImages>,
}

/// The state of a target before a push, and the plan that follows from it.
#[derive(Debug)]
pub struct TargetState {
    /// The manifest that the tag points at.
    pub tag_manifest: Option<ParsedManifest>,
    /// The manifests of the same image that the local engine or an earlier push recorded.
    pub recorded: Vec<ParsedManifest>,
    /// The steps for the layers.
    pub plan: PushPlan,
    /// The size of the config in bytes, if the target holds it.
    pub config_size: Option<u64>,
    /// Whether the registry computes diffIDs itself, as `imgsync-server` does.
    pub has_extension: bool,
}

impl TargetState {
    /// Returns whether nothing has to be read.
    pub fn is_complete(&self) -> bool {
        self.plan.is_complete() && self.config_size.is_some()
    }
}

/// Looks up an image at the target, and plans the push. Verifies claims, if the request allows it.
///
/// # Errors
/// The target could not be asked.
pub async fn gather(request: &LookupRequest, single: &SingleImage) -> Result<TargetState, Failure> {
    let probe = &request.probe;
    let tagged = probe.manifest(&Reference::Tag(request.tag.clone())).await?;
    let held = unchanged::held_blobs(request, single, tagged.as_ref()).await?;
    let mut evidence = collected::collect(request, single, tagged.as_ref()).await?;
    let unconfirmed = evidence.unconfirmed_blobs();
    let is_unknown = |blob: &&Descriptor| {
        !held.contains(&blob.digest) && !request.writer.is_missing(&blob.digest)
    };
    let unconfirmed: Vec<_> = unconfirmed.filter(is_unknown).collect();
    let (mut present, config_size) = tokio::try_join!(
        probe.holds_all(unconfirmed.iter().copied()),
        config_size(probe, &single.config, &held)
    )?;
    let asked = unconfirmed.iter().map(|blob| &blob.digest);
    let missing = asked.filter(|digest| !present.contains(digest));
    let missing = missing.chain(evidence.absent_layers()).cloned();
    request.writer.record_missing(missing);
    present.extend(held);
    present.extend(evidence.confirmed_blobs().cloned());
    let copied_config = evidence.copied_config.take();
    let copied_config = copied_config.filter(|_| config_size.is_none());
    let mut missing = evidence.missing_blobs(&present);
    missing.extend(copied_config.clone().map(|(blob, from)| (blob, Some(from))));
    let mounts = mount_missing(request, &mut present, missing).await?;
    // A config that was mounted need not be read either.
    let mounted = copied_config.filter(|(blob, _)| present.contains(&blob.digest));
    let layers = single.layers.iter().map(|layer| {
        let digest = layer.source_digest();
        let candidate = evidence.candidates.get(digest).cloned();
        layer_evidence(digest, layer.size(), candidate, &mounts)
    });
    let policy = ClaimPolicy {
        trust_registry: request.trust_registry && !evidence.has_extension,
        verify: Some(request.writer.transfer_rates()),
    };
    let mut plan = PushPlan::with_claims(layers.collect(), &present, policy);
    if request.can_verify {
        verify::verify_claims(request, &mut plan).await;
    }
    let sent = plan.steps.iter();
    let sent = sent.filter(|(_, step)| matches!(step, BlobStep::Send { .. }));
    let claimed = sent.filter(|(layer, _)| {
        let candidate = evidence.candidates.get(layer);
        candidate.is_some_and(|candidate| present.contains(&candidate.blob.digest))
    });
    let claimed = claimed.map(|(layer, _)| layer.clone());
    request.writer.record_claimed(claimed);
    let has_extension = evidence.has_extension;
    let recorded = evidence.recorded.into_iter().map(|recorded| recorded.image);
    Ok(TargetState {
        plan,
        has_extension,
        recorded: recorded.collect(),
        tag_manifest: tagged,
        config_size: config_size.or(mounted.map(|(blob, _)| blob.size)),
    })
}

/// Looks up blobs that are sent unchanged, and plans the push.
///
/// # Errors
/// The target could not be asked.
pub async fn plan_blobs(
    request: &LookupRequest,
    blobs: &[Descriptor],
) -> Result<PushPlan, Failure> {
    let mut present = request.probe.holds_all(blobs).await?;
    let mut missing = blobs.to_vec();
    missing.retain(|blob| !present.contains(&blob.digest) && !blob.is_foreign());
    let missing = missing.into_iter().map(|blob| (blob, None)).collect();
    let mounts = mount_missing(request, &mut present, missing).await?;
    let layers = blobs.iter().map(|blob| {
        let candidate = BlobCandidate {
            blob: blob.clone(),
            evidence: EvidenceSource::Image,
        };
        layer_evidence(&blob.digest, Some(blob.size), Some(candidate), &mounts)
    });
    Ok(PushPlan::new(layers.collect(), &present))
}

/// Returns the size of the config at the target, if it is there and not of another size.
async fn config_size(
    probe: &TargetProbe,
    config: &ImageConfig,
    held: &HashSet<Digest>,
) -> Result<Option<u64>, Failure> {
    if let Some(bytes) = &config.bytes
        && held.contains(&config.digest)
    {
        return Ok(Some(bytes.len() as u64));
    }
    let size = probe.client.head_blob(&probe.repository, &config.digest);
    Ok(size.await?.filter(|size| match &config.bytes {
        Some(bytes) => bytes.len() as u64 == *size,
        None => *size > 0,
    }))
}

/// Asks the registry to mount the missing blobs, adds those that were mounted to `present`, and
/// records all of these in the cache for later runs. Where nothing may change, only finds out from
/// where mounts would be tried. Returns the other repository of each of these blobs.
///
/// # Errors
/// The target could not be asked.
async fn mount_missing(
    request: &LookupRequest,
    present: &mut HashSet<Digest>,
    missing: Vec<(Descriptor, Option<Repository>)>,
) -> Result<HashMap<Digest, Repository>, Failure> {
    let mut seen = HashSet::new();
    let mut mountable = Vec::new();
    for (blob, likely) in missing {
        let sources = mounts::source_repositories(&request.probe, &blob.digest, likely);
        if seen.insert(blob.digest.clone()) && !sources.is_empty() {
            mountable.push((blob, sources));
        }
    }
    if !request.can_mount {
        let first = mountable.into_iter().filter_map(|(blob, sources)| {
            let from = sources.into_iter().next()?;
            Some((blob.digest, from))
        });
        return Ok(first.collect());
    }
    let mounted = mounts::mount_blobs(request, mountable).await?;
    present.extend(mounted.keys().cloned());
    for digest in present.iter() {
        request.probe.remember_location(digest);
    }
    Ok(mounted)
}

/// Returns the evidence for a layer, after mounts were tried.
fn layer_evidence(
    layer: &Digest,
    size: Option<u64>,
    candidate: Option<BlobCandidate>,
    mounts: &HashMap<Digest, Repository>,
) -> LayerEvidence {
    let blob = candidate.as_ref().map(|candidate| &candidate.blob.digest);
    LayerEvidence {
        layer: layer.clone(),
        size,
        mount: blob.and_then(|blob| mounts.get(blob).cloned()),
        candidate,
    }
}

/// Returns the config of a manifest at the target, and one layer for each of the image's, if the
/// manifest is one of the same image.
pub fn match_image<'a>(
    single: &SingleImage,
    image: &'a ParsedManifest,
) -> Option<(&'a Descriptor, &'a [Descriptor])> {
    match_config(&single.config.digest, single.layers.len(), image)
}

/// Returns the config and the layers of a manifest, if it is one of an image with this config and
/// number of layers.
fn match_config<'a>(
    config: &Digest,
    layer_count: usize,
    image: &'a ParsedManifest,
) -> Option<(&'a Descriptor, &'a [Descriptor])> {
    let Manifest::Image {
        config: found,
        layers,
        ..
    } = &image.manifest
    else {
        return None;
    };
    let is_tar = |layer: &Descriptor| Compression::of_media_type(&layer.media_type).is_some();
    let is_same = found.digest == *config && layers.len() == layer_count;
    (is_same && layers.iter().all(is_tar)).then_some((found, layers))
}
