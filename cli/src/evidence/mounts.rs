//! Mounts blobs that another repository of the registry may hold.
//!
//! Attempts are few, and none is wasted: a registry that does not mount a blob opens an upload
//! session instead, and some blob will need one.

use std::collections::{HashMap, HashSet};

use futures::future;
use imgsync_oci::client::upload::{UploadSession, UploadStart};
use imgsync_oci::endpoint::Mount;
use imgsync_oci::{Descriptor, Digest, Repository};

use super::probe::TargetProbe;
use crate::exit::Failure;

/// The most repositories that are tried for one blob.
const MAX_MOUNT_ATTEMPTS: usize = 2;
/// Blobs that are tried at the same time. If none of them is mounted, no other blob is tried.
const MAX_CONCURRENT_MOUNTS: usize = 4;

/// The result of the attempts.
#[derive(Debug, Default)]
pub(super) struct MountOutcome {
    /// The blobs that the target now holds, and the repositories that they were mounted from.
    pub(super) from: HashMap<Digest, Repository>,
    /// The sessions that the registry opened instead.
    pub(super) sessions: Vec<UploadSession>,
}

/// Returns the repositories that a blob may be mounted from: `known` first, then those where earlier
/// runs saw the blob.
pub(super) fn source_repositories(
    probe: &TargetProbe<'_>,
    blob: &Digest,
    known: Option<Repository>,
) -> Vec<Repository> {
    let mut seen = HashSet::new();
    let repositories = known.into_iter().chain(probe.cached_locations(blob));
    repositories
        .filter(|repository| repository != probe.repository)
        .filter(|repository| seen.insert(repository.clone()))
        .take(MAX_MOUNT_ATTEMPTS)
        .collect()
}

/// Mounts blobs, each from the first of its repositories that works. A mount counts only once the
/// target confirms the blob.
///
/// # Errors
/// The target could not be asked. A refused mount is no error.
pub(super) async fn mount_blobs(
    probe: &TargetProbe<'_>,
    blobs: Vec<(Descriptor, Vec<Repository>)>,
) -> Result<MountOutcome, Failure> {
    let mut outcome = MountOutcome::default();
    for batch in blobs.chunks(MAX_CONCURRENT_MOUNTS) {
        let attempts = batch
            .iter()
            .map(|(blob, sources)| mount_blob(probe, blob, sources));
        let mut claimed = Vec::new();
        for ((blob, _), attempt) in batch.iter().zip(future::join_all(attempts).await) {
            let (from, sessions) = attempt?;
            outcome.sessions.extend(sessions);
            claimed.extend(from.map(|from| (blob, from)));
        }
        let held = probe.holds_all(claimed.iter().map(|(blob, _)| *blob));
        let held = held.await?;
        claimed.retain(|(blob, _)| held.contains(&blob.digest));
        if claimed.is_empty() {
            break;
        }
        let mounted = claimed.into_iter();
        let mounted = mounted.map(|(blob, from)| (blob.digest.clone(), from));
        outcome.from.extend(mounted);
    }
    Ok(outcome)
}

/// Tries the repositories for one blob. Returns the one that the registry claims to have mounted the
/// blob from, and the sessions that it opened instead.
async fn mount_blob(
    probe: &TargetProbe<'_>,
    blob: &Descriptor,
    sources: &[Repository],
) -> Result<(Option<Repository>, Vec<UploadSession>), Failure> {
    let mut sessions = Vec::new();
    for repository in sources {
        let mount = Mount {
            digest: blob.digest.clone(),
            from: Some(repository.clone()),
        };
        let start = probe.client.start_upload(probe.repository, Some(mount));
        match start.await {
            Ok(UploadStart::Mounted) => return Ok((Some(repository.clone()), sessions)),
            Ok(UploadStart::Open(session)) => sessions.push(session),
            // The registry does not mount, or not for this user: the blob can still be sent.
            Err(error)
                if error
                    .status()
                    .is_some_and(|status| status.is_client_error()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((None, sessions))
}
