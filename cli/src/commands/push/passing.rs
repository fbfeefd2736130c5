//! What of an archive need not be put aside while it passes by, for it comes only once: layers that
//! the target holds, and layers that an earlier run has packed.
//!
//! A stream names its layers before or after their bytes, and what they are in the image always
//! after, so here each is asked for on its own. Nobody is asked before the first layer comes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use imgsync_oci::client::Client;
use imgsync_oci::ext::resolve;
use imgsync_oci::{Descriptor, Digest, Registry, Repository, media};
use tokio::runtime::Handle;

use super::earlier::Earlier;
use crate::access::Access;
use crate::cache::{self, Known};
use crate::compress;
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
        let Some(held) = runtime.block_on(self.held(digest, len)) else {
            return false;
        };
        self.seen.held.insert(digest.clone(), held);
        true
    }

    /// The blob that the target holds of these bytes. A question that failed leaves them needed:
    /// it is asked again when all of the image is known, and then it counts.
    async fn held(&mut self, digest: &Digest, len: Option<u64>) -> Option<Candidate> {
        let repository = self.repository.clone()?;
        let client = self.client(&repository).await?;
        let holds = async |digest: &Digest, size: u64| {
            let there = client.head_blob(&repository, digest).await;
            matches!(there, Ok(Some(there)) if there == size)
        };
        if let Some(len) = len
            && holds(digest, len).await
        {
            let blob = Descriptor::new(RAW_LAYER, digest.clone(), len);
            let why = Why::Registry;
            return Some(Candidate { blob, why });
        }
        if let Some(Known { digest, size }) = cache::lookup(&self.cache, compress::FORMAT, digest)
            && holds(&digest, size).await
        {
            let blob = Descriptor::new(media::DOCKER_LAYER_GZIP, digest, size);
            let why = Why::Cache;
            return Some(Candidate { blob, why });
        }
        self.resolved(&client, &repository, digest).await
    }

    /// The blob by the word of a registry that knows its layers by their diffIDs.
    async fn resolved(
        &mut self,
        client: &Client,
        repository: &Repository,
        diff_id: &Digest,
    ) -> Option<Candidate> {
        if !self.resolves {
            return None;
        }
        let request = resolve::Request {
            config: None,
            diff_ids: vec![diff_id.clone()],
            mount: true,
        };
        let Ok(Some(mut response)) = client.resolve_layers(repository, &request).await else {
            self.resolves = false;
            return None;
        };
        match response.layers.pop()? {
            resolve::Layer::Held { blob } => Some(Candidate {
                blob,
                why: Why::Registry,
            }),
            resolve::Layer::Elsewhere { blob, repository } => Some(Candidate {
                blob,
                why: Why::Elsewhere(repository.parse().ok()?),
            }),
            resolve::Layer::Absent | resolve::Layer::Pending => None,
        }
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
