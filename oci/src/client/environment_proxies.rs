//! The proxies of the environment, if one of them is `socks5://`.
//!
//! The HTTP library reads the variables itself, and resolves host names before it asks such a proxy.
//! Docker lets the proxy resolve them, and behind a tunnel such as `ssh -D` only the proxy can. So
//! `socks5` is read as `socks5h` here, as in Go.

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{NoProxy, Proxy};
use url::Url;

const LOCAL_NAMES: &str = "socks5://";
const REMOTE_NAMES: &str = "socks5h://";

/// Returns the proxies, in the order in which they apply; `None` if no variable has `socks5://`, and
/// the HTTP library can read the variables.
pub(super) fn with_remote_names() -> Option<Vec<Proxy>> {
    let variables = [
        ["HTTP_PROXY", "http_proxy"],
        ["HTTPS_PROXY", "https_proxy"],
        ["ALL_PROXY", "all_proxy"],
    ];
    let [http, https, all] = variables.map(|names| {
        let values = names
            .into_iter()
            .filter_map(|name| std::env::var(name).ok());
        values.into_iter().find(|value| !value.is_empty())
    });
    let is_local = |value: &&String| value.starts_with(LOCAL_NAMES);
    [&http, &https, &all].into_iter().flatten().find(is_local)?;
    let proxies = [
        http.map(|value| Proxy::http(remote_names(&value))),
        https.map(|value| Proxy::https(remote_names(&value))),
        all.map(|value| Proxy::all(remote_names(&value))),
    ];
    // A value that is no proxy is ignored, as the HTTP library does.
    let proxies = proxies.into_iter().flatten().flatten();
    Some(
        proxies
            .map(|proxy| proxy.no_proxy(NoProxy::from_env()))
            .collect(),
    )
}

/// Returns the scheme, host and port of the proxy for a URL, without its credentials.
pub(super) fn proxy_of(url: &Url) -> Option<String> {
    let proxy = Matcher::from_system().intercept(&url.as_str().parse().ok()?)?;
    let proxy = proxy.uri();
    let (scheme, host) = (proxy.scheme_str()?, proxy.host()?);
    let port = proxy
        .port_u16()
        .map_or(String::new(), |port| format!(":{port}"));
    Some(format!("{scheme}://{host}{port}"))
}

/// Returns the URL of a proxy that resolves host names itself.
fn remote_names(value: &str) -> String {
    match value.strip_prefix(LOCAL_NAMES) {
        Some(rest) => format!("{REMOTE_NAMES}{rest}"),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_socks5_is_changed() {
        assert_eq!(remote_names("socks5://u:p@a:1"), "socks5h://u:p@a:1");
        for value in ["socks5h://a:1", "http://a:1", "socks4://a:1", "a:1"] {
            assert_eq!(remote_names(value), value);
        }
    }
}
