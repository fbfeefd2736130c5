//! Reads timeouts from environment variables.

use std::time::Duration;

use crate::exit::{Failure, FailureKind};

/// Returns the time in seconds set by an environment variable, or `default` seconds if the variable
/// is not set.
///
/// # Errors
/// Fails if the value is not a positive whole number.
pub fn seconds_from_env(name: &str, default: u64) -> Result<Duration, Failure> {
    let text = std::env::var(name).unwrap_or_default();
    let seconds = match text.as_str() {
        "" => Some(default),
        text => text.parse().ok().filter(|seconds| *seconds > 0),
    };
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let what = format!("{name}={text} is not a number of seconds: set a whole number above 0");
        Failure::new(FailureKind::Usage, what)
    })
}
