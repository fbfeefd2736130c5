//! The number of attempts of a request, and the delays between them.

use std::time::Duration;

/// The most attempts of a small request.
pub(super) const DEFAULT_MAX_ATTEMPTS: u32 = 7;
/// The longest delay. If a registry asks for more, the user should see the error instead of waiting.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Returns the delay after `failures` failed attempts: the time that the registry asks for, at most
/// 30 seconds; or else an exponential delay of 250 ms to 8 s, of which up to half is cut off at
/// random, so that several clients do not retry at the same moment.
pub fn backoff(failures: u32, retry_after: Option<Duration>) -> Duration {
    if let Some(retry_after) = retry_after {
        return retry_after.min(MAX_RETRY_AFTER);
    }
    let full = Duration::from_millis(250) * 2u32.pow(failures.saturating_sub(1).min(5));
    let random = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    full / 2 + full / 2 * random / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_a_bound() {
        let seconds = Duration::from_secs;
        assert!(backoff(1, None) <= Duration::from_millis(250));
        assert!(backoff(4, None) >= seconds(1));
        assert!(backoff(1000, None) <= seconds(8));
        assert_eq!(backoff(1, Some(seconds(3))), seconds(3));
        assert_eq!(backoff(1, Some(seconds(3600))), MAX_RETRY_AFTER);
    }
}
