//! Which blob every layer of an image is, asked cheapest first, and no further than needed.

mod claims;
pub(crate) mod nearest;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use imgsync_oci::client::{self, Client};
use imgsync_oci::ext::resolve;
use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest, Manifest, Repository, Tag, media};

use crate::ask::{self, Held};
use crate::cache;
use crate::compress;
use crate::exit::Failure;
use crate::plan::{Candidate, Fact, Plan, Why};
use crate::source::{Layer, Single};

/// So many questions about single blobs are no more trouble than one about all of them, which most
/// registries do not know.
const FEW: usize = 6;

/// Where the questions go, and how far they may.
pub struct Question<'a> {
    /// The registry.
    pub client: &'a Client,
    /// The repository that the image goes to.
    pub repository: &'a Repository,
    /// The tag that it gets.
    pub tag: &'a Tag,
    /// Whether the registry may link what other repositories hold.
    pub mount: bool,
    /// Whether what other images at the registry say of their layers counts.
    pub reuse: bool,
    /// The folder of what earlier runs learned.
    pub cache: &'a Path,
}

/// What is known, and what follows.
#[derive(Debug)]
pub struct Facts {
    /// What the tag names now.
    pub tagged: Option<Held>,
    /// What happens to the layers.
    pub plan: Plan,
    /// The size of the config in bytes, if the target holds it.
    pub config: Option<u64>,
}

impl Facts {
    /// Whether nothing has to be read.
    pub fn is_complete(&self) -> bool {
        self.plan.is_complete() && self.config.is_some()
    }
}

/// Asks about an image, and plans.
///
/// # Errors
/// A question that failed: that is not a "no".
pub async fn gather(question: &Question<'_>, single: &Single) -> Result<Facts, Failure> {
    let (client, repository) = (question.client, question.repository);
    let reference = imgsync_oci::Reference::Tag(question.tag.clone());
    let tagged = ask::manifest(client, repository, &reference).await?;
    let same = tagged.as_ref().filter(|_| question.reuse);
    let mut known = Known::of_image(single, same.and_then(|held| same_image(single, held)));
    known.ask_registry(question, single).await?;
    if question.reuse {
        let open = known.open(single);
        if !open.is_empty() {
            let found = claims::find(question, tagged.as_ref(), open).await?;
            known.candidates.extend(found);
        }
    }
    known.look_up(question.cache, single);
    let unsure = known
        .candidates
        .iter()
        .filter(|(layer, known_as)| !known.confirmed.contains(*layer) && !known_as.is_elsewhere())
        .map(|(_, known_as)| &known_as.blob);
    let (mut held, config) = tokio::try_join!(ask::held(client, repository, unsure), async {
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
    let facts = single.layers.iter().map(|layer| Fact {
        layer: layer.stored().clone(),
        size: match layer {
            Layer::Raw { size, .. } => *size,
            Layer::Ready { descriptor, .. } => Some(descriptor.size),
        },
        candidate: known.candidates.get(layer.stored()).cloned(),
    });
    Ok(Facts {
        plan: Plan::new(facts.collect(), &held),
        tagged,
        config,
    })
}

/// The layers of a manifest of this very image, one for each of the image's.
pub fn same_image<'a>(single: &Single, held: &'a Held) -> Option<&'a [Descriptor]> {
    let Manifest::Image { config, layers, .. } = &held.manifest else {
        return None;
    };
    let plain = |layer: &Descriptor| Compression::of_media_type(&layer.media_type).is_some();
    let pairs = config.digest == single.config.digest && layers.len() == single.layers.len();
    (pairs && layers.iter().all(plain)).then_some(layers)
}

/// What has been found out so far, by the digest of a layer's bytes at the source.
#[derive(Default)]
struct Known {
    candidates: HashMap<Digest, Candidate>,
    /// Those whose blob the registry has just named itself.
    confirmed: HashSet<Digest>,
    /// Those that the registry has looked for among all that it holds, and not found.
    absent: HashSet<Digest>,
}

impl Known {
    /// What the image says, and the manifest of the same image that the tag names.
    fn of_image(single: &Single, same: Option<&[Descriptor]>) -> Self {
        let mut known = Self::default();
        for (position, layer) in single.layers.iter().enumerate() {
            let candidate = match (layer, same) {
                (Layer::Ready { descriptor, .. }, _) => Candidate {
                    blob: descriptor.clone(),
                    why: Why::Itself,
                },
                (Layer::Raw { .. }, Some(layers)) => Candidate {
                    blob: layers[position].clone(),
                    why: Why::SameImage,
                },
                (Layer::Raw { .. }, None) => continue,
            };
            known.candidates.insert(layer.stored().clone(), candidate);
        }
        known
    }

    /// The raw layers that nobody has said anything of.
    fn open(&self, single: &Single) -> HashSet<Digest> {
        let raw = single.layers.iter().filter_map(|layer| match layer {
            Layer::Raw { diff_id, .. } => Some(diff_id),
            Layer::Ready { .. } => None,
        });
        raw.filter(|diff_id| {
            !self.candidates.contains_key(*diff_id) && !self.absent.contains(*diff_id)
        })
        .cloned()
        .collect()
    }

    /// Our own server knows which layers it holds.
    async fn ask_registry(
        &mut self,
        question: &Question<'_>,
        single: &Single,
    ) -> Result<(), Failure> {
        let raw = single.layers.iter().filter_map(|layer| match layer {
            Layer::Raw { diff_id, .. } => Some(diff_id),
            Layer::Ready { .. } => None,
        });
        let once: HashSet<&Digest> = raw.collect();
        let worth_it = !self.open(single).is_empty() || once.len() > FEW;
        if !worth_it || once.len() > resolve::MOST_LAYERS {
            return Ok(());
        }
        let request = resolve::Request {
            config: None,
            diff_ids: once.into_iter().cloned().collect(),
            mount: question.mount,
        };
        let asked = question
            .client
            .resolve_layers(question.repository, &request);
        let response = match asked.await {
            Ok(Some(response)) => response,
            // Another registry may answer an unknown path with anything.
            Ok(None) | Err(client::Error::Odd { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for (diff_id, layer) in request.diff_ids.into_iter().zip(response.layers) {
            let (blob, why) = match layer {
                resolve::Layer::Held { blob } => (blob, Why::Registry),
                resolve::Layer::Elsewhere { blob, repository } => match repository.parse() {
                    Ok(repository) => (blob, Why::Elsewhere(repository)),
                    Err(_) => continue,
                },
                resolve::Layer::Absent => {
                    // What the tag's manifest said of it is worth a question of its own.
                    self.absent.insert(diff_id);
                    continue;
                }
                resolve::Layer::Pending => continue,
            };
            match self.candidates.get(&diff_id) {
                // Several blobs can be one layer; the image that is there already names one.
                Some(named) if named.blob.digest != blob.digest => {}
                Some(_) => {
                    self.confirmed.insert(diff_id);
                }
                None => {
                    self.confirmed.insert(diff_id.clone());
                    self.candidates.insert(diff_id, Candidate { blob, why });
                }
            }
        }
        Ok(())
    }

    /// What earlier runs found out.
    fn look_up(&mut self, cache: &Path, single: &Single) {
        for diff_id in self.open(single) {
            if let Some(known) = cache::lookup(cache, compress::FORMAT, &diff_id) {
                let blob = Descriptor::new(media::DOCKER_LAYER_GZIP, known.digest, known.size);
                let why = Why::Cache;
                self.candidates.insert(diff_id, Candidate { blob, why });
            }
        }
    }
}
