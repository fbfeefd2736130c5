//! Mounts blobs that another repository of the registry may hold.
//!
//! Attempts are few, and none is wasted: a registry that does not mount a blob opens an upload
//! session instead, and some blob will need one.

use std::collections::{HashMap, HashSet};

use futures::future;
use imgsync_oci::client::upload::UploadStart;
use imgsync_oci::{Descriptor, Digest, Repository};

use super::LookupRequest;
use super::probe::TargetProbe;
use crate::exit::Failure;

/// The most repositories that are tried for one blob.
const MAX_MOUNT_ATTEMPTS: usize = 2;
/// Blobs that are tried at the same time. If none of them is mounted, no other blob is tried.
const MAX_CONCURRENT_MOUNTS: usize = 4;

/// Returns the repositories that a blob may be mounted from: `likely` first, then those where
/// earlier runs saw the blob.
pub(super) fn source_repositories(
    probe: &TargetProbe,
    blob: &Digest,
    likely: Option<Repository>,
) -> Vec<Repository> {
    let mut seen = HashSet::from([probe.repository.clone()]);
    let repositories = likely.into_iter().chain(probe.cached_locations(blob));
    let new = repositories.filter(|repository| seen.insert(repository.clone()));
    new.take(MAX_MOUNT_ATTEMPTS).collect()
}

/// Mounts blobs, each from the first of its repositories that works. Returns the blobs that the
/// target then holds, each with the repository that it was mounted from.
///
/// # Errors
/// The target could not be asked. A refused mount is no error.
pub(super) async fn mount_blobs(
    request: &LookupRequest,
    blobs: Vec<(Descriptor, Vec<Repository>)>,
) -> Result<HashMap<Digest, Repository>, Failure> {
    let mut mounted = HashMap::new();
    for batch in blobs.chunks(MAX_CONCURRENT_MOUNTS) {
        let attempts = batch.iter();
        let attempts = attempts.map(|(blob, sources)| mount_blob(request, blob, sources));
        let mut claimed = Vec::new();
        for ((blob, _), from) in batch.iter().zip(future::join_all(attempts).await) {
            claimed.extend(from?.map(|from| (blob, from)));
        }
        let present = request
            .probe
            .holds_all(claimed.iter().map(|(blob, _)| *blob));
        let present = present.await?;
        claimed.retain(|(blob, _)| present.contains(&blob.digest));
        let claimed = claimed.into_iter();
        mounted.extend(claimed.map(|(blob, from)| (blob.digest.clone(), from)));
        if present.is_empty() {
            break;
        }
    }
    Ok(mounted)
}

/// Tries the repositories for one blob. Returns the one that the registry claims to have mounted
/// the blob from.
async fn mount_blob(
    request: &LookupRequest,
    blob: &Descriptor,
    sources: &[Repository],
) -> Result<Option<Repository>, Failure> {
    for from in sources {
        match request.writer.try_mount(&blob.digest, from).await? {
            Some(UploadStart::Mounted) => return Ok(Some(from.clone())),
            Some(UploadStart::Open(session)) => request.writer.add_spare_session(session),
            None => {}
        }
    }
    Ok(None)
}
