//! Trying again: how often, and after how long.

use std::time::Duration;

/// How many times a small request is sent before its fault counts.
pub(super) const DEFAULT_MAX_ATTEMPTS: u32 = 7;
/// Where a registry asks for more patience than this, the user should know rather than wait.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The pause before try number `failures` + 1: doubling from a quarter of a second up to eight
/// seconds, a random half of it left out so that several clients do not come back as one; or what
/// the registry asks for, at most half a minute.
pub fn backoff(failures: u32, asked: Option<Duration>) -> Duration {
    if let Some(asked) = asked {
        return asked.min(MAX_RETRY_AFTER);
    }
    let full = Duration::from_millis(250) * 2u32.pow(failures.saturating_sub(1).min(5));
    let random = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    full / 2 + full / 2 * random / 255
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
        assert_eq!(backoff(1, Some(seconds(3600))), MAX_RETRY_AFTER);
    }
}
