//! Blobs that the target's repository lacks and another one of the same registry may hold: linked
//! for the asking, on registries that do that. The tries are few, and none is in vain: a registry
//! that does not link opens an upload session instead, and some blob will need one.

use std::collections::{HashMap, HashSet};

use futures::future;
use imgsync_oci::client::upload::{UploadSession, UploadStart};
use imgsync_oci::endpoint::Mount;
use imgsync_oci::{Descriptor, Digest, Repository};

use super::{LookupRequest, probe};
use crate::cache::blob_locations;
use crate::exit::Failure;

/// Tries for one blob.
const MAX_MOUNT_ATTEMPTS: usize = 2;
/// Blobs that are tried at a time. Where none of them is linked, no other is tried.
const MAX_CONCURRENT_MOUNTS: usize = 4;

/// What came of the tries.
#[derive(Debug, Default)]
pub(super) struct MountOutcome {
    /// The blobs that the target's repository now holds, and where they were linked from.
    pub(super) from: HashMap<Digest, Repository>,
    /// Sessions that were opened instead.
    pub(super) sessions: Vec<UploadSession>,
}

/// The repositories that a blob may be linked from: the one where somebody says that it is, then
/// those where earlier runs saw it.
pub(super) fn source_repositories(
    question: &LookupRequest<'_>,
    blob: &Digest,
    said: Option<Repository>,
) -> Vec<Repository> {
    let registry = question.client.registry();
    let seen = blob_locations::lookup(question.cache, registry, blob);
    let mut once = HashSet::new();
    said.into_iter()
        .chain(seen)
        .filter(|repository| repository != question.repository)
        .filter(|repository| once.insert(repository.clone()))
        .take(MAX_MOUNT_ATTEMPTS)
        .collect()
}

/// Tries to link blobs, each from its candidates in turn. What is said to be linked counts only once
/// the repository confirms it.
///
/// # Errors
/// The target could not be asked. That it refuses is no error.
pub(super) async fn mount_blobs(
    question: &LookupRequest<'_>,
    wanted: Vec<(Descriptor, Vec<Repository>)>,
) -> Result<MountOutcome, Failure> {
    let mut mounted = MountOutcome::default();
    for some in wanted.chunks(MAX_CONCURRENT_MOUNTS) {
        let tries = some
            .iter()
            .map(|(blob, from)| mount_blob(question, blob, from));
        let mut linked = Vec::new();
        for tried in future::join_all(tries).await {
            let (from, sessions) = tried?;
            mounted.sessions.extend(sessions);
            linked.push(from);
        }
        let said = some.iter().zip(linked);
        let said: Vec<_> = said
            .filter_map(|((blob, _), from)| Some((blob, from?)))
            .collect();
        let blobs = said.iter().map(|(blob, _)| *blob);
        let held = probe::find_blobs(question.client, question.repository, blobs).await?;
        let before = mounted.from.len();
        let confirmed = said.into_iter().filter(|(it, _)| held.contains(&it.digest));
        let confirmed = confirmed.map(|(it, from)| (it.digest.clone(), from));
        mounted.from.extend(confirmed);
        if mounted.from.len() == before {
            break;
        }
    }
    Ok(mounted)
}

/// Tries one blob; yields from where it was linked, and the sessions that were opened instead.
async fn mount_blob(
    question: &LookupRequest<'_>,
    blob: &Descriptor,
    from: &[Repository],
) -> Result<(Option<Repository>, Vec<UploadSession>), Failure> {
    let mut sessions = Vec::new();
    for repository in from {
        let mount = Mount {
            digest: blob.digest.clone(),
            from: Some(repository.clone()),
        };
        let asked = question
            .client
            .start_upload(question.repository, Some(mount));
        match asked.await {
            Ok(UploadStart::Mounted) => return Ok((Some(repository.clone()), sessions)),
            Ok(UploadStart::Open(session)) => sessions.push(session),
            // It does not link, or not for this caller: the blob can still be sent.
            Err(error) if error.status().is_some_and(|it| it.is_client_error()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((None, sessions))
}
