//! Which blob every layer of an image is, asked cheapest first, and no further than needed.

mod claims;
mod copies;
mod mounts;
pub mod probe;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use imgsync_oci::client::upload::UploadSession;
use imgsync_oci::client::{self, Client};
use imgsync_oci::ext::resolve;
use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest, Manifest, Repository, Tag, media};

use crate::cache::{self, blob_locations};
use crate::compress;
use crate::exit::Failure;
use crate::image::{Layer, SingleImage};
use crate::plan::{BlobCandidate, EvidenceSource, LayerEvidence, PushPlan};
use probe::ParsedManifest;

pub use claims::layer_pairs;

/// So many questions about single blobs are no more trouble than one about all of them, which most
/// registries do not know.
const MAX_SINGLE_LOOKUPS: usize = 6;

/// Where the questions go, and how far they may.
pub struct LookupRequest<'a> {
    /// The registry.
    pub client: &'a Client,
    /// The repository that the image goes to.
    pub repository: &'a Repository,
    /// The tag that it gets.
    pub tag: &'a Tag,
    /// Whether the registry may link what other repositories hold.
    pub can_mount: bool,
    /// Whether what other images at the registry say of their layers counts.
    pub reuse: bool,
    /// The folder of what earlier runs learned.
    pub cache: &'a Path,
    /// Where else at the registry the very image lies, as its source says: repositories, and the
    /// digests of its manifests there.
    pub copies: &'a [(Repository, Digest)],
    /// Takes upload sessions that are opened where a blob is not linked: some blob will need one.
    pub on_spare_session: &'a (dyn Fn(UploadSession) + Send + Sync),
}

/// What is known, and what follows.
#[derive(Debug)]
pub struct TargetState {
    /// What the tag names now.
    pub tag_manifest: Option<ParsedManifest>,
    /// What happens to the layers.
    pub plan: PushPlan,
    /// The size of the config in bytes, if the target holds it.
    pub config_size: Option<u64>,
}

impl TargetState {
    /// Whether nothing has to be read.
    pub fn is_complete(&self) -> bool {
        self.plan.is_complete() && self.config_size.is_some()
    }
}

/// Asks about an image, and plans.
///
/// # Errors
/// A question that failed: that is not a "no".
pub async fn gather(
    question: &LookupRequest<'_>,
    single: &SingleImage,
) -> Result<TargetState, Failure> {
    let (client, repository) = (question.client, question.repository);
    let reference = imgsync_oci::Reference::Tag(question.tag.clone());
    let tagged = probe::fetch_manifest(client, repository, &reference).await?;
    let same = tagged.as_ref().filter(|_| question.reuse);
    let mut known = CollectedEvidence::of_image(
        single,
        same.and_then(|held| layers_of_same_image(single, held)),
    );
    known.query_registry(question, single).await?;
    if question.reuse {
        known.query_copies(question, single).await;
        let open = known.unresolved_layers(single);
        if !open.is_empty() {
            let found = claims::find(question, tagged.as_ref(), open).await?;
            known.candidates.extend(found);
        }
    }
    known.query_cache(question.cache, single);
    let unsure = known
        .candidates
        .iter()
        .filter(|(layer, known_as)| !known.confirmed.contains(*layer) && !known_as.is_foreign())
        .map(|(_, known_as)| &known_as.blob);
    let (mut held, config) =
        tokio::try_join!(probe::find_blobs(client, repository, unsure), async {
            let digest = &single.config.digest;
            Ok(client.head_blob(repository, digest).await?)
        })?;
    let confirmed = known.confirmed.iter();
    held.extend(
        confirmed.filter_map(|layer| Some(known.candidates.get(layer)?.blob.digest.clone())),
    );
    let config = config.filter(|size| match &single.config.bytes {
        Some(bytes) => bytes.len() as u64 == *size,
        None => *size > 0,
    });
    let lacking = known.candidates.values();
    let lacking = lacking.filter(|it| !held.contains(&it.blob.digest) && !it.is_foreign());
    let lacking = lacking.map(|it| (it.blob.clone(), it.evidence.repository().cloned()));
    let mut lacking: Vec<_> = lacking.collect();
    let copied = known.copied_config.filter(|_| config.is_none());
    lacking.extend(copied.clone().map(|(blob, from)| (blob, Some(from))));
    let mounts = mount_missing(question, &mut held, lacking).await?;
    // Where it was linked nothing has to be read for it either.
    let linked = copied.filter(|(blob, _)| held.contains(&blob.digest));
    let config = config.or(linked.map(|(blob, _)| blob.size));
    let facts = single.layers.iter().map(|layer| {
        let candidate = known.candidates.get(layer.source_digest()).cloned();
        layer_evidence(layer.source_digest(), layer.size(), candidate, &mounts)
    });
    Ok(TargetState {
        plan: PushPlan::new(facts.collect(), &held),
        tag_manifest: tagged,
        config_size: config,
    })
}

