//! Images in a Docker daemon, by its HTTP API.
//!
//! Its facts cost two small requests at once. An export hands over everything, so it is asked for
//! only when bytes are needed, and by the image's ID: the name may have moved by then.

mod address;
mod containerd;
mod context;
mod engine;

use std::collections::{HashMap, HashSet};

use imgsync_oci::manifest::Platform;
use imgsync_oci::{Algorithm, Digest, LocalName, media};
use serde::Deserialize;

use super::location::EngineName;
use super::{
    Blobs, Config, Content, Error, Image, Layer, MAX_LAYERS, MAX_METADATA_BYTES, Origin, Platforms,
    Single, Slice, Unneeded, blocking, config, listing, name, sift,
};
use crate::spool::{Room, Spool};
pub use address::Address;
use containerd::Stored;
use engine::Api;
pub(crate) use engine::Engine;
pub(crate) use engine::load::{About, Kind, Known, Loaded};

/// What a daemon says of an image before any export.
#[derive(Debug, Clone)]
pub struct Found {
    engine: Engine,
    /// Its name there, with the tag.
    pub name: Option<LocalName>,
    /// The digests of its layers' tars, lowest first; of a multi-platform image, those of the
    /// daemon's own platform.
    pub diff_ids: Vec<Digest>,
    /// How the daemon keeps it.
    pub store: Store,
    /// Where the daemon knows the image to lie: `registry/repository@digest`, in Docker's words.
    pub repo_digests: Vec<String>,
    /// The registries that the daemon reaches without checks: names, and networks as
    /// `10.0.0.0/8`. `None` where it is not this machine's daemon: nobody else says what need not
    /// be checked here.
    pub insecure: Option<Vec<String>>,
    /// How many bytes its layers hold, by the daemon's own count.
    size: Option<u64>,
    /// What was asked for.
    platforms: Platforms,
    /// The manifest or index that goes, where that is known.
    goes: Option<Digest>,
    api: Option<Api>,
}

/// How a daemon keeps its images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// Unpacked: the image's ID is its config's digest, layers come as raw tars.
    Classic {
        /// The config's digest.
        config: Digest,
    },
    /// As a registry would (containerd's image store): the image's ID is its manifest's or
    /// index's digest; its blobs are known after export only.
    Containerd {
        /// The manifest's or index's digest.
        root: Digest,
        /// Its media type; daemons before version 28 do not say.
        media_type: Option<String>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: Digest,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(rename = "RootFS", default)]
    root_fs: RootFs,
    #[serde(default)]
    size: Option<u64>,
    /// Of the manifest or index: in containerd's store, since API 1.48.
    descriptor: Option<Pointer>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    /// Of each platform, and what is attested: in containerd's store, when asked for.
    #[serde(default)]
    manifests: Option<Vec<Listed>>,
}

/// One manifest of an image's index.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    descriptor: Pointer,
    #[serde(default)]
    available: bool,
    image_data: Option<ImageData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageData {
    platform: Platform,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(default)]
    layers: Option<Vec<Digest>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pointer {
    media_type: String,
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(default)]
    driver_status: Option<Vec<Vec<String>>>,
    /// Docker's; podman's answer has something else there, or nothing.
    #[serde(default)]
    registry_config: serde_json::Value,
}

impl Info {
    fn has_containerd_store(&self) -> bool {
        let mark = ["driver-type", "io.containerd.snapshotter.v1"];
        self.driver_status
            .iter()
            .flatten()
            .any(|pair| *pair == mark)
    }

    /// In the words of `insecure-registries` in the daemon's own configuration.
    fn insecure(&self) -> Vec<String> {
        let networks = self.registry_config["InsecureRegistryCIDRs"].as_array();
        let networks = networks.into_iter().flatten();
        let networks = networks.filter_map(|network| network.as_str().map(str::to_owned));
        let names = self.registry_config["IndexConfigs"].as_object();
        let names = names.into_iter().flatten();
        let names = names.filter(|(_, index)| index["Secure"] == false);
        networks
            .chain(names.map(|(name, _)| name.clone()))
            .collect()
    }
}

