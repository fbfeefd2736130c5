//! The section `http`, without `http.tls` and `http.headers`.

use super::super::reader::ConfigReader;
use super::super::scalars::{
    parse_bool, parse_duration, parse_header_value, parse_path, parse_with_from_str,
};
use super::super::tree::ValueOrigin;
use super::super::types::{HttpConfig, ListenAddress};
use super::headers::build_headers;
use super::tls::build_tls;

const DEFAULT_METRICS_PATH: &str = "/metrics";

pub(super) fn build_http(reader: &mut ConfigReader<'_>) -> Option<HttpConfig> {
    build!(HttpConfig {
        listen_address: build_listen_address(reader),
        prefix: reader.value("http.prefix", "/", parse_prefix),
        host: reader.optional("http.host", parse_host_url),
        relative_urls: reader.optional("http.relativeurls", parse_bool),
        secret: reader.secret("http.secret"),
        drain_timeout: reader.value("http.draintimeout", "60s", parse_duration),
        tls: build_tls(reader),
        headers: build_headers(reader),
        debug_address: reader.optional("http.debug.addr", parse_with_from_str),
        metrics_path: build_metrics_path(reader),
        is_http2_enabled: reader.enabled("http.http2.disabled"),
        is_h2c_enabled: reader.value("http.h2c.enabled", "false", parse_bool),
    })
}

fn build_listen_address(reader: &mut ConfigReader<'_>) -> Option<ListenAddress> {
    let is_unix = reader.value("http.net", "tcp", |text| match text {
        "tcp" => Ok(false),
        "unix" => Ok(true),
        _ => Err(format!("must be tcp or unix, not {text:?}")),
    });
    if is_unix? {
        let socket = reader.optional("http.addr", parse_path)?;
        if socket.is_none() {
            let origin = reader.origin("http.net").unwrap_or(ValueOrigin::Default);
            let text = "must be set to the path of the Unix socket";
            reader.diagnostics.error(&origin, "http.addr", text);
        }
        return socket.map(ListenAddress::Unix);
    }
    reader
        .value("http.addr", "127.0.0.1:5000", parse_with_from_str)
        .map(ListenAddress::Tcp)
}

/// Builds the path of the metrics on the debug address; `Some(None)` when metrics are disabled.
fn build_metrics_path(reader: &mut ConfigReader<'_>) -> Option<Option<String>> {
    let section = "http.debug.prometheus";
    let is_enabled = reader.optional(&format!("{section}.enabled"), parse_bool)?;
    let path = reader.optional(&format!("{section}.path"), parse_metrics_path)?;
    if is_enabled != Some(true) {
        return Some(None);
    }
    if let Some(origin) = reader.origin(section)
        && reader.origin("http.debug.addr").is_none()
    {
        let text = "has no effect: http.debug.addr is not set";
        reader.diagnostics.warning(&origin, section, text);
    }
    Some(Some(
        path.unwrap_or_else(|| DEFAULT_METRICS_PATH.to_owned()),
    ))
}

fn parse_metrics_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') || text.contains(['?', '#', ' ']) {
        return Err(format!("must be a path such as /metrics, not {text:?}"));
    }
    Ok(text.to_owned())
}

/// Parses the path prefix of all endpoints into a form without a slash at the end; empty for `/`.
fn parse_prefix(text: &str) -> Result<String, String> {
    let text = text.trim_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
    if !text.chars().all(is_plain) || text.split('/').any(|part| part == "." || part == "..") {
        return Err(format!("must be a path such as /registry/, not {text:?}"));
    }
    Ok(if text.is_empty() {
        String::new()
    } else {
        format!("/{text}")
    })
}

/// Parses the URL under which clients reach the server, without a slash at the end.
fn parse_host_url(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.trim_matches('/').is_empty() => {
            parse_header_value(text).map(|text| text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!(
            "must be a URL such as https://registry.example.com, not {text:?}"
        )),
    }
}