/// Asks about blobs that go as they are, and plans.
///
/// # Errors
/// A question that failed.
pub async fn plan_blobs(
    question: &LookupRequest<'_>,
    blobs: &[Descriptor],
) -> Result<PushPlan, Failure> {
    let mut held = probe::find_blobs(question.client, question.repository, blobs).await?;
    let lacking = blobs.iter().filter(|blob| !held.contains(&blob.digest));
    let lacking = lacking.filter(|blob| !blob.is_foreign());
    let lacking = lacking.map(|blob| (blob.clone(), None)).collect();
    let mounts = mount_missing(question, &mut held, lacking).await?;
    let facts = blobs.iter().map(|blob| {
        let candidate = BlobCandidate {
            blob: blob.clone(),
            evidence: EvidenceSource::Image,
        };
        layer_evidence(&blob.digest, Some(blob.size), Some(candidate), &mounts)
    });
    Ok(PushPlan::new(facts.collect(), &held))
}

/// Has blobs linked that are lacking, where they can be, and adds those to what is held; or, where
/// nothing may change, finds out from where it would be tried. Keeps for later runs what is held.
/// Yields a repository for each of the blobs: whence it was linked, or would be.
///
/// # Errors
/// A question that failed.
async fn mount_missing(
    question: &LookupRequest<'_>,
    held: &mut HashSet<Digest>,
    lacking: Vec<(Descriptor, Option<Repository>)>,
) -> Result<HashMap<Digest, Repository>, Failure> {
    let mut once = HashSet::new();
    let wanted = lacking
        .into_iter()
        .filter(|(blob, _)| once.insert(blob.digest.clone()))
        .map(|(blob, said)| {
            let from = mounts::source_repositories(question, &blob.digest, said);
            (blob, from)
        })
        .filter(|(_, from)| !from.is_empty());
    if !question.can_mount {
        let first = wanted.filter_map(|(blob, from)| Some((blob.digest, from.into_iter().next()?)));
        return Ok(first.collect());
    }
    let mounted = mounts::mount_blobs(question, wanted.collect()).await?;
    mounted
        .sessions
        .into_iter()
        .for_each(question.on_spare_session);
    held.extend(mounted.from.keys().cloned());
    let registry = question.client.registry();
    for digest in held.iter() {
        blob_locations::remember(question.cache, registry, digest, question.repository);
    }
    Ok(mounted.from)
}

/// What is known of a layer, once it was tried to link it.
fn layer_evidence(
    layer: &Digest,
    size: Option<u64>,
    candidate: Option<BlobCandidate>,
    mounts: &HashMap<Digest, Repository>,
) -> LayerEvidence {
    let of = |it: &BlobCandidate| mounts.get(&it.blob.digest).cloned();
    LayerEvidence {
        layer: layer.clone(),
        size,
        mount: candidate.as_ref().and_then(of),
        candidate,
    }
}

/// The layers of a manifest of this very image, one for each of the image's.
pub fn layers_of_same_image<'a>(
    single: &SingleImage,
    held: &'a ParsedManifest,
) -> Option<&'a [Descriptor]> {
    let Manifest::Image { config, layers, .. } = &held.manifest else {
        return None;
    };
    let plain = |layer: &Descriptor| Compression::of_media_type(&layer.media_type).is_some();
    let pairs = config.digest == single.config.digest && layers.len() == single.layers.len();
    (pairs && layers.iter().all(plain)).then_some(layers)
}

/// What has been found out so far, by the digest of a layer's bytes at the source.
#[derive(Default)]
struct CollectedEvidence {
    candidates: HashMap<Digest, BlobCandidate>,
    /// Those whose blob the registry has just named itself.
    confirmed: HashSet<Digest>,
    /// Those that the registry has looked for among all that it holds, and not found.
    absent: HashSet<Digest>,
    /// The image's config, and another repository that it lies in.
    copied_config: Option<(Descriptor, Repository)>,
}

