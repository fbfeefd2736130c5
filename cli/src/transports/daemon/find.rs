//! Describes an image in a daemon, with two small requests.

use imgsync_oci::LocalName;
use imgsync_oci::manifest::Platform;

use super::client::DaemonClient;
use super::responses::{ImageInspect, InspectDescriptor, ManifestSummary, SystemInfo};
use super::{DaemonAddress, DaemonImage, ImageStore, export_name};
use crate::image::limits::MAX_LAYERS;
use crate::image::{DaemonImageName, Error, Platforms, name};

/// Describes an image in the daemon of the environment.
///
/// # Errors
/// Returns an error if the daemon is unreachable, has no such image, or refuses.
pub(in crate::transports) async fn find(
    name: &DaemonImageName,
    platforms: &Platforms,
) -> Result<DaemonImage, Error> {
    find_at(DaemonAddress::from_environment()?, name, platforms).await
}

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
    let (inspected, (info, api)) = futures::future::try_join(
        engine.inspect(name.as_str(), !platforms.is_empty()),
        engine.info(),
    )
    .await?;
    let mut found = build_daemon_image(engine, name, &inspected, &info)?;
    found.api_version = api;
    found.choose(&inspected, platforms)?;
    Ok(found)
}

/// Combines the two responses.
fn build_daemon_image(
    engine: DaemonClient,
    name: &DaemonImageName,
    inspected: &ImageInspect,
    info: &SystemInfo,
) -> Result<DaemonImage, Error> {
    let diff_ids = inspected.root_fs.layers.clone().unwrap_or_default();
    if diff_ids.len() > MAX_LAYERS {
        return Err(Error::TooLarge {
            from: export_name(&engine),
            what: format!("an image of {} layers", diff_ids.len()),
            limit: format!("{MAX_LAYERS} layers"),
        });
    }
    let id = inspected.id.clone();
    let store = match &inspected.descriptor {
        Some(InspectDescriptor { media_type, digest }) => ImageStore::Containerd {
            root: digest.clone(),
            media_type: Some(media_type.clone()),
        },
        None if info.has_containerd_store() => ImageStore::Containerd {
            root: id,
            media_type: None,
        },
        None => ImageStore::Classic { config: id },
    };
    let tags = inspected.repo_tags.as_deref().unwrap_or_default();
    let insecure = engine
        .address()
        .is_local()
        .then(|| info.insecure_registries());
    Ok(DaemonImage {
        engine,
        name: choose_name(name, tags),
        diff_ids,
        store,
        repo_digests: inspected.repo_digests.clone().unwrap_or_default(),
        insecure_registries: insecure,
        size: inspected.size,
        platforms: Platforms::default(),
        selected_root: None,
        api_version: None,
    })
}

/// Returns the name of the image: the requested tag, otherwise (for an image ID) the first one.
fn choose_name(asked: &DaemonImageName, tags: &[String]) -> Option<LocalName> {
    let wanted = name::text(&asked.name);
    let place = name::choose(&wanted, tags.iter().map(String::as_str));
    let tag = place.map_or_else(|| tags.first(), |place| tags.get(place));
    tag.and_then(|tag| name::familiar(tag))
}

impl DaemonImage {
    /// Selects the platforms, as far as the daemon describes them.
    ///
    /// # Errors
    /// Returns [`Error::PlatformNotFound`]. For a daemon that does not describe platforms, the
    /// export fails instead.
    fn choose(&mut self, inspected: &ImageInspect, platforms: &Platforms) -> Result<(), Error> {
        self.platforms = platforms.clone();
        let from = format!(
            "the image in the Docker daemon at {}",
            self.engine.address()
        );
        match &self.store {
            ImageStore::Classic { .. } => platforms.check(
                &from,
                Some(Platform {
                    architecture: inspected.architecture.clone(),
                    os: inspected.os.clone(),
                    variant: inspected.variant.clone(),
                }),
            ),
            ImageStore::Containerd { root, .. } if platforms.is_empty() => {
                self.selected_root = Some(root.clone());
                Ok(())
            }
            ImageStore::Containerd { .. } => {
                let Some(listed) = &inspected.manifests else {
                    return Ok(());
                };
                let of = |it: &ManifestSummary| Some(it.image_data.as_ref()?.platform.clone());
                let images: Vec<_> = listed
                    .iter()
                    .filter(|it| it.available && it.image_data.is_some())
                    .collect();
                let there: Vec<_> = images.iter().map(|it| of(it)).collect();
                if let [place] = platforms.choose(&from, &there)?[..] {
                    self.selected_root = Some(images[place].descriptor.digest.clone());
                }
                Ok(())
            }
        }
    }
}
