//! Blobs that the target's repository lacks and another one of the same registry may hold: linked
//! for the asking, on registries that do that. The tries are few, and none is in vain: a registry
//! that does not link opens an upload session instead, and some blob will need one.

use std::collections::{HashMap, HashSet};

use futures::future;
use imgsync_oci::client::upload::{Session, Start};
use imgsync_oci::endpoint::Mount;
use imgsync_oci::{Descriptor, Digest, Repository};

use super::Question;
use crate::ask;
use crate::cache::places;
use crate::exit::Failure;

/// Tries for one blob.
const MOST_TRIES: usize = 2;
/// Blobs that are tried at a time. Where none of them is linked, no other is tried.
const AT_A_TIME: usize = 4;

/// What came of the tries.
#[derive(Debug, Default)]
pub(super) struct Mounted {
    /// The blobs that the target's repository now holds, and where they were linked from.
    pub(super) from: HashMap<Digest, Repository>,
    /// Sessions that were opened instead.
    pub(super) sessions: Vec<Session>,
}

/// The repositories that a blob may be linked from: the one where somebody says that it is, then
/// those where earlier runs saw it.
pub(super) fn candidates(
    question: &Question<'_>,
    blob: &Digest,
    said: Option<Repository>,
) -> Vec<Repository> {
    let registry = question.client.registry();
    let seen = places::of(question.cache, registry, blob);
    let mut once = HashSet::new();
    said.into_iter()
        .chain(seen)
        .filter(|repository| repository != question.repository)
        .filter(|repository| once.insert(repository.clone()))
        .take(MOST_TRIES)
        .collect()
}

/// Tries to link blobs, each from its candidates in turn. What is said to be linked counts only once
/// the repository confirms it.
///
/// # Errors
/// The target could not be asked. That it refuses is no error.
pub(super) async fn link(
    question: &Question<'_>,
    wanted: Vec<(Descriptor, Vec<Repository>)>,
) -> Result<Mounted, Failure> {
    let mut mounted = Mounted::default();
    for some in wanted.chunks(AT_A_TIME) {
        let tries = some.iter().map(|(blob, from)| one(question, blob, from));
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
        let held = ask::held(question.client, question.repository, blobs).await?;
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
async fn one(
    question: &Question<'_>,
    blob: &Descriptor,
    from: &[Repository],
) -> Result<(Option<Repository>, Vec<Session>), Failure> {
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
            Ok(Start::Mounted) => return Ok((Some(repository.clone()), sessions)),
            Ok(Start::Open(session)) => sessions.push(session),
            // It does not link, or not for this caller: the blob can still be sent.
            Err(error) if error.status().is_some_and(|it| it.is_client_error()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((None, sessions))
}