impl CollectedEvidence {
    /// What the image says, and the manifest of the same image that the tag names.
    fn of_image(single: &SingleImage, same: Option<&[Descriptor]>) -> Self {
        let mut known = Self::default();
        for (position, layer) in single.layers.iter().enumerate() {
            let candidate = match (layer, same) {
                (Layer::Blob { descriptor, .. }, _) => BlobCandidate {
                    blob: descriptor.clone(),
                    evidence: EvidenceSource::Image,
                },
                (Layer::Raw { .. }, Some(layers)) => BlobCandidate {
                    blob: layers[position].clone(),
                    evidence: EvidenceSource::SameImage,
                },
                (Layer::Raw { .. }, None) => continue,
            };
            known
                .candidates
                .insert(layer.source_digest().clone(), candidate);
        }
        known
    }

    /// The raw layers that nobody has said anything of.
    fn unresolved_layers(&self, single: &SingleImage) -> HashSet<Digest> {
        let raw = single.layers.iter().filter_map(|layer| match layer {
            Layer::Raw { diff_id, .. } => Some(diff_id),
            Layer::Blob { .. } => None,
        });
        raw.filter(|diff_id| {
            !self.candidates.contains_key(*diff_id) && !self.absent.contains(*diff_id)
        })
        .cloned()
        .collect()
    }

    /// Our own server knows which layers it holds.
    async fn query_registry(
        &mut self,
        question: &LookupRequest<'_>,
        single: &SingleImage,
    ) -> Result<(), Failure> {
        let raw = single.layers.iter().filter_map(|layer| match layer {
            Layer::Raw { diff_id, .. } => Some(diff_id),
            Layer::Blob { .. } => None,
        });
        let once: HashSet<&Digest> = raw.collect();
        let worth_it =
            !self.unresolved_layers(single).is_empty() || once.len() > MAX_SINGLE_LOOKUPS;
        if !worth_it || once.len() > resolve::MAX_RESOLVE_DIFF_IDS {
            return Ok(());
        }
        let request = resolve::ResolveRequest {
            config: None,
            diff_ids: once.into_iter().cloned().collect(),
            mount: question.can_mount,
        };
        let asked = question
            .client
            .resolve_layers(question.repository, &request);
        let response = match asked.await {
            Ok(Some(response)) => response,
            // Another registry may answer an unknown path with anything.
            Ok(None) | Err(client::Error::InvalidResponse { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for (diff_id, layer) in request.diff_ids.into_iter().zip(response.layers) {
            let (blob, evidence) = match layer {
                resolve::ResolvedLayer::Held { blob } => (blob, EvidenceSource::Registry),
                resolve::ResolvedLayer::Elsewhere { blob, repository } => {
                    match repository.parse() {
                        Ok(repository) => (blob, EvidenceSource::OtherRepository(repository)),
                        Err(_) => continue,
                    }
                }
                resolve::ResolvedLayer::Absent => {
                    // What the tag's manifest said of it is worth a question of its own.
                    self.absent.insert(diff_id);
                    continue;
                }
                resolve::ResolvedLayer::Pending => continue,
            };
            match self.candidates.get(&diff_id) {
                // Several blobs can be one layer; the image that is there already names one.
                Some(named) if named.blob.digest != blob.digest => {}
                Some(_) => {
                    self.confirmed.insert(diff_id);
                }
                None => {
                    self.confirmed.insert(diff_id.clone());
                    self.candidates
                        .insert(diff_id, BlobCandidate { blob, evidence });
                }
            }
        }
        Ok(())
    }

    /// The manifests of this very image that lie elsewhere at the registry. Hints: one that is not
    /// to be had is passed over.
    async fn query_copies(&mut self, question: &LookupRequest<'_>, single: &SingleImage) {
        for (repository, digest) in question.copies {
            let open = self.unresolved_layers(single);
            if open.is_empty() {
                return;
            }
            let found = copies::find(question.client, single, repository, digest).await;
            let Some((config, layers)) = found else {
                continue;
            };
            self.copied_config = Some((config, repository.clone()));
            for (layer, blob) in single.layers.iter().zip(layers) {
                if open.contains(layer.source_digest()) {
                    let evidence = EvidenceSource::Copy(repository.clone());
                    let candidate = BlobCandidate { blob, evidence };
                    self.candidates
                        .insert(layer.source_digest().clone(), candidate);
                }
            }
        }
    }

    /// What earlier runs found out.
    fn query_cache(&mut self, cache: &Path, single: &SingleImage) {
        for diff_id in self.unresolved_layers(single) {
            if let Some(known) = cache::lookup(cache, compress::FORMAT, &diff_id) {
                let blob = Descriptor::new(media::DOCKER_LAYER_GZIP, known.digest, known.size);
                let evidence = EvidenceSource::Cache;
                self.candidates
                    .insert(diff_id, BlobCandidate { blob, evidence });
            }
        }
    }
}
