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

use super::LONGEST_CONFIG;
use super::earlier::Earlier;
use crate::access::Access;
use crate::ask;
use crate::cache::{self, Known};
use crate::compress;
use crate::exit::Failure;
use crate::facts;
use crate::plan::{Candidate, Why};
use crate::report::Report;
use crate::settings;
use crate::source::Unneeded;
use crate::spool::Spool;

/// The media type of a layer that is not compressed, in a manifest that we write.
const RAW_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// What was found out of layers that were not put aside.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// Blobs that the target has confirmed, by the digest of the layer's bytes at the source.
    pub(super) held: HashMap<Digest, Candidate>,
    /// Layers that are here, packed.
    pub(super) packed: Earlier,
}

/// Who is asked while an archive passes by.
pub(super) struct Passing {
    asking: Arc<Mutex<Asking>>,
    is_dry: bool,
}

struct Asking {
    access: Access,
    registry: Registry,
    /// Known before the archive is only what was typed.
    repository: Option<Repository>,
    cache: PathBuf,
    spool: Spool,
    report: Arc<dyn Report>,
    /// Asked for once; `None` in it where the target was not to be had.
    client: Option<Option<Client>>,
    /// The tag that was typed, or else the usual one; `None` where images may claim nothing.
    tag: Option<Tag>,
    /// What the image under that tag claims of its layers, by diffID. Asked for once.
    claims: Option<HashMap<Digest, Candidate>>,
    /// Whether the registry may know layers by their diffIDs.
    resolves: bool,
    seen: Seen,
}

impl Passing {
    /// Nobody is asked yet.
    pub(super) fn new(settings: &settings::Push, report: &Arc<dyn Report>, spool: &Spool) -> Self {
        let named = settings.remote.name.as_ref();
        let asking = Asking {
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
            resolves: true,
            seen: Seen::default(),
        };
        Self {
            asking: Arc::new(Mutex::new(asking)),
            is_dry: settings.is_dry,
        }
    }

    /// The question, for the thread that reads. Who only plans needs no bytes at all.
    pub(super) fn unneeded(&self) -> Unneeded {
        if self.is_dry {
            return Box::new(|_, _| true);
        }
        let (asking, runtime) = (Arc::clone(&self.asking), Handle::current());
        Box::new(move |digest, len| {
            let mut asking = asking.lock().unwrap_or_else(PoisonError::into_inner);
            asking.is_unneeded(&runtime, digest, len)
        })
    }

    /// What was found out, and the client that was made for it.
    pub(super) fn over(self) -> (Option<Client>, Seen) {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        (
            asking.client.take().flatten(),
            std::mem::take(&mut asking.seen),
        )
    }
}

impl Asking {
    fn is_unneeded(&mut self, runtime: &Handle, digest: &Digest, len: Option<u64>) -> bool {
        if let Some(kept) = self.spool.packed(digest) {
            self.seen.packed.insert(digest.clone(), kept);
            return true;
        }
        match runtime.block_on(self.held(digest, len)) {
            Ok(Some(held)) => {
                self.seen.held.insert(digest.clone(), held);
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
    async fn held(
        &mut self,
        digest: &Digest,
        len: Option<u64>,
    ) -> Result<Option<Candidate>, Failure> {
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
            let why = Why::Registry;
            return Ok(Some(Candidate { blob, why }));
        }
        if let Some(Known { digest, size }) = cache::lookup(&self.cache, compress::FORMAT, digest)
            && holds(&digest, size).await?
        {
            let blob = Descriptor::new(media::DOCKER_LAYER_GZIP, digest, size);
            let why = Why::Cache;
            return Ok(Some(Candidate { blob, why }));
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
    ) -> Result<Option<Candidate>, Failure> {
        let claims = match (self.claims.take(), self.tag.clone()) {
            (Some(claims), _) => claims,
            (None, Some(tag)) => claims(client, repository, tag).await?,
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
    ) -> Result<Option<Candidate>, Failure> {
        if !self.resolves {
            return Ok(None);
        }
        let request = resolve::Request {
            config: None,
            diff_ids: vec![diff_id.clone()],
            mount: true,
        };
        let mut layers = match client.resolve_layers(repository, &request).await {
            Ok(Some(response)) => response.layers,
            // Another registry may answer an unknown path with anything.
            Ok(None) | Err(client::Error::Odd { .. }) => {
                self.resolves = false;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let (blob, why) = match layers.pop() {
            Some(resolve::Layer::Held { blob }) => (blob, Why::Registry),
            Some(resolve::Layer::Elsewhere { blob, repository }) => match repository.parse() {
                Ok(repository) => (blob, Why::Elsewhere(repository)),
                Err(_) => return Ok(None),
            },
            Some(resolve::Layer::Absent | resolve::Layer::Pending) | None => return Ok(None),
        };
        Ok(Some(Candidate { blob, why }))
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
async fn claims(
    client: &Client,
    repository: &Repository,
    tag: Tag,
) -> Result<HashMap<Digest, Candidate>, Failure> {
    let reference = Reference::Tag(tag.clone());
    let held = ask::manifest(client, repository, &reference).await?;
    let Some(Manifest::Image { config, layers, .. }) = held.map(|held| held.manifest) else {
        return Ok(HashMap::new());
    };
    if config.size > LONGEST_CONFIG as u64 || !media::is_image_config(&config.media_type) {
        return Ok(HashMap::new());
    }
    let bytes = client.small_blob(repository, &config.digest, LONGEST_CONFIG);
    let pairs = match bytes.await? {
        Some(bytes) => facts::pairs(&bytes, &layers),
        None => Vec::new(),
    };
    let candidate = |blob| Candidate {
        blob,
        why: Why::Claim(tag.clone()),
    };
    let pairs = pairs.into_iter();
    Ok(pairs
        .map(|(layer, blob)| (layer, candidate(blob)))
        .collect())
}
