//! Resolves a reference to the image of one platform, because a daemon accepts no more.

use imgsync_oci::manifest::Platform;
use imgsync_oci::{Descriptor, Manifest, Reference, media};

use super::attestations::Attestation;
use crate::exit::{Failure, FailureKind};
use crate::image::limits::MAX_INDEX_DEPTH;
use crate::image::{Error, Platforms, is_attestation, platform};
use crate::transports::{CopySource, VerifiedManifest};

/// An image for one platform.
#[derive(Debug, Clone)]
pub(super) struct PlatformImage {
    /// The indexes from the one that the reference names down to the manifest; none if it names the
    /// manifest.
    pub(super) indexes: Vec<VerifiedManifest>,
    /// The manifest of the image.
    pub(super) manifest: VerifiedManifest,
    /// The config; its digest is the image ID in Docker's classic store.
    pub(super) config: Descriptor,
    /// The layers, lowest first.
    pub(super) layers: Vec<Descriptor>,
    /// The platforms of the index that are left out.
    pub(super) omitted_platforms: Vec<String>,
    /// The platform of the image as the index tells it.
    pub(super) platform: Option<Platform>,
    /// The attestations of the manifest, once they are fetched.
    pub(super) attestations: Vec<Attestation>,
}

impl PlatformImage {
    /// Returns the manifest or index that the reference names.
    pub(super) fn root(&self) -> &VerifiedManifest {
        self.indexes.first().unwrap_or(&self.manifest)
    }

    /// Returns the indexes, the manifest, and the manifests of the attestations.
    pub(super) fn manifests(&self) -> impl Iterator<Item = &VerifiedManifest> {
        let attestations = self.attestations.iter();
        let attestations = attestations.map(|attestation| &attestation.manifest);
        self.indexes
            .iter()
            .chain([&self.manifest])
            .chain(attestations)
    }

    /// Returns the layers, and the blobs of the attestations.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let attestations = self.attestations.iter();
        let attestations = attestations.flat_map(|attestation| &attestation.blobs);
        self.layers.iter().chain(attestations)
    }

    /// Finds the image that `reference` names at `source` for one of `platforms`.
    ///
    /// # Errors
    /// Returns an error if there is none, or if it cannot be run as a container.
    pub(super) async fn find(
        source: &dyn CopySource,
        reference: &Reference,
        platforms: &Platforms,
    ) -> Result<Self, Failure> {
        let name = source.name();
        let malformed =
            |reason: String| Error::malformed(&format!("{reference} at {name}"), reason);
        let root = source.fetch_manifest(reference).await?;
        let root = root.ok_or_else(|| {
            let separator = match reference {
                Reference::Tag(_) => ':',
                Reference::Digest(_) => '@',
            };
            let what = format!("source: there is no {name}{separator}{reference}");
            Failure::new(FailureKind::Source, what)
                .with_hint(format!("list the tags: imgsync ls {name}"))
        })?;
        let (mut omitted_platforms, mut indexes) = (Vec::new(), Vec::new());
        let (mut manifest, mut chosen_platform) = (root, None);
        for _ in 0..=MAX_INDEX_DEPTH {
            let content = manifest
                .content()
                .map_err(|error| malformed(error.to_string()))?;
            let children = match content {
                Manifest::Index { manifests, .. } => manifests,
                Manifest::Image { config, layers, .. } => {
                    if !media::is_image_config(&config.media_type) {
                        let reason = format!("its config is {}", config.media_type);
                        return Err(malformed(reason).into());
                    }
                    if let Some(layer) = layers.iter().find(|layer| layer.is_foreign()) {
                        let what = format!("the foreign layer {}", layer.digest);
                        return Err(Error::unsupported(what, "pull it with docker pull").into());
                    }
                    return Ok(Self {
                        indexes,
                        manifest,
                        config,
                        layers,
                        omitted_platforms,
                        platform: chosen_platform,
                        attestations: Vec::new(),
                    });
                }
            };
            let (child, others) = choose(name, children, platforms)?;
            omitted_platforms.extend(others);
            let digest = Reference::Digest(child.digest.clone());
            let next = source.fetch_manifest(&digest).await?;
            let next = next.ok_or_else(|| Error::missing(name, child.digest.to_string()))?;
            indexes.push(std::mem::replace(&mut manifest, next));
            chosen_platform = child.platform.or(chosen_platform);
        }
        Err(malformed("its indexes are nested too deeply".to_owned()).into())
    }
}

/// Returns the failure of choosing a platform. A daemon accepts one platform, so omitting
/// `--platform` is no advice here.
fn platform_failure(error: Error) -> Failure {
    let is_none = matches!(error, Error::PlatformNotFound { .. });
    let failure = Failure::from(error);
    if is_none {
        failure.with_hint("choose one of them with --platform")
    } else {
        failure
    }
}

/// Chooses the manifest of an index for one of the platforms, and returns the names of the others.
fn choose(
    from: &str,
    children: Vec<Descriptor>,
    platforms: &Platforms,
) -> Result<(Descriptor, Vec<String>), Failure> {
    let images = children.into_iter().filter(|child| !is_attestation(child));
    let mut images: Vec<_> = images.collect();
    let available: Vec<_> = images.iter().map(|image| image.platform.clone()).collect();
    let position = match available[..] {
        [None] => 0,
        _ => match platforms
            .choose(from, &available)
            .map_err(platform_failure)?[..]
        {
            [position] => position,
            _ => {
                let what = "more than one platform for the local Docker";
                return Err(Error::unsupported(what, "name one with --platform").into());
            }
        },
    };
    let chosen = images.swap_remove(position);
    let others = available
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != position);
    let others = others.filter_map(|(_, other)| other.as_ref().map(platform::text));
    Ok((chosen, others.collect()))
}
