//! Hints on how to raise a proxy's limit for the size of a request.

use imgsync_oci::Registry;

/// Returns the configuration to change, depending on the `Server` header of the 413 response.
pub(super) fn hint_for_body_limit(server: Option<&str>, registry: &Registry) -> String {
    let server = server.unwrap_or_default().to_ascii_lowercase();
    let is = |name: &str| server.contains(name);
    if is("cloudflare") {
        format!(
            "Cloudflare limits the size of a request by plan, to 100 MB or more: change the plan, \
             or bypass the proxy for {registry} (\"DNS only\")"
        )
    } else if is("nginx") || is("openresty") || is("tengine") {
        format!("add to the server or location block of {registry}: client_max_body_size 0;")
    } else if is("apache") {
        format!("add to the virtual host of {registry}: LimitRequestBody 0")
    } else if is("caddy") {
        format!("remove max_size from request_body of {registry} in the Caddyfile")
    } else if is("traefik") {
        format!(
            "set maxRequestBodyBytes: 0 in the buffering middleware of the router of {registry}"
        )
    } else {
        format!(
            "raise the request limit of the proxy in front of {registry}; nginx: \
             client_max_body_size 0; Apache: LimitRequestBody 0; Traefik: \
             buffering.maxRequestBodyBytes: 0; Caddy: request_body max_size"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_proxy_has_its_setting() {
        let registry: Registry = "registry.example.com".parse().unwrap();
        for (server, setting) in [
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
                text.contains(setting) && text.contains(registry.as_str()),
                "{text}"
            );
        }
    }
}
