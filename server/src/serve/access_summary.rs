//! Logs at the start which upstreams there are, and who may pull what.

use crate::auth::{AccessController, RepositoryPattern};
use crate::config::{Config, UpstreamConfig};

/// Logs the upstreams, and what clients without a login may pull.
pub(super) fn log(auth: &AccessController, config: &Config) {
    let upstreams = &config.cache.upstreams;
    for upstream in upstreams {
        tracing::info!("{}", describe(upstream));
    }
    // `Exposure` warns about a server without logins.
    if auth.scheme().is_none() {
        return;
    }
    let patterns = &config.imgsync.anonymous_pull;
    if patterns.is_empty() {
        tracing::info!("every pull and every push needs a login");
    } else {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let patterns = patterns.join(", ");
        tracing::info!("without a login, anyone may pull {patterns}; all else needs a login");
    }
    for upstream in upstreams {
        let Some(prefix) = mirror_prefix(upstream) else {
            continue;
        };
        if patterns.iter().any(|pattern| opens(pattern, prefix)) {
            tracing::info!(
                "Docker sends no login to a mirror: its registry-mirrors get what anyone may pull"
            );
        } else {
            tracing::warn!(
                "Docker sends no login to a mirror, so its registry-mirrors cannot pull here: set \
                 imgsync.anonymous.pull to [{prefix}/**] to allow that"
            );
        }
    }
}

fn describe(upstream: &UpstreamConfig) -> String {
    let remote = &upstream.remote;
    let mirror = match mirror_prefix(upstream) {
        Some(_) => ", and what Docker's registry-mirrors ask for",
        None => "",
    };
    match &upstream.prefix {
        Some(prefix) => format!("upstream {remote}: repositories below {prefix}/{mirror}"),
        None => format!("upstream {remote}: repositories that no other upstream has{mirror}"),
    }
}

/// Returns the first part of the names by which patterns name what an upstream gives to Docker's
/// `registry-mirrors`; `None` if it gives them nothing.
fn mirror_prefix(upstream: &UpstreamConfig) -> Option<&str> {
    match &upstream.prefix {
        Some(prefix) => upstream.is_mirror.then_some(prefix.as_str()),
        None => Some("docker.io"),
    }
}

/// Returns whether a pattern may match names below a prefix.
fn opens(pattern: &RepositoryPattern, prefix: &str) -> bool {
    let pattern = pattern.to_string();
    let fixed = pattern.split('*').next().unwrap_or_default();
    let prefix = format!("{prefix}/");
    fixed.starts_with(&prefix) || (pattern.contains('*') && prefix.starts_with(fixed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_open_a_mirror() {
        let opens = |pattern: &str| opens(&pattern.parse().unwrap(), "docker.io");
        for pattern in [
            "docker.io/**",
            "docker.io/library/*",
            "docker.io/library/nginx",
            "**",
        ] {
            assert!(opens(pattern), "{pattern}");
        }
        for pattern in ["public/**", "docker.iox/**", "docker.io"] {
            assert!(!opens(pattern), "{pattern}");
        }
    }
}