/// Asks the daemon that the environment names for an image.
///
/// # Errors
/// The daemon is not reached, has no such image, or refuses.
pub(super) async fn find(name: &EngineName, platforms: &Platforms) -> Result<Found, Error> {
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

fn from(engine: &Engine) -> String {
    format!("the export of the Docker daemon at {}", engine.address())
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

    /// The digest of the manifest or index that goes, where it is known before any export.
    pub fn goes(&self) -> Option<&Digest> {
        self.goes.as_ref()
    }

    /// The image without its bytes; `None` where only the export tells (containerd's store).
    pub fn image(&self) -> Option<Image> {
        match &self.store {
            Store::Containerd { .. } => None,
            Store::Classic { config } => {
                let raw = |diff_id: &Digest| Layer::Raw {
                    diff_id: diff_id.clone(),
                    size: None,
                };
                Some(self.named(Content::Single(Single {
                    config: Config {
                        media_type: media::DOCKER_CONFIG.to_owned(),
                        digest: config.clone(),
                        bytes: None,
                    },
                    layers: self.diff_ids.iter().map(raw).collect(),
                    origin: Origin::Written,
                })))
            }
        }
    }

    fn named(&self, content: Content) -> Image {
        Image {
            name: self.name.clone(),
            content,
            remarks: Vec::new(),
        }
    }

    /// Exports the image: what `unneeded` does not refuse is put into the spool. The image now has
    /// its config's bytes. Where the spool holds all of it from an earlier run, the daemon is not
    /// asked; else `begin` is called first.
    ///
    /// # Errors
    /// The daemon's own, and all those of a damaged archive.
    pub async fn export(
        &self,
        spool: &Spool,
        unneeded: Unneeded,
        begin: impl FnOnce(),
    ) -> Result<(Image, Blobs), Error> {
        match &self.store {
            Store::Classic { config } => {
                let single = self.export_classic(config, spool, unneeded, begin).await;
                let (single, blobs) = single?;
                Ok((self.named(Content::Single(single)), blobs))
            }
            Store::Containerd { root, media_type } => {
                let stored = Stored {
                    found: self,
                    root,
                    media_type: media_type.as_deref(),
                };
                let (content, blobs, remarks) = stored.export(spool, unneeded, begin).await?;
                let image = Image {
                    remarks,
                    ..self.named(content)
                };
                Ok((image, blobs))
            }
        }
    }

    /// Takes what was kept of this image out of the spool. Blocks.
    pub fn forget(&self, spool: &Spool) {
        spool.remove(Room::Packed, &self.diff_ids);
        match &self.store {
            Store::Classic { config } => {
                spool.remove(Room::Bytes, self.diff_ids.iter().chain([config]));
            }
            Store::Containerd { root, .. } => {
                listing::forget(spool, &containerd::about(root, &self.platforms));
            }
        }
    }

    /// What Docker's "empty export - not implemented" means to who reads it.
    fn without_layers(&self, error: Error) -> Error {
        match error {
            Error::Refused { message, .. } if self.diff_ids.is_empty() => Error::Unsupported {
                what: format!(
                    "an image without layers, which the Docker daemon does not export ({message}),"
                ),
                instead: "let the build make a layer, as COPY does; or build an archive and push \
                          that: docker buildx build --output type=oci,dest=app.tar"
                    .to_owned(),
            },
            other => other,
        }
    }

    /// Sees that an export of all layers has room, before the daemon begins one: it writes all of
    /// it to its own disk first. How large single layers are it does not tell.
    fn reserve(&self, spool: &Spool, wanted: &HashSet<Digest>) -> Result<(), Error> {
        let once: HashSet<_> = self.diff_ids.iter().collect();
        let are_all =
            once.len() == self.diff_ids.len() && once.iter().all(|it| wanted.contains(*it));
        let Some(size) = self.size.filter(|_| are_all) else {
            return Ok(());
        };
        // Podman counts a little more than the layers.
        spool
            .reserve(size - size / 100)
            .map_err(|source| Error::Spool {
                folder: spool.folder().display().to_string(),
                source,
            })
    }

    /// Up to Docker 24 nothing in the archive names a layer's diffID, so what is wanted is told
    /// by its digest; and reading ends as soon as all of it is there.
    async fn export_classic(
        &self,
        config: &Digest,
        spool: &Spool,
        mut unneeded: Unneeded,
        begin: impl FnOnce(),
    ) -> Result<(Single, Blobs), Error> {
        let mut wanted: HashSet<_> = self.diff_ids.iter().cloned().collect();
        let (earlier, own) = (spool.clone(), config.clone());
        let (wanted, mut slices) = blocking(move || {
            wanted.retain(|diff_id| !unneeded(diff_id, None));
            wanted.insert(own);
            let mut slices = HashMap::new();
            wanted.retain(|digest| match earlier.bytes(digest) {
                Some(slice) => slices.insert(digest.clone(), slice).is_some(),
                None => true,
            });
            Ok((wanted, slices))
        })
        .await?;
        let from = from(&self.engine);
        if !wanted.is_empty() {
            self.reserve(spool, &wanted)?;
            begin();
            let export = self.engine.export(&config.to_string(), &[]).await;
            let export = export.map_err(|error| self.without_layers(error))?;
            let (from, spool) = (from.clone(), spool.clone());
            let picked = blocking(move || {
                let picked = sift::pick(export, &from, &spool, wanted)?;
                for bytes in picked.values().filter_map(Slice::memory_bytes) {
                    spool.keep_small(bytes, Algorithm::Sha256);
                }
                Ok(picked)
            });
            slices.extend(picked.await?);
        }
        let (config, diff_ids) = (config.clone(), self.diff_ids.clone());
        blocking(move || classic(&from, config, diff_ids, slices)).await
    }
}

/// Puts together what was picked of a classic store's export.
fn classic(
    from: &str,
    config: Digest,
    diff_ids: Vec<Digest>,
    mut slices: HashMap<Digest, Slice>,
) -> Result<(Single, Blobs), Error> {
    let missing = || Error::Missing {
        from: from.to_owned(),
        what: config.to_string(),
    };
    let slice = slices.remove(&config).ok_or_else(missing)?;
    if slice.len() > MAX_METADATA_BYTES {
        return Err(Error::TooLarge {
            from: from.to_owned(),
            what: "the image's config".to_owned(),
            limit: format!("{MAX_METADATA_BYTES} bytes"),
        });
    }
    let bytes = slice.bytes().map_err(|source| Error::Io {
        action: "read",
        from: from.to_owned(),
        source,
    })?;
    let malformed = |reason| Error::Malformed {
        from: from.to_owned(),
        reason,
    };
    if config::diff_ids(&bytes).map_err(malformed)? != diff_ids {
        let reason = "the config lists other layers than the daemon did".to_owned();
        return Err(malformed(reason));
    }
    let raw = |diff_id: Digest| {
        let size = slices.get(&diff_id).map(Slice::len);
        Layer::Raw { diff_id, size }
    };
    let layers = diff_ids.into_iter().map(raw).collect();
    let mut blobs = Blobs::default();
    blobs.insert(config.clone(), Slice::memory(bytes.clone()));
    for (digest, slice) in slices {
        blobs.insert(digest, slice);
    }
    let single = Single {
        config: Config {
            media_type: media::DOCKER_CONFIG.to_owned(),
            digest: config,
            bytes: Some(bytes),
        },
        layers,
        origin: Origin::Written,
    };
    Ok((single, blobs))
}
