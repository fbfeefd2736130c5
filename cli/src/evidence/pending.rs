//! Waits for a registry that is still computing the diffIDs of its blobs.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use imgsync_oci::Digest;
use tokio::time::Instant;

use super::LookupRequest;
use super::probe::LayerAnswer;
use crate::exit::Failure;
use crate::text::format_count;

/// The longest wait. A registry decodes some hundred megabytes in this time; a longer wait costs
/// more than the layers that it may save.
const MAX_PENDING_WAIT: Duration = Duration::from_secs(10);
/// The time before the first request.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest time between two requests: what a push waits too long at most.
const MAX_PAUSE: Duration = Duration::from_millis(250);

/// Returns the answers for layers that the registry could not tell about. After the longest wait,
/// some of them may still be pending.
///
/// # Errors
/// The target could not be asked.
pub(super) async fn wait_for_answers(
    request: &LookupRequest,
    pending: HashSet<Digest>,
) -> Result<HashMap<Digest, LayerAnswer>, Failure> {
    let probe = &request.probe;
    let ask = async |diff_ids| probe.resolve(diff_ids, Vec::new(), request.can_mount).await;
    let answers = poll(ask, pending).await?;
    let is_pending = |answer: &&LayerAnswer| matches!(answer, LayerAnswer::Pending);
    let count = answers.values().filter(is_pending).count();
    if count > 0 {
        let layers = format_count(count, "layer", "layers");
        request.report.detail(&format!(
            "the registry is still computing diffIDs, and cannot tell about {layers}"
        ));
    }
    Ok(answers)
}

/// Asks again until nothing is pending, or for the longest wait.
async fn poll(
    ask: impl AsyncFn(Vec<Digest>) -> Result<Option<HashMap<Digest, LayerAnswer>>, Failure>,
    mut pending: HashSet<Digest>,
) -> Result<HashMap<Digest, LayerAnswer>, Failure> {
    let deadline = Instant::now() + MAX_PENDING_WAIT;
    let (mut answers, mut pause) = (HashMap::new(), FIRST_PAUSE);
    while !pending.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
        let Some(now) = ask(pending.iter().cloned().collect()).await? else {
            break;
        };
        pending.retain(|diff_id| matches!(now.get(diff_id), Some(LayerAnswer::Pending)));
        answers.extend(now);
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_with_the_answers_or_after_the_longest_wait() {
        let (first, second) = (Digest::of(b"first"), Digest::of(b"second"));
        let both = || HashSet::from([first.clone(), second.clone()]);
        let requests = Cell::new(0);
        let ask = async |diff_ids: Vec<Digest>| {
            requests.set(requests.get() + 1);
            let answer = |diff_id: &Digest| match requests.get() {
                1 => LayerAnswer::Pending,
                2 if *diff_id == second => LayerAnswer::Pending,
                _ => LayerAnswer::Absent,
            };
            let answers = diff_ids
                .iter()
                .map(|diff_id| (diff_id.clone(), answer(diff_id)));
            Ok(Some(answers.collect()))
        };
        let answers = poll(ask, both()).await.unwrap();
        let absent = |diff_id: &Digest| (diff_id.clone(), LayerAnswer::Absent);
        assert_eq!(answers, HashMap::from([absent(&first), absent(&second)]));
        assert_eq!(requests.get(), 3);

        let start = Instant::now();
        let never = async |diff_ids: Vec<Digest>| {
            let answers = diff_ids.into_iter();
            let answers = answers.map(|diff_id| (diff_id, LayerAnswer::Pending));
            Ok(Some(answers.collect()))
        };
        assert_eq!(poll(never, both()).await.unwrap().len(), 2);
        let waited = start.elapsed();
        assert!(waited >= MAX_PENDING_WAIT && waited <= MAX_PENDING_WAIT + MAX_PAUSE);
    }
}
