//! Describes an image in a daemon, with one or two small requests.

use imgsync_oci::manifest::Platform;
use imgsync_oci::{Digest, LocalName, Tag};

use super::client::{ApiVersion, DaemonClient, DaemonHeaders};
use super::responses::{ImageInspect, InspectDescriptor, SystemInfo};
use super::tags::list_tags;
use super::{DaemonAddress, DaemonImage, ImageStore, export_name};
use crate::image::limits::check_layer_count;
use crate::image::{DaemonImageName, EngineKind, Error, Platforms, name};
use crate::text::compare_versions;

/// Describes an image in the daemon at `address`.
///
/// # Errors
/// Returns an error if the daemon is unreachable, has no such image or not for these platforms, or
/// refuses.
pub async fn find_at(
    address: DaemonAddress,
    name: &DaemonImageName,
    platforms: &Platforms,
) -> Result<DaemonImage, Error> {
    let engine = DaemonClient::new(address)?;
    let described = describe(&engine, name.as_str(), platforms).await;
    let (image, headers, info) = match described {
        Ok(described) => described,
        Err(Error::NoSuchImage {
            engine: kind,
            name: missing,
            ..
        }) => {
            // The list is only a help.
            let tags = list_tags(&engine, &name.name).await.unwrap_or_default();
            return Err(Error::NoSuchImage {
                engine: kind,
                name: missing,
                tags: sort_tags(tags),
            });
        }
        Err(error) => return Err(error),
    };
    let diff_ids = image.diff_ids().to_vec();
    check_layer_count(&export_name(&engine), diff_ids.len())?;
    let store = match &image.descriptor {
        Some(InspectDescriptor { media_type, digest }) => ImageStore::Containerd {
            root: digest.clone(),
            media_type: Some(media_type.clone()),
        },
        None if info.as_ref().is_some_and(SystemInfo::has_containerd_store) => {
            ImageStore::Containerd {
                root: image.id.clone(),
                media_type: None,
            }
        }
        None => ImageStore::Classic {
            config: image.id.clone(),
        },
    };
    let address = engine.address();
    let kind = if headers.is_podman {
        EngineKind::Podman
    } else {
        address.engine()
    };
    let from = format!("the image in {kind} at {address}");
    let insecure_registries = info.filter(|_| address.is_local());
    let insecure_registries = insecure_registries.map(|info| info.insecure_registries());
    let (name, alternatives) = choose_name(name, image.repo_tags.as_deref().unwrap_or_default());
    Ok(DaemonImage {
        name,
        alternatives,
        selected_root: choose_root(&from, &store, &image, platforms)?,
        engine,
        diff_ids,
        store,
        repo_digests: image.repo_digests.unwrap_or_default(),
        insecure_registries,
        size: image.size,
        platforms: platforms.clone(),
        api_version: headers.api_version,
        is_podman: headers.is_podman,
    })
}

/// Describes an image, and the daemon as far as that is needed to know its store. A description of
/// the daemon takes long, because the daemon runs other programs for it; over a network, a further
/// request takes longer.
async fn describe(
    engine: &DaemonClient,
    name: &str,
    platforms: &Platforms,
) -> Result<(ImageInspect, DaemonHeaders, Option<SystemInfo>), Error> {
    let inspected = engine.inspect(name, !platforms.is_empty());
    if !engine.address().is_local() {
        let ((image, headers), info) = futures::future::try_join(inspected, engine.info()).await?;
        return Ok((image, headers, Some(info)));
    }
    let (image, headers) = inspected.await?;
    let info = if headers.is_podman {
        // podman has one kind of store, and reports no registries.
        Some(SystemInfo::default())
    } else if image.descriptor.is_some() || has_one_store(&headers) {
        None
    } else {
        Some(engine.info().await?)
    };
    Ok((image, headers, info))
}

/// Returns whether images without a descriptor can only be in a classic store: Docker before version
/// 23 (API 1.42) has no other, and since version 28 (API 1.48) images in the other one have a
/// descriptor.
fn has_one_store(headers: &DaemonHeaders) -> bool {
    let version = headers.api_version;
    version.is_some_and(|api| api < ApiVersion(1, 42) || api >= ApiVersion(1, 48))
}

/// Sorts tags by version.
fn sort_tags(mut tags: Vec<Tag>) -> Vec<Tag> {
    tags.sort_by(|one, other| compare_versions(one.as_str(), other.as_str()));
    tags
}

/// Returns the name of the image: the requested tag, otherwise (for an image ID or a digest) the first
/// one, and then the others.
fn choose_name(
    requested: &DaemonImageName,
    tags: &[String],
) -> (Option<LocalName>, Vec<LocalName>) {
    let requested = name::text(&requested.name);
    let position = name::choose(&requested, tags.iter().map(String::as_str));
    if let Some(position) = position {
        return (name::familiar(&tags[position]), Vec::new());
    }
    let mut names = tags.iter().filter_map(|tag| name::familiar(tag));
    (names.next(), names.collect())
}

/// Selects the platforms, as far as the daemon describes them. Returns the digest of the manifest or
/// index that is copied, if it is known before the export.
///
/// # Errors
/// Returns [`Error::PlatformNotFound`]. For a daemon that does not describe platforms, the export
/// fails instead.
fn choose_root(
    from: &str,
    store: &ImageStore,
    image: &ImageInspect,
    platforms: &Platforms,
) -> Result<Option<Digest>, Error> {
    let root = match store {
        ImageStore::Containerd { root, .. } => root,
        ImageStore::Classic { .. } => {
            let own = Platform {
                architecture: image.architecture.clone(),
                os: image.os.clone(),
                variant: image.variant.clone(),
            };
            return platforms.check(from, Some(own)).map(|()| None);
        }
    };
    if platforms.is_empty() {
        return Ok(Some(root.clone()));
    }
    let Some(manifests) = &image.manifests else {
        return Ok(None);
    };
    let images = manifests.iter().filter(|manifest| manifest.available);
    let images = images.filter_map(|manifest| Some((manifest, manifest.image_data.as_ref()?)));
    let images: Vec<_> = images.collect();
    let available: Vec<_> = images
        .iter()
        .map(|(_, data)| Some(data.platform.clone()))
        .collect();
    Ok(match platforms.choose(from, &available)?[..] {
        [position] => Some(images[position].0.descriptor.digest.clone()),
        _ => None,
    })
}
