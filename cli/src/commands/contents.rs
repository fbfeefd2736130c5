//! What a manifest at a registry comes to: its images, their layers and configs.

use futures::{StreamExt, TryStreamExt};
use imgsync_oci::client::{Client, FetchedManifest};
use imgsync_oci::manifest::Platform;
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, media};
use serde_json::Value;

use super::manifest_name;
use crate::exit::{Failure, FailureKind};
use crate::text::sanitize;

/// No config is larger, in bytes.
const MAX_CONFIG_BYTES: usize = 4 * 1024 * 1024;
/// Children of an index that are asked for at a time.
const MAX_CONCURRENT_CHILDREN: usize = 8;
/// An index of more is no image that anybody runs.
const MAX_INDEX_CHILDREN: usize = 1000;

/// A manifest and what is below it.
pub(super) struct ManifestContents {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    /// Its bytes.
    pub(super) bytes: bytes::Bytes,
    /// Whether it is an index.
    pub(super) is_index: bool,
    /// One for a manifest, one a child for an index.
    pub(super) images: Vec<RemoteImage>,
}

/// One image: a config and layers.
pub(super) struct RemoteImage {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    /// `os/architecture[/variant]`; `None` where it is no image that runs (an attestation).
    pub(super) platform: Option<String>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Vec<Descriptor>,
    /// The config, read; of a single image only.
    pub(super) config_json: Option<Value>,
}

impl RemoteImage {
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
pub(super) async fn fetch_contents(
    client: &Client,
    name: &manifest_name::ManifestName,
) -> Result<ManifestContents, Failure> {
    let fetched = fetch_manifest(client, name).await?;
    let (media_type, manifest) = parse(name, &fetched)?;
    let (is_index, images) = match manifest {
        Manifest::Image { config, layers, .. } => {
            let digest = fetched.digest.clone();
            let image =
                fetch_image(client, name, digest, media_type.clone(), config, layers).await?;
            (false, vec![image])
        }
        Manifest::Index { manifests, .. } => (true, children(client, name, manifests).await?),
    };
    Ok(ManifestContents {
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
pub(super) async fn fetch_manifest(
    client: &Client,
    name: &manifest_name::ManifestName,
) -> Result<FetchedManifest, Failure> {
    let fetched = client
        .fetch_manifest(&name.repository, &name.reference)
        .await?;
    fetched.ok_or_else(|| manifest_name::not_found(name))
}

fn parse(
    name: &manifest_name::ManifestName,
    fetched: &FetchedManifest,
) -> Result<(String, Manifest), Failure> {
    Manifest::parse(&fetched.bytes, fetched.media_type.as_deref()).map_err(|error| {
        let what = format!("target: {name} cannot be read: {error}");
        Failure::new(FailureKind::Target, what).with_hint("--raw prints it as it is")
    })
}

async fn fetch_image(
    client: &Client,
    name: &manifest_name::ManifestName,
    digest: Digest,
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
) -> Result<RemoteImage, Failure> {
    // Artifacts have configs of their own kind, which say nothing here.
    let settings = match media::is_image_config(&config.media_type) {
        true => {
            let bytes = client
                .fetch_small_blob(&name.repository, &config.digest, MAX_CONFIG_BYTES)
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
        format_platform(&platform)
    });
    Ok(RemoteImage {
        digest,
        media_type,
        platform,
        config: Some(config),
        layers,
        config_json: settings,
    })
}

async fn children(
    client: &Client,
    name: &manifest_name::ManifestName,
    manifests: Vec<Descriptor>,
) -> Result<Vec<RemoteImage>, Failure> {
    let children = manifests.into_iter().take(MAX_INDEX_CHILDREN);
    let children = children.map(|child| async move {
        let reference = Reference::Digest(child.digest.clone());
        let name = manifest_name::ManifestName {
            reference,
            ..name.clone()
        };
        let manifest = match client
            .fetch_manifest(&name.repository, &name.reference)
            .await?
        {
            Some(fetched) => Some(parse(&name, &fetched)?.1),
            // An index may be there with some of its platforms only.
            None => None,
        };
        let (config, layers) = match manifest {
            Some(Manifest::Image { config, layers, .. }) => (Some(config), layers),
            Some(Manifest::Index { .. }) | None => (None, Vec::new()),
        };
        Ok(RemoteImage {
            platform: child.platform.as_ref().and_then(format_platform),
            digest: child.digest,
            media_type: child.media_type,
            config,
            layers,
            config_json: None,
        })
    });
    futures::stream::iter(children)
        .buffered(MAX_CONCURRENT_CHILDREN)
        .try_collect()
        .await
}

/// A platform as people write it; attestations call theirs unknown.
fn format_platform(platform: &Platform) -> Option<String> {
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
    Some(sanitize(&format!("{os}/{architecture}{variant}")))
}
