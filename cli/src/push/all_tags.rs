//! Finds the tags that `imgsync push --all-tags` pushes, one after the other.

use imgsync_oci::LocalName;

use super::PushSettings;
use crate::exit::Failure;
use crate::image::{DaemonImageName, Error, ImageLocation, name};
use crate::transports::daemon::{self, DaemonAddress};

/// Returns the settings of each push: one for each local tag with `--all-tags`, else only these.
///
/// # Errors
/// Fails if the image is not in a daemon, has no tags there, or if a tag was typed.
pub(crate) async fn for_each_tag(settings: PushSettings) -> Result<Vec<PushSettings>, Failure> {
    if !settings.is_all_tags {
        return Ok(vec![settings]);
    }
    let ImageLocation::Daemon(image) = &settings.image.location else {
        let what = "--all-tags needs an image in the local Docker or podman";
        let hint = "push each image of an archive by its name: docker-archive:PATH:NAME";
        return Err(Failure::usage(what).with_hint(hint));
    };
    let remote_tag = settings
        .remote
        .name
        .as_ref()
        .and_then(|(_, tag)| tag.as_ref());
    let is_digest = image.as_str().contains('@');
    if is_digest || image.name.tag.is_some() || remote_tag.is_some() {
        let what = "--all-tags pushes every tag, but a tag or digest is given";
        let hint = format!("write {} and the target without it", image.name.repository);
        return Err(Failure::usage(what).with_hint(hint));
    }
    let tags = daemon::find_tags(&image.name).await?;
    if tags.is_empty() {
        let address = DaemonAddress::from_environment()?;
        let missing = Error::NoSuchImage {
            engine: address.engine(),
            name: image.as_str().to_owned(),
            tags,
        };
        return Err(missing.into());
    }
    let pushes = tags.into_iter().map(|tag| {
        let mut push = settings.clone();
        let local = LocalName {
            tag: Some(tag.clone()),
            ..image.name.clone()
        };
        let local: DaemonImageName = name::text(&local).parse()?;
        push.image.location = ImageLocation::Daemon(local);
        push.remote.name = push
            .remote
            .name
            .map(|(repository, _)| (repository, Some(tag)));
        Ok(push)
    });
    pushes.collect::<Result<_, Error>>().map_err(Failure::from)
}
