//! Checks the variables that name a proxy, because the HTTP library ignores a value that it does not
//! understand without a word.
//!
//! This module does not choose the proxy. Start reading at [`warn_about_ignored`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Uri;

use crate::exit::PROXY_VARIABLES;
use crate::report::Report;

const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// Warns, once in a run, about variables whose value is not used. The value may contain a password,
/// so it is not shown.
pub(super) fn warn_about_ignored(report: &Arc<dyn Report>) {
    static IS_DONE: AtomicBool = AtomicBool::new(false);
    if IS_DONE.swap(true, Ordering::Relaxed) {
        return;
    }
    for name in PROXY_VARIABLES {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        if value.is_some_and(|value| !value.to_str().is_some_and(is_proxy)) {
            report.note(&format!(
                "warning: {name} is ignored, because it is not the address of a proxy: write \
                 http://HOST:PORT, or socks5h://HOST:PORT for a SOCKS proxy, without spaces"
            ));
        }
    }
}

/// Returns whether the HTTP library uses a value.
fn is_proxy(value: &str) -> bool {
    let uri = value.parse::<Uri>().ok();
    uri.is_some_and(|uri| {
        let is_known = |scheme: &str| SCHEMES.contains(&scheme);
        uri.authority().is_some() && uri.scheme_str().is_none_or(is_known)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_the_library_uses() {
        for value in [
            "http://proxy:3128",
            "https://user:secret@proxy",
            "socks5://127.0.0.1:1080",
            "socks5h://[::1]:1080/",
            "proxy:3128",
        ] {
            assert!(is_proxy(value), "{value}");
        }
        for value in [
            " http://proxy:3128",
            "socks://proxy:1080",
            "ftp://proxy",
            "http://",
            "/x",
        ] {
            assert!(!is_proxy(value), "{value}");
        }
    }
}
