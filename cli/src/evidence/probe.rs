//! What the target holds already. A question that failed is an error, never a "no".

use std::collections::{HashMap, HashSet};

use futures::stream::{self, StreamExt, TryStreamExt};
use imgsync_oci::client::{Client, FetchedManifest};
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Repository};

use crate::exit::Failure;

/// Questions that are under way at a time.
const MAX_CONCURRENT_REQUESTS: usize = 16;

/// A manifest at the target, read.
#[derive(Debug, Clone)]
pub struct ParsedManifest {
    /// The manifest as it was sent.
    pub fetched: FetchedManifest,
    /// Its media type, from the registry or from the manifest itself.
    pub media_type: String,
    /// What it says.
    pub manifest: Manifest,
}

/// The manifest of that name at the target. One that is there but makes no sense reads as absent:
/// a push replaces it. So does one that only a registry behind the target would know, and that one
/// cannot be asked: a push to this one does not depend on it.
///
/// # Errors
/// The target could not be asked.
pub async fn fetch_manifest(
    client: &Client,
    repository: &Repository,
    reference: &Reference,
) -> Result<Option<ParsedManifest>, Failure> {
    let fetched = match client.fetch_manifest(repository, reference).await {
        Ok(Some(fetched)) => fetched,
        Ok(None) => return Ok(None),
        Err(error) if error.is_upstream_failure() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let parsed = Manifest::parse(&fetched.bytes, fetched.media_type.as_deref());
    Ok(parsed.ok().map(|(media_type, manifest)| ParsedManifest {
        fetched,
        media_type,
        manifest,
    }))
}

/// Those of the blobs that the target holds whole: one of another size counts as absent.
///
/// # Errors
/// The target could not be asked.
pub async fn find_blobs(
    client: &Client,
    repository: &Repository,
    blobs: impl IntoIterator<Item = &Descriptor>,
) -> Result<HashSet<Digest>, Failure> {
    let once: HashMap<&Digest, u64> = blobs
        .into_iter()
        .map(|blob| (&blob.digest, blob.size))
        .collect();
    stream::iter(once)
        .map(|(digest, size)| async move {
            let there = client.head_blob(repository, digest).await?;
            Ok((digest.clone(), there == Some(size)))
        })
        .buffer_unordered(MAX_CONCURRENT_REQUESTS)
        .try_filter_map(|(digest, held)| async move { Ok(held.then_some(digest)) })
        .try_collect()
        .await
}
