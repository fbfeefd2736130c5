//! Drives a [`GraphWalk`] with a function that fetches manifests.

use futures::stream::{FuturesOrdered, StreamExt};

use super::{GraphLimitError, GraphWalk, PendingManifest, Visit};

/// The reason why a walk ended early.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError<E> {
    /// The graph exceeds a bound.
    #[error(transparent)]
    Limit(GraphLimitError),
    /// A manifest could not be fetched.
    #[error("{0}")]
    Fetch(E),
}

/// Fetches everything below the roots of a walk, one manifest after the other. `fetch` returns
/// `None` for a manifest to be left out.
///
/// # Errors
/// Returns the first error of `fetch`, or the bound that the graph exceeds.
pub fn walk<T, E>(
    walk: &mut GraphWalk<T>,
    mut fetch: impl FnMut(&PendingManifest) -> Result<Option<Visit<T>>, E>,
) -> Result<(), WalkError<E>> {
    while let Some(pending) = walk.next() {
        if let Some(visit) = fetch(&pending).map_err(WalkError::Fetch)? {
            walk.add(&pending, visit).map_err(WalkError::Limit)?;
        }
    }
    Ok(())
}

/// Fetches everything below the roots of a walk, at most `concurrency` manifests at a time; 0
/// counts as 1. `fetch` returns `None` for a manifest to be left out.
///
/// # Errors
/// Returns the first error of `fetch`, in the order of the walk, or the bound that the graph
/// exceeds. Fetches that are under way are dropped then.
pub async fn walk_concurrently<T, E, F>(
    walk: &mut GraphWalk<T>,
    concurrency: usize,
    fetch: impl Fn(PendingManifest) -> F,
) -> Result<(), WalkError<E>>
where
    F: Future<Output = Result<Option<Visit<T>>, E>>,
{
    let mut fetches = FuturesOrdered::new();
    loop {
        while fetches.len() < concurrency.max(1)
            && let Some(pending) = walk.next()
        {
            let fetched = fetch(pending.clone());
            fetches.push_back(async move { (pending, fetched.await) });
        }
        let Some((pending, fetched)) = fetches.next().await else {
            return Ok(());
        };
        if let Some(visit) = fetched.map_err(WalkError::Fetch)? {
            walk.add(&pending, visit).map_err(WalkError::Limit)?;
        }
    }
}
