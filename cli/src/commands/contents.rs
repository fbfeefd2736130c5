//! Fetches what a manifest in a registry refers to: its images, with their layers and configs.

use std::time::SystemTime;

use futures::{StreamExt, TryStreamExt};
use imgsync_oci::client::{self, Client, FetchedManifest};
use imgsync_oci::manifest::Platform;
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, media};
use serde_json::Value;

use super::fetch_manifest;
use crate::args::ManifestName;
use crate::exit::Failure;
use crate::image::platform;
use crate::text::{parse_timestamp, sanitize};

/// The size of the largest config, in bytes.
const MAX_CONFIG_BYTES: usize = 4 * 1024 * 1024;
/// The number of children of an index that are fetched at the same time.
const MAX_CONCURRENT_CHILDREN: usize = 8;
/// The number of children of an index that are shown.
const MAX_INDEX_CHILDREN: usize = 1000;
/// The most bytes of the configs of all children of an index. They are held in memory.
const MAX_CHILD_CONFIG_BYTES: u64 = 8 * 1024 * 1024;

/// A manifest, and the images that it refers to.
pub(super) struct ManifestContents {
    /// The manifest.
    pub(super) fetched: FetchedManifest,
    pub(super) media_type: String,
    pub(super) is_index: bool,
    /// The only image of a manifest, or the children of an index.
    pub(super) images: Vec<RemoteImage>,
}

/// One image: a config and layers. A blob that an index lists has itself as the config.
pub(super) struct RemoteImage {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    /// `os/architecture[/variant]`; `None` if the image cannot be run, such as an attestation.
    pub(super) platform: Option<String>,
    /// `None` if the manifest was not read.
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Vec<Descriptor>,
    /// The content of the config. For the children of an index, [`fetch_child_configs`] fetches it.
    pub(super) config_json: Option<Value>,
    /// The reason why the manifest of a child was not read.
    pub(super) unread: Option<UnreadManifest>,
}

/// The reason why the manifest of a child of an index was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnreadManifest {
    /// The registry does not have it. It may have some of the platforms only.
    Missing,
    /// The child is an index, too.
    NestedIndex,
}

impl UnreadManifest {
    /// Returns the words for people and for JSON.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Missing => "not in this registry",
            Self::NestedIndex => "nested index",
        }
    }
}

/// The reason why it is not known what a manifest refers to.
pub(super) enum ContentsError {
    /// The manifest, or one that it lists, has an unknown format.
    UnknownFormat(Failure),
    /// A request failed.
    Request(Failure),
}

impl From<client::Error> for ContentsError {
    fn from(error: client::Error) -> Self {
        Self::Request(error.into())
    }
}

impl From<ContentsError> for Failure {
    fn from(error: ContentsError) -> Self {
        match error {
            ContentsError::UnknownFormat(failure) | ContentsError::Request(failure) => failure,
        }
    }
}

impl RemoteImage {
    /// Returns the blobs that the registry holds.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let layers = self.layers.iter().filter(|layer| !layer.is_foreign());
        self.config.iter().chain(layers)
    }

    /// Returns whether the image can be run, so that its config can be shown.
    fn is_runnable(&self) -> bool {
        self.platform.is_some() && self.config.is_some()
    }
}

/// Returns the size of blobs in bytes.
pub(super) fn total_size<'a>(blobs: impl Iterator<Item = &'a Descriptor>) -> u64 {
    blobs.fold(0, |sum, blob| sum.saturating_add(blob.size))
}

/// Fetches a manifest, and the children of an index or the config of a single image.
///
/// # Errors
/// Fails if there is no such manifest, if it is invalid, or if a request fails.
pub(super) async fn fetch_contents(
    client: &Client,
    name: &ManifestName,
) -> Result<ManifestContents, Failure> {
    let fetched = fetch_manifest(client, name).await?;
    Ok(read_contents(client, name, fetched).await?)
}

/// Fetches what a manifest refers to, as [`fetch_contents`] does.
///
/// # Errors
/// Fails if the manifest is invalid, or if a request fails.
pub(super) async fn read_contents(
    client: &Client,
    name: &ManifestName,
    fetched: FetchedManifest,
) -> Result<ManifestContents, ContentsError> {
    let (media_type, manifest) = parse(name, &fetched)?;
    let (is_index, images) = match manifest {
        Manifest::Index { manifests, .. } => (true, fetch_children(client, name, manifests).await?),
        Manifest::Image { config, layers, .. } => {
            let config_json = fetch_config(client, name, &config).await?;
            let image = RemoteImage {
                digest: fetched.digest.clone(),
                media_type: media_type.clone(),
                platform: config_json.as_ref().and_then(config_platform),
                config: Some(config),
                layers,
                config_json,
                unread: None,
            };
            (false, vec![image])
        }
    };
    Ok(ManifestContents {
        fetched,
        media_type,
        is_index,
        images,
    })
}

