//! Trying again: how often, and after how long.

use std::time::Duration;

use super::{Error, Retry};

/// How many times a small request is sent before its fault counts.
const TRIES: u32 = 7;
/// Where a registry asks for more patience than this, the user should know rather than wait.
const LONGEST: Duration = Duration::from_secs(30);

/// The pause before try number `failures` + 1: doubling from a quarter of a second up to eight
/// seconds, a random half of it left out so that several clients do not come back as one; or what
/// the registry asks for, at most half a minute.
pub fn backoff(failures: u32, asked: Option<Duration>) -> Duration {
    if let Some(asked) = asked {
        return asked.min(LONGEST);
    }
    let full = Duration::from_millis(250) * 2u32.pow(failures.saturating_sub(1).min(5));
    let random = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    full / 2 + full / 2 * random / 255
}

/// Repeats `attempt` until it succeeds, fails for good, or has failed too often.
pub(super) async fn retrying<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut failures = 0;
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        failures += 1;
        match error.retry() {
            Retry::After(asked) if failures < TRIES => {
                tokio::time::sleep(backoff(failures, asked)).await;
            }
            Retry::After(_) | Retry::Never => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_but_not_for_ever() {
        let seconds = Duration::from_secs;
        assert!(backoff(1, None) <= Duration::from_millis(250));
        assert!(backoff(4, None) >= seconds(1));
        assert!(backoff(1000, None) <= seconds(8));
        assert_eq!(backoff(1, Some(seconds(3))), seconds(3));
        assert_eq!(backoff(1, Some(seconds(3600))), LONGEST);
    }
}
