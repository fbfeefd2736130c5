//! What a manifest at a registry comes to: its images, their layers and configs.

use futures::{StreamExt, TryStreamExt};
use imgsync_oci::client::{Client, FetchedManifest};
use imgsync_oci::manifest::Platform;
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, media};
use serde_json::Value;

use super::remote;
use crate::exit::{Failure, Kind};
use crate::report::shown;

/// No config is larger, in bytes.
const LARGEST_CONFIG: usize = 4 * 1024 * 1024;
/// Children of an index that are asked for at a time.
const AT_A_TIME: usize = 8;
/// An index of more is no image that anybody runs.
const MOST_CHILDREN: usize = 1000;

/// A manifest and what is below it.
pub(super) struct Contents {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    /// Its bytes.
    pub(super) bytes: bytes::Bytes,
    /// Whether it is an index.
    pub(super) is_index: bool,
    /// One for a manifest, one a child for an index.
    pub(super) images: Vec<Image>,
}

/// One image: a config and layers.
pub(super) struct Image {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    /// `os/architecture[/variant]`; `None` where it is no image that runs (an attestation).
    pub(super) platform: Option<String>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Vec<Descriptor>,
    /// The config, read; of a single image only.
    pub(super) settings: Option<Value>,
}

impl Image {
    /// All blobs that the registry holds for it.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let layers = self.layers.iter().filter(|layer| !layer.is_foreign());
        self.config.iter().chain(layers)
    }
}

/// Fetches a manifest, an index's children, and a single image's config.
///
/// # Errors
/// There is none of that name, it makes no sense, or the registry does not give it.
pub(super) async fn of(client: &Client, name: &remote::Manifest) -> Result<Contents, Failure> {
    let fetched = fetch(client, name).await?;
    let (media_type, manifest) = parse(name, &fetched)?;
    let (is_index, images) = match manifest {
        Manifest::Image { config, layers, .. } => {
            let digest = fetched.digest.clone();
            let image = single(client, name, digest, media_type.clone(), config, layers).await?;
            (false, vec![image])
        }
        Manifest::Index { manifests, .. } => (true, children(client, name, manifests).await?),
    };
    Ok(Contents {
        digest: fetched.digest,
        media_type,
        bytes: fetched.bytes,
        is_index,
        images,
    })
}

/// Fetches a manifest's bytes.
///
/// # Errors
/// As [`of`].
pub(super) async fn fetch(
    client: &Client,
    name: &remote::Manifest,
) -> Result<FetchedManifest, Failure> {
    let fetched = client.manifest(&name.repository, &name.reference).await?;
    fetched.ok_or_else(|| remote::absent(name))
}

fn parse(
    name: &remote::Manifest,
    fetched: &FetchedManifest,
) -> Result<(String, Manifest), Failure> {
    Manifest::parse(&fetched.bytes, fetched.media_type.as_deref()).map_err(|error| {
        let what = format!("target: {name} cannot be read: {error}");
        Failure::new(Kind::Target, what).hint("--raw prints it as it is")
    })
}

async fn single(
    client: &Client,
    name: &remote::Manifest,
    digest: Digest,
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
) -> Result<Image, Failure> {
    // Artifacts have configs of their own kind, which say nothing here.
    let settings = match media::is_image_config(&config.media_type) {
        true => {
            let bytes = client
                .small_blob(&name.repository, &config.digest, LARGEST_CONFIG)
                .await?;
            bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        }
        false => None,
    };
    let platform = settings.as_ref().and_then(|settings| {
        let platform = Platform {
            os: settings["os"].as_str()?.to_owned(),
            architecture: settings["architecture"].as_str()?.to_owned(),
            variant: settings["variant"].as_str().map(str::to_owned),
        };
        text(&platform)
    });
    Ok(Image {
        digest,
        media_type,
        platform,
        config: Some(config),
        layers,
        settings,
    })
}

async fn children(
    client: &Client,
    name: &remote::Manifest,
    manifests: Vec<Descriptor>,
) -> Result<Vec<Image>, Failure> {
    let children = manifests.into_iter().take(MOST_CHILDREN);
    let children = children.map(|child| async move {
        let reference = Reference::Digest(child.digest.clone());
        let name = remote::Manifest {
            reference,
            ..name.clone()
        };
        let manifest = match client.manifest(&name.repository, &name.reference).await? {
            Some(fetched) => Some(parse(&name, &fetched)?.1),
            // An index may be there with some of its platforms only.
            None => None,
        };
        let (config, layers) = match manifest {
            Some(Manifest::Image { config, layers, .. }) => (Some(config), layers),
            Some(Manifest::Index { .. }) | None => (None, Vec::new()),
        };
        Ok(Image {
            platform: child.platform.as_ref().and_then(text),
            digest: child.digest,
            media_type: child.media_type,
            config,
            layers,
            settings: None,
        })
    });
    futures::stream::iter(children)
        .buffered(AT_A_TIME)
        .try_collect()
        .await
}

/// A platform as people write it; attestations call theirs unknown.
fn text(platform: &Platform) -> Option<String> {
    let Platform {
        os,
        architecture,
        variant,
    } = platform;
    if os == "unknown" {
        return None;
    }
    let variant = variant
        .as_ref()
        .map_or(String::new(), |variant| format!("/{variant}"));
    Some(shown(&format!("{os}/{architecture}{variant}")))
}
