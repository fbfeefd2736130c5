//! Hints on how to raise a proxy's limit for the size of a request.

use imgsync_oci::Registry;

/// Returns the configuration to change, depending on the `Server` header of the 413 response.
pub(super) fn hint_for_body_limit(server: Option<&str>, registry: &Registry) -> String {
    let server = server.unwrap_or_default().to_ascii_lowercase();
    let is = |name: &str| server.contains(name);
    if is("cloudflare") {
        return format!(
            "Cloudflare limits requests by plan (100 MB at the least): raise it there, or let \
             {registry} bypass the proxy (\"DNS only\")"
        );
    }
    if is("nginx") || is("openresty") || is("tengine") {
        return format!(
            "write into the server or location of {registry} in its configuration: \
             client_max_body_size 0;"
        );
    }
    if is("apache") {
        return format!("write into the section of {registry}: LimitRequestBody 0");
    }
    if is("caddy") {
        return format!("take max_size out of request_body at {registry} in the Caddyfile");
    }
    if is("traefik") {
        return format!(
            "set maxRequestBodyBytes: 0 in the buffering middleware of {registry}'s router"
        );
    }
    format!(
        "raise the limit of whatever stands before {registry}; for nginx: client_max_body_size 0; \
         for Apache: LimitRequestBody 0; for Traefik: buffering.maxRequestBodyBytes: 0; for Caddy: \
         request_body max_size"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_proxy_has_its_line() {
        let registry: Registry = "registry.example.com".parse().unwrap();
        for (server, line) in [
            (Some("nginx/1.22.1"), "client_max_body_size 0;"),
            (Some("openresty"), "client_max_body_size 0;"),
            (Some("cloudflare"), "plan"),
            (Some("Apache/2.4.57 (Debian)"), "LimitRequestBody 0"),
            (Some("Caddy"), "request_body"),
            (Some("traefik"), "maxRequestBodyBytes"),
            (None, "nginx"),
        ] {
            let text = hint_for_body_limit(server, &registry);
            assert!(
                text.contains(line) && text.contains(registry.as_str()),
                "{text}"
            );
        }
    }
}
