//! Resolves a reference to the image of one platform, because a daemon accepts no more.

use imgsync_oci::manifest::Platform;
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, media};

use crate::exit::{Failure, FailureKind};
use crate::image::limits::MAX_INDEX_DEPTH;
use crate::image::{Error, Platforms, is_attestation, platform};
use crate::transports::{CopySource, VerifiedManifest};

/// An image for one platform.
#[derive(Debug, Clone)]
pub(super) struct PlatformImage {
    /// The digest that the reference names.
    pub(super) root: Digest,
    /// The manifest of the image.
    pub(super) manifest: VerifiedManifest,
    /// The config; its digest is the image ID in Docker's classic store.
    pub(super) config: Descriptor,
    /// The layers, lowest first.
    pub(super) layers: Vec<Descriptor>,
    /// The platforms of the index that are left out.
    pub(super) omitted_platforms: Vec<String>,
}

impl PlatformImage {
    /// Finds the image that `reference` names at `source` for one of `platforms`.
    ///
    /// # Errors
    /// Returns an error if there is none, or if it cannot be run as a container.
    pub(super) async fn find(
        source: &dyn CopySource,
        reference: &Reference,
        platforms: &Platforms,
    ) -> Result<Self, Failure> {
        let missing = |what: String| Error::Missing {
            from: source.name().to_owned(),
            what,
        };
        let malformed = |reason: String| Error::Malformed {
            from: format!("{} at {}", reference, source.name()),
            reason,
        };
        let root = source.fetch_manifest(reference).await?;
        let root = root.ok_or_else(|| {
            let mark = match reference {
                Reference::Tag(_) => ':',
                Reference::Digest(_) => '@',
            };
            let name = source.name();
            Failure::new(
                FailureKind::Source,
                format!("source: there is no {name}{mark}{reference}"),
            )
            .with_hint(format!("see what is there: imgsync ls {name}"))
        })?;
        let mut omitted = Vec::new();
        let mut manifest = root.clone();
        for _ in 0..=MAX_INDEX_DEPTH {
            let parsed = Manifest::parse(&manifest.bytes, Some(&manifest.media_type));
            let (_, parsed) = parsed.map_err(|error| malformed(error.to_string()))?;
            let children = match parsed {
                Manifest::Image { config, layers, .. } => {
                    if !media::is_image_config(&config.media_type) {
                        let what = format!("its config is {}", config.media_type);
                        return Err(malformed(what).into());
                    }
                    if let Some(layer) = layers.iter().find(|layer| layer.is_foreign()) {
                        return Err(Error::Unsupported {
                            what: format!("the layer {} from another place", layer.digest),
                            instead: "pull it with docker pull".to_owned(),
                        }
                        .into());
                    }
                    return Ok(Self {
                        root: root.digest,
                        manifest,
                        config,
                        layers,
                        omitted_platforms: omitted,
                    });
                }
                Manifest::Index { manifests, .. } => manifests,
            };
            let (child, others) = choose(source.name(), children, platforms)?;
            omitted.extend(others);
            let digest = Reference::Digest(child.digest.clone());
            let next = source.fetch_manifest(&digest).await?;
            manifest = next.ok_or_else(|| missing(child.digest.to_string()))?;
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
    let images = children.into_iter().filter(|it| !is_attestation(it));
    let mut images: Vec<_> = images.collect();
    let there: Vec<Option<Platform>> = images.iter().map(|it| it.platform.clone()).collect();
    let place = match (&images[..], &there[..]) {
        ([_], [None]) => 0,
        _ => match platforms.choose(from, &there).map_err(platform_failure)?[..] {
            [place] => place,
            _ => {
                return Err(Error::Unsupported {
                    what: "more than one platform in a daemon".to_owned(),
                    instead: "name one with --platform".to_owned(),
                }
                .into());
            }
        },
    };
    let chosen = images.swap_remove(place);
    let others = there.iter().enumerate().filter(|(at, _)| *at != place);
    let others = others.filter_map(|(_, it)| it.as_ref().map(platform::text));
    Ok((chosen, others.collect()))
}
