//! Hints on what to do about the errors of image sources. Start reading at [`hint`].

use imgsync_oci::Tag;

use super::unreachable::unreachable_hint;
use super::{EngineKind, Error};
use crate::disk::System;

/// The most tags of an image in a hint.
const MAX_SHOWN_TAGS: usize = 10;

/// Returns the hint for an error, if there is one.
pub(super) fn hint(error: &Error) -> Option<String> {
    let hint = match error {
        Error::InvalidLocation { .. } | Error::Invalid(_) => {
            "give an image name such as app:v1, the path of an archive or OCI layout, '-' for \
             standard input, or a name with docker-daemon:, docker-archive:, oci: or \
             oci-archive:"
        }
        Error::Open { .. }
        | Error::Read { .. }
        | Error::TooLarge { .. }
        | Error::ContentStore { .. } => return None,
        Error::Spool { .. } => {
            "free some disk space, or set XDG_CACHE_HOME to a folder on another disk"
        }
        Error::Empty { .. } => {
            "see the error of the program that writes the archive: it has written nothing"
        }
        Error::Truncated { .. } => "create the archive again",
        Error::Malformed { .. } | Error::UnsafeName { .. } => {
            "create it again with docker save, podman save, skopeo or docker buildx"
        }
        Error::CompressedArchive { kind, .. } => {
            return Some(format!(
                "decompress it in a pipe: {kind} -dc FILE | imgsync push - REMOTE"
            ));
        }
        Error::DigestMismatch { .. } => "the source is damaged: export or build the image again",
        Error::Missing { .. } => {
            "the source is incomplete; if the image was pulled for one platform only, export it \
             with docker save --platform"
        }
        Error::Ambiguous { .. } | Error::ImageNotFound { .. } => {
            "select one of them: docker-archive:PATH:NAME, docker-archive:PATH:@NUMBER, \
             oci:PATH:TAG or oci:PATH:@NUMBER"
        }
        Error::PlatformNotFound { .. } => {
            "choose one of them with --platform, or omit it to push all of them"
        }
        Error::Unsupported { instead, .. } => return Some(instead.clone()),
        Error::DockerContext { .. } => {
            "list the contexts with docker context ls; DOCKER_HOST takes precedence over them"
        }
        Error::DaemonUnreachable {
            engine,
            is_forbidden,
            ..
        } => unreachable_hint(*engine, *is_forbidden, System::CURRENT),
        Error::NoSuchImage { tags, .. } if !tags.is_empty() => {
            let rest = tags.len().saturating_sub(MAX_SHOWN_TAGS);
            let shown = tags.iter().rev().take(MAX_SHOWN_TAGS).map(Tag::to_string);
            let shown = shown.collect::<Vec<_>>().join(", ");
            let more = if rest > 0 {
                format!(" and {rest} more")
            } else {
                String::new()
            };
            return Some(format!("the image has these tags: {shown}{more}"));
        }
        Error::NoSuchImage {
            engine: EngineKind::Podman,
            ..
        } => {
            "list the images with podman image ls, as the user of podman's socket; for an archive \
             in this folder, write its path, as in ./app.tar"
        }
        Error::NoSuchImage { .. } => {
            "list the images with docker image ls; for an archive in this folder, write its \
             path, as in ./app.tar"
        }
        Error::DaemonError {
            engine: EngineKind::Podman,
            ..
        } => "see the log of podman, often with journalctl --user -u podman",
        Error::DaemonError { .. } | Error::EmbeddedError { .. } => {
            "see the log of the daemon, often with journalctl -u docker"
        }
    };
    Some(hint.to_owned())
}