fn parse(
    name: &ManifestName,
    fetched: &FetchedManifest,
) -> Result<(String, Manifest), ContentsError> {
    Manifest::parse(&fetched.bytes, fetched.media_type.as_deref()).map_err(|error| {
        let hint = "to print the manifest unchanged, use imgsync inspect --raw";
        let what = format!("invalid manifest {name}: {error}");
        ContentsError::UnknownFormat(Failure::target(what).with_hint(hint))
    })
}

/// Fetches the config of an image. Other artifacts have configs that cannot be shown.
async fn fetch_config(
    client: &Client,
    name: &ManifestName,
    config: &Descriptor,
) -> Result<Option<Value>, client::Error> {
    if !media::is_image_config(&config.media_type) {
        return Ok(None);
    }
    let limit =
        usize::try_from(config.size).map_or(MAX_CONFIG_BYTES, |size| size.min(MAX_CONFIG_BYTES));
    let bytes = client.fetch_small_blob(&name.repository, &config.digest, limit);
    let bytes = bytes.await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn config_platform(config: &Value) -> Option<String> {
    format_platform(&Platform {
        os: config["os"].as_str()?.to_owned(),
        architecture: config["architecture"].as_str()?.to_owned(),
        variant: config["variant"].as_str().map(str::to_owned),
    })
}

/// Fetches the configs of the images in an index, as long as they have 8 MiB together.
///
/// # Errors
/// Fails if a request fails.
pub(super) async fn fetch_child_configs(
    client: &Client,
    name: &ManifestName,
    contents: &mut ManifestContents,
) -> Result<(), Failure> {
    let images = contents.images.iter_mut();
    let images = images.filter(|image| image.is_runnable() && image.config_json.is_none());
    let mut budget = MAX_CHILD_CONFIG_BYTES;
    let images = images.take_while(|image| {
        let size = image.config.as_ref().map_or(0, |config| config.size);
        let rest = budget.checked_sub(size);
        budget = rest.unwrap_or_default();
        rest.is_some()
    });
    let requests = images.map(|image| async {
        if let Some(config) = &image.config {
            image.config_json = fetch_config(client, name, config).await?;
        }
        Ok::<(), Failure>(())
    });
    let requests: Vec<_> = requests.collect();
    let requests = futures::stream::iter(requests).buffer_unordered(MAX_CONCURRENT_CHILDREN);
    requests.try_collect().await
}

/// Returns when an image was built, as its config tells; for an index, the first image of it.
///
/// # Errors
/// Fails if a request fails.
pub(super) async fn fetch_creation_time(
    client: &Client,
    name: &ManifestName,
    contents: &ManifestContents,
) -> Result<Option<SystemTime>, Failure> {
    let Some(image) = contents.images.iter().find(|image| image.is_runnable()) else {
        return Ok(None);
    };
    let fetched = match (&image.config_json, &image.config) {
        (None, Some(config)) => fetch_config(client, name, config).await?,
        _ => None,
    };
    let config = image.config_json.as_ref().or(fetched.as_ref());
    let created = config.and_then(|config| config["created"].as_str());
    Ok(created.and_then(parse_timestamp))
}

async fn fetch_children(
    client: &Client,
    name: &ManifestName,
    manifests: Vec<Descriptor>,
) -> Result<Vec<RemoteImage>, ContentsError> {
    let children = manifests.into_iter().take(MAX_INDEX_CHILDREN);
    let children = children.map(|child| async move {
        if media::is_blob(&child.media_type) {
            return Ok(RemoteImage {
                digest: child.digest.clone(),
                media_type: child.media_type.clone(),
                platform: None,
                config: Some(child),
                layers: Vec::new(),
                config_json: None,
                unread: None,
            });
        }
        let name = name.with_reference(Reference::Digest(child.digest.clone()));
        let fetched = client.fetch_manifest(&name.repository, &name.reference);
        let unread = |reason| (None, Vec::new(), Some(reason));
        let (config, layers, unread) = match fetched.await? {
            Some(fetched) => match parse(&name, &fetched)?.1 {
                Manifest::Image { config, layers, .. } => (Some(config), layers, None),
                Manifest::Index { .. } => unread(UnreadManifest::NestedIndex),
            },
            None => unread(UnreadManifest::Missing),
        };
        Ok(RemoteImage {
            platform: child.platform.as_ref().and_then(format_platform),
            digest: child.digest,
            media_type: child.media_type,
            config,
            layers,
            config_json: None,
            unread,
        })
    });
    futures::stream::iter(children)
        .buffered(MAX_CONCURRENT_CHILDREN)
        .try_collect()
        .await
}

/// Formats a platform. The platform of attestations is `unknown/unknown`.
fn format_platform(platform: &Platform) -> Option<String> {
    (platform.os != "unknown").then(|| sanitize(&platform::text(platform)))
}
