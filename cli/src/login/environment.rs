//! Reads timeouts from environment variables.

use std::time::Duration;

use crate::exit::{Failure, FailureKind};

/// Returns the time in seconds set by an environment variable, or `otherwise` seconds if the
/// variable is not set.
///
/// # Errors
/// Fails if the value is not a positive whole number.
pub fn seconds_from_env(name: &str, otherwise: u64) -> Result<Duration, Failure> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    let Some(text) = text else {
        return Ok(Duration::from_secs(otherwise));
    };
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let what = format!("{name}={text} is no number of seconds");
        Failure::new(FailureKind::Usage, what)
    })
}
