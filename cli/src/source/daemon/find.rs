//! Asks a daemon for an image, by two small requests.

use imgsync_oci::LocalName;
use imgsync_oci::manifest::Platform;

use super::super::location::EngineName;
use super::super::{Error, MAX_LAYERS, Platforms, name};
use super::answer::{Info, Inspected, Listed, Pointer};
use super::engine::Engine;
use super::{Address, Found, Store, from};

/// Asks the daemon that the environment names for an image.
///
/// # Errors
/// The daemon is not reached, has no such image, or refuses.
pub(in crate::source) async fn find(
    name: &EngineName,
    platforms: &Platforms,
) -> Result<Found, Error> {
    find_at(Address::from_environment()?, name, platforms).await
}

/// Asks the daemon at `address` for an image.
///
/// # Errors
/// The daemon is not reached, has no such image or not for these platforms, or refuses.
pub async fn find_at(
    address: Address,
    name: &EngineName,
    platforms: &Platforms,
) -> Result<Found, Error> {
    let engine = Engine::new(address)?;
    let (inspected, (info, api)) = futures::future::try_join(
        engine.inspect(name.as_str(), !platforms.is_empty()),
        engine.info(),
    )
    .await?;
    let mut found = facts(engine, name, &inspected, &info)?;
    found.api = api;
    found.choose(&inspected, platforms)?;
    Ok(found)
}

/// What the two answers say of the image.
fn facts(
    engine: Engine,
    name: &EngineName,
    inspected: &Inspected,
    info: &Info,
) -> Result<Found, Error> {
    let diff_ids = inspected.root_fs.layers.clone().unwrap_or_default();
    if diff_ids.len() > MAX_LAYERS {
        return Err(Error::TooLarge {
            from: from(&engine),
            what: format!("an image of {} layers", diff_ids.len()),
            limit: format!("{MAX_LAYERS} layers"),
        });
    }
    let id = inspected.id.clone();
    let store = match &inspected.descriptor {
        Some(Pointer { media_type, digest }) => Store::Containerd {
            root: digest.clone(),
            media_type: Some(media_type.clone()),
        },
        None if info.has_containerd_store() => Store::Containerd {
            root: id,
            media_type: None,
        },
        None => Store::Classic { config: id },
    };
    let tags = inspected.repo_tags.as_deref().unwrap_or_default();
    let insecure = engine.address().is_local().then(|| info.insecure());
    Ok(Found {
        engine,
        name: tag(name, tags),
        diff_ids,
        store,
        repo_digests: inspected.repo_digests.clone().unwrap_or_default(),
        insecure,
        size: inspected.size,
        platforms: Platforms::default(),
        goes: None,
        api: None,
    })
}

/// The image's name: of its tags the one that was asked for, else (for an ID) the first.
fn tag(asked: &EngineName, tags: &[String]) -> Option<LocalName> {
    let wanted = name::text(&asked.name);
    let place = name::choose(&wanted, tags.iter().map(String::as_str));
    let tag = place.map_or_else(|| tags.first(), |place| tags.get(place));
    tag.and_then(|tag| name::familiar(tag))
}

impl Found {
    /// Takes in which platforms are wanted, and what the daemon says of them.
    ///
    /// # Errors
    /// [`Error::NoPlatform`]; a daemon that does not tell is asked by exporting.
    fn choose(&mut self, inspected: &Inspected, platforms: &Platforms) -> Result<(), Error> {
        self.platforms = platforms.clone();
        let from = format!(
            "the image in the Docker daemon at {}",
            self.engine.address()
        );
        match &self.store {
            Store::Classic { .. } => platforms.check(
                &from,
                Some(Platform {
                    architecture: inspected.architecture.clone(),
                    os: inspected.os.clone(),
                    variant: inspected.variant.clone(),
                }),
            ),
            Store::Containerd { root, .. } if platforms.is_empty() => {
                self.goes = Some(root.clone());
                Ok(())
            }
            Store::Containerd { .. } => {
                let Some(listed) = &inspected.manifests else {
                    return Ok(());
                };
                let of = |it: &Listed| Some(it.image_data.as_ref()?.platform.clone());
                let images: Vec<_> = listed
                    .iter()
                    .filter(|it| it.available && it.image_data.is_some())
                    .collect();
                let there: Vec<_> = images.iter().map(|it| of(it)).collect();
                if let [place] = platforms.choose(&from, &there)?[..] {
                    self.goes = Some(images[place].descriptor.digest.clone());
                }
                Ok(())
            }
        }
    }
}
